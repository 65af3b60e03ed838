"""Objects as the API server gives them, with what a test does not care about filled in."""

from copy import deepcopy
from typing import Any

from headwater.cluster import Object
from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, Weight
from headwater.controller.objects import Key

PREFIX = Key("ai-platform", "help-desk")


def contract(text: str) -> bytes:
    return canonical_bytes(content(tools=[], system=[{"text": text}], ttl="5m"))


ONE, TWO = contract("Be brief."), contract("Be brief and kind.")
LARGE = contract("A long handbook. " * 10_000)
"""Stored compressed."""


def revision(version: str, canonical: bytes) -> Revision:
    return Revision(version, Digest.of(canonical))


def bundle_files(stable: bytes = ONE, candidate: bytes | None = None) -> dict[str, bytes]:
    route = Route(
        namespace=PREFIX.namespace,
        prefix=PREFIX.name,
        epoch=3,
        salt="0123456789abcdef",
        stable=revision("v1", stable),
        candidate=revision("v2", candidate) if candidate else None,
        weight=Weight.percent(10 if candidate else 0),
        models=("claude-opus-5",),
        ttl="5m",
    )
    contracts = {Digest.of(data): data for data in (stable, candidate) if data}
    return encode(Bundle(route, contracts))


def stored(body: Object, version: int = 1, **metadata: Any) -> Object:
    """The body with what the API server adds."""
    added = {
        "uid": "0000",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": "2026-11-21T09:00:00Z",
    }
    return {**deepcopy(body), "metadata": {**deepcopy(body["metadata"]), **added, **metadata}}


def prompt_prefix(**spec: Any) -> Object:
    """A PromptPrefix as declared; keywords replace parts of its spec."""
    return {
        "metadata": {"namespace": PREFIX.namespace, "name": PREFIX.name, "generation": 4},
        "spec": {
            "owner": {"team": "ai-platform"},
            "version": "v2",
            "digest": str(Digest.of(TWO)),
            "models": ["claude-opus-4-8"],
            "content": {"system": [{"text": "Be brief and kind."}]},
            "consumers": {"namespaceSelector": {}},
            **spec,
        },
    }
