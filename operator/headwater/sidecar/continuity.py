"""Whether a conversation's request extends the one before it, told from checksums alone.

What is cached of a conversation is read only where the next request begins with the same bytes.
So of each request the length of its messages and a checksum are kept, and the next one has to
have that checksum up to that length. Nothing is parsed, and no text is kept. Cache markers, which
clients move from turn to turn, are left out; and because some clients write a text as a block to
mark it and as a string again thereafter, such a text is kept in both ways. Without I/O.
"""

import os
import re
import zlib
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from headwater.contract.assembly import Request
from headwater.contract.content import MARKER_KEY
from headwater.contract.markers import ABSENT
from headwater.contract.toggles import may_show_image, shows_image


class Break(StrEnum):
    """How a request fails to extend the one before; the first that applies."""

    TOOLS = "tools_changed"
    """The program's own tools are others."""
    SYSTEM = "system_changed"
    """Its own system text is another one."""
    SHORTENED = "history_shortened"
    """Its messages are shorter than those of the request before."""
    REWRITTEN = "history_rewritten"
    """They do not begin with those of the request before."""
    REVISION = "revision_changed"
    """The messages extend those before, but another version of the contract stands before them:
    the one that it began on was taken back. This and what follows lose the cached history alone."""
    FORMAT = "format_changed"
    """`output_config.format` is another one."""
    BETAS = "betas_changed"
    """The set of beta headers is another one."""
    CITATIONS = "citations_changed"
    """Citations were enabled for the first time, or are no more."""
    TOOL_CHOICE = "tool_choice_changed"
    """So is `tool_choice`, or whether tools may be used in parallel."""
    IMAGES = "images_changed"
    """The first image came."""
    LOOK_BACK = "look_back_exceeded"
    """So many blocks came at once that no marker looks back as far as the last one."""


class Said(NamedTuple):
    """What is kept of a request: checksums, and lengths in bytes.

    `blocks` is without markers, `strings` has marked texts as strings besides. `image` is whether
    there is one in the messages.
    """

    tools: int
    system: int
    blocks: tuple[int, int]
    strings: tuple[int, int]
    image: bool = False


def followed(before: Said | None, request: Request) -> tuple[Said, Break | None]:
    """What is to be kept of a request, and how it fails to extend the one before."""
    said, broken = _compared(before, request)
    raw = request.fields.get("messages", ABSENT)
    # Of a history that goes on, only what is new is looked through.
    known = before if broken is None else None
    start = 0 if known is None else min(known.blocks[0], known.strings[0])
    image = (known is not None and known.image) or (
        may_show_image(bytes(memoryview(raw)[start:])) and shows_image(raw)
    )
    return said._replace(image=image), broken


def _compared(before: Said | None, request: Request) -> tuple[Said, Break | None]:
    fields = request.fields
    texts = _messages(fields.get("messages", ABSENT), marked=request.marked)
    tools, system = (
        _kept(_forms(bytes(fields[key]))[0], None)[0][1] if key in fields else 0
        for key in ("tools", "system")
    )
    if before is None:
        return Said(tools, system, _kept(texts[0], None)[0], _kept(texts[1], None)[0]), None
    olds = (before.blocks, before.strings)
    if texts[0] is texts[1] and olds[0] == olds[1]:
        blocks, same = _kept(texts[0], olds[0])
        said = Said(tools, system, blocks, blocks)
    else:
        kept = [_kept(text, old) for text, old in zip(texts, olds, strict=True)]
        said = Said(tools, system, kept[0][0], kept[1][0])
        same = kept[0][1] or kept[1][1]
    if tools != before.tools:
        return said, Break.TOOLS
    if system != before.system:
        return said, Break.SYSTEM
    if same:
        return said, None
    shorter = said.blocks[0] < before.blocks[0]
    return said, Break.SHORTENED if shorter else Break.REWRITTEN


_START: Final = int.from_bytes(os.urandom(4), "big")
"""Another one in every process, so that a checksum tells nothing to whoever guesses the text."""
_KEY: Final = f'"{MARKER_KEY}"'.encode()
_MARKER: Final = re.compile(rb',\s*"%b"\s*:\s*\{[^{}]*\}' % MARKER_KEY.encode())
_TEXT: Final = b'[{"type"'
"""In a string it cannot stand: its quotes would be escaped."""
_SINGLE: Final = re.compile(rb'\[\{"type":\s*"text",\s*"text":\s*("(?:[^"\\]++|\\.)*+")', re.DOTALL)
_CLOSED: Final = re.compile(rb"\s*\}\s*\]")
_SPACE: Final = b" \t\r\n"

_Text = list[memoryview]
"""In parts, because a history of megabytes is not to be copied."""


def _messages(raw: msgspec.Raw, *, marked: bool) -> tuple[_Text, _Text]:
    """The list without its end, so that a longer one begins with it; in both forms."""
    view = memoryview(raw)
    end = len(view) - 1
    while end > 0 and view[end - 1] in _SPACE:
        end -= 1
    view = view[: max(end, 0)]
    return _forms(bytes(view)) if marked else ([view],) * 2


def _kept(text: _Text, before: tuple[int, int] | None) -> tuple[tuple[int, int], bool]:
    """Length and checksum, and whether the text begins with the one before; in one pass."""
    length, begun = before or (0, _START)
    done, checksum, same = 0, _START, False
    for part in text:
        if done <= length <= done + len(part):
            checksum = zlib.crc32(part[: length - done], checksum)
            same = checksum == begun
            checksum = zlib.crc32(part[length - done :], checksum)
        else:
            checksum = zlib.crc32(part, checksum)
        done += len(part)
    return (done, checksum), same


def _forms(text: bytes) -> tuple[_Text, _Text]:
    """Without its markers, and with the texts that had one as strings besides."""
    view = memoryview(text)
    places: list[int] = []
    # From the end, which is the faster way in CPython.
    at = text.rfind(_KEY)
    while at >= 0:
        places.append(at)
        at = text.rfind(_KEY, 0, at)
    blocks: _Text = []
    strings: _Text = []
    done = 0
    for at in reversed(places):
        found = _MARKER.match(text, max(text.rfind(b",", done, at), 0))
        if found is None:
            continue
        start, end = found.span()
        opened = text.rfind(_TEXT, done, start)
        single = _SINGLE.fullmatch(text, opened, start) if opened >= 0 else None
        closed = _CLOSED.match(text, end)
        blocks.append(view[done:start])
        if single is not None and closed is not None:
            strings += (view[done:opened], view[slice(*single.span(1))])
            blocks.append(view[slice(*closed.span())])
            end = closed.end()
        else:
            strings.append(view[done:start])
        done = end
    return [*blocks, view[done:]], [*strings, view[done:]]
