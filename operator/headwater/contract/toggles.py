"""Find what in a request's messages changes what the provider makes of all before it.

Citations that are enabled in any block add to the system prompt; whether there is an image in any
block changes how all messages are read (the provider's page on prompt caching, as of 2026-08-22).
A history may have ten megabytes, so it is decoded only where one of the two is surely written in
it. Pure.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from headwater.contract.markers import ABSENT, decode_messages, kind

_CITATIONS: Final = b'"citations"'
_OPENED: Final = re.compile(rb"\s*:\s*\{")
_LOOKS: Final = 1_000
"""Lists of citations looked at, one by one, before everything is decoded."""
_IMAGE: Final = b'"image"'
_DEPTH: Final = 3
"""Lists of blocks within one another: a message's, a tool result's, a document's."""


def may_cite(data: bytes | bytearray) -> bool:
    """Return whether citations may be enabled; False is certain but for keys that are escaped.

    Answers carry lists of citations, and an object is what enables them.
    """
    at = len(data)
    for _ in range(_LOOKS):
        at = data.rfind(_CITATIONS, 0, at)
        if at < 0:
            return False
        if _OPENED.match(data, at + len(_CITATIONS)):
            break
    return True


def may_show_image(data: bytes | bytearray) -> bool:
    """Return whether an image may be in it; False is certain but for values that are escaped."""
    return data.rfind(_IMAGE) >= 0


def cites(messages: msgspec.Raw) -> bool:
    """Return whether any block of the messages enables citations."""
    return _any(messages, _block_cites)


def shows_image(messages: msgspec.Raw) -> bool:
    """Return whether any block of the messages is an image."""
    return _any(messages, _block_is_image)


class _Block(msgspec.Struct):
    type: msgspec.Raw = ABSENT
    citations: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT


class _Citations(msgspec.Struct):
    enabled: bool = False


_decode_blocks: Final = msgspec.json.Decoder(list[_Block]).decode
_decode_block: Final = msgspec.json.Decoder(_Block).decode
_decode_citations: Final = msgspec.json.Decoder(_Citations).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def _any(messages: msgspec.Raw, holds: Callable[[_Block], bool]) -> bool:
    try:
        found = (_within(message.content, holds, _DEPTH) for message in decode_messages(messages))
        return any(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # of another shape, so the provider will refuse it


def _within(content: msgspec.Raw, holds: Callable[[_Block], bool], depth: int) -> bool:
    if not depth or kind(content) != b"[":
        return False
    return any(
        holds(block)
        or _within(block.content, holds, depth - 1)
        or _within(_source(block).content, holds, depth - 1)
        for block in _decode_blocks(content)
    )


def _source(block: _Block) -> _Block:
    """Return what a document is made of; nothing where it is no object."""
    return _decode_block(block.source) if kind(block.source) == b"{" else _Block()


def _block_cites(block: _Block) -> bool:
    return kind(block.citations) == b"{" and _decode_citations(block.citations).enabled


def _block_is_image(block: _Block) -> bool:
    return kind(block.type) == b'"' and _decode_text(block.type) == "image"
