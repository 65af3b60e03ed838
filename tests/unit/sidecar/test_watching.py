"""A swap of the mounted files is told at once."""

import asyncio
import fcntl
import signal
from pathlib import Path

import pytest

from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.watching import renames
from tests.unit.sidecar import bundles

pytestmark = pytest.mark.skipif(
    not hasattr(fcntl, "F_NOTIFY"), reason="only Linux tells of a rename by a signal"
)


async def test_each_swap_is_told(tmp_path: Path) -> None:
    """Also the second one, and of the second directory; one that is not there does not matter."""
    mounts = tmp_path / "a", tmp_path / "b"
    followers = [BundleFollower(mount) for mount in mounts]
    for mount in mounts:
        bundles.mount(mount, bundles.make("v1"))
    looked = asyncio.Event()

    def look() -> None:
        for follower in followers:
            follower.poll()
        looked.set()

    with renames([*mounts, tmp_path / "none"], look):
        for version in ("v2", "v3"):
            for mount, follower in zip(mounts, followers, strict=True):
                looked.clear()
                await asyncio.to_thread(bundles.mount, mount, bundles.make(version))
                await looked.wait()
                assert follower.served is not None
                assert follower.served.route.stable.version == version


async def test_what_is_written_in_place_is_left_to_polling(tmp_path: Path) -> None:
    """A half of it would be read, and reported."""
    bundles.write_plain(tmp_path, bundles.make("v1"))
    told: list[bool] = []
    with renames([tmp_path], lambda: told.append(True)):
        bundles.write_plain(tmp_path, bundles.make("v2"))
        await asyncio.sleep(0)
        assert not told
        (tmp_path / "route.json").rename(tmp_path / "route.json.old")
        while not told:  # noqa: ASYNC110 - a signal is no event of ours
            await asyncio.sleep(0)
    assert len(told) == 1


async def test_nothing_is_told_thereafter(tmp_path: Path) -> None:
    """And a signal that comes late ends nothing."""
    bundles.mount(tmp_path, bundles.make("v1"))
    told: list[bool] = []
    with renames([tmp_path], lambda: told.append(True)):
        pass
    bundles.mount(tmp_path, bundles.make("v2"))
    signal.raise_signal(signal.SIGIO)
    await asyncio.sleep(0.01)
    assert len(told) == 1, "the one that was raised here"
