"""Whether the candidate's answers cost more, or begin later, than stable's: window by window.

Sums tell no spread, so means are not judged by themselves. A window is a stretch of time in which
both revisions gave at least `WINDOW` answers; in each, the two means are compared, and the judge
asks whether the candidate loses more than half of the windows.
"""

from dataclasses import replace
from typing import Final

from headwater.rollout.state import Analysis, Comparison, Counts

WINDOW: Final = 20
"""Answers of each revision that make a window."""
_PARTS: Final = 1_000_000


def advance(
    comparison: Comparison, candidate: Counts, baseline: Counts, analysis: Analysis
) -> Comparison:
    """Close the running window of one model where both sides have enough answers.

    However many answers came since the last look, they are one window: sums cannot be split.
    A window begins with an answer of the candidate, so that both sides tell of the same time;
    counts that fell were counted anew, and so is the window.
    """
    cost, latency = analysis.max_cost_increase, analysis.max_latency_increase
    if cost is None and latency is None:
        return comparison
    ours = candidate - comparison.candidate_mark
    theirs = baseline - comparison.baseline_mark
    if ours.answers <= 0 or min(*ours.all(), *theirs.all()) < 0:
        return replace(comparison, candidate_mark=candidate, baseline_mark=baseline)
    if cost is not None and min(ours.answers, theirs.answers) < WINDOW:
        return comparison
    if latency is not None and min(ours.first_bytes, theirs.first_bytes) < WINDOW:
        return comparison
    next_window = replace(comparison, candidate_mark=candidate, baseline_mark=baseline)
    if cost is not None:
        dearer = _exceeds(
            (ours.cost_micros, ours.answers), (theirs.cost_micros, theirs.answers), cost
        )
        next_window = replace(
            next_window,
            cost_windows=comparison.cost_windows + 1,
            cost_worse=comparison.cost_worse + dearer,
        )
    if latency is not None:
        slower = _exceeds(
            (ours.first_byte_ms, ours.first_bytes),
            (theirs.first_byte_ms, theirs.first_bytes),
            latency,
        )
        next_window = replace(
            next_window,
            latency_windows=comparison.latency_windows + 1,
            latency_worse=comparison.latency_worse + slower,
        )
    return next_window


def _exceeds(ours: tuple[int, int], theirs: tuple[int, int], increase: float) -> bool:
    """Whether our mean is above theirs by more than `increase`; each is a sum and its number."""
    allowed = _PARTS + round(increase * _PARTS)
    return ours[0] * theirs[1] * _PARTS > theirs[0] * ours[1] * allowed
