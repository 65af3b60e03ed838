"""What a plan would do with given traffic: many rollouts, played with the real `decide`.

Pure but for the draws, which come in as a `random.Random`. The traffic is a Poisson process, the
candidate's share of it is exactly its weight, and requests neither influence each other nor
change as time passes: what an author learns is how the plan decides, not how consumers behave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil, exp, sqrt
from random import Random
from typing import Final

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.decide import decide, look_again
from headwater.rollout.state import (
    Counts,
    Evidence,
    Observed,
    Phase,
    Plan,
    Reason,
    SetWeight,
    State,
)

HORIZON: Final = timedelta(hours=24)
"""What has not ended by then is undecided, whatever the deadline."""
_MINUTE: Final = timedelta(minutes=1)
_GROWTH: Final = 10
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_STABLE, _CANDIDATE = (Revision(name, Digest.of(name.encode())) for name in ("stable", "candidate"))
_MANY: Final = 100.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What consumers send, and what comes of it.

    `rate` is requests a minute, on all models together and spread evenly; the other figures are
    shares of 1. Stable's requests do not fail. `eligible` is the share of requests whose lane was
    warm; without it, it follows from the rate and the TTL, with one lane for each model and no
    warmer.
    """

    rate: float
    hit_rate: float
    stable_hit_rate: float
    error_rate: float = 0.0
    eligible: float | None = None


class End(StrEnum):
    """How a rollout ends; `UNDECIDED` is at the deadline, or at the horizon."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    UNDECIDED = "Undecided"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one rollout, and how long it took."""

    end: End
    after: timedelta


def simulate(plan: Plan, traffic: Traffic, *, rollouts: int, draw: Random) -> list[Outcome]:
    """Play a rollout so many times, sorted by how long it took.

    Approvals are given at once. Queries are left out, and cost and latency are never worse:
    neither can be drawn from a rate.
    """
    approved = replace(
        plan,
        declared=_CANDIDATE,
        approved_digest=_CANDIDATE.digest,
        analysis=replace(plan.analysis, queries=()),
        steps=tuple(
            replace(step, analysis=replace(step.analysis, queries=()))
            if isinstance(step, SetWeight) and step.analysis is not None
            else step
            for step in plan.steps
        ),
        strategy="Canary",
        suspend=False,
        retry=0,
    )
    outcomes = [_play(approved, traffic, draw) for _ in range(rollouts)]
    return sorted(outcomes, key=lambda outcome: outcome.after)


def chance(outcomes: Sequence[Outcome], end: End, within: timedelta = timedelta.max) -> float:
    """The share of rollouts that came to this end, within a time."""
    return sum(o.end is end and o.after <= within for o in outcomes) / len(outcomes)


def time_to(outcomes: Sequence[Outcome], end: End, share: float) -> timedelta | None:
    """Within which time this share of those that came to this end did; None where none did."""
    took = [outcome.after for outcome in outcomes if outcome.end is end]
    return took[ceil(share * len(took)) - 1] if took else None


def _play(plan: Plan, traffic: Traffic, draw: Random) -> Outcome:
    """One rollout.

    It is looked at once a minute, and later once in a tenth of the time since its step began. In
    a cluster, where one looks at every reading, a verdict comes earlier by as much.
    """
    of_stable = replace(traffic, hit_rate=traffic.stable_hit_rate, error_rate=0.0)
    now = _START
    state = decide(plan, State(stable=_STABLE, promoted_at=now), Observed(), now).state
    while (candidate := state.candidate) is not None:
        if state.phase is Phase.DEGRADED or now >= _START + HORIZON:
            return Outcome(End.UNDECIDED, now - _START)
        wait = max(_MINUTE, (now - candidate.step_started_at) / _GROWTH)
        wait = min(wait, look_again(plan, state, now) or wait)
        rest = Weight(Weight.WHOLE - candidate.weight)
        seen = Observed(
            candidate=_counts(plan, traffic, candidate.weight, wait, draw),
            stable=_counts(plan, of_stable, rest, wait, draw),
        )
        now += wait
        state = decide(plan, state, seen, now).state
    if state.stable == _CANDIDATE:
        return Outcome(End.PROMOTED, now - _START)
    overdue = state.history[-1].reason is Reason.PROGRESS_DEADLINE_EXCEEDED
    return Outcome(End.UNDECIDED if overdue else End.ROLLED_BACK, now - _START)


def _counts(
    plan: Plan, traffic: Traffic, weight: Weight, time: timedelta, draw: Random
) -> Evidence:
    """What a share of the traffic shows in some time, by model."""
    a_minute = traffic.rate * weight / Weight.WHOLE / len(plan.models)
    warm = traffic.eligible
    if warm is None:
        warm = 1 - exp(-a_minute * (plan.retain / _MINUTE))
    failed = a_minute * (time / _MINUTE) * traffic.error_rate
    answered = a_minute * (time / _MINUTE) - failed
    found = {}
    for model in plan.models:
        hits = _poisson(answered * warm * traffic.hit_rate, draw)
        misses = _poisson(answered * warm * (1 - traffic.hit_rate), draw)
        others = _poisson(answered * (1 - warm), draw)
        errors = _poisson(failed, draw)
        found[model] = Counts(hits, misses, errors, answers=hits + misses + others)
    return found


def _poisson(mean: float, draw: Random) -> int:
    """How many of independent events happen; a rounded normal draw where they are many."""
    if mean > _MANY:
        return max(0, round(draw.gauss(mean, sqrt(mean))))
    events, chance, floor = -1, 1.0, exp(-mean)
    while chance > floor or events < 0:
        events += 1
        chance *= draw.random()
    return events
