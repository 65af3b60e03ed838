"""Between what a PromptPrefix's status says and what the rollout decides on.

Pure. The status is the only memory of a rollout: what is not in it is forgotten by a restart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from typing import Any

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.controller.objects import Key, revision_name
from headwater.resources import PromptPrefix
from headwater.resources import rollout as spec_of
from headwater.resources import status as status_of
from headwater.resources.schema import Condition
from headwater.resources.status import HISTORY_LIMIT, PUBLISHED_LIMIT, PromptPrefixStatus
from headwater.rollout.state import (
    NOT_JUDGED,
    Analysis,
    Answers,
    Candidate,
    Comparison,
    Counts,
    Entry,
    Evidence,
    Measurement,
    Pause,
    Phase,
    Plan,
    Query,
    Reason,
    Result,
    Retained,
    RolledBack,
    SetWeight,
    State,
    Step,
    Verdict,
    Withdrawn,
)


def plan_from(prefix: PromptPrefix, declared: Digest | None) -> Plan:
    """What the author declared; `declared` is the digest of bytes that verified."""
    spec = prefix.spec
    rollout = spec.rollout
    analysis = _analysis(rollout.analysis)
    return Plan(
        declared=None if declared is None else Revision(spec.version, declared),
        models=spec.models,
        strategy=rollout.strategy,
        first_version=rollout.first_version,
        steps=tuple(_step(step, analysis) for step in rollout.canary_steps),
        analysis=analysis,
        approval_required=rollout.approval == "Required",
        approved_digest=rollout.approved_digest,
        progress_deadline=rollout.progress_deadline,
        on_deadline=rollout.on_deadline,
        rollback_window=rollout.rollback_window.revisions,
        retain=timedelta(seconds=TTL_SECONDS[spec.ttl]),
        suspend=spec.suspend,
        retry=spec.retry,
        history_limit=HISTORY_LIMIT,
    )


def _analysis(analysis: spec_of.Analysis) -> Analysis:
    plain = {limit.name: getattr(analysis, limit.name) for limit in fields(Analysis)}
    queries = tuple(
        Query(query.name, query.min, query.max, query.failure_limit) for query in analysis.queries
    )
    return Analysis(**(plain | {"queries": queries}))


def _step(step: spec_of.Step, analysis: Analysis) -> Step:
    if step.set_weight is None:
        return Pause((step.pause or spec_of.Pause()).duration)
    own = None
    if step.analysis is not None:
        own = replace(analysis, **step.analysis.model_dump(exclude_none=True))
    return SetWeight(Weight.percent(step.set_weight), own)


def state_from(status: PromptPrefixStatus) -> State:
    """The recorded state of a rollout."""
    stable, gone, withdrawn = status.stable, status.rolled_back, status.withdrawn
    return State(
        phase=Phase(status.phase) if status.phase else Phase.PENDING,
        message=status.message or "",
        epoch=status.epoch,
        stable=None if stable is None else _revision(stable),
        promoted_at=None if stable is None else stable.promoted_at,
        candidate=None if status.candidate is None else _candidate_from(status.candidate),
        rolled_back=None
        if gone is None
        else RolledBack(_revision(gone), gone.retry, gone.reason, gone.at),
        retained=tuple(Retained(_revision(row), row.until) for row in status.retained),
        withdrawn=None if withdrawn is None else Withdrawn(withdrawn.epoch, withdrawn.at),
        history=tuple(
            Entry(_revision(row), Reason(row.event), row.reason, row.at, row.retry, row.by or "")
            for row in status.history
            if row.event in set(Reason)
        ),
    )


def _candidate_from(row: status_of.CandidateRevision) -> Candidate:
    return Candidate(
        revision=_revision(row),
        step=row.step,
        weight=Weight.percent(row.weight),
        started_at=row.started_at,
        step_started_at=row.step_started_at,
        # Absent in what the release before wrote.
        clock_from=row.clock_from or row.step_started_at,
        clock_stopped_at=row.clock_stopped_at,
        heard_at=row.heard_at or row.step_started_at,
        retry=row.retry,
        evidence=_not_empty({found.model: _counts(found) for found in row.evidence}),
        baseline=_not_empty({found.model: _counts(found.stable) for found in row.evidence}),
        comparisons={
            found.model: Comparison(
                cost_windows=windows.cost,
                cost_worse=windows.cost_worse,
                latency_windows=windows.latency,
                latency_worse=windows.latency_worse,
                candidate_mark=_counts(windows.candidate_from),
                baseline_mark=_counts(windows.stable_from),
            )
            for found in row.evidence
            if (windows := found.windows) is not None
        },
        answers={
            found.name: Answers(
                found.failures,
                Measurement(
                    found.at, None if found.value is None else float(found.value), found.problem
                ),
            )
            for found in row.queries
        },
        verdict=NOT_JUDGED
        if row.verdict is None
        else Verdict(Result(row.verdict.result), row.verdict.reason),
    )


def status_from(
    key: Key,
    state: State,
    previous: PromptPrefixStatus,
    *,
    generation: int,
    conditions: Iterable[Condition],
    consumers: status_of.ConsumerCounts,
    stable_counts: Mapping[str, Counts],
    now: datetime,
) -> PromptPrefixStatus:
    """The status that records a state.

    `stable_counts` are the stable revision's counts by model since the controller started;
    where there are none, the hit rate that was shown last stands.
    """
    stable, candidate, gone = state.stable, state.candidate, state.rolled_back
    withdrawn = state.withdrawn
    rate = _hit_rate(stable_counts)
    if rate is None and stable is not None and previous.stable is not None:
        rate = previous.stable.hit_rate if previous.stable.digest == stable.digest else None
    return PromptPrefixStatus(
        observed_generation=generation,
        phase=state.phase.value,
        message=state.message,
        epoch=state.epoch,
        stable=None
        if stable is None
        else status_of.StableRevision(
            **_named(stable),
            config_map=revision_name(key, stable.digest),
            promoted_at=state.promoted_at or now,
            hit_rate=rate,
        ),
        candidate=None if candidate is None else _candidate_row(key, candidate, previous, now),
        rolled_back=None
        if gone is None
        else status_of.RolledBackRevision(
            **_named(gone.revision), retry=gone.retry, reason=gone.message, at=gone.at
        ),
        retained=tuple(
            status_of.RetainedRevision(**_named(item.revision), until=item.until)
            for item in state.retained
        ),
        withdrawn=None
        if withdrawn is None
        else status_of.WithdrawnRoute(epoch=withdrawn.epoch, at=withdrawn.at),
        history=tuple(
            status_of.HistoryEntry(
                **_named(entry.revision),
                event=entry.reason.value,
                reason=entry.message,
                at=entry.at,
                retry=entry.retry,
                by=entry.by or None,
            )
            for entry in state.history
        ),
        published=_published(previous, state),
        consumers=consumers,
        hit_rate=rate,
        conditions=tuple(conditions),
    )


def _candidate_row(
    key: Key, candidate: Candidate, previous: PromptPrefixStatus, now: datetime
) -> status_of.CandidateRevision:
    return status_of.CandidateRevision(
        **_named(candidate.revision),
        config_map=revision_name(key, candidate.revision.digest),
        weight=candidate.weight // 100,
        step=candidate.step,
        started_at=candidate.started_at,
        step_started_at=candidate.step_started_at,
        clock_from=candidate.clock_from,
        clock_stopped_at=candidate.clock_stopped_at,
        heard_at=candidate.heard_at,
        retry=candidate.retry,
        verdict=_verdict(candidate, previous.candidate, now),
        evidence=tuple(
            _evidence_row(candidate, model)
            for model in sorted({*candidate.evidence, *candidate.baseline})
        ),
        queries=tuple(
            status_of.QueryAnswers(
                name=name,
                failures=answers.failures,
                value=None if answers.latest.value is None else repr(answers.latest.value),
                problem=answers.latest.problem,
                at=answers.latest.at,
            )
            for name, answers in sorted(candidate.answers.items())
        ),
    )


def _evidence_row(candidate: Candidate, model: str) -> status_of.Evidence:
    compared = candidate.comparisons.get(model)
    return status_of.Evidence(
        model=model,
        **asdict(candidate.evidence.get(model, Counts())),
        stable=_counted(candidate.baseline.get(model, Counts())),
        windows=None
        if compared is None
        else status_of.Windows(
            cost=compared.cost_windows,
            cost_worse=compared.cost_worse,
            latency=compared.latency_windows,
            latency_worse=compared.latency_worse,
            candidate_from=_counted(compared.candidate_mark),
            stable_from=_counted(compared.baseline_mark),
        ),
    )


def _revision(row: status_of.Revision) -> Revision:
    return Revision(row.version, row.digest)


def _named(revision: Revision) -> dict[str, Any]:
    return {"version": revision.version, "digest": revision.digest}


def _counts(row: status_of.Counted) -> Counts:
    return Counts(**{count.name: getattr(row, count.name) for count in fields(Counts)})


def _not_empty(evidence: Evidence) -> Evidence:
    return {model: counts for model, counts in evidence.items() if counts != Counts()}


def _counted(counts: Counts) -> status_of.Counted:
    return status_of.Counted(**asdict(counts))


def _verdict(
    candidate: Candidate, previous: status_of.CandidateRevision | None, now: datetime
) -> status_of.Verdict:
    """The verdict; its time is when it was first found, so that nothing is written for nothing."""
    result, message = candidate.verdict.result, candidate.verdict.message
    found = status_of.Verdict(result=result.value, reason=message, at=now)
    if previous is None or previous.digest != candidate.revision.digest or not previous.verdict:
        return found
    before = previous.verdict  # a long reason is cut in both, or it would look new each time
    return before if (before.result, before.reason) == (found.result, found.reason) else found


def _published(previous: PromptPrefixStatus, state: State) -> tuple[status_of.Revision, ...]:
    """Every version that was ever routed to, the newest last."""
    bound = {row.version: row for row in previous.published}
    routed = [state.stable, state.candidate.revision if state.candidate else None]
    for revision in routed:
        if revision is not None and revision.version not in bound:
            bound[revision.version] = status_of.Revision(**_named(revision))
    return tuple(bound.values())[-PUBLISHED_LIMIT:]


def _hit_rate(counts: Mapping[str, Counts]) -> str | None:
    hits = sum(count.hits for count in counts.values())
    eligible = sum(count.eligible for count in counts.values())
    # Whole percents: a column for people, which must not cost a write a request.
    return f"{hits * 100 // eligible}%" if eligible else None


def dump(status: PromptPrefixStatus) -> dict[str, Any]:
    """The status as the API server takes it."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
