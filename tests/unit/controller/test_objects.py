"""ConfigMaps that the operator builds, and that it knows again however they were changed."""

import base64
import gzip
import hashlib
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cluster import Object
from headwater.cluster.api import FIELD_MANAGER
from headwater.cluster.labels import ROLE_LABEL
from headwater.contract import bundle
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError
from headwater.controller.objects import (
    BUNDLE,
    CONTENT,
    REVISION,
    Found,
    Key,
    bundle_config_map,
    files_of,
    inspect,
    last_stable,
    revision_config_map,
    route_hash,
)
from tests.unit.controller.bodies import LARGE, ONE, PREFIX, TWO, bundle_files, revision, stored

V1 = revision("v1", ONE)


def test_a_bundle() -> None:
    """The whole object, as it is sent to the API server."""
    files = bundle_files()
    assert bundle_config_map(PREFIX, "sales", files, 3) == {
        "metadata": {
            "name": "headwater.ai-platform.help-desk",
            "namespace": "sales",
            "labels": {
                "app.kubernetes.io/managed-by": "headwater",
                "headwater.dev/role": "bundle",
                "headwater.dev/prefix": "help-desk",
                "headwater.dev/prefix-namespace": "ai-platform",
            },
            "annotations": {
                "headwater.dev/epoch": "3",
                "headwater.dev/route": hashlib.sha256(files["route.json"]).hexdigest()[:16],
            },
        },
        "data": {
            "route.json": files["route.json"].decode(),
            f"{V1.digest.hex}.json": ONE.decode(),
        },
    }


def test_a_revision() -> None:
    """Immutable, named after its digest, and owned by its prefix: it goes when that goes."""
    assert revision_config_map(PREFIX, "1234", V1, ONE, 0) == {
        "metadata": {
            "name": f"headwater.help-desk.{V1.digest.hex[:12]}",
            "namespace": "ai-platform",
            "labels": {
                "app.kubernetes.io/managed-by": "headwater",
                "headwater.dev/role": "revision",
                "headwater.dev/prefix": "help-desk",
                "headwater.dev/prefix-namespace": "ai-platform",
                "headwater.dev/version": "v1",
            },
            "annotations": {"headwater.dev/digest": str(V1.digest)},
            "ownerReferences": [
                {
                    "apiVersion": "headwater.dev/v1alpha1",
                    "kind": "PromptPrefix",
                    "name": "help-desk",
                    "uid": "1234",
                    "controller": True,
                }
            ],
        },
        "immutable": True,
        "data": {f"{V1.digest.hex}.json": ONE.decode()},
    }


def test_a_large_contract_is_stored_compressed() -> None:
    """As binaryData; the pod sees the same file that `encode` gave."""
    large = revision("v9", LARGE)
    built = revision_config_map(PREFIX, "1234", large, LARGE, 0)
    packed = base64.b64decode(built["binaryData"][f"{large.digest.hex}.json.gz"])
    assert gzip.decompress(packed) == LARGE
    assert built["data"] == {}


def test_a_revision_with_other_bytes_is_not_built() -> None:
    """Bytes are never stored under a name that is not theirs."""
    with pytest.raises(BundleError, match="bytes that should be"):
        revision_config_map(PREFIX, "1234", V1, TWO, 0)


contracts = st.sampled_from([(ONE, None), (ONE, TWO), (LARGE, ONE), (ONE, LARGE)])


def found_bundle(files: dict[str, bytes]) -> Object:
    return stored(bundle_config_map(PREFIX, "sales", files, 3), version=7)


@given(contracts)
def test_what_was_built_is_found_right(chosen: tuple[bytes, bytes | None]) -> None:
    """Who built it, for what, which route, and every contract, each verified."""
    stable, candidate = chosen
    files = bundle_files(stable, candidate)
    body = found_bundle(files)
    assert files_of(body) == files
    assert inspect(body) == Found(
        key=Key("sales", "headwater.ai-platform.help-desk"),
        role=BUNDLE,
        prefix=PREFIX,
        resource_version=7,
        created="2026-11-21T09:00:00Z",
        version="",
        digests=frozenset(Digest.of(data) for data in chosen if data),
        route=route_hash(files["route.json"]),
        wrote=route_hash(files["route.json"]),
        foreign=False,
        sealed=False,
        epoch=3,
        owners=frozenset(),
        size=sum(map(len, files.values())),
        edited_by="",
    )


