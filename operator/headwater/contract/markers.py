"""Finds the cache markers of a request without reading what is between them.

A history may have ten megabytes, so nothing is decoded where no marker can be, and texts never.
It looks only where the provider takes a marker: a tool's input or schema may speak of
`cache_control` as it likes.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from headwater.contract.content import MARKER_KEY

MARKER_LIMIT: Final = 4
"""Cache markers that the provider takes in one request, the top-level one included
(platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22)."""

ABSENT: Final = msgspec.Raw()
"""A field that is not there. `Raw | None` would not do: msgspec then decodes null alone."""

_QUOTED_KEY: Final = f'"{MARKER_KEY}"'.encode()
_UNDERSCORE: Final = _QUOTED_KEY.index(b"_") + 1
_LONG: Final = 64 << 10
_HOPS: Final = 64
"""Underscores looked at in a long body, one by one, before the whole of it is searched."""
_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|6[0-9a-fA-F]|7[0-9a-fA-F])")
"""An escaped lower-case letter or underscore: JSON can spell `cache_control` with these."""


class Marker(msgspec.Struct):
    """A `cache_control` object."""

    ttl: str | None = None


class Message(msgspec.Struct):
    """A message, its content not decoded."""

    role: str = ""
    content: msgspec.Raw = ABSENT


class _Block(msgspec.Struct):
    """A block, seen only where a marker can stand: itself, its content, its source's content."""

    cache_control: Marker | None = None
    content: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT


class Mark(NamedTuple):
    """The place of a marker in the messages: a message, and a block of its content."""

    message: int
    block: int


decode_messages: Final = msgspec.json.Decoder(list[Message]).decode
_decode_blocks: Final = msgspec.json.Decoder(list[_Block]).decode
_decode_block: Final = msgspec.json.Decoder(_Block).decode
_decode_marker: Final = msgspec.json.Decoder(Marker | None).decode


def kind(raw: msgspec.Raw) -> bytes:
    """The first byte of a JSON value, which tells its type."""
    return bytes(memoryview(raw)[:1])


def ttl_of(marker: Marker | None) -> tuple[str, ...]:
    """The TTL of a marker, spelled out; nothing where there is none."""
    return () if marker is None else (marker.ttl or "5m",)


def ttls_of_top_level(marker: msgspec.Raw) -> tuple[str, ...]:
    """The TTL of a top-level `cache_control`; raises `msgspec.MsgspecError` on another shape."""
    return ttl_of(_decode_marker(marker))


def marks_of(messages: Sequence[Message]) -> Iterator[tuple[Mark, str]]:
    """Places and TTLs of all markers in messages; raises `msgspec.MsgspecError` on another shape.

    One within a block counts for the block.
    """
    for number, message in enumerate(messages):
        for index, block in enumerate(_blocks(message.content)):
            for ttl in _ttls_of_block(block):
                yield Mark(number, index), ttl


def ttls_of_blocks(content: msgspec.Raw) -> list[str]:
    """TTLs in a content, in the provider's order: a block's parts, then the block itself.

    Raises:
        msgspec.MsgspecError: it is not of the provider's shape.
    """
    return [ttl for block in _blocks(content) for ttl in _ttls_of_block(block)]


def _blocks(content: msgspec.Raw) -> Sequence[_Block]:
    """Return the blocks of a content that may hold a marker."""
    if not may_hold_marker(bytes(content)):
        return ()
    if kind(content) == b"[":
        return _decode_blocks(content)
    if kind(content) == b"{":  # results of server tools hold one object
        return (_decode_block(content),)
    return ()


def _ttls_of_block(block: _Block) -> list[str]:
    found = ttls_of_blocks(block.content) if block.content is not ABSENT else []
    if kind(block.source) == b"{":
        found += ttls_of_blocks(_decode_block(block.source).content)
    if block.cache_control is not None:
        found += ttl_of(block.cache_control)
    return found


def may_hold_marker(data: bytes | bytearray) -> bool:
    """Whether decoding is worth it; False is certain, True is not."""
    return holds_marker_key(data) or spells_letters(data)


def spells_letters(data: bytes | bytearray) -> bool:
    """Return whether a lower-case letter or an underscore is escaped, so that a key may hide."""
    return (
        b"\\" in data  # by far the fastest to say no
        and data.rfind(b"\\u00") >= 0
        and _ESCAPED_LETTER.search(data) is not None
    )


def holds_marker_key(data: bytes | bytearray) -> bool:
    """Return whether a marker's key stands in it, not escaped."""
    at = 0
    if len(data) > _LONG:
        # One byte is found ten times as fast as several, and prose has few underscores.
        for _ in range(_HOPS):
            at = data.find(b"_", at) + 1
            if not at:
                return False
            if data.startswith(_QUOTED_KEY, max(0, at - _UNDERSCORE)):
                return True
    # From the end: CPython then skips by what it saw, and is three times faster.
    return data.rfind(_QUOTED_KEY, max(0, at - _UNDERSCORE)) >= 0
