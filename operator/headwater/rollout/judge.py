"""What the evidence says about a candidate: counts go in, a verdict and a sentence come out.

`readings` asks each question that is on about each model, `judge` makes one verdict of the
answers. Both look at counts as they are now and remember nothing, and one may look as often as
one likes; docs/judge.md has the formulas, and says what they rest on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

from headwater.rollout.eprocess import above, below, highest, lowest
from headwater.rollout.state import (
    Analysis,
    Answers,
    Candidate,
    Comparison,
    Counts,
    Query,
    Reason,
    Result,
    Verdict,
)

_CERTAIN: Final = 1e12
"""Evidence is cut here, far above whatever is asked for: a number that every format can hold."""
_LOG_CERTAIN: Final = log(_CERTAIN)
_UNPROVABLE: Final = 1.0
"""What is enough where nothing can be proved, as no rate lies above 100%: not to have missed."""
_SCALE: Final = ((100, "very strong"), (10, "strong"), (3, "some"), (2, "little"), (0, "no"))


@dataclass(frozen=True, slots=True)
class Reading:
    """What one question says about one model.

    `reason` is what the candidate would go back for. `against` is the e-value of the evidence
    that it is at fault, `favour` that of the evidence that it has the merit; 1 is none either
    way. At `back_at` and `pass_at` they are enough. `favour` is None where a question can
    only take a candidate back.
    """

    model: str
    reason: Reason
    seen: str
    fault: str
    against: float
    back_at: float
    merit: str = ""
    favour: float | None = None
    pass_at: float = _UNPROVABLE

    @property
    def fails(self) -> bool:
        """Whether it takes the candidate back."""
        return self.against >= self.back_at

    @property
    def passes(self) -> bool:
        """Whether it lets the candidate go on."""
        return self.favour is None or self.favour >= self.pass_at

    @property
    def words(self) -> str:
        """The stronger of the two, in words: `strong evidence that it is below …`."""
        strength, needed, finding = self.against, self.back_at, self.fault
        if self.favour is not None and self.favour > self.against:
            strength, needed, finding = self.favour, self.pass_at, self.merit
        rank = next(word for bound, word in _SCALE if strength >= bound)
        return f"{'enough' if strength >= needed else rank} evidence that it is {finding}"


def readings(
    candidate: Candidate, analysis: Analysis, *, models: Sequence[str], weights: int
) -> tuple[Reading, ...]:
    """What each question that is on says about each model, in the order of precedence.

    Args:
        candidate: its counts since its weight was set, and stable's since the canary began.
        analysis: the limits at this weight.
        models: those that the prefix is declared for.
        weights: how many weights the plan has; the doubt that going back may leave is shared
            by all of them, by the models and by the questions.
    """
    questions = (
        analysis.min_hit_rate > 0,
        analysis.max_hit_rate_drop is not None,
        analysis.max_error_rate_increase is not None,
        analysis.max_cost_increase is not None,
        analysis.max_latency_increase is not None,
    )
    tests = weights * len(models) * sum(questions)
    back_at = max(1, tests) / (1 - analysis.rollback_confidence)
    pass_at = 1 / (1 - analysis.confidence)
    # Beside stable, whose rate is uncertain, too, each of the two gets half of the doubt.
    found: list[Reading] = []
    for model in models:
        counts = candidate.evidence.get(model, Counts())
        baseline = candidate.baseline.get(model, Counts())
        compared = candidate.comparisons.get(model, Comparison())
        if analysis.min_hit_rate > 0:
            found.append(_floor(model, counts, analysis.min_hit_rate, back_at, pass_at))
        if analysis.max_hit_rate_drop is not None and baseline.eligible:
            drop = analysis.max_hit_rate_drop
            found.append(_drop(model, counts, baseline, drop, 2 * back_at, 2 * pass_at))
        if analysis.max_error_rate_increase is not None:
            increase = analysis.max_error_rate_increase
            found.append(_errors(model, counts, baseline, increase, 2 * back_at))
        if analysis.max_cost_increase is not None:
            seen = f"answers cost over {_percent(analysis.max_cost_increase)} more than stable's"
            lost = (compared.cost_worse, compared.cost_windows)
            found.append(_windows(model, Reason.COST_ABOVE_STABLE, seen, lost, back_at))
        if analysis.max_latency_increase is not None:
            more = _percent(analysis.max_latency_increase)
            seen = f"answers took over {more} longer to begin than stable's"
            lost = (compared.latency_worse, compared.latency_windows)
            found.append(_windows(model, Reason.LATENCY_ABOVE_STABLE, seen, lost, back_at))
    return tuple(found)


def _floor(model: str, counts: Counts, floor: float, back_at: float, pass_at: float) -> Reading:
    """The hit rate against a floor."""
    return Reading(
        model,
        Reason.HIT_RATE_BELOW_FLOOR,
        seen=_hits(counts),
        fault=f"below the floor of {_percent(floor)}",
        against=_value(below(counts.hits, counts.misses, floor)),
        back_at=back_at,
        merit=f"{'above' if floor < 1 else 'at'} the floor of {_percent(floor)}",
        favour=_value(above(counts.hits, counts.misses, floor)),
        pass_at=pass_at if floor < 1 else _UNPROVABLE,
    )


def _drop(
    model: str, counts: Counts, baseline: Counts, drop: float, back_at: float, pass_at: float
) -> Reading:
    """The hit rate against stable's less the drop, stable's taken at its cautious end."""
    least = lowest(baseline.hits, baseline.misses, log(back_at))
    most = highest(baseline.hits, baseline.misses, log(pass_at))
    low, high = max(0.0, least - drop), max(0.0, most - drop)
    points = _points(drop)
    return Reading(
        model,
        Reason.HIT_RATE_BELOW_STABLE,
        seen=_hits(counts),
        fault=f"more than {points} below stable's, which is at least {_percent(least)}",
        against=_value(below(counts.hits, counts.misses, low)),
        back_at=back_at,
        merit=f"within {points} of stable's, which is at most {_percent(most)}",
        favour=_value(above(counts.hits, counts.misses, high)) if high > 0 else _CERTAIN,
        pass_at=pass_at if high < 1 else _UNPROVABLE,
    )


def _errors(
    model: str, counts: Counts, baseline: Counts, increase: float, back_at: float
) -> Reading:
    """The share of failed requests against stable's plus the increase.

    Where stable had no requests its share may be anything, and nothing lies above that.
    """
    # Without an error of the candidate's, stable's share makes no difference.
    most = highest(baseline.errors, baseline.answers, log(back_at)) if counts.errors else 1.0
    known = f", which is at most {_percent(most)}" if most < 1 else ""
    return Reading(
        model,
        Reason.ERRORS_ABOVE_STABLE,
        seen=_part(counts.errors, counts.errors + counts.answers, "requests failed"),
        fault=f"more than {_points(increase)} above stable's{known}",
        against=_value(above(counts.errors, counts.answers, min(1.0, most + increase))),
        back_at=back_at,
    )


def _windows(
    model: str, reason: Reason, seen: str, lost: tuple[int, int], back_at: float
) -> Reading:
    """Cost or latency: the windows that the candidate lost, out of how many."""
    worse, windows = lost
    return Reading(
        model,
        reason,
        seen=f"{seen} in {worse} of {windows} windows",
        fault="more often than not",
        against=_value(above(worse, windows - worse, 0.5)),
        back_at=back_at,
    )


def judge(
    candidate: Candidate, analysis: Analysis, *, models: Sequence[str], weights: int
) -> Verdict:
    """The verdict on what `readings` finds, and on the answers to the author's own queries.

    One finding against the candidate takes it back. For a pass every model has to have
    `min_requests` eligible requests and evidence of every merit, and every query an answer
    within its limits. No data is never a pass and never a failure.
    """
    found = readings(candidate, analysis, models=models, weights=weights)
    for reading in found:
        if reading.fails:
            sure = _percent(analysis.rollback_confidence)
            message = f"on {reading.model} {reading.seen}; that is {reading.fault}"
            return Verdict(Result.ROLL_BACK, f"{message}, with {sure} confidence", reading.reason)
    for query in analysis.queries:
        answers = candidate.answers.get(query.name)
        if answers is not None and answers.failures > query.failure_limit:
            _, latest = _query(query, answers)
            message = f"{latest}; {answers.failures} answers failed, {query.failure_limit} may"
            return Verdict(Result.ROLL_BACK, message, Reason.QUERY_FAILED)
    used = [model for model in models if candidate.evidence.get(model, Counts()).eligible]
    judged = used if used and analysis.unused_models == "Ignore" else models
    standings = [
        *(_model(model, candidate, analysis, found) for model in judged),
        *(_query(query, candidate.answers.get(query.name)) for query in analysis.queries),
    ]
    missing = [sentence for good, sentence in standings if not good]
    if missing or not judged:
        return Verdict(Result.WAITING, "; ".join(missing) or "no model is declared")
    unused = [
        f"{model} shows no eligible request and is ignored"
        for model in models
        if model not in judged
    ]
    return Verdict(Result.PASS, "; ".join([*(sentence for _, sentence in standings), *unused]))


def _model(
    model: str, candidate: Candidate, analysis: Analysis, found: Sequence[Reading]
) -> tuple[bool, str]:
    """Whether a model shows all that is asked for; the sentence says what, or what is missing."""
    counts = candidate.evidence.get(model, Counts())
    if not counts.eligible:
        return False, f"on {model} no eligible request yet"
    seen = f"on {model} {_hits(counts)}"
    short = analysis.min_requests - counts.eligible
    if short > 0:
        requests = "request" if short == 1 else "requests"
        return False, f"{seen}: {short} more eligible {requests} until minRequests"
    mine = [reading for reading in found if reading.model == model and reading.merit]
    unsure = [reading.merit for reading in mine if not reading.passes]
    if unsure:
        return False, f"{seen}: not yet sure that it is {' and '.join(unsure)}"
    merits = [reading.merit for reading in mine]
    stable = candidate.baseline.get(model, Counts())
    if analysis.max_hit_rate_drop is not None and not stable.eligible:
        merits.append("with no eligible request of stable's to compare with")
    return True, f"{seen}: {' and '.join(merits)}" if merits else seen


def _query(query: Query, answers: Answers | None) -> tuple[bool, str]:
    """Whether the latest answer to a query lies within its limits."""
    if answers is None or answers.latest.value is None:
        problem = f": {answers.latest.problem}" if answers and answers.latest.problem else ""
        return False, f"the query {query.name} has no answer{problem}"
    value = answers.latest.value
    if query.holds(value):
        return True, f"the query {query.name} answered {value:.4g}"
    limits = [("at least", query.minimum), ("at most", query.maximum)]
    wanted = " and ".join(f"{word} {limit:.4g}" for word, limit in limits if limit is not None)
    return False, f"the query {query.name} answered {value:.4g}, which should be {wanted}"


def _hits(counts: Counts) -> str:
    return _part(counts.hits, counts.eligible, "eligible requests read the cache")


def _part(part: int, whole: int, did: str) -> str:
    share = f" ({_percent(part / whole)})" if whole else ""
    return f"{part} of {whole} {did}{share}"


def _percent(share: float) -> str:
    # Four digits: 899 of 1,000 must not read as the 90% that it failed.
    return f"{share * 100:.4g}%"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{share * 100:.4g} points"  # noqa: PLR2004 - one in 100


def _value(logarithm: float) -> float:
    return exp(logarithm) if logarithm < _LOG_CERTAIN else _CERTAIN