@given(contracts, st.data())
def test_a_flipped_bit_is_found(chosen: tuple[bytes, bytes | None], data: st.DataObject) -> None:
    """In the route it is another route, in a contract one that no longer verifies.

    The framing of a compressed file has bits without a meaning (its time stamp, say): where one
    of those flips, every reader still gets the bytes that the name promises.
    """
    files = bundle_files(*chosen)
    right = inspect(found_bundle(files))
    name = data.draw(st.sampled_from(sorted(files)))
    damaged = bytearray(files[name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1
    body = found_bundle(files)
    if name.endswith(".gz"):
        body["binaryData"][name] = base64.b64encode(damaged).decode()
    else:
        body["data"][name] = damaged.decode()
    now = inspect(body)
    if name == "route.json":
        assert now.route != right.route == now.wrote
    elif now.digests == right.digests:
        digest = Digest("sha256:" + name.split(".")[0])
        assert name.endswith(".gz")
        assert bundle.decode_contract(digest, {name: bytes(damaged)}) in chosen
    else:
        assert now.foreign
        assert now.digests < right.digests


@pytest.mark.parametrize("role", [BUNDLE, REVISION])
@pytest.mark.parametrize(
    "extra",
    [
        {"notes.txt": "hello"},
        {"route.json.bak": "{}"},
        {f"{V1.digest.hex}": ONE.decode()},
        {f"{Digest.of(TWO).hex}.json": ONE.decode()},
    ],
)
def test_a_key_that_is_not_ours_is_found(role: str, extra: dict[str, str]) -> None:
    """Server-side apply leaves it alone, so it has to be known."""
    body = (
        bundle_config_map(PREFIX, "sales", bundle_files(), 3)
        if role == BUNDLE
        else revision_config_map(PREFIX, "1234", V1, ONE, 0)
    )
    right = inspect(stored(body))
    body["data"].update(extra)
    now = inspect(stored(body))
    assert (right.foreign, now.foreign) == (False, True)
    assert now.digests == right.digests


def test_another_contract_beside_the_routed_ones_is_found() -> None:
    """It verifies, and the route does not name it."""
    body = found_bundle(bundle_files())
    body["data"][f"{Digest.of(TWO).hex}.json"] = TWO.decode()
    assert inspect(body).digests == {Digest.of(ONE), Digest.of(TWO)}


def test_the_same_contract_twice_is_found() -> None:
    """Plain and compressed: both verify, and one of them is not ours."""
    body = found_bundle(bundle_files())
    packed = base64.b64encode(gzip.compress(ONE)).decode()
    body["binaryData"] = {f"{V1.digest.hex}.json.gz": packed}
    assert inspect(body).foreign


def test_a_renamed_file_is_found() -> None:
    """A contract under another's name is no contract."""
    body = found_bundle(bundle_files())
    body["data"][f"{Digest.of(TWO).hex}.json"] = body["data"].pop(f"{V1.digest.hex}.json")
    now = inspect(body)
    assert now.foreign
    assert now.digests == frozenset()


def test_a_missing_file_is_found() -> None:
    """A bundle without its route, or without its contract."""
    body = found_bundle(bundle_files())
    del body["data"]["route.json"]
    assert (inspect(body).route, inspect(body).foreign) == ("", False)
    del body["data"]
    assert inspect(body).digests == frozenset()


def test_a_route_has_no_place_in_a_revision() -> None:
    """A revision holds one contract and nothing else."""
    body = stored(revision_config_map(PREFIX, "1234", V1, ONE, 0))
    body["data"]["route.json"] = "{}"
    assert inspect(body).foreign


def test_a_sealed_bundle_and_an_orphaned_revision_are_found() -> None:
    """The one could not be changed any more, the other would outlive its prefix."""
    sealed = found_bundle(bundle_files())
    sealed["immutable"] = True
    assert inspect(sealed).sealed
    owned = stored(revision_config_map(PREFIX, "1234", V1, ONE, 0))
    assert not inspect(owned).sealed
    assert inspect(owned).owners
    del owned["metadata"]["ownerReferences"]
    assert inspect(owned).owners == frozenset()


def test_what_was_stable_last_is_found_again() -> None:
    """By the revisions that the prefix owns, and with the latest epoch that stands anywhere."""

    def kept(data: bytes, version: str, epoch: int, owner: str = "1234") -> Found:
        return inspect(
            stored(revision_config_map(PREFIX, owner, revision(version, data), data, epoch))
        )

    first, second, tried = kept(ONE, "v1", 1), kept(TWO, "v2", 4), kept(LARGE, "v3", 0)
    published = inspect(found_bundle(bundle_files()))
    assert last_stable([first, second, tried, published], "1234") == (revision("v2", TWO), 4)
    later = replace(published, epoch=9)
    assert last_stable([first, later], "1234") == (revision("v1", ONE), 9)
    assert last_stable([tried, later], "1234") is None, "what was only tried was never stable"
    assert last_stable([kept(ONE, "v1", 1, owner="another")], "1234") is None
    assert last_stable([], "1234") is None


@pytest.mark.parametrize(
    ("text", "epoch"), [("", 0), ("7", 7), ("-7", 0), ("seven", 0), ("9" * 30, 2**52)]
)
def test_an_epoch_that_somebody_wrote(text: str, epoch: int) -> None:
    """No number is none, and none is more than a status takes."""
    body = stored(revision_config_map(PREFIX, "1234", V1, ONE, 1))
    body["metadata"]["annotations"]["headwater.dev/epoch"] = text
    assert inspect(body).epoch == epoch


def test_content_is_not_read() -> None:
    """It belongs to the author; only that it changed is of interest."""
    body = stored({"metadata": {"namespace": "ai-platform", "name": "prompts"}, "data": {"a": "b"}})
    body["metadata"]["labels"] = {ROLE_LABEL: CONTENT}
    found = inspect(body)
    assert (found.role, found.size, found.foreign) == (CONTENT, 0, False)


def test_who_edited_it_last() -> None:
    """The field manager other than ours that touched the data last."""

    def entry(manager: str, minute: int, field: str) -> Object:
        time = f"2026-11-21T09:{minute:02}:00Z"
        return {"manager": manager, "time": time, "fieldsV1": {field: {}}}

    body = found_bundle(bundle_files())
    body["metadata"]["managedFields"] = [
        entry("kubectl-edit", 1, "f:data"),
        entry("k9s", 2, "f:binaryData"),
        entry("kubectl-label", 3, "f:metadata"),
        entry(FIELD_MANAGER, 4, "f:data"),
    ]
    assert inspect(body).edited_by == "k9s"
    ours_alone = deepcopy(body)
    ours_alone["metadata"]["managedFields"] = body["metadata"]["managedFields"][2:]
    assert inspect(ours_alone).edited_by == ""
