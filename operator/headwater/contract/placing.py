"""Where a team's own cache markers go, as a prefix declares it: into bytes that are not parsed.

A marker is put into a request's JSON text. Of its messages only those that get one are written
anew, each value as it came; a text given as a string becomes a block with that very string. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from headwater.contract.content import MARKER_KEY
from headwater.contract.markers import ABSENT, Mark, Message, kind

Strategy = Literal["A", "B", "C"]
"""How many markers a request has together with the contract's two: B 2, A 3, C 4.

B adds none: single questions. A adds one on the last message: conversations. C adds one on the
program's own system text or documents, too: agents, and what many of one tenant's requests share.
"""

LOOK_BACK: Final = 20
"""Blocks before a marker, itself included, in which the provider looks for an older entry
(platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22)."""

NEVER_MARKED: Final = frozenset({"thinking", "redacted_thinking"})

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place for a marker: the last block of a message, or a block of the team's own system text.

    Attributes:
        role: counts only messages of this role, or with `system` the team's system blocks;
            None counts all messages.
        index: which of them; from the end where it is negative.
    """

    role: Role | None = None
    index: int = -1


@dataclass(frozen=True, slots=True)
class Placing:
    """What a prefix declares of its consumers' own markers: a strategy, or points."""

    strategy: Strategy = "B"
    points: tuple[Point, ...] = ()

    def __bool__(self) -> bool:
        """Whether it places any."""
        return self.strategy != "B" or bool(self.points)

    @property
    def in_system(self) -> tuple[int, ...]:
        """Indexes of the team's system blocks."""
        if self.strategy == "C":
            return (-1,)
        return tuple(point.index for point in self.points if point.role == "system")

    @property
    def in_messages(self) -> tuple[Point, ...]:
        """Points among the messages, but for those that follow from how a conversation grew."""
        if self.strategy != "B":
            return (Point(),)
        return tuple(point for point in self.points if point.role != "system")


NOWHERE: Final = Placing()

MARKER: Final = b',"%b":{"type":"ephemeral","ttl":"5m"}' % MARKER_KEY.encode()
"""What comes before the closing brace of a block. Five minutes never stand before the contract's
own markers, and so are taken after whichever these are."""


def markable(block: msgspec.Raw) -> bool:
    """Whether a block takes a marker and names none; raises `msgspec.MsgspecError` if it is none.

    One that says `null` names it, and is left alone: the key must not stand there twice.
    """
    seen = _decode_block(block)
    empty = seen.type == "text" and not seen.text
    marked = kind(seen.cache_control) != b""
    return bool(seen.type) and seen.type not in NEVER_MARKED and not empty and not marked


def place(
    messages: msgspec.Raw, placing: Placing, left: int
) -> tuple[list[bytes | memoryview], Sequence[Mark]]:
    """The messages with at most `left` markers more, in parts, and where these stand.

    Raises:
        msgspec.MsgspecError: they are not of the provider's shape.
    """
    elements = decode_elements(messages)
    changed: dict[int, bytes] = {}
    marks: list[Mark] = []
    for index in _indexes(elements, placing):
        if len(changed) < left and index not in changed:
            marked = _marked(elements[index])
            if marked is not None:
                block, changed[index] = marked
                marks.append(Mark(index, block))
    return _replaced(memoryview(messages), elements, changed), marks


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    cache_control: msgspec.Raw = ABSENT


decode_elements: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_block: Final = msgspec.json.Decoder(_Block).decode
_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_message: Final = msgspec.json.Decoder(Message).decode


def _indexes(elements: Sequence[msgspec.Raw], placing: Placing) -> Iterator[int]:
    """Which messages get a marker, the most useful first."""
    for point in placing.in_messages:
        found = _index(elements, point)
        if found is not None:
            yield found
    if placing.strategy != "B":
        yield from _out_of_sight(elements)


def _index(elements: Sequence[msgspec.Raw], point: Point) -> int | None:
    if point.role is None:
        index = point.index if point.index >= 0 else len(elements) + point.index
        return index if 0 <= index < len(elements) else None
    backwards = point.index < 0
    order = range(len(elements))
    of_role = (
        index
        for index in (reversed(order) if backwards else order)
        if _decode_message(elements[index]).role == point.role
    )
    passed = -point.index - 1 if backwards else point.index
    return next((index for nth, index in enumerate(of_role) if nth == passed), None)


def _out_of_sight(elements: Sequence[msgspec.Raw]) -> Iterator[int]:
    """The end of the request before, where more blocks came since than the provider looks back."""
    blocks = 0
    for index in range(len(elements) - 1, 0, -1):
        message = _decode_message(elements[index])
        listed = kind(message.content) == b"["
        blocks += len(decode_elements(message.content)) if listed else 1
        if message.role == "assistant":
            if blocks >= LOOK_BACK:
                yield index - 1
            return


def _marked(message: msgspec.Raw) -> tuple[int, bytes] | None:
    """The last block that takes a marker, and the message with it; None where none does."""
    fields = _decode_fields(message)
    content = fields.get("content", ABSENT)
    if kind(content) == b'"':
        text = bytes(content)
        block = b'{"type":"text","text":' + text + MARKER + b"}"
        return None if text == b'""' else (0, _object(fields, [block]))
    blocks = decode_elements(content)
    for index in range(len(blocks) - 1, -1, -1):
        if markable(blocks[index]):
            before, after = blocks[:index], blocks[index + 1 :]
            with_marker = bytes(blocks[index])[:-1].rstrip() + MARKER + b"}"
            return index, _object(fields, [*before, with_marker, *after])
        if kind(_decode_block(blocks[index]).cache_control) == b"{":
            return None
    return None


def _object(fields: Mapping[str, msgspec.Raw], blocks: Sequence[bytes | msgspec.Raw]) -> bytes:
    """A message whose values are as they came, but for its content."""
    parts = (
        b"%b:%b"
        % (
            msgspec.json.encode(key),
            b"[%b]" % b",".join(map(bytes, blocks)) if key == "content" else bytes(value),
        )
        for key, value in fields.items()
    )
    return b"{%b}" % b",".join(parts)


def _replaced(
    view: memoryview, elements: Sequence[msgspec.Raw], changed: Mapping[int, bytes]
) -> list[bytes | memoryview]:
    """The list with some elements changed; all between them is as it came."""
    parts: list[bytes | memoryview] = []
    rest = end = len(view)
    for index in range(len(elements) - 1, min(changed, default=len(elements)) - 1, -1):
        if kind(elements[index]) != b"{":
            raise msgspec.ValidationError(f"messages[{index}] is no object")
        while view[end - 1] != _CLOSED:
            end -= 1
        start = end - len(memoryview(elements[index]))
        if index in changed:
            parts += (view[end:rest], changed[index])
            rest = start
        end = start
    return [view[:rest], *reversed(parts)]


_CLOSED: Final = ord("}")
