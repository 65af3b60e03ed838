"""Where a program's own cache markers go: few, in places that later requests find again. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from headwater.contract.content import MARKER_KEY, TTL
from headwater.contract.placing import LOOK_BACK, NEVER_MARKED, Strategy


def mark(
    messages: list[dict[str, Any]],
    own: Sequence[dict[str, Any]],
    *,
    strategy: Strategy,
    ttl: TTL,
    began: int | None = None,
) -> list[dict[str, Any]]:
    """Put the strategy's markers into messages and own blocks, which are changed in place.

    `began` is how many messages the request before this one had; by default all but the last
    answer and what followed it. Where more blocks came since than the provider looks back, that
    place is marked again, if need be instead of the own blocks'. Gives the messages that it marked.
    """
    if strategy == "B" or not messages:
        return []
    before = _turn_before(messages) if began is None else began
    grown = sum(map(_blocks, messages[before:]))
    places = [messages[before - 1]] if before > 0 and grown >= LOOK_BACK else []
    if strategy == "C" and own and not places:
        mark_last(own, ttl)
    places.append(messages[-1])
    for message in places:
        _mark(message, ttl)
    return places


def is_marked(message: Mapping[str, Any]) -> bool:
    """Whether one of its blocks has a marker."""
    content = message["content"]
    return not isinstance(content, str) and any(MARKER_KEY in block for block in content)


def _turn_before(messages: Sequence[dict[str, Any]]) -> int:
    """How many messages were sent for the last answer that is in these."""
    answered = (
        at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "assistant"
    )
    return next(answered, 0)


def _blocks(message: dict[str, Any]) -> int:
    content = message["content"]
    return 1 if isinstance(content, str) else len(content)


def mark_last(blocks: Sequence[dict[str, Any]], ttl: TTL) -> None:
    """Mark the last block that takes a marker; none where none does."""
    for block in reversed(blocks):
        if block["type"] not in NEVER_MARKED:
            block.setdefault(MARKER_KEY, {"type": "ephemeral", "ttl": ttl})
            return


def _mark(message: dict[str, Any], ttl: TTL) -> None:
    if isinstance(message["content"], str):
        message["content"] = [{"type": "text", "text": message["content"]}]
    mark_last(message["content"], ttl)
