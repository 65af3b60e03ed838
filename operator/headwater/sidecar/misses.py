"""Why the provider did not read the contract from its cache, as far as can be told from here."""

from enum import StrEnum
from typing import Final

from headwater.contract.lane import Lane
from headwater.providers.usage import Usage
from headwater.sidecar.lanes import Turn


class MissReason(StrEnum):
    """What made a request a miss; the first that applies."""

    BELOW_MINIMUM = "below_minimum"
    """Nothing was read and nothing written: the contract is too short for this model's cache."""
    MODEL_CHANGED = "model_changed"
    """The conversation left its lane, as in the next six."""
    THINKING_CHANGED = "thinking_changed"
    EFFORT_CHANGED = "effort_changed"
    SPEED_CHANGED = "speed_changed"
    FORMAT_CHANGED = "format_changed"
    CITATIONS_CHANGED = "citations_changed"
    BETAS_CHANGED = "betas_changed"
    PREFIX_CHANGED = "prefix_changed_upstream"
    """The provider says so in its diagnostics, or read less than the contract of a warm lane."""
    COLD = "cold"
    """This process had not used the lane."""
    EXPIRED = "expired"
    """It had, but longer ago than the TTL."""
    EVICTED = "evicted_early"
    """Of a lane used well within the TTL nothing was left."""
    UNKNOWN = "unknown"
    """So near the TTL's end that the provider's clock decides."""


_SETTINGS: Final = (
    ("model", MissReason.MODEL_CHANGED),
    ("thinking", MissReason.THINKING_CHANGED),
    ("effort", MissReason.EFFORT_CHANGED),
    ("speed", MissReason.SPEED_CHANGED),
    ("format", MissReason.FORMAT_CHANGED),
    ("citations", MissReason.CITATIONS_CHANGED),
    ("betas", MissReason.BETAS_CHANGED),
)
_DIAGNOSED: Final = {
    "model_changed": MissReason.MODEL_CHANGED,
    "system_changed": MissReason.PREFIX_CHANGED,
    "tools_changed": MissReason.PREFIX_CHANGED,
}
"""Types of the provider's `cache_miss_reason` that are about the contract (its page on cache
diagnostics, as of 2026-08-22)."""


def miss_reason(turn: Turn, usage: Usage, before: Lane | None, diagnosis: str) -> MissReason:
    """The reason of a miss; `before` is the lane of the conversation's request before this one.

    `diagnosis` is what the provider says, empty where it was not asked.
    """
    if usage.cache_read + usage.cache_write_5m + usage.cache_write_1h == 0:
        return MissReason.BELOW_MINIMUM
    if diagnosis in _DIAGNOSED:
        return _DIAGNOSED[diagnosis]
    if turn.warm:
        if not turn.eligible:
            return MissReason.UNKNOWN
        return MissReason.PREFIX_CHANGED if usage.cache_read else MissReason.EVICTED
    if before is not None:
        for name, reason in _SETTINGS:
            if getattr(before, name) != getattr(turn.lane, name):
                return reason
    return MissReason.COLD if turn.age is None else MissReason.EXPIRED
