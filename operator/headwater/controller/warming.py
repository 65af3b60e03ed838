"""What a warmer may warm, what its next run leaves out, and what it cost. Pure."""

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from headwater.cluster import Object
from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.digest import Digest
from headwater.providers.models import lookup
from headwater.providers.tokens import ESTIMATE_MARGIN
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Lane, RequestSettings, SecretKey, WorkloadIdentity
from headwater.rollout.state import State
from headwater.warmer.schedule import (
    MARGIN,
    START_UP,
    ScheduleError,
    Timetable,
    longest_gap,
    problem,
    timetable,
)

LEAD: Final = timedelta(seconds=5)
"""How long before a run it is decided what it leaves out: later it might not learn of it."""


_ANY_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class LaneKey(NamedTuple):
    """A lane of a warmer."""

    credential: str
    model: str
    digest: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Why the next run leaves a lane out."""

    why: Literal["Traffic", "Retry", "BelowMinimum", "Elsewhere", "Fresh"]
    message: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """What is known of a warmer's lanes.

    Attributes:
        wanted: those that the spec and the prefix's revisions name.
        recorded: what the status and the reports say of them.
        tokens: the contract's, as counted, else as estimated; absent where nothing is known.
        counted: which of these the provider counted.
        used: when real requests used them last.
        elsewhere: the warmer that warms them instead of this one, by its name.
        shared: what another warmer names, too, by credential and model: that one's name.
    """

    wanted: frozenset[LaneKey]
    recorded: Mapping[LaneKey, Lane] = field(default_factory=dict)
    tokens: Mapping[LaneKey, int] = field(default_factory=dict)
    counted: frozenset[LaneKey] = frozenset()
    used: Mapping[LaneKey, datetime] = field(default_factory=dict)
    elsewhere: Mapping[LaneKey, str] = field(default_factory=dict)
    shared: Mapping[tuple[str, str], str] = field(default_factory=dict)


def skips(
    warmer: CacheWarmer, ttl: TTL, times: Timetable, lanes: Lanes, now: datetime
) -> dict[LaneKey, Skip]:
    """What the next run leaves out, and why.

    Raises:
        ScheduleError: the warmer's schedule is none.
    """
    start_up = max(START_UP, warmer.status.start_up or START_UP)
    following = times.after(now)
    # A lane that stays warm until the request of the run after that needs none of this one.
    until = following + gap_of(times) + start_up + MARGIN
    life = timedelta(seconds=TTL_SECONDS[ttl])
    found = {}
    for key in sorted(lanes.wanted):
        known, used = lanes.recorded.get(key), lanes.used.get(key)
        if (other := lanes.elsewhere.get(key)) is not None:
            found[key] = Skip("Elsewhere", f"the warmer {other} names this lane, too, and warms it")
        elif below := _below(key, lanes):
            found[key] = Skip("BelowMinimum", below)
        elif known is not None and known.retry_at is not None and known.retry_at > following:
            found[key] = Skip("Retry", known.message or "the provider wants no request yet")
        elif warmer.spec.skip_when_traffic and used is not None and used + life >= until:
            found[key] = Skip("Traffic", "real requests keep it warm")
        elif known is not None and known.last_warm_at and known.last_warm_at + life >= until:
            # With the schedule of its TTL never: with the denser one by which a candidate is
            # warmed soon, there is nothing to do for the others.
            found[key] = Skip("Fresh", "")
    return found


def gap_of(times: Timetable) -> timedelta:
    """The longest time between two runs while a warmer is active."""
    minute, *_ = times.cron.split()
    return _gap(minute)


@functools.cache
def _gap(minute: str) -> timedelta:
    return longest_gap(f"{minute} * * * *", _ANY_DAY)


def _below(key: LaneKey, lanes: Lanes) -> str:
    """Why the provider would cache nothing of a contract; empty where it may."""
    facts, tokens = lookup(key.model), lanes.tokens.get(key)
    if facts is None or tokens is None:
        return ""
    exact = key in lanes.counted
    margin = Decimal(0) if exact else Decimal(str(ESTIMATE_MARGIN))
    if tokens >= facts.min_cacheable_tokens * (1 - margin):
        return ""
    about = "" if exact else "about "
    return (
        f"{key.model} caches from {facts.min_cacheable_tokens:,} tokens on, and this contract has"
        f" {about}{tokens:,}: lengthen the prefix, or do not warm it for {key.model}"
    )


def shown(
    lane: Lane, skip: Skip | None, used: datetime | None, ttl: timedelta, now: datetime
) -> Lane:
    """A lane as it stands now: what is left out, and what has gone cold."""
    if skip is not None and skip.why in ("Traffic", "Elsewhere"):
        return lane.model_copy(update={"state": "Skipped", "message": skip.message})
    if skip is not None and skip.why == "BelowMinimum":
        return lane.model_copy(update={"state": "Cold", "message": skip.message})
    last = max((at for at in (lane.last_warm_at, used) if at is not None), default=None)
    warm = last is not None and now < last + ttl
    if lane.state == "Skipped":
        return lane.model_copy(update={"state": "Warm" if warm else "Cold", "message": None})
    if lane.state == "Warm" and not warm:
        return lane.model_copy(update={"state": "Cold"})
    return lane


def overlaps(
    warmer: CacheWarmer, others: Iterable[CacheWarmer], models: Collection[str]
) -> dict[tuple[str, str], str]:
    """Which other warmer names a lane of this one, too: its name by credential and model.

    `others` are warmers of the same namespace, `models` the prefix's. Suspended ones name nothing.
    """
    mine = _accesses(warmer, models)
    found: dict[tuple[str, str], str] = {}
    for other in sorted(others, key=_age):
        same = (other.spec.prefix_ref, other.spec.request) == (
            warmer.spec.prefix_ref,
            warmer.spec.request,
        )
        if same and not other.spec.suspend:
            for access in mine.keys() & _accesses(other, models).keys():
                found.setdefault(mine[access], other.metadata.name)
    return found


def leaves_to(warmer: CacheWarmer, other: CacheWarmer) -> bool:
    """Whether of two warmers of one lane it is the other, the older one, that warms it."""
    return _age(other) < _age(warmer)


def holds(warmer: CacheWarmer, ttl: TTL, moment: datetime) -> bool:
    """Return whether a warmer keeps its lanes warm about a moment: whether another may rely on it.

    One that is stalled, whose schedule lets lanes go cold, or that has other hours, does not.
    """
    stalled = any(
        one.type == "Stalled" and one.status == "True" for one in warmer.status.conditions
    )
    spec, slow = warmer.spec, warmer.status.start_up or START_UP
    try:
        times = timetable(spec.schedule, ttl, spec.active_hours, slow)
        gap = gap_of(times)
        sparse = spec.schedule != "Auto" and problem(spec.schedule, ttl, moment, slow) is not None
        return not (stalled or sparse or spec.suspend) and times.after(moment - gap) <= moment + gap
    except ScheduleError:
        return False


def _accesses(
    warmer: CacheWarmer, models: Collection[str]
) -> dict[tuple[SecretKey | WorkloadIdentity | None, str], tuple[str, str]]:
    return {
        (one.secret_ref or one.workload_identity, model): (one.name, model)
        for one in warmer.spec.credentials
        for model in warmer.spec.models or models
    }


def _age(warmer: CacheWarmer) -> tuple[str, str]:
    return warmer.metadata.creation_timestamp, warmer.metadata.name


def is_plain(request: RequestSettings) -> bool:
    """Whether a sidecar can know the lane by its key alone."""
    return request == RequestSettings()


def awaited_lanes(warmers: Iterable[Object], state: State, declared: Digest) -> tuple[str, ...]:
    """The lanes worth waiting for before the declared revision gets traffic.

    A lane counts while the same warmer keeps its stable sister warm, or leaves that to its
    traffic: outside of its hours, or where it fails, nothing would come.
    """
    if state.stable is None:
        return ()
    stable = state.stable.digest
    awaited = set()
    for body in warmers:
        warmer = CacheWarmer.model_validate(body)
        if warmer.spec.suspend or warmer.spec.warm != "StableAndCandidate":
            continue
        states = {
            (lane.credential, lane.model, lane.digest): lane.state for lane in warmer.status.lanes
        }
        awaited |= {
            f"{credential} on {model}"
            for credential, model, digest in states
            if digest == stable
            and states[credential, model, stable] in ("Warm", "Skipped")
            and states.get((credential, model, declared), "Cold") == "Cold"
        }
    return tuple(sorted(awaited))


def shared_credential(
    warmer: CacheWarmer, others: Iterable[CacheWarmer], dedicated: Collection[str]
) -> str:
    """Why a warmer must not run, and what to do; empty where it may.

    A Dedicated prefix shares no credential with another prefix, in either direction. `others` are
    warmers of the same namespace, since a Secret is its namespace's; `dedicated` the names of
    that namespace's Dedicated prefixes.
    """
    mine = warmer.spec.prefix_ref.name
    used = {one.secret_ref for one in warmer.spec.credentials if one.secret_ref is not None}
    for other in sorted(others, key=lambda one: one.metadata.name):
        theirs = other.spec.prefix_ref.name
        shared = [
            ref
            for one in other.spec.credentials
            if (ref := one.secret_ref) is not None and ref in used
        ]
        alone = [name for name in (mine, theirs) if name in dedicated]
        if shared and alone and mine != theirs:
            return (
                f"it warms {mine} with the key {shared[0].key!r} of the Secret {shared[0].name!r},"
                f" and {other.metadata.name} warms {theirs} with it: {' and '.join(alone)}"
                f" {'are' if len(alone) > 1 else 'is'} Dedicated and shares no credential; use a"
                " Secret with a key of another workspace for one of them"
            )
    return ""
