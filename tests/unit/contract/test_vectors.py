"""The golden vectors: what any implementation, in any language, has to reproduce."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from headwater.contract import bundle
from headwater.contract.content import canonical_bytes, content, digest_of
from headwater.contract.digest import Digest
from headwater.contract.errors import ContentError
from headwater.contract.route import Revision, Route, Weight, pick

VECTORS = Path(__file__).parents[2] / "vectors"
CONTRACTS = json.loads((VECTORS / "contracts.json").read_text())
BUNDLES = json.loads((VECTORS / "bundles.json").read_text())


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", CONTRACTS["contracts"], ids=named)
def test_content_has_the_canonical_bytes_of_the_vector(vector: dict[str, Any]) -> None:
    """Bytes, text and digest of the vector belong together, and our bytes are those."""
    expected = base64.b64decode(vector["canonicalBase64"])
    assert expected.decode() == vector["canonical"]
    assert "sha256:" + hashlib.sha256(expected).hexdigest() == vector["digest"]
    declared = content(**vector["content"])
    assert canonical_bytes(declared) == expected
    assert digest_of(declared) == vector["digest"]


@pytest.mark.parametrize("vector", CONTRACTS["contracts"], ids=named)
def test_canonical_bytes_say_what_was_declared(vector: dict[str, Any]) -> None:
    """Read back by any JSON parser, every tool and text is what the author wrote."""
    document = json.loads(vector["canonical"])
    declared = vector["content"]
    assert document["format"] == 1
    assert document["provider"] == declared["provider"]
    assert [block["text"] for block in document["system"]] == [
        block["text"] for block in declared["system"]
    ]
    assert [without_marker(tool) for tool in document["tools"]] == [
        without_marker(tool) for tool in declared["tools"]
    ]


def without_marker(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "cache_control"}


@pytest.mark.parametrize("vector", CONTRACTS["refused"], ids=named)
def test_what_is_no_contract_is_refused(vector: dict[str, Any]) -> None:
    """It has no digest at all, and the error names the place."""
    with pytest.raises(ContentError) as refused:
        digest_of(content(**vector["content"]))
    assert str(refused.value).startswith(refused.value.where)


def test_every_vector_has_a_digest_of_its_own() -> None:
    """One byte of difference is another contract: NFC and NFD of one word, say."""
    digests = [vector["digest"] for vector in CONTRACTS["contracts"]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("vector", BUNDLES["bundles"], ids=named)
def test_a_bundle_of_the_vectors_is_read(vector: dict[str, Any]) -> None:
    """It verifies, and has the bytes of every revision."""
    read = bundle.decode({name: base64.b64decode(data) for name, data in vector["files"].items()})
    assert read.route.stable.digest == vector["stable"]
    candidate = read.route.candidate
    assert (candidate and candidate.digest) == vector["candidate"]
    assert [revision.digest for revision in read.route.retained] == vector["retained"]
    assert set(read.contracts) == {revision.digest for revision in read.route.revisions}
    for digest, canonical in read.contracts.items():
        assert digest == "sha256:" + hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize("vector", BUNDLES["bundles"], ids=named)
def test_a_bundle_is_written_as_in_the_vectors(vector: dict[str, Any]) -> None:
    """To the byte, except that compressors may differ in how they compress."""
    files = {name: base64.b64decode(data) for name, data in vector["files"].items()}
    written = bundle.encode(bundle.decode(files))
    assert set(written) == set(files)
    for name, data in files.items():
        assert written[name] == data or name.endswith(".gz")


def test_conversations_get_the_revision_of_the_vectors() -> None:
    """The split is part of the format: a library and a sidecar must answer alike."""
    picks = BUNDLES["picks"]
    route = Route(
        namespace="platform",
        prefix="handbook",
        epoch=1,
        salt=picks["salt"],
        stable=Revision(picks["stable"], Digest.of(b"stable")),
        candidate=Revision(picks["candidate"], Digest.of(b"candidate")),
        weight=Weight(picks["weight"]),
        models=("claude-opus-5",),
        ttl="5m",
    )
    expected = {row["conversation"]: row["revision"] for row in picks["conversations"]}
    assert {key: pick(route, key).version for key in expected} == expected
    assert set(expected.values()) == {"v1", "v2"}
