"""A program's own system text in layers: declared once, and always in order of stability."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from headwater.client.plain import statement_of
from headwater.contract.content import MARKER_KEY, TTL
from headwater.contract.errors import RequestError

Scope = Literal["static", "slow", "user", "session"]
"""Who shares a text, and for how long: everybody for ever, everybody until it changes now and
then, all sessions of one user or tenant, one session."""

_SCOPES: Final[tuple[str, ...]] = get_args(Scope)
_SHARED: Final = frozenset({"static", "slow"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One of them; its text comes with each request."""

    name: str
    scope: Scope


class Share(NamedTuple):
    """A layer's part of one prompt: its tokens, estimated, and how many of them were read."""

    name: str
    tokens: int
    read: int


class Layers:
    """The layers of a program; `system` puts their texts together."""

    def __init__(
        self,
        *layers: Layer,
        private: str | None = None,
        marked: tuple[Scope, ...] = ("slow", "user"),
        ttl: TTL = "5m",
    ) -> None:
        """Declare them, in any order.

        `private` is an expression for what no shared layer may say, such as a tenant's id.
        `marked` are the scopes behind whose last text a cache marker goes: two at most beside a
        contract's, and one where a conversation marks its last message, too.

        Raises:
            RequestError: two layers have one name.
        """
        self._layers = sorted(layers, key=lambda layer: _SCOPES.index(layer.scope))
        self._private = re.compile(private) if private else None
        self._marked = marked
        self._ttl = ttl
        names = [layer.name for layer in layers]
        if len(set(names)) < len(names):
            raise RequestError("layers", f"two have one name: {', '.join(sorted(names))}.")

    def system(self, **texts: str) -> list[dict[str, Any]]:
        """The blocks for `system=`, the stablest first; a layer without a text is left out.

        Raises:
            RequestError: a text for a layer that is not declared, or a private one in a shared.
        """
        unknown = sorted(set(texts) - {layer.name for layer in self._layers})
        if unknown:
            raise RequestError("layers", f"{', '.join(unknown)} is not declared: add a Layer.")
        given = [layer for layer in self._layers if texts.get(layer.name)]
        for layer in given:
            self._refuse_private(layer, texts[layer.name])
        last = {layer.scope: layer.name for layer in given}
        marker = {MARKER_KEY: {"type": "ephemeral", "ttl": self._ttl}}
        return [
            {"type": "text", "text": texts[layer.name]}
            | (marker if layer.scope in self._marked and last[layer.scope] == layer.name else {})
            for layer in given
        ]

    def shares(self, request: Mapping[str, Any], answer: Any, **texts: str) -> list[Share]:
        """How much of each layer the prompt of an answer read from the cache.

        The parts are `contract`, each layer that has a text here, and `messages`. Nobody counts
        their tokens apart, so the prompt's are split by bytes.
        """
        usage = statement_of(answer).first
        layers = [(each.name, texts[each.name]) for each in self._layers if texts.get(each.name)]
        sizes = [(name, len(msgspec.json.encode(text))) for name, text in layers]
        prefix = len(msgspec.json.encode([request.get("tools", []), request.get("system", [])]))
        contract = max(0, prefix - sum(size for _, size in sizes))
        messages = len(msgspec.json.encode(request["messages"]))
        parts = [("contract", contract), *sizes, ("messages", messages)]
        whole = sum(size for _, size in parts)
        found, before = [], 0
        for name, size in parts:
            start, end = (usage.prompt * edge // whole for edge in (before, before + size))
            found.append(Share(name, end - start, max(0, min(usage.cache_read, end) - start)))
            before += size
        return found

    def _refuse_private(self, layer: Layer, text: str) -> None:
        found = self._private.search(text) if self._private and layer.scope in _SHARED else None
        if found is not None:
            raise RequestError(
                f"layers.{layer.name}",
                f"characters {found.start()} to {found.end()} are private to someone, and"
                f" everybody shares this layer: move them to one with scope user or session.",
            )
