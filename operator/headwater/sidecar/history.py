"""Why the provider does not read a conversation's history, although the request extends it.

The contract has a marker of its own and stays a hit, so no miss tells of it: the history alone is
written once more. Decided before the request is sent, from what is kept of the conversation's last
request that had a marker in its messages. No text is kept. Pure.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from headwater.contract.assembly import Request, Spliced
from headwater.contract.lane import Lane
from headwater.contract.markers import ABSENT, Mark, Message, decode_messages, kind
from headwater.contract.placing import LOOK_BACK, NEVER_MARKED
from headwater.sidecar.continuity import Break

_RUNS: Final = frozenset({"tool_use", "tool_result"})
"""Consecutive ones are one position to the provider's look-back."""
_OF_LANE: Final = (
    ("format", Break.FORMAT),
    ("betas", Break.BETAS),
    ("citations", Break.CITATIONS),
)


_MARKS: Final = 8
"""Marked blocks remembered, the latest: two requests with all the markers that there can be."""


class Cached(NamedTuple):
    """What a conversation's history was cached under, and at which blocks, the latest first."""

    lane: Lane
    tool_choice: str
    image: bool
    marks: Sequence[Mark]


def cached(
    request: Request, spliced: Spliced, lane: Lane, tool_choice: str, *, image: bool
) -> Cached | None:
    """Return what a request caches of its history; None where no marker is in its messages."""
    marks = tuple(spliced.marks)
    if spliced.automatic:
        last = _last_markable(spliced.messages or _messages(request))
        marks = marks if last is None else (*marks, last)
    return Cached(lane, tool_choice, image, marks) if marks else None


def lost(
    before: Cached, now: Cached, request: Request, spliced: Spliced
) -> tuple[Cached, Break | None]:
    """Return what is cached from now on, and why nothing that was cached before is read.

    The reason is the first that applies, in the order in which the provider reads a request; None
    where something is read.
    """
    changed = _changed(before, now)
    if changed is not None:
        return now, changed
    older = [mark for mark in before.marks if mark not in now.marks]
    marks = tuple([*now.marks, *older][:_MARKS])
    seen = len(older) < len(before.marks)
    if not seen:
        messages = spliced.messages or _messages(request)
        seen = any(_sees(mark, old, messages) for mark in now.marks for old in older)
    return now._replace(marks=marks), None if seen else Break.LOOK_BACK


def _changed(before: Cached, now: Cached) -> Break | None:
    if before.lane.digest != now.lane.digest:
        return Break.REVISION
    for name, reason in _OF_LANE:
        if getattr(before.lane, name) != getattr(now.lane, name):
            return reason
    if before.tool_choice != now.tool_choice:
        return Break.TOOL_CHOICE
    if before.image != now.image:
        return Break.IMAGES
    return None


def _sees(mark: Mark, old: Mark, messages: Sequence[Message]) -> bool:
    """Return whether a marker looks back as far as the block that was marked before."""
    if mark < old or mark.message >= len(messages):
        return False
    steps, previous = 1, ""
    for number in range(old.message, mark.message + 1):
        kinds = _kinds(messages[number].content)
        for index, found in enumerate(kinds):
            if (number, index) > mark:
                break
            if (number, index) > old and (found not in _RUNS or found != previous):
                steps += 1
                if steps > LOOK_BACK:
                    return False
            previous = found
    return True


def _last_markable(messages: Sequence[Message]) -> Mark | None:
    """Return where automatic caching places its marker."""
    for number in range(len(messages) - 1, -1, -1):
        kinds = _kinds(messages[number].content)
        for index in range(len(kinds) - 1, -1, -1):
            if kinds[index] not in NEVER_MARKED:
                return Mark(number, index)
    return None


class _Block(msgspec.Struct):
    type: str = ""


_decode_blocks: Final = msgspec.json.Decoder(list[_Block]).decode


def _messages(request: Request) -> Sequence[Message]:
    try:
        return decode_messages(request.fields.get("messages", ABSENT))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()  # of another shape, so the provider will refuse it


def _kinds(content: msgspec.Raw) -> Sequence[str]:
    """Return the types of a message's blocks."""
    if kind(content) == b'"':
        return ("text",) if len(memoryview(content)) > len('""') else ()
    try:
        return [block.type for block in _decode_blocks(content)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()  # as above
