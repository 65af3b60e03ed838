"""Where it is decided what happens to a rollout: whether it starts, waits, rises, goes back.

`decide` reads from top to bottom as the order of precedence. A candidate goes back in `_go_back`
(on evidence, or on the lack of it) and in `_retire` (the commit says so), and nowhere else.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.judge import judge
from headwater.rollout.observe import analysis_of, counted_anew, take_in
from headwater.rollout.state import (
    NOT_JUDGED,
    Candidate,
    Decision,
    Entry,
    Observed,
    Pause,
    Phase,
    Plan,
    Reason,
    Result,
    RolledBack,
    SetWeight,
    State,
    Verdict,
    Withdrawn,
)
from headwater.rollout.upkeep import expire, retained_after, run_clock

WARMING_LIMIT: Final = timedelta(minutes=10)
"""How long a candidate waits for its warmers before it goes on without."""

_BECAME_STABLE: Final = {Reason.FIRST_VERSION, Reason.PROMOTED, Reason.RETURNED}
WENT_BACK: Final = {
    Reason.HIT_RATE_BELOW_FLOOR,
    Reason.HIT_RATE_BELOW_STABLE,
    Reason.ERRORS_ABOVE_STABLE,
    Reason.COST_ABOVE_STABLE,
    Reason.LATENCY_ABOVE_STABLE,
    Reason.QUERY_FAILED,
    Reason.NO_DATA,
    Reason.PROGRESS_DEADLINE_EXCEEDED,
}
"""Why a candidate went back, or would have if the author had asked for it."""


def decide(plan: Plan, state: State, observed: Observed, now: datetime) -> Decision:
    """The next state of a rollout.

    Args:
        plan: what the author declared.
        state: what was recorded last.
        observed: what was seen since.
        now: the time, zoned.
    """
    recovered = _recover(plan, state, observed, now)
    state = expire(plan, recovered.state, observed, now)
    if state.candidate is not None:
        state = replace(state, candidate=take_in(plan, state.candidate, observed, now))
    decision = _decide(plan, state, observed, now)
    return Decision(
        run_clock(plan, decision.state, now), events=(*recovered.events, *decision.events)
    )


def look_again(plan: Plan, state: State, now: datetime) -> timedelta | None:
    """When time alone may change the decision; None where only a commit or evidence can."""
    moments = [item.until for item in state.retained]
    candidate = state.candidate
    if candidate is not None:
        if state.phase is Phase.WARMING:
            moments.append(candidate.started_at + WARMING_LIMIT)
        if state.phase is Phase.PAUSED and isinstance(step := _step(plan, candidate), Pause):
            moments += [candidate.step_started_at + step.duration] if step.duration else []
        if candidate.clock_stopped_at is None:
            analysis = analysis_of(plan, candidate)
            if analysis.no_data != "Wait":
                moments.append(candidate.heard_at + analysis.no_data_after)
            if plan.progress_deadline is not None:
                moments.append(candidate.clock_from + plan.progress_deadline)
    return min((moment - now for moment in moments if moment > now), default=None)


def _decide(plan: Plan, state: State, observed: Observed, now: datetime) -> Decision:
    declared, candidate = plan.declared, state.candidate
    if declared is None:
        return _hold_for_content(plan, state, now)
    if state.stable is None:
        return _first(plan, state, declared, now)
    if declared.digest == state.stable.digest:
        return _stay(plan, state, declared, now)
    if candidate is not None and candidate.revision.digest == declared.digest:
        return _advance(plan, state, candidate, declared, observed, now)
    if candidate is not None:
        message = f"{declared.version} was published while {candidate.revision.version} was tried"
        retired = _retire(plan, state, Reason.SUPERSEDED, message, now)
        begun = _begin(plan, retired.state, declared, observed, now)
        return replace(begun, events=(*retired.events, *begun.events))
    return _begin(plan, state, declared, observed, now)


def _recover(plan: Plan, state: State, observed: Observed, now: datetime) -> Decision:
    """A status that was lost is rebuilt from what the cluster still holds."""
    if state.stable is not None or state.candidate is not None or observed.recovered is None:
        return Decision(state)
    stable, epoch = observed.recovered
    if epoch == 1:  # the first version, and nothing since: it may never have been written down
        message = f"{stable.version} is served to everyone: the first version"
        entry = Entry(stable, Reason.FIRST_VERSION, message, now)
    else:
        epoch += 1
        message = f"the status was lost: {stable.version} was stable by the revisions that are kept"
        entry = Entry(stable, Reason.RECOVERED, message, now)
    return _record(plan, replace(state, stable=stable, promoted_at=now, epoch=epoch), entry)


def _hold_for_content(plan: Plan, state: State, now: datetime) -> Decision:
    """Nothing moves forward while the declared bytes do not verify; evidence may still go back."""
    decision, candidate = Decision(state), state.candidate
    if candidate is not None and state.stable is not None:
        verdict = _with_verdict(plan, candidate).verdict
        if verdict.result is Result.ROLL_BACK:
            decision = _go_back_on(verdict, plan, state, candidate, now)
        else:
            decision = _lower(plan, state, candidate, now)
    served = state.stable is not None or state.candidate is not None
    phase = Phase.DEGRADED if served else Phase.PENDING
    return replace(decision, state=replace(decision.state, phase=phase, message=""))


def _first(plan: Plan, state: State, declared: Revision, now: datetime) -> Decision:
    """Nothing is stable yet: nothing to compare with, and nothing to go back to."""
    candidate = state.candidate
    if candidate is not None and candidate.revision == declared:
        return _prove_first(plan, state, candidate, now)
    if plan.suspend:
        message = f"suspended: {declared.version} is not published"
        return Decision(replace(state, phase=Phase.PAUSED, message=message))
    if plan.approval_required and not plan.approves(declared):
        return Decision(_awaiting(state, declared))
    if plan.strategy == "Immediate" or plan.first_version == "Immediate":
        return _promote(plan, state, declared, Reason.FIRST_VERSION, "the first version", now)
    candidate = replace(_new_candidate(plan, declared, now), weight=Weight(Weight.WHOLE))
    message = f"{declared.version}, the first version, is served to everyone and judged"
    begun = _record(
        plan,
        replace(state, candidate=candidate, epoch=state.epoch + 1),
        Entry(declared, Reason.CANARY_STARTED, message, now),
    )
    proved = _prove_first(plan, begun.state, candidate, now)
    return replace(proved, events=(*begun.events, *proved.events))


def _prove_first(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision:
    """The first version is served to everyone, and stable once it showed what is asked."""
    candidate = _with_verdict(plan, candidate)
    verdict = candidate.verdict
    if plan.suspend:
        return _wait(state, candidate, Phase.PAUSED, "suspended")
    if plan.strategy == "Immediate" or verdict.result is Result.PASS:
        if plan.approval_required and not plan.approves(candidate.revision):
            return Decision(_awaiting(replace(state, candidate=candidate), candidate.revision))
        grounds = verdict.message
        return _promote(plan, state, candidate.revision, Reason.FIRST_VERSION, grounds, now)
    if verdict.result is Result.ROLL_BACK:
        why = f"{verdict.message}; there is no version to go back to: publish a better one"
        return _wait(state, candidate, Phase.DEGRADED, why)
    if _is_overdue(plan, candidate, now):
        why = f"not proved within {_written(plan.progress_deadline)}: {verdict.message}"
        return _wait(state, candidate, Phase.DEGRADED, why)
    return _wait(state, candidate, Phase.PROGRESSING, verdict.message)


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


def _begin(
    plan: Plan, state: State, declared: Revision, observed: Observed, now: datetime
) -> Decision:
    """A version that is neither stable nor being tried: start it, or say what it waits for."""
    failed = _failure_of(plan, state, declared.digest)
    if failed is not None:
        return Decision(replace(state, phase=Phase.ROLLED_BACK, message=failed))
    if plan.suspend:
        message = f"suspended: {declared.version} is not started"
        return Decision(replace(state, phase=Phase.PAUSED, message=message))
    if plan.strategy == "Immediate":
        return _immediately(
            plan, state, declared, Reason.PROMOTED, "the strategy is Immediate", now
        )
    if declared.digest in _former(state)[: plan.rollback_window]:
        grounds = f"it was stable within the last {plan.rollback_window} versions"
        return _immediately(plan, state, declared, Reason.RETURNED, grounds, now)
    candidate = _new_candidate(plan, declared, now)
    kept = tuple(item for item in state.retained if item.revision.digest != declared.digest)
    started = _record(
        plan,
        replace(state, rolled_back=None, retained=kept, candidate=candidate, epoch=state.epoch + 1),
        Entry(declared, Reason.CANARY_STARTED, f"{declared.version} is tried", now),
    )
    decision = _go_on(plan, started.state, candidate, observed, now)
    return replace(decision, events=(*started.events, *decision.events))


def _new_candidate(plan: Plan, declared: Revision, now: datetime) -> Candidate:
    return Candidate(
        revision=declared,
        step=0,
        weight=Weight(0),
        started_at=now,
        step_started_at=now,
        clock_from=now,
        heard_at=now,
        retry=plan.retry,
    )


def _failure_of(plan: Plan, state: State, digest: Digest) -> str | None:
    """Why these bytes are not tried again, or None where they may be."""
    gone = state.rolled_back
    if gone is not None and gone.revision.digest == digest and plan.retry <= gone.retry:
        return gone.message
    failures = (
        entry
        for entry in reversed(state.history)
        if entry.revision.digest == digest and entry.retry is not None
    )
    failure = next(failures, None)
    if failure is None or failure.retry is None or plan.retry > failure.retry:
        return None
    return failure.message


def _former(state: State) -> list[Digest]:
    """What was stable before, the latest first, each once."""
    current = state.stable.digest if state.stable else None
    was = (e.revision.digest for e in reversed(state.history) if e.reason in _BECAME_STABLE)
    return [digest for digest in dict.fromkeys(was) if digest != current]


def _immediately(
    plan: Plan, state: State, declared: Revision, reason: Reason, grounds: str, now: datetime
) -> Decision:
    """Without a canary: nothing but an approval stands before the promotion."""
    if plan.approval_required and not plan.approves(declared):
        return Decision(_awaiting(state, declared))
    return _promote(plan, state, declared, reason, grounds, now)


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
    plan: Plan,
    state: State,
    candidate: Candidate,
    declared: Revision,
    observed: Observed,
    now: datetime,
) -> Decision:
    """The declared bytes are being tried: take a new label, then go on."""
    if candidate.revision == declared:
        return _go_on(plan, state, candidate, observed, now)
    candidate, before = replace(candidate, revision=declared), candidate.revision
    relabelled = _relabel(plan, replace(state, candidate=candidate), before, declared, now)
    decision = _go_on(plan, relabelled.state, candidate, observed, now)
    return replace(decision, events=(*relabelled.events, *decision.events))


def _go_on(
    plan: Plan, state: State, candidate: Candidate, observed: Observed, now: datetime
) -> Decision:
    """Take the candidate as far as evidence, time and approval carry it."""
    candidate = _with_verdict(plan, candidate)
    if candidate.verdict.result is Result.ROLL_BACK:
        return _go_back_on(candidate.verdict, plan, state, candidate, now)
    if plan.retry > candidate.retry:  # somebody gave it time anew
        candidate = replace(candidate, retry=plan.retry, clock_from=now, clock_stopped_at=None)
    last = max(0, len(plan.steps) - 1)
    if candidate.step > last:  # steps were taken out of the plan: then it stands in the last one
        candidate = _with_verdict(plan, replace(candidate, step=last))
    lowered = _lower(plan, state, candidate, now)
    state, candidate = lowered.state, lowered.state.candidate or candidate
    decision = _forward(plan, state, candidate, observed, now)
    return Decision(decision.state, events=(*lowered.events, *decision.events))


def _forward(
    plan: Plan, state: State, candidate: Candidate, observed: Observed, now: datetime
) -> Decision:
    """What keeps the candidate where it is, in the order in which it is told; else a step on."""
    if plan.suspend:
        return _wait(state, candidate, Phase.PAUSED, "suspended")
    if plan.strategy == "Immediate":  # chosen while the canary ran: the rest of it is skipped
        grounds = "the strategy is Immediate"
        return _immediately(plan, state, candidate.revision, Reason.PROMOTED, grounds, now)
    if observed.outage:
        why = f"evidence cannot be read, so nothing is judged: {observed.outage}"
        return _wait(state, candidate, Phase.PAUSED, why)
    late = _silent(plan, state, candidate, now) or _late(plan, state, candidate, now)
    if late is not None:
        return late
    if candidate.weight == 0 and candidate.step == 0:
        if observed.warming and now < candidate.started_at + WARMING_LIMIT:
            why = f"its cache is being warmed: {', '.join(observed.warming)}"
            return _wait(state, candidate, Phase.WARMING, why)
        if isinstance(_step(plan, candidate), SetWeight):
            return _enter(plan, state, candidate, 0, now)
    if isinstance(step := _step(plan, candidate), Pause):
        waiting = _paused(state, plan, candidate, step, now)
        if waiting is not None:
            return waiting
    return _enter(plan, state, candidate, candidate.step + 1, now)


def _lower(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision:
    """A candidate never has more than is declared for its step, whoever wrote what."""
    declared = max(
        (s.weight for s in plan.steps[: candidate.step + 1] if isinstance(s, SetWeight)), default=0
    )
    if candidate.weight <= declared or plan.strategy == "Immediate":
        return Decision(replace(state, candidate=candidate))
    message = f"{_percent(declared)}: the steps were changed, and this one has no more"
    lowered = _with_verdict(plan, replace(candidate, weight=Weight(declared)))
    return _record(
        plan,
        replace(state, candidate=lowered, epoch=state.epoch + 1),
        Entry(candidate.revision, Reason.WEIGHT_LOWERED, message, now),
    )


def _silent(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision | None:
    """The decision on a candidate that shows nothing, where the author asked for one."""
    analysis = analysis_of(plan, candidate)
    until = candidate.clock_stopped_at or now
    silence = until - candidate.heard_at
    waited_for = candidate.weight > 0 and candidate.verdict.result is Result.WAITING
    if analysis.no_data == "Wait" or not waited_for or silence < analysis.no_data_after:
        return None
    why = f"nothing was counted for {_written(analysis.no_data_after)}"
    if analysis.no_data == "RollBack":
        return _go_back(plan, state, candidate, Reason.NO_DATA, why, now)
    return _wait(state, candidate, Phase.PAUSED, why)


def _late(plan: Plan, state: State, candidate: Candidate, now: datetime) -> Decision | None:
    """The decision on a candidate whose evidence took too long."""
    if not _is_overdue(plan, candidate, now):
        return None
    told = any(
        entry.reason is Reason.PROGRESS_DEADLINE_EXCEEDED and entry.at >= candidate.clock_from
        for entry in state.history
        if entry.revision.digest == candidate.revision.digest
    )
    waits = candidate.weight == 0 or candidate.verdict.result is Result.WAITING
    if not told and not waits:
        return None  # the evidence is in; it was only looked at late
    why = f"no verdict within {_written(plan.progress_deadline)}: {candidate.verdict.message}"
    reason = Reason.PROGRESS_DEADLINE_EXCEEDED
    if plan.on_deadline == "RollBack":
        return _go_back(plan, state, candidate, reason, why, now)
    held = _wait(state, candidate, Phase.DEGRADED, why)
    if told:
        return held
    return _record(plan, held.state, Entry(candidate.revision, reason, held.state.message, now))


def _is_overdue(plan: Plan, candidate: Candidate, now: datetime) -> bool:
    until = candidate.clock_stopped_at or now
    return (
        plan.progress_deadline is not None
        and until - candidate.clock_from >= plan.progress_deadline
    )


def _paused(
    state: State, plan: Plan, candidate: Candidate, step: Pause, now: datetime
) -> Decision | None:
    """The decision to go on waiting in a pause, or None where it is over."""
    if step.duration is None:
        if plan.approves(candidate.revision):
            return None
        return Decision(_awaiting(replace(state, candidate=candidate), candidate.revision))
    if now >= candidate.step_started_at + step.duration:
        return None
    return _wait(state, candidate, Phase.PAUSED, f"paused for {_written(step.duration)}")


def _enter(plan: Plan, state: State, candidate: Candidate, reached: int, now: datetime) -> Decision:
    """Enter the step that the candidate has reached, or the promotion behind the last one."""
    # Traffic that the candidate never had is nothing to judge: a first pause needs no verdict.
    passed = candidate.weight == 0 or candidate.verdict.result is Result.PASS
    if reached >= len(plan.steps):
        # Stay in the last step, so that a step appended to the plan is entered like any other.
        candidate = _standing_in(max(0, len(plan.steps) - 1), candidate)
        if candidate.weight == 0:
            why = "no step gives it a share: add a setWeight to spec.rollout.steps"
            return _wait(state, candidate, Phase.PROGRESSING, why)
        if not passed:
            return _wait(state, candidate, Phase.PROGRESSING, candidate.verdict.message)
        if plan.approval_required and not plan.approves(candidate.revision):
            return Decision(_awaiting(replace(state, candidate=candidate), candidate.revision))
        grounds = candidate.verdict.message
        return _promote(plan, state, candidate.revision, Reason.PROMOTED, grounds, now)
    step = plan.steps[reached]
    if isinstance(step, Pause):
        entered = replace(candidate, step=reached, step_started_at=now)
        paused = _paused(state, plan, entered, step, now)
        return paused or _enter(plan, state, entered, reached + 1, now)
    if step.weight <= candidate.weight:  # the steps were edited meanwhile: it has that share
        return _enter(plan, state, candidate, reached + 1, now)
    if not passed:
        # Stay behind the step before: its weight stands until its verdict is in.
        held = _standing_in(reached - 1, candidate)
        return _wait(state, held, Phase.PROGRESSING, held.verdict.message)
    return _raise(plan, state, _standing_in(reached, candidate), step, now)


def _standing_in(step: int, candidate: Candidate) -> Candidate:
    return candidate if candidate.step == step else replace(candidate, step=step)


def _raise(
    plan: Plan, state: State, candidate: Candidate, step: SetWeight, now: datetime
) -> Decision:
    """Set the weight of a step; from here on evidence is counted anew."""
    grounds = candidate.verdict.message if candidate.weight else "the first step"
    recorded = _record(
        plan,
        replace(state, epoch=state.epoch + 1),
        Entry(candidate.revision, Reason.WEIGHT_RAISED, f"{_percent(step.weight)}: {grounds}", now),
    )
    raised = replace(
        counted_anew(candidate),
        weight=step.weight,
        step_started_at=now,
        clock_from=now,
        clock_stopped_at=None,
        heard_at=now,
    )
    raised = _with_verdict(plan, raised)
    following = plan.steps[candidate.step + 1 : candidate.step + 2]
    if following and isinstance(following[0], Pause):
        decision = _enter(plan, recorded.state, raised, raised.step + 1, now)
    else:
        decision = _wait(recorded.state, raised, Phase.PROGRESSING, raised.verdict.message)
    return replace(decision, events=(*recorded.events, *decision.events))


def _go_back_on(
    verdict: Verdict, plan: Plan, state: State, candidate: Candidate, now: datetime
) -> Decision:
    reason = verdict.reason or Reason.HIT_RATE_BELOW_FLOOR
    return _go_back(plan, state, candidate, reason, verdict.message, now)


def _go_back(
    plan: Plan, state: State, candidate: Candidate, reason: Reason, why: str, now: datetime
) -> Decision:
    """Take the candidate out of the route: everyone gets the stable revision again."""
    message = f"{candidate.revision.version} went back: {why}"
    return _record(
        plan,
        replace(
            _without(state, now),
            phase=Phase.ROLLED_BACK,
            message=message,
            rolled_back=RolledBack(candidate.revision, plan.retry, message, now),
        ),
        Entry(candidate.revision, reason, message, now, retry=plan.retry),
    )


def _retire(plan: Plan, state: State, reason: Reason, message: str, now: datetime) -> Decision:
    """Drop the candidate, where there is one, without a verdict on it."""
    if state.candidate is None:
        return Decision(state)
    entry = Entry(state.candidate.revision, reason, message, now)
    return _record(plan, _without(state, now), entry)


def _without(state: State, now: datetime) -> State:
    """The state without its candidate; one that had a share must leave running conversations."""
    epoch = state.epoch + 1
    had_share = state.candidate is not None and state.candidate.weight > 0
    withdrawn = Withdrawn(epoch, now) if had_share else state.withdrawn
    return replace(state, candidate=None, epoch=epoch, withdrawn=withdrawn)


def _promote(
    plan: Plan, state: State, revision: Revision, reason: Reason, grounds: str, now: datetime
) -> Decision:
    message = f"{revision.version} is served to everyone"
    tried = state.candidate.revision if state.candidate is not None else None
    had_all = state.stable is None and tried == revision  # a first version that proved itself
    epoch = state.epoch if had_all else state.epoch + 1
    if reason is Reason.RETURNED:  # what is gone back from is left at once, as in an abort
        retained = tuple(i for i in state.retained if i.revision.digest != revision.digest)
        withdrawn: Withdrawn | None = Withdrawn(epoch, now)
    else:
        retained, withdrawn = retained_after(plan, state, revision, now), state.withdrawn
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
            retained=retained,
            withdrawn=withdrawn,
            epoch=epoch,
        ),
        Entry(revision, reason, f"{message}: {grounds}", now),
    )


def _awaiting(state: State, revision: Revision) -> State:
    return replace(
        state,
        phase=Phase.AWAITING_APPROVAL,
        message=f"{revision.version} waits for spec.rollout.approvedDigest: {revision.digest}",
    )


def _wait(state: State, candidate: Candidate, phase: Phase, why: str) -> Decision:
    message = f"{candidate.revision.version} at {_percent(candidate.weight)}: {why}"
    return Decision(replace(state, phase=phase, message=message, candidate=candidate))


def _with_verdict(plan: Plan, candidate: Candidate) -> Candidate:
    """The candidate as the judge sees it; without a share there is nothing to judge."""
    if candidate.weight == 0:
        return replace(candidate, verdict=NOT_JUDGED)
    weights = sum(isinstance(step, SetWeight) for step in plan.steps)
    verdict: Verdict = judge(
        candidate, analysis_of(plan, candidate), models=plan.models, weights=max(1, weights)
    )
    return replace(candidate, verdict=verdict)


def _step(plan: Plan, candidate: Candidate) -> SetWeight | Pause | None:
    return plan.steps[candidate.step] if candidate.step < len(plan.steps) else None


def _percent(weight: int) -> str:
    return f"{weight / 100:g}%"


def _written(duration: timedelta | None) -> str:
    seconds = duration.total_seconds() if duration is not None else 0
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"  # noqa: PLR2004 - minutes


def _record(plan: Plan, state: State, entry: Entry) -> Decision:
    """Put an entry into the bounded history and among the events."""
    history = (*state.history, entry)[-plan.history_limit :] if plan.history_limit else ()
    return Decision(replace(state, history=history), events=(entry,))
