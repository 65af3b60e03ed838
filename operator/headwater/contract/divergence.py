"""Where a request that holds the contract itself parts from it.

A client needs no copy of the contract: the published bytes are put before what it sends. One that
sends a copy all the same (kept by hand, or from the time before) is on the contract where the copy
is right, and this names the first block in which it is not. Pure.

Tools that are not deferred are always meant for the shared prefix. System blocks are a team's own
unless the greater part of the contract's text stands in them: a suffix may quote, a copy repeats.
How a copy is laid out makes no difference to that, nor does which of the published versions it is
of: a copy that is not recognised is sent and paid for beside the contract.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headwater.contract.digest import Digest
from headwater.contract.reasons import Reason
from headwater.contract.shingles import Sketch, in_common, sketch_of

_LOOKED_AT: Final = 64
"""System blocks of a request that are compared one by one: a contract has a handful."""
_FEWEST: Final = 8
"""Shingles of the shortest text that is told by its words, twelve of them: a sentence may stand in
any prompt, and costs next to nothing twice."""


class Published(NamedTuple):
    """One version as a copy of it would have it: without its markers."""

    digest: Digest
    tools: Sequence[Mapping[str, Any]]
    blocks: tuple[str, ...]
    """The texts of its system."""
    sketch: Sketch
    """Of all of them together."""


class Divergence(NamedTuple):
    """The first difference; `at` is its place in the request's own list."""

    reason: Reason
    at: int


def in_tools(
    contract: Sequence[Mapping[str, Any]], request: Sequence[Mapping[str, Any]]
) -> Divergence | None:
    """How tools that are not deferred differ from the contract's; None where they are a copy.

    Tools are compared without their cache markers, which the contract places anew.
    """
    ours, theirs = ([tool.get("name") for tool in tools] for tools in (contract, request))
    for index, (tool, theirs_here) in enumerate(zip(contract, request, strict=False)):
        if tool == theirs_here:
            continue
        if theirs[index] == ours[index]:
            return Divergence(Reason.TOOLS_CHANGED, index)
        if theirs[index] not in ours:
            return Divergence(Reason.OWN_TOOLS, index)
        order = ours[index] in theirs
        return Divergence(Reason.TOOLS_ORDER if order else Reason.TOOLS_MISSING, index)
    if len(request) > len(contract):
        return Divergence(Reason.OWN_TOOLS, len(contract))
    if len(request) < len(contract):
        return Divergence(Reason.TOOLS_MISSING, len(request))
    return None


def in_system(
    contract: Published, request: Sequence[str], known: Sequence[Published]
) -> Divergence | int:
    """Return how a copy of the contract's texts differs; else how many blocks of it are right.

    A right copy of any of the `known` versions, the contract among them, stands at the start.
    0 where the blocks are the team's own.
    """
    right = max(
        (len(each.blocks) for each in known if tuple(request[: len(each.blocks)]) == each.blocks),
        default=0,
    )
    if not _is_held(request[right:], known):
        return right
    if right:
        return Divergence(Reason.SYSTEM_CHANGED, right)
    pairs = enumerate(zip(contract.blocks, request, strict=False))
    shorter = min(len(contract.blocks), len(request))
    same = next((index for index, (ours, theirs) in pairs if ours != theirs), shorter)
    if same == len(request):
        return Divergence(Reason.SYSTEM_MISSING, same)
    if same == len(contract.blocks):
        return Divergence(Reason.SYSTEM_CHANGED, same)
    ours, theirs = contract.blocks[same], request[same]
    near = request[:_LOOKED_AT]
    if theirs in contract.blocks:
        order = ours in near
        return Divergence(Reason.SYSTEM_ORDER if order else Reason.SYSTEM_MISSING, same)
    sketch = sketch_of(ours)
    follows = ours in near or _is_greater(in_common(sketch, _joined(request[same + 1 :])), sketch)
    return Divergence(Reason.SYSTEM_BEFORE if follows else Reason.SYSTEM_CHANGED, same)


def _is_held(request: Sequence[str], known: Sequence[Published]) -> bool:
    """Return whether the greater part of one of the versions stands in a request's blocks."""
    near = set(request[:_LOOKED_AT])
    for each in known:
        whole = sum(len(block) for block in each.blocks if block in near)
        if 2 * whole > sum(map(len, each.blocks)):
            return True
    sketches = [each.sketch for each in known if len(each.sketch) >= _FEWEST]
    found = in_common(Sketch().union(*sketches), _joined(request))
    return any(_is_greater(found & sketch, sketch) for sketch in sketches)


def _is_greater(part: Sketch, whole: Sketch) -> bool:
    return 2 * len(part) > len(whole)


def _joined(blocks: Sequence[str]) -> str:
    return "\n".join(blocks)
