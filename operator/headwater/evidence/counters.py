"""Which of a sidecar's metrics are read, and what they say.

Their names and labels are those of `headwater.sidecar.metrics`; docs/evidence.md has the table.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from headwater.evidence.lanes import LaneId
from headwater.evidence.ledger import Sample, Series
from headwater.evidence.uses import SERVED_LABELS, USES, Served, Use
from headwater.rollout.state import Counts

REQUESTS: Final = "headwater_requests_total"
START: Final = "process_start_time_seconds"
_COST: Final = "headwater_cost_usd_total"
_FIRST_BYTE_SECONDS: Final = "headwater_time_to_first_byte_seconds_sum"
_FIRST_BYTES: Final = "headwater_time_to_first_byte_seconds_count"
COUNTERS: Final = (REQUESTS, _COST, _FIRST_BYTE_SECONDS, _FIRST_BYTES)
LANE_USED: Final = "headwater_lane_last_used_timestamp_seconds"
READ: Final = (*COUNTERS, *USES, LANE_USED)
_LANE_LABELS: Final = ("prefix", "digest12", "model", "credential")
_COUNTER_LABELS: Final = ("prefix", "digest12", "model", "outcome", "eligible")
LABELS: Final = (*_COUNTER_LABELS, *SERVED_LABELS, "reason", "at", "credential", "layer")
"""Those of their labels that are read, or belong to the sidecar and not to its place."""

_LIMIT: Final = 10**12
"""Of one count; more is nothing that was counted, and sums must stay exact."""
_SERIES_LIMIT: Final = 5_000
"""Of one process; a sidecar that lived through a thousand revisions has fewer."""


class Reading(NamedTuple):
    """One value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


def sample_of(target: str, readings: Iterable[Reading]) -> Sample:
    """What one process's metrics say; those that are no evidence are passed over.

    Raises:
        ValueError: its start is missing, or a value cannot be. All of it is left out then: half
            a reading is no reading.
    """
    started: float | None = None
    counts: dict[Series, Counts] = {}
    uses: dict[str, Use] = {}
    lanes: dict[LaneId, float] = {}
    for name, labels, value in readings:
        if name == START:
            started = value
        elif name in COUNTERS:
            prefix, digest, model, outcome, eligible = (
                labels.get(label, "") for label in _COUNTER_LABELS
            )
            series = Series(prefix, digest, model)
            counted = _counts(name, outcome, value, eligible=eligible == "true")
            counts[series] = counts.get(series, Counts()) + counted
        elif name in USES:
            use = uses.setdefault(labels.get("prefix", ""), Use(Served.of(labels)))
            use.take(name, labels, _whole(value, name))
        elif name == LANE_USED:
            lane = LaneId(*(labels.get(label, "") for label in _LANE_LABELS))
            _whole(value, name)
            lanes[lane] = max(value, lanes.get(lane, 0.0))
    if started is None:
        raise ValueError(f"no {START}: whether counters restarted is unknown")
    if max(len(counts), len(uses), len(lanes)) > _SERIES_LIMIT:
        raise ValueError(f"{len(counts):,} pairs of revision and model: this is no sidecar")
    try:
        used = {lane: datetime.fromtimestamp(at, UTC) for lane, at in lanes.items()}
        return Sample(target, datetime.fromtimestamp(started, UTC), counts, uses, used)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{started} is no time at which a process started") from error


def _counts(name: str, outcome: str, value: float, *, eligible: bool) -> Counts:
    if name == _COST:
        return Counts(cost_micros=_whole(value * 1e6, name))
    if name == _FIRST_BYTE_SECONDS:
        return Counts(first_byte_ms=_whole(value * 1e3, name))
    number = _whole(value, name)
    if name == _FIRST_BYTES:
        return Counts(first_bytes=number)
    match outcome:
        case "hit":
            return Counts(hits=number if eligible else 0, answers=number)
        case "miss":
            return Counts(misses=number if eligible else 0, answers=number)
        case "error":
            return Counts(errors=number)
        case "refused":  # eligible where the stable revision would have sent it
            return Counts(errors=number if eligible else 0)
        case _:
            return Counts()


def _whole(value: float, name: str) -> int:
    if not 0 <= value <= _LIMIT:  # NaN fails this, too
        raise ValueError(f"{value} is nothing that {name} can have counted")
    return round(value)
