"""Where it is decided what happens to a rollout: whether it starts, waits, rises, goes back.

`decide` reads from top to bottom as the order of precedence. A candidate goes back in
`_go_back` (on evidence) and in `_abort` (the commit was reverted), and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from headwater.contract.route import Revision, Weight
from headwater.rollout.judge import judge
from headwater.rollout.state import (
    Candidate,
    Counts,
    Decision,
    Entry,
    Evidence,
    Pause,
    Phase,
    Plan,
    Reason,
    Result,
    RolledBack,
    SetWeight,
    State,
    Verdict,
)


def decide(plan: Plan, state: State, observed: Evidence, now: datetime) -> Decision:
    """The next state of a rollout.

    Args:
        plan: what the author declared.
        state: what was recorded last.
        observed: counts of the candidate by model that are not in `state` yet.
        now: the time, zoned.
    """
    declared, candidate = plan.declared, state.candidate
    if candidate is not None:
        candidate = replace(candidate, evidence=_add(plan, candidate.evidence, observed))
        state = replace(state, candidate=candidate)
    if declared is None:
        return _hold_for_content(plan, state, now)
    if state.stable is None:
        if plan.suspend:
            message = f"suspended: {declared.version} is not published"
            return Decision(replace(state, phase=Phase.PAUSED, message=message))
        return _promote(plan, state, declared, Reason.FIRST_VERSION, "the first version", now)
    if declared.digest == state.stable.digest:
        return _stay(plan, state, declared, now)
    if candidate is not None and candidate.revision.digest == declared.digest:
        return _advance(plan, state, candidate, declared, now)
    if candidate is not None:
        message = f"{declared.version} was published while {candidate.revision.version} was tried"
        return _begin(plan, _retire(plan, state, Reason.SUPERSEDED, message, now), declared, now)
    gone = state.rolled_back
    if gone is not None and gone.revision.digest == declared.digest and plan.retry <= gone.retry:
        return Decision(replace(state, phase=Phase.ROLLED_BACK, message=gone.message))
    return _begin(plan, state, declared, now)


def _hold_for_content(plan: Plan, state: State, now: datetime) -> Decision:
    """Nothing moves forward while the declared bytes do not verify; evidence may still go back."""
    gone = _judged(plan, state, state.candidate, now) if state.candidate is not None else None
    decision = gone or Decision(state)
    phase = Phase.PENDING if state.stable is None else Phase.DEGRADED
    return replace(decision, state=replace(decision.state, phase=phase, message=""))


def _stay(plan: Plan, state: State, declared: Revision, now: datetime) -> Decision:
    """The declared bytes are the stable ones: a candidate is aborted, a new label is taken."""
    message = f"the commit went back to {declared.version}"
    decision = _retire(plan, state, Reason.ABORTED, message, now)
    state, events = decision.state, decision.events
    if state.stable is not None and state.stable.version != declared.version:
        decision = _relabel(plan, replace(state, stable=declared), state.stable, declared, now)
        state, events = decision.state, (*events, *decision.events)
    message = f"{declared.version} is served to everyone"
    return Decision(replace(state, phase=Phase.STABLE, message=message), events)


def _begin(plan: Plan, decided: Decision | State, declared: Revision, now: datetime) -> Decision:
    """A version that is neither stable nor being tried: start it, or say what it waits for."""
    state, events = (
        (decided.state, decided.events) if isinstance(decided, Decision) else (decided, ())
    )
    if plan.suspend:
        message = f"suspended: {declared.version} is not started"
        return Decision(replace(state, phase=Phase.PAUSED, message=message), events)
    if plan.strategy == "Immediate":
        decision = _immediately(plan, state, declared, now)
        return replace(decision, events=(*events, *decision.events))
    candidate = Candidate(
        revision=declared, step=0, weight=Weight(0), started_at=now, step_started_at=now
    )
    started = _record(
        plan,
        replace(state, rolled_back=None, epoch=state.epoch + 1),
        Entry(declared, Reason.CANARY_STARTED, f"{declared.version} is tried", now),
    )
    decision = _enter(plan, started.state, _with_verdict(plan, candidate), now)
    return replace(decision, events=(*events, *started.events, *decision.events))


def _immediately(plan: Plan, state: State, declared: Revision, now: datetime) -> Decision:
    """The strategy Immediate: nothing but an approval stands before the promotion."""
    if plan.approval_required and not plan.approves(declared):
        return Decision(_awaiting(state, declared))
    return _promote(plan, state, declared, Reason.PROMOTED, "the strategy is Immediate", now)


def _relabel(
    plan: Plan, state: State, before: Revision, declared: Revision, now: datetime
) -> Decision:
    """The same bytes under another label: consumers are told, and nothing else changes."""
    message = f"the bytes of {before.version} are now called {declared.version}"
    return _record(
        plan,
        replace(state, epoch=state.epoch + 1),
        Entry(declared, Reason.RELABELLED, message, now),
    )


def _advance(
    plan: Plan, state: State, candidate: Candidate, declared: Revision, now: datetime
) -> Decision:
    """The declared bytes are being tried: take a new label, then go on."""
    if candidate.revision == declared:
        return _go_on(plan, state, candidate, now)
    candidate, before = replace(candidate, revision=declared), candidate.revision
    relabelled = _relabel(plan, replace(state, candidate=candidate), before, declared, now)
    decision = _go_on(plan, relabelled.state, candidate, now)
    return replace(decision, events=(*relabelled.events, *decision.events))


def _go_on(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision:
    """Take the running candidate as far as verdict, time and approval carry it."""
    gone = _judged(plan, state, candidate, now)
    if gone is not None:
        return gone
    candidate = _with_verdict(plan, candidate)
    state = replace(state, candidate=candidate)
    if plan.suspend:
        return _wait(state, candidate, Phase.PAUSED, "suspended")
    if plan.strategy == "Immediate":  # chosen while the canary ran: the rest of it is skipped
        return _immediately(plan, state, candidate.revision, now)
    # Steps may have been taken out of the plan meanwhile: then it stands in the last one.
    candidate = replace(candidate, step=max(0, min(candidate.step, len(plan.steps) - 1)))
    if plan.steps and isinstance(step := plan.steps[candidate.step], Pause):
        waiting = _paused(plan, state, candidate, step, now)
        if waiting is not None:
            return waiting
    return _enter(plan, state, replace(candidate, step=candidate.step + 1), now)


def _paused(
    plan: Plan, state: State, candidate: Candidate, step: Pause, now: datetime
) -> Decision | None:
    """The decision to go on waiting in a pause, or None where it is over."""
    if step.duration is None:
        if plan.approves(candidate.revision):
            return None
        return Decision(_awaiting(replace(state, candidate=candidate), candidate.revision))
    left = candidate.step_started_at + step.duration - now
    if left <= timedelta(0):
        return None
    return _wait(state, candidate, Phase.PAUSED, f"paused for {_written(step.duration)}", left)


def _enter(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision:
    """Enter the step that the candidate has reached, or the promotion behind the last one."""
    # Traffic that the candidate never had is nothing to judge: a first pause needs no verdict.
    passed = candidate.weight == 0 or candidate.verdict.result is Result.PASS
    if candidate.step >= len(plan.steps):
        # Stay in the last step, so that a step appended to the plan is entered like any other.
        candidate = replace(candidate, step=max(0, len(plan.steps) - 1))
        if candidate.weight == 0:
            why = "no step gives it a share: add a setWeight to spec.rollout.steps"
            return _wait(state, candidate, Phase.PROGRESSING, why)
        if not passed:
            return _wait(state, candidate, Phase.PROGRESSING, candidate.verdict.message)
        if plan.approval_required and not plan.approves(candidate.revision):
            return Decision(_awaiting(replace(state, candidate=candidate), candidate.revision))
        grounds = candidate.verdict.message
        return _promote(plan, state, candidate.revision, Reason.PROMOTED, grounds, now)
    step = plan.steps[candidate.step]
    if isinstance(step, Pause):
        entered = replace(candidate, step_started_at=now)
        paused = _paused(plan, state, entered, step, now)
        return paused or _enter(plan, state, replace(entered, step=entered.step + 1), now)
    if step.weight <= candidate.weight:  # the steps were edited meanwhile: it has that share
        return _enter(plan, state, replace(candidate, step=candidate.step + 1), now)
    if not passed:
        # Stay behind the step before: its weight stands until its verdict is in.
        held = replace(candidate, step=candidate.step - 1)
        return _wait(state, held, Phase.PROGRESSING, held.verdict.message)
    return _raise(plan, state, candidate, step, now)


def _raise(
    plan: Plan, state: State, candidate: Candidate, step: SetWeight, now: datetime
) -> Decision:
    """Set the weight of a step; from here on evidence is counted anew."""
    share = f"{step.weight / 100:g} %"
    grounds = candidate.verdict.message if candidate.weight else "the first step"
    recorded = _record(
        plan,
        replace(state, epoch=state.epoch + 1),
        Entry(candidate.revision, Reason.WEIGHT_RAISED, f"{share}: {grounds}", now),
    )
    raised = _with_verdict(
        plan, replace(candidate, weight=step.weight, step_started_at=now, evidence={})
    )
    following = plan.steps[candidate.step + 1 : candidate.step + 2]
    if following and isinstance(following[0], Pause):
        decision = _enter(plan, recorded.state, replace(raised, step=raised.step + 1), now)
    else:
        decision = _wait(recorded.state, raised, Phase.PROGRESSING, raised.verdict.message)
    return replace(decision, events=(*recorded.events, *decision.events))


def _judged(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision | None:
    """The decision to go back, where the evidence says so."""
    verdict = _with_verdict(plan, candidate).verdict
    if verdict.result is not Result.ROLL_BACK:
        return None
    return _go_back(plan, state, candidate, verdict, now)


def _go_back(
    plan: Plan, state: State, candidate: Candidate, verdict: Verdict, now: datetime
) -> Decision:
    """Take the candidate out of the route: everyone gets the stable revision again."""
    message = f"{candidate.revision.version} went back: {verdict.message}"
    return _record(
        plan,
        replace(
            state,
            phase=Phase.ROLLED_BACK,
            message=message,
            candidate=None,
            epoch=state.epoch + 1,
            rolled_back=RolledBack(candidate.revision, plan.retry, message, now),
        ),
        Entry(candidate.revision, Reason.HIT_RATE_BELOW_FLOOR, message, now),
    )


def _retire(plan: Plan, state: State, reason: Reason, message: str, now: datetime) -> Decision:
    """Drop the candidate, where there is one, without a verdict on it."""
    if state.candidate is None:
        return Decision(state)
    return _record(
        plan,
        replace(state, candidate=None, epoch=state.epoch + 1),
        Entry(state.candidate.revision, reason, message, now),
    )


def _promote(
    plan: Plan, state: State, revision: Revision, reason: Reason, grounds: str, now: datetime
) -> Decision:
    message = f"{revision.version} is served to everyone"
    return _record(
        plan,
        replace(
            state,
            phase=Phase.STABLE,
            message=message,
            stable=revision,
            promoted_at=now,
            candidate=None,
            rolled_back=None,
            epoch=state.epoch + 1,
        ),
        Entry(revision, reason, f"{message}: {grounds}", now),
    )


def _awaiting(state: State, revision: Revision) -> State:
    return replace(
        state,
        phase=Phase.AWAITING_APPROVAL,
        message=f"{revision.version} waits for spec.rollout.approvedDigest: {revision.digest}",
    )


def _wait(
    state: State,
    candidate: Candidate,
    phase: Phase,
    why: str,
    look_again: timedelta | None = None,
) -> Decision:
    share = f"{candidate.weight / 100:g} %"
    message = f"{candidate.revision.version} at {share}: {why}"
    return Decision(
        replace(state, phase=phase, message=message, candidate=candidate), look_again=look_again
    )


def _with_verdict(plan: Plan, candidate: Candidate) -> Candidate:
    verdict = judge(
        candidate.evidence, min_hit_rate=plan.min_hit_rate, min_requests=plan.min_requests
    )
    return replace(candidate, verdict=verdict)


def _written(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"  # noqa: PLR2004 - minutes


def _record(plan: Plan, state: State, entry: Entry) -> Decision:
    """Put an entry into the bounded history and among the events."""
    history = (*state.history, entry)[-plan.history_limit :] if plan.history_limit else ()
    return Decision(replace(state, history=history), events=(entry,))


def _add(plan: Plan, evidence: Evidence, observed: Evidence) -> Mapping[str, Counts]:
    return {
        model: evidence.get(model, Counts()) + observed.get(model, Counts())
        for model in sorted({*evidence, *observed} & set(plan.models))
    }
