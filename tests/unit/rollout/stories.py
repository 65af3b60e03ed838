"""Revisions, plans and states in few words, so that a test of a rollout reads like its story."""

from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.decide import decide
from headwater.rollout.state import (
    Analysis,
    Candidate,
    Counts,
    Decision,
    Evidence,
    Observed,
    Pause,
    Plan,
    RolledBack,
    SetWeight,
    State,
    Step,
)

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OPUS, HAIKU = "claude-opus-5", "claude-haiku-4-5"

V1, V2, V3 = (Revision(name, Digest.of(name.encode())) for name in ("v1", "v2", "v3"))

GOOD = {OPUS: Counts(hits=99, misses=1)}
"""Enough to be sure that the rate is above the floor of 0.9."""
BAD = {OPUS: Counts(hits=10, misses=40)}
FEW = {OPUS: Counts(hits=5)}
NONE: Evidence = {}


def weight(percent: int) -> SetWeight:
    return SetWeight(Weight.percent(percent))


def pause(minutes: int) -> Pause:
    return Pause(minutes * MINUTE)


UNTIL_APPROVED = Pause()
STEPS: tuple[Step, ...] = (weight(10), weight(50))


def plan(declared: Revision | None, **facts: Any) -> Plan:
    """A canary of 10 % and 50 %, without a deadline, judged by what opus shows.

    Facts that an `Analysis` has go there.
    """
    limits: dict[str, Any] = {"min_requests": 20, "unused_models": "Ignore"}
    limits |= {name: facts.pop(name) for name in [*facts] if hasattr(Analysis(), name)}
    defaults: dict[str, Any] = {
        "models": (OPUS, HAIKU),
        "steps": STEPS,
        "progress_deadline": None,
        "analysis": Analysis(**limits),
    }
    return Plan(declared=declared, **(defaults | facts))


def seen(evidence: Evidence = NONE, **facts: Any) -> Observed:
    """What was observed: counts of the candidate, for the most part."""
    return Observed(candidate=evidence, **facts)


def serving(revision: Revision, **facts: Any) -> State:
    """A revision is stable, and nothing else goes on."""
    known: dict[str, Any] = {"epoch": 1, "stable": revision, "promoted_at": START} | facts
    return State(**known)


def trying(
    revision: Revision,
    percent: int,
    step: int = 0,
    evidence: Evidence = NONE,
    **facts: Any,
) -> State:
    """v1 is stable, and `revision` has been at this weight since START.

    Facts that a `Candidate` has go there.
    """
    own = {name: facts.pop(name) for name in [*facts] if name in Candidate.__slots__}
    times = dict.fromkeys(("started_at", "step_started_at", "clock_from", "heard_at"), START)
    details: dict[str, Any] = {**times, **own}
    candidate = Candidate(
        revision=revision,
        step=step,
        weight=Weight.percent(percent),
        evidence=evidence,
        **details,
    )
    known: dict[str, Any] = {"epoch": 3, "stable": V1, "promoted_at": START} | facts
    return State(**known, candidate=candidate)


def went_back(revision: Revision, retry: int = 0) -> State:
    """v1 is stable, and `revision` was rolled back while `spec.retry` was `retry`."""
    gone = RolledBack(revision, retry, f"{revision.version} went back: it missed", START)
    return State(epoch=4, stable=V1, promoted_at=START, rolled_back=gone)


def route(state: State) -> str:
    """The route as people say it: `v1`, or `v1, v2 at 10%`; `-` where nothing is served."""
    if state.stable is None:
        return state.candidate.revision.version if state.candidate else "-"
    if state.candidate is None:
        return state.stable.version
    candidate = state.candidate
    return f"{state.stable.version}, {candidate.revision.version} at {candidate.weight / 100:g}%"


def again(given: Plan, decision: Decision, now: datetime) -> Decision:
    """Decide once more, with nothing new."""
    return decide(given, decision.state, Observed(), now)
