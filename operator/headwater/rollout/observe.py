"""Takes what was observed into the record of a candidate. Decides nothing."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from headwater.rollout.compare import advance
from headwater.rollout.state import (
    Analysis,
    Answers,
    Candidate,
    Comparison,
    Counts,
    Evidence,
    Measurement,
    Observed,
    Plan,
    SetWeight,
)


def take_in(plan: Plan, candidate: Candidate, observed: Observed, now: datetime) -> Candidate:
    """The candidate with everything counted that is new."""
    candidate = _not_in_the_future(candidate, now)
    analysis = analysis_of(plan, candidate)
    evidence = _add(plan, analysis, candidate.evidence, observed.candidate)
    baseline = _add(plan, analysis, candidate.baseline, observed.stable)
    heard = evidence != candidate.evidence
    return replace(
        candidate,
        evidence=evidence,
        baseline=baseline,
        comparisons=_compared(analysis, candidate.comparisons, evidence, baseline),
        answers=_answered(analysis, candidate.answers, observed.measurements),
        heard_at=now if heard else candidate.heard_at,
    )


def analysis_of(plan: Plan, candidate: Candidate) -> Analysis:
    """What the candidate must show at the weight that it has."""
    own = [
        step.analysis for step in plan.steps[: candidate.step + 1] if isinstance(step, SetWeight)
    ]
    return (own[-1] if own else None) or plan.analysis


def counted_anew(candidate: Candidate) -> Candidate:
    """The candidate with a clean slate; windows of the comparison begin where stable is now."""
    return replace(
        candidate,
        evidence={},
        answers={},
        comparisons={
            model: Comparison(baseline_mark=candidate.baseline.get(model, Counts()))
            for model in candidate.comparisons
        },
    )


def _not_in_the_future(candidate: Candidate, now: datetime) -> Candidate:
    """A clock that was put back would prolong every wait by as much: begin it now instead."""
    stopped = candidate.clock_stopped_at
    times = (
        candidate.started_at,
        candidate.step_started_at,
        candidate.clock_from,
        candidate.heard_at,
        stopped or now,
    )
    if max(times) <= now:
        return candidate
    return replace(
        candidate,
        started_at=min(candidate.started_at, now),
        step_started_at=min(candidate.step_started_at, now),
        clock_from=min(candidate.clock_from, now),
        clock_stopped_at=None if stopped is None else min(stopped, now),
        heard_at=min(candidate.heard_at, now),
    )


def _add(plan: Plan, analysis: Analysis, evidence: Evidence, observed: Evidence) -> Evidence:
    """Counts of the declared models; what is not judged is not recorded, to save writes."""
    sums = dict(evidence)
    for model, counts in observed.items():
        if model in plan.models:
            sums[model] = sums.get(model, Counts()) + _judged(analysis, counts)
    return {
        model: sums[model]
        for model in sorted(sums)
        if model in plan.models and sums[model] != Counts()
    }


def _judged(analysis: Analysis, counts: Counts) -> Counts:
    cost = analysis.max_cost_increase is not None
    latency = analysis.max_latency_increase is not None
    return Counts(
        counts.hits,
        counts.misses,
        counts.errors,
        counts.answers,
        cost_micros=counts.cost_micros if cost else 0,
        first_bytes=counts.first_bytes if latency else 0,
        first_byte_ms=counts.first_byte_ms if latency else 0,
    )


def _compared(
    analysis: Analysis,
    comparisons: Mapping[str, Comparison],
    evidence: Evidence,
    baseline: Evidence,
) -> Mapping[str, Comparison]:
    if analysis.max_cost_increase is None and analysis.max_latency_increase is None:
        return {}
    return {
        model: advance(
            comparisons.get(model, Comparison()),
            evidence.get(model, Counts()),
            baseline.get(model, Counts()),
            analysis,
        )
        for model in sorted({*evidence, *baseline})
    }


def _answered(
    analysis: Analysis, answers: Mapping[str, Answers], measurements: Mapping[str, Measurement]
) -> Mapping[str, Answers]:
    """The answers so far and the new ones; each measurement is counted once, by its time."""
    after = {}
    for query in analysis.queries:
        known, found = answers.get(query.name), measurements.get(query.name)
        if found is None or (known is not None and found.at <= known.latest.at):
            if known is not None:
                after[query.name] = known
            continue
        failures = known.failures if known is not None else 0
        failed = found.value is not None and not query.holds(found.value)
        after[query.name] = Answers(failures + failed, found)
    return after
