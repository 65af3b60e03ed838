"""Between what a PromptPrefix's status says and what the rollout decides on.

Pure. The status is the only memory of a rollout: what is not in it is forgotten by a restart.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.controller.objects import Key, revision_name
from headwater.resources.prefix import (
    HISTORY_LIMIT,
    PUBLISHED_LIMIT,
    CandidateRevision,
    ConsumerCounts,
    HistoryEntry,
    PromptPrefix,
    PromptPrefixStatus,
    RolledBackRevision,
    StableRevision,
)
from headwater.resources.prefix import Evidence as StatusEvidence
from headwater.resources.prefix import Pause as SpecPause
from headwater.resources.prefix import Revision as StatusRevision
from headwater.resources.prefix import Step as SpecStep
from headwater.resources.prefix import Verdict as StatusVerdict
from headwater.resources.schema import Condition
from headwater.rollout.state import (
    NOT_JUDGED,
    Candidate,
    Counts,
    Entry,
    Pause,
    Phase,
    Plan,
    Reason,
    Result,
    RolledBack,
    SetWeight,
    State,
    Step,
    Verdict,
)


def plan_from(prefix: PromptPrefix, declared: Digest | None) -> Plan:
    """What the author declared; `declared` is the digest of bytes that verified."""
    spec = prefix.spec
    return Plan(
        declared=None if declared is None else Revision(spec.version, declared),
        models=spec.models,
        strategy=spec.rollout.strategy,
        steps=tuple(_step(step) for step in spec.rollout.canary_steps),
        min_hit_rate=spec.rollout.analysis.min_hit_rate,
        min_requests=spec.rollout.analysis.min_requests,
        approval_required=spec.rollout.approval == "Required",
        approved_digest=spec.rollout.approved_digest,
        suspend=spec.suspend,
        retry=spec.retry,
        history_limit=HISTORY_LIMIT,
    )


def _step(step: SpecStep) -> Step:
    if step.set_weight is not None:
        return SetWeight(Weight.percent(step.set_weight))
    pause = step.pause or SpecPause()
    return Pause(pause.duration)


def state_from(status: PromptPrefixStatus) -> State:
    """The recorded state of a rollout."""
    stable, candidate, gone = status.stable, status.candidate, status.rolled_back
    return State(
        phase=Phase(status.phase) if status.phase else Phase.PENDING,
        message=status.message or "",
        epoch=status.epoch,
        stable=None if stable is None else Revision(stable.version, stable.digest),
        promoted_at=None if stable is None else stable.promoted_at,
        candidate=None
        if candidate is None
        else Candidate(
            revision=Revision(candidate.version, candidate.digest),
            step=candidate.step,
            weight=Weight.percent(candidate.weight),
            started_at=candidate.started_at,
            step_started_at=candidate.step_started_at,
            evidence={
                row.model: Counts(row.hits, row.misses, row.errors) for row in candidate.evidence
            },
            verdict=NOT_JUDGED
            if candidate.verdict is None
            else Verdict(Result(candidate.verdict.result), candidate.verdict.reason),
        ),
        rolled_back=None
        if gone is None
        else RolledBack(Revision(gone.version, gone.digest), gone.retry, gone.reason, gone.at),
        history=tuple(
            Entry(Revision(row.version, row.digest), Reason(row.event), row.reason, row.at)
            for row in status.history
            if row.event in set(Reason)
        ),
    )


def status_from(
    key: Key,
    state: State,
    previous: PromptPrefixStatus,
    *,
    generation: int,
    conditions: Iterable[Condition],
    namespaces: int,
    stable_counts: Mapping[str, Counts],
    now: datetime,
) -> PromptPrefixStatus:
    """The status that records a state.

    `stable_counts` are the stable revision's counts by model since the controller started;
    where there are none, the hit rate that was shown last stands.
    """
    stable, candidate, gone = state.stable, state.candidate, state.rolled_back
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
        else StableRevision(
            version=stable.version,
            digest=stable.digest,
            config_map=revision_name(key, stable.digest),
            promoted_at=state.promoted_at or now,
            hit_rate=rate,
        ),
        candidate=None
        if candidate is None
        else CandidateRevision(
            version=candidate.revision.version,
            digest=candidate.revision.digest,
            config_map=revision_name(key, candidate.revision.digest),
            weight=candidate.weight // 100,
            step=candidate.step,
            started_at=candidate.started_at,
            step_started_at=candidate.step_started_at,
            verdict=_verdict(candidate, previous.candidate, now),
            evidence=tuple(
                StatusEvidence(
                    model=model, hits=counts.hits, misses=counts.misses, errors=counts.errors
                )
                for model, counts in sorted(candidate.evidence.items())
            ),
        ),
        rolled_back=None
        if gone is None
        else RolledBackRevision(
            version=gone.revision.version,
            digest=gone.revision.digest,
            retry=gone.retry,
            reason=gone.message,
            at=gone.at,
        ),
        history=tuple(
            HistoryEntry(
                version=entry.revision.version,
                digest=entry.revision.digest,
                event=entry.reason.value,
                reason=entry.message,
                at=entry.at,
            )
            for entry in state.history
        ),
        published=_published(previous, state),
        consumers=ConsumerCounts(namespaces=namespaces),
        hit_rate=rate,
        conditions=tuple(conditions),
    )


def _verdict(
    candidate: Candidate, previous: CandidateRevision | None, now: datetime
) -> StatusVerdict:
    """The verdict; its time is when it was first found, so that nothing is written for nothing."""
    result, message = candidate.verdict.result, candidate.verdict.message
    found = StatusVerdict(result=result.value, reason=message, at=now)
    if previous is None or previous.digest != candidate.revision.digest or not previous.verdict:
        return found
    before = previous.verdict  # a long reason is cut in both, or it would look new each time
    return before if (before.result, before.reason) == (found.result, found.reason) else found


def _published(previous: PromptPrefixStatus, state: State) -> tuple[StatusRevision, ...]:
    """Every version that was ever routed to, the newest last."""
    bound = {row.version: row for row in previous.published}
    routed = [state.stable, state.candidate.revision if state.candidate else None]
    for revision in routed:
        if revision is not None and revision.version not in bound:
            bound[revision.version] = StatusRevision(
                version=revision.version, digest=revision.digest
            )
    return tuple(bound.values())[-PUBLISHED_LIMIT:]


def _hit_rate(counts: Mapping[str, Counts]) -> str | None:
    hits = sum(count.hits for count in counts.values())
    eligible = sum(count.eligible for count in counts.values())
    # Whole percents: a column for people, which must not cost a write a request.
    return f"{hits * 100 // eligible}%" if eligible else None


def dump(status: PromptPrefixStatus) -> dict[str, Any]:
    """The status as the API server takes it."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
