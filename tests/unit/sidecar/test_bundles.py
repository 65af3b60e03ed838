"""What of a directory is served, and what never is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.contract import bundle
from headwater.sidecar.bundles import BundleFollower
from tests.unit.sidecar import bundles


def served_version(follower: BundleFollower) -> str | None:
    return follower.served.route.stable.version if follower.served else None


@pytest.mark.parametrize("place", [bundles.write_plain, bundles.mount])
def test_a_bundle_is_served_and_followed(tmp_path: Path, place: object) -> None:
    """Mounted or plain, v1 and then v2, with nothing between."""
    put = bundles.mount if place is bundles.mount else bundles.write_plain
    follower = BundleFollower(tmp_path / "bundle")
    put(tmp_path / "bundle", bundles.make("v1"))
    assert follower.poll()
    assert (served_version(follower), follower.problem) == ("v1", None)
    put(tmp_path / "bundle", bundles.make("v2"))
    assert follower.poll()
    assert (served_version(follower), follower.problem) == ("v2", None)


def test_what_did_not_change_is_read_twice_and_then_never(tmp_path: Path) -> None:
    """Polling costs a listing; the second reading is for writes in the first one's tick."""
    bundles.mount(tmp_path, bundles.make())
    follower = BundleFollower(tmp_path)
    assert [follower.poll() for _ in range(5)] == [True, True, False, False, False]


def test_a_missing_directory_is_a_problem_until_it_is_there(tmp_path: Path) -> None:
    """A sidecar may start before its bundle."""
    follower = BundleFollower(tmp_path / "later")
    follower.poll()
    assert follower.served is None
    assert "No such file" in (follower.problem or "")
    bundles.write_plain(tmp_path / "later", bundles.make())
    follower.poll()
    assert (served_version(follower), follower.problem) == ("v1", None)


def contract_file(directory: Path) -> Path:
    return next(path for path in directory.iterdir() if path.name != bundle.ROUTE_FILE)


def flip(directory: Path) -> None:
    """One byte, in place, same size, times put back: only ctime tells."""
    path = contract_file(directory)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove_contract(directory: Path) -> None:
    contract_file(directory).unlink()


def truncate(directory: Path) -> None:
    path = contract_file(directory)
    path.write_bytes(path.read_bytes()[:100])


def newer_format(directory: Path) -> None:
    path = directory / bundle.ROUTE_FILE
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))


def other_provider(directory: Path) -> None:
    path = directory / bundle.ROUTE_FILE
    path.write_bytes(path.read_bytes().replace(b'"anthropic"', b'"someone"'))


def half_a_route(directory: Path) -> None:
    path = directory / bundle.ROUTE_FILE
    path.write_bytes(path.read_bytes()[:80])


def no_route(directory: Path) -> None:
    (directory / bundle.ROUTE_FILE).unlink()


DAMAGE = [
    (flip, "bytes were changed"),
    (remove_contract, "is missing"),
    (truncate, "bytes were changed"),
    (newer_format, "upgrade the reader"),
    (other_provider, "this sidecar speaks anthropic"),
    (half_a_route, "cannot be read"),
    (no_route, "route.json is missing"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_damage_at_the_start_serves_nothing(tmp_path: Path, damage: object, says: str) -> None:
    """Fail closed, and say why."""
    assert callable(damage)
    bundles.write_plain(tmp_path, bundles.make())
    damage(tmp_path)
    follower = BundleFollower(tmp_path)
    follower.poll()
    assert follower.served is None
    assert says in (follower.problem or "")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"]
)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe in which nobody writes would hold up every request, and a device has no end."""
    bundles.write_plain(tmp_path, bundles.make())
    follower = BundleFollower(tmp_path)
    follower.poll()
    good = follower.served
    (tmp_path / bundle.ROUTE_FILE).unlink()
    make(tmp_path / bundle.ROUTE_FILE)
    follower.poll()
    assert follower.served is good
    assert follower.problem == "route.json is no regular file."


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_damage_later_leaves_the_last_good_bundle(
    tmp_path: Path, damage: object, says: str
) -> None:
    """What verified stays; what is on disk is named as the problem, and repair ends it."""
    assert callable(damage)
    bundles.write_plain(tmp_path, bundles.make())
    follower = BundleFollower(tmp_path)
    follower.poll()
    good = follower.served
    damage(tmp_path)
    follower.poll()
    follower.poll()
    assert follower.served is good
    assert says in (follower.problem or "")
    assert follower.refusals == 1
    bundles.write_plain(tmp_path, bundles.make())
    follower.poll()
    assert follower.served == good
    assert follower.problem is None


def test_a_large_contract_comes_compressed(tmp_path: Path) -> None:
    """The digest is of what was compressed, not of the file."""
    bundles.mount(tmp_path, bundles.make(size=20_000))
    follower = BundleFollower(tmp_path)
    follower.poll()
    assert contract_file(tmp_path / "..data").name.endswith(".json.gz")
    assert follower.served is not None


def test_a_swap_between_listing_and_reading_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet removes the old files right after the swap; the reader then reads the new."""
    bundles.mount(tmp_path, bundles.make("v1"))
    follower = BundleFollower(tmp_path)
    swaps = iter(["v2"])
    listed = follower._files

    def files() -> list[Path]:
        found = listed()
        for version in swaps:
            bundles.mount(tmp_path, bundles.make(version))
        return found

    monkeypatch.setattr(follower, "_files", files)
    follower.poll()
    assert (served_version(follower), follower.problem) == ("v2", None)
