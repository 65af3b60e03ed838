"""Where a contract may come from, and everything that makes `load` refuse."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater.client import source
from headwater.contract import bundle
from headwater.contract.digest import Digest
from tests.unit.sidecar import bundles

ROOT = Path(__file__).parents[3]
V1, V2 = (Digest.of(bundles.contract(name)) for name in ("v1", "v2"))


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A bundle as the kubelet lays it out: v1 stable, v2 the candidate of no conversation yet."""
    directory = tmp_path / "bundle"
    bundles.mount(directory, bundles.make(candidate="v2"))
    return directory


def test_a_path_is_loaded_and_says_what_it_is(mounted: Path) -> None:
    """What most new conversations get, by name, version and digest."""
    contract = headwater.load(mounted)
    assert (contract.name, contract.version) == ("ai-platform/org-core", "v1")
    assert (contract.digest, contract.models) == (V1, (bundles.MODEL,))


@pytest.mark.parametrize("name", [None, "org-core", "ai-platform/org-core"])
def test_a_name_is_looked_for_where_the_variable_says(
    name: str | None, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_BUNDLE", str(mounted))
    assert headwater.load(name).digest == V1


def test_a_name_is_looked_for_where_the_sidecar_has_its_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/etc/headwater/<namespace>/<prefix>`, unless the variable names a directory."""
    monkeypatch.delenv("HEADWATER_BUNDLE", raising=False)
    monkeypatch.setattr(source, "MOUNTS", tmp_path)
    for namespace in ("ai-platform", "search"):
        (tmp_path / namespace).mkdir()
        declared = bundles.make()
        route = replace(declared.route, namespace=namespace)
        bundles.mount(tmp_path / namespace / "org-core", replace(declared, route=route))
    assert headwater.load("search/org-core").name == "search/org-core"
    with pytest.raises(headwater.BundleError, match=r"ambiguous.*name it as namespace/prefix"):
        headwater.load("org-core")


@pytest.mark.parametrize("name", ["v1.json", f"{V1.hex}.json", f"{V1.hex}.json.gz"])
def test_a_packaged_file_is_loaded_and_names_no_model(name: str, tmp_path: Path) -> None:
    """The bundle's own file, under its own name or another: any model goes."""
    data = bundles.contract("v1")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    contract = headwater.load(tmp_path / name, digest=V1)
    assert (contract.digest, contract.models) == (V1, ())
    request = contract.request(model="any-model", messages=[{"role": "user", "content": "x"}])
    assert request["model"] == "any-model"


def test_a_manifest_is_loaded_with_the_digest_that_the_controller_finds() -> None:
    """One file of Git is enough for a program outside the cluster."""
    contract = headwater.load(ROOT / "examples/quickstart/prompt-prefix.yaml")
    assert contract.name
    assert contract.models


def test_a_manifest_whose_digest_is_wrong_is_refused(tmp_path: Path) -> None:
    """Both digests are named, so that one sees which of them is meant."""
    text = (ROOT / "examples/quickstart/prompt-prefix.yaml").read_text()
    right = headwater.load(ROOT / "examples/quickstart/prompt-prefix.yaml").digest
    file = tmp_path / "edited.yaml"
    file.write_text(text.replace(right, V1))
    with pytest.raises(headwater.BundleError) as error:
        headwater.load(file)
    assert V1 in str(error.value)
    assert right in str(error.value)


@pytest.mark.parametrize(
    "pin", [{"version": "v2"}, {"digest": V2}, {"version": "v2", "digest": V2}]
)
def test_a_pin_gets_its_revision_whatever_the_route_says(
    pin: dict[str, str], mounted: Path
) -> None:
    contract = headwater.load(mounted, **pin)
    assert contract.digest == V2
    asked: dict[str, Any] = {"model": bundles.MODEL, "messages": [{"role": "user", "content": "x"}]}
    sent = contract.request(**asked)
    assert sent == headwater.load(mounted, digest=V2).request(**asked)
    assert sent["system"] != headwater.load(mounted).request(**asked)["system"]


WRONG_PIN = f"org-core: pinned to v1 {V2}, and there is v1 {V1}:"


def test_a_pin_that_is_not_there_raises_with_both_digests(mounted: Path) -> None:
    with pytest.raises(headwater.PinError) as error:
        headwater.load(mounted, version="v1", digest=V2)
    assert (error.value.expected, *error.value.found) == (V2, V1)
    assert str(error.value).startswith(WRONG_PIN)


def flipped(directory: Path) -> None:
    file = next(directory.resolve().glob(f"..data/{V1.hex}.json"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def newer(directory: Path) -> None:
    file = directory / "..data" / bundle.ROUTE_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))


def half(directory: Path) -> None:
    (directory / "..data" / f"{V1.hex}.json").unlink()


def empty(directory: Path) -> None:
    for file in (directory / "..data").iterdir():
        file.unlink()


HARMS: dict[Callable[[Path], None], str] = {
    flipped: "its bytes were changed, so it is not used",
    newer: "has format 2, and this release reads 1: upgrade the reader",
    half: "is missing, and the route names it",
    empty: "route.json is missing: is this directory a mounted bundle?",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_that_does_not_verify_raises(harm: Callable[[Path], None], mounted: Path) -> None:
    """Nothing is ever sent that was not verified."""
    harm(mounted)
    with pytest.raises(headwater.BundleError, match=re.escape(HARMS[harm])):
        headwater.load(mounted)


OPTIMISED = """
import sys, headwater
pinned, *harmed = sys.argv[2:]
try: headwater.load(pinned, version="v1", digest=sys.argv[1])
except headwater.PinError as error: print(error)
for directory in harmed:
    try: headwater.load(directory)
    except headwater.BundleError as error: print(error)
"""


def test_all_of_them_raise_when_optimised(mounted: Path, tmp_path: Path) -> None:
    """An `assert` would be gone under `python -O`, and with it the promise."""
    harmed = {harm: tmp_path / harm.__name__ for harm in HARMS}
    for harm, directory in harmed.items():
        bundles.mount(directory, bundles.make(candidate="v2"))
        harm(directory)
    done = subprocess.run(
        [sys.executable, "-O", "-c", OPTIMISED, V2, mounted, *harmed.values()],
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    expected = [WRONG_PIN, *HARMS.values()]
    assert [part for part, line in zip(expected, said, strict=True) if part not in line] == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.json", None, "does not exist"),
        ("words.json", "words", "is no contract"),
        ("list.json", "[]", "is no contract"),
        ("pretty.json", json.dumps(json.loads(bundles.contract("v1")), indent=1), "to the byte"),
        (f"{V2.hex}.json", bundles.contract("v1").decode(), "its bytes were changed"),
        (f"{'x' * 64}.json", "{}", "is no digest"),
        ("two.yaml", "kind: PromptPrefix\n---\nkind: PromptPrefix\n", "2 PromptPrefixes"),
        ("bad.yaml", "a: [", "is no YAML"),
        ("bare.yaml", "kind: PromptPrefix\n", "'spec'"),
    ],
)
def test_a_file_that_is_no_contract_is_refused(
    name: str, text: str | None, said: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(headwater.BundleError, match=said):
        headwater.load(tmp_path / name)


@pytest.mark.parametrize("name", ["pipe.json", "pipe.yaml"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """A program that loads its contract at its start would stand still without a word."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(headwater.BundleError, match="is no regular file"):
        headwater.load(tmp_path / name)


def test_a_name_that_is_nowhere_says_where_it_was_looked_for(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_BUNDLE", str(mounted))
    with pytest.raises(
        headwater.BundleError, match=f"looked for in {mounted}.*mount its ConfigMap"
    ):
        headwater.load("other")


def test_a_mounted_bundle_is_followed_and_the_last_good_one_stays(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion reaches a running program within a second; a broken write reaches nobody."""
    now = [0.0]
    monkeypatch.setattr("headwater.client.source.time.monotonic", lambda: now[0])
    contract = headwater.load(mounted)
    pinned = headwater.load(mounted, version="v1")
    bundles.mount(mounted, bundles.make("v2"))
    assert contract.version == "v1"
    now[0] += 1
    assert contract.version == "v2"
    with pytest.raises(headwater.PinError):
        pinned.request(model=bundles.MODEL, messages=[{"role": "user", "content": "x"}])
    (mounted / "..data" / f"{V2.hex}.json").write_bytes(b"{}")
    now[0] += 1
    assert contract.version == "v2"
