"""Where a request that holds the contract itself parts from it.

A client needs no copy of the contract: the published bytes are put before what it sends. One that
sends a copy all the same (kept by hand, or from the time before) is on the contract where the copy
is right, and this names the first block in which it is not. Pure.

Tools that are not deferred are always meant for the shared prefix. System blocks are a team's own
unless the greater part of the contract's text stands in them: a suffix may quote, a copy repeats.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from headwater.contract.reasons import Reason

_LOOKED_AT: Final = 64
"""System blocks of a request in which a copy is looked for: a contract has a handful."""
_RUN: Final = 16
"""Characters at the start or the end that a copy with an edit in it still has."""


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


def in_system(contract: Sequence[str], request: Sequence[str]) -> Divergence | int:
    """How a copy of the contract's texts differs; else how many blocks at the start are a copy.

    0 where the blocks are the team's own.
    """
    pairs = enumerate(zip(contract, request, strict=False))
    shorter = min(len(contract), len(request))
    same = next((index for index, (ours, theirs) in pairs if ours != theirs), shorter)
    if same == len(contract):
        return same
    near = request[:_LOOKED_AT]
    held = [max((_in_common(ours, theirs) for theirs in near), default=0) for ours in contract]
    if 2 * sum(held) <= sum(map(len, contract)):
        return 0
    if same == len(request):
        return Divergence(Reason.SYSTEM_MISSING, same)
    ours, theirs = contract[same], request[same]
    if theirs in contract:
        order = ours in request
        return Divergence(Reason.SYSTEM_ORDER if order else Reason.SYSTEM_MISSING, same)
    follows = any(2 * _in_common(ours, later) > len(ours) for later in near[same + 1 :])
    return Divergence(Reason.SYSTEM_BEFORE if follows else Reason.SYSTEM_CHANGED, same)


def _in_common(ours: str, theirs: str) -> int:
    """Characters at the start and at the end of a text that another one has there, too."""
    if ours[:_RUN] != theirs[:_RUN] and ours[-_RUN:] != theirs[-_RUN:]:
        return 0
    shorter = min(len(ours), len(theirs))
    start = _longest(shorter, lambda length: ours[:length] == theirs[:length])
    end = _longest(
        shorter - start, lambda length: ours[len(ours) - length :] == theirs[len(theirs) - length :]
    )
    return start + end


def _longest(limit: int, equal: Callable[[int], bool]) -> int:
    """By halving: comparing slices is done in C, characters one by one are not."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if equal(middle) else (low, middle - 1)
    return low
