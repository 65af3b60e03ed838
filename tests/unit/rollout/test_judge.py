"""The judge: counts go in, a verdict and a sentence come out. No ratio of nothing is formed."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from math import exp, log
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.eprocess import above, below, highest, lowest
from headwater.rollout.judge import Reading, judge, readings
from headwater.rollout.state import (
    Analysis,
    Answers,
    Candidate,
    Comparison,
    Counts,
    Evidence,
    Measurement,
    Query,
    Reason,
    Result,
    Verdict,
)

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WAITING, PASS, ROLL_BACK = Result.WAITING, Result.PASS, Result.ROLL_BACK


def candidate(evidence: Evidence, baseline: Evidence | None = None, **seen: Any) -> Candidate:
    return Candidate(
        revision=Revision("v2", Digest.of(b"v2")),
        step=0,
        weight=Weight.percent(10),
        started_at=START,
        step_started_at=START,
        clock_from=START,
        heard_at=START,
        evidence=evidence,
        baseline=baseline or {},
        **seen,
    )


def verdict(
    evidence: Evidence,
    baseline: Evidence | None = None,
    *,
    models: tuple[str, ...] | None = None,
    weights: int = 1,
    seen: Mapping[str, Any] | None = None,
    **limits: Any,
) -> Verdict:
    """The verdict on models a, b, … as they are in the evidence, hit rates alone by default."""
    return judge(
        candidate(evidence, baseline, **(seen or {})),
        Analysis(**({"min_requests": 20, "max_error_rate_increase": None} | limits)),
        models=models or tuple(evidence) or ("a",),
        weights=weights,
    )


@pytest.mark.parametrize(
    ("what", "evidence", "floor", "result"),
    [
        ("nothing at all", {}, 0.9, WAITING),
        ("none of it eligible", {"a": Counts(answers=90)}, 0.9, WAITING),
        ("errors alone", {"a": Counts(errors=90)}, 0.9, WAITING),
        ("sure, but one request short", {"a": Counts(19, 0)}, 0.5, WAITING),
        ("sure, with just enough", {"a": Counts(20, 0)}, 0.5, PASS),
        ("enough, but not sure", {"a": Counts(30, 0)}, 0.9, WAITING),
        ("enough and sure", {"a": Counts(50, 0)}, 0.9, PASS),
        ("exactly at the floor", {"a": Counts(9000, 1000)}, 0.9, WAITING),
        ("close above the floor", {"a": Counts(9100, 900)}, 0.9, PASS),
        ("close below the floor", {"a": Counts(8850, 1150)}, 0.9, ROLL_BACK),
        ("a single miss", {"a": Counts(0, 1)}, 0.9, WAITING),
        ("nothing but misses", {"a": Counts(0, 4)}, 0.9, ROLL_BACK),
        ("every second one misses", {"a": Counts(8, 8)}, 0.9, ROLL_BACK),
        ("a bad start that may yet be chance", {"a": Counts(17, 3)}, 0.9, WAITING),
        ("both models good", {"a": Counts(60, 0), "b": Counts(99, 1)}, 0.9, PASS),
        ("one of two bad", {"a": Counts(900, 0), "b": Counts(0, 5)}, 0.9, ROLL_BACK),
        ("one of two short", {"a": Counts(900, 0), "b": Counts(1, 0)}, 0.9, WAITING),
        ("one of two unused", {"a": Counts(900, 0), "b": Counts()}, 0.9, WAITING),
        ("a floor of 0 forgives every miss", {"a": Counts(0, 20)}, 0.0, PASS),
        ("a floor of 0 still wants requests", {"a": Counts(0, 19)}, 0.0, WAITING),
        ("a floor of 1 forgives none", {"a": Counts(500, 1)}, 1.0, ROLL_BACK),
        ("a floor of 1 rests on minRequests", {"a": Counts(20, 0)}, 1.0, PASS),
        ("a floor of 1, one short", {"a": Counts(19, 0)}, 1.0, WAITING),
    ],
)
def test_the_floor(what: str, evidence: Evidence, floor: float, result: Result) -> None:
    """Each row is a verdict on one set of counts against `minHitRate` alone."""
    found = verdict(evidence, min_hit_rate=floor)
    assert found.result is result
    assert found.reason is (Reason.HIT_RATE_BELOW_FLOOR if result is ROLL_BACK else None)


GOOD = Counts(hits=400, misses=10, answers=500)


@pytest.mark.parametrize(
    ("what", "ours", "stable", "drop", "result"),
    [
        ("as good as stable", Counts(400, 10), Counts(4000, 100), 0.05, PASS),
        ("better than stable", Counts(400, 0), Counts(3000, 1000), 0.05, PASS),
        ("far below stable", Counts(200, 60), Counts(4000, 100), 0.05, ROLL_BACK),
        ("below stable by what is allowed", Counts(1900, 150), Counts(4000, 100), 0.05, WAITING),
        ("stable is hardly known", Counts(200, 60), Counts(4, 0), 0.05, WAITING),
        ("stable never missed, and we neither", Counts(200, 0), Counts(4000, 0), 0.05, PASS),
        ("the same without any allowance", Counts(200, 0), Counts(4000, 0), 0.0, PASS),
        ("stable is bad, any rate is near it", Counts(200, 60), Counts(5, 500), 0.2, PASS),
        ("stable has none to compare with", Counts(200, 60), Counts(answers=10), 0.05, PASS),
    ],
)
def test_the_drop(what: str, ours: Counts, stable: Counts, drop: float, result: Result) -> None:
    """Beside a floor that each candidate here is above, stable's own rate decides."""
    found = verdict({"a": ours}, {"a": stable}, min_hit_rate=0.5, max_hit_rate_drop=drop)
    assert found.result is result
    assert found.reason is (Reason.HIT_RATE_BELOW_STABLE if result is ROLL_BACK else None)


def test_the_floor_holds_beside_the_drop() -> None:
    """A candidate as bad as a bad stable version is below the floor all the same."""
    bad = {"a": Counts(50, 50)}
    found = verdict(bad, bad, min_hit_rate=0.9, max_hit_rate_drop=0.05)
    assert found.reason is Reason.HIT_RATE_BELOW_FLOOR


@pytest.mark.parametrize(
    ("what", "ours", "stable", "result"),
    [
        ("no errors", GOOD, Counts(answers=900), PASS),
        ("as many as stable", GOOD + Counts(errors=50), Counts(errors=90, answers=900), PASS),
        ("many more", GOOD + Counts(errors=50), Counts(errors=1, answers=900), ROLL_BACK),
        ("a few", GOOD + Counts(errors=3), Counts(errors=1, answers=900), PASS),
        ("nothing but errors", Counts(errors=9), Counts(answers=9000), ROLL_BACK),
        ("stable is unknown", GOOD + Counts(errors=500), Counts(), PASS),
        ("stable fails as a whole", GOOD + Counts(errors=500), Counts(errors=900), PASS),
    ],
)
def test_errors(what: str, ours: Counts, stable: Counts, result: Result) -> None:
    """Errors above stable's take back; for a pass nothing has to be shown about them."""
    found = verdict({"a": ours}, {"a": stable}, max_error_rate_increase=0.02)
    assert found.result is result
    assert found.reason is (Reason.ERRORS_ABOVE_STABLE if result is ROLL_BACK else None)


@pytest.mark.parametrize(
    ("comparison", "reason"),
    [
        (Comparison(), None),
        (Comparison(cost_windows=6, cost_worse=6), None),
        (Comparison(cost_windows=11, cost_worse=11), Reason.COST_ABOVE_STABLE),
        (Comparison(cost_windows=400, cost_worse=200), None),
        (Comparison(cost_windows=400, cost_worse=260), Reason.COST_ABOVE_STABLE),
        (Comparison(latency_windows=11, latency_worse=11), Reason.LATENCY_ABOVE_STABLE),
    ],
)
def test_cost_and_latency(comparison: Comparison, reason: Reason | None) -> None:
    """Windows lost more often than not take back; for a pass nothing has to be shown."""
    limits: dict[str, Any] = {"max_cost_increase": 0.2, "max_latency_increase": 0.2}
    found = verdict({"a": GOOD}, seen={"comparisons": {"a": comparison}}, **limits)
    assert found.reason is reason
    assert found.result is (PASS if reason is None else ROLL_BACK)
    assert verdict({"a": GOOD}, seen={"comparisons": {"a": comparison}}).result is PASS, "off"


QUERIES = (Query("p99", maximum=2.0, failure_limit=1), Query("score", minimum=0.5))


def answered(failures: int, value: float | None, problem: str = "") -> Answers:
    return Answers(failures, Measurement(START, value, problem))


FINE = answered(0, 0.75)


@pytest.mark.parametrize(
    ("answers", "result", "sentence"),
    [
        ({}, WAITING, "the query p99 has no answer; the query score has no answer"),
        ({"p99": answered(0, 1.5)}, WAITING, "the query score has no answer"),
        (
            {"p99": answered(0, None, "no Prometheus"), "score": FINE},
            WAITING,
            "the query p99 has no answer: no Prometheus",
        ),
        (
            {"p99": answered(1, 3.25), "score": FINE},
            WAITING,
            "the query p99 answered 3.25, which should be at most 2",
        ),
        (
            {"p99": answered(2, 3.25), "score": FINE},
            ROLL_BACK,
            "the query p99 answered 3.25, which should be at most 2; 2 answers failed, 1 may",
        ),
        (
            {"p99": answered(1, 1.5), "score": FINE},
            PASS,
            (
                "on a 400 of 410 eligible requests read the cache (97.56%): above the floor of 90%;"
                " the query p99 answered 1.5; the query score answered 0.75"
            ),
        ),
    ],
)
def test_queries(answers: Mapping[str, Answers], result: Result, sentence: str) -> None:
    """Each needs a latest answer that holds; too many that did not take back."""
    found = verdict({"a": GOOD}, seen={"answers": answers}, queries=QUERIES)
    assert (found.result, found.message) == (result, sentence)
    assert found.reason is (Reason.QUERY_FAILED if result is ROLL_BACK else None)


def test_an_answer_to_a_query_that_is_no_longer_asked_says_nothing() -> None:
    """The plan may be edited while a candidate is tried."""
    assert verdict({"a": GOOD}, seen={"answers": {"old": answered(9, 1.0)}}).result is PASS


@pytest.mark.parametrize(
    ("evidence", "result", "sentence"),
    [
        (
            {"a": GOOD},
            PASS,
            (
                "on a 400 of 410 eligible requests read the cache (97.56%): above the floor of 90%;"
                " b shows no eligible request and is ignored"
            ),
        ),
        ({}, WAITING, "on a no eligible request yet; on b no eligible request yet"),
        (
            {"a": GOOD, "b": Counts(1, 0)},
            WAITING,
            (
                "on b 1 of 1 eligible requests read the cache (100%): 19 more eligible requests"
                " until minRequests"
            ),
        ),
    ],
)
def test_unused_models_may_be_ignored(evidence: Evidence, result: Result, sentence: str) -> None:
    """As long as another one passes; one with a little traffic is not unused."""
    found = verdict(evidence, models=("a", "b"), unused_models="Ignore")
    assert (found.result, found.message) == (result, sentence)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (verdict({}), "on a no eligible request yet"),
        (
            verdict({"a": Counts(19, 0)}),
            (
                "on a 19 of 19 eligible requests read the cache (100%): 1 more eligible request"
                " until minRequests"
            ),
        ),
        (
            verdict({"a": Counts(899, 101)}),
            (
                "on a 899 of 1000 eligible requests read the cache (89.9%): not yet sure that it is"
                " above the floor of 90%"
            ),
        ),
        (
            verdict({"a": Counts(17, 23)}, rollback_confidence=0.999),
            (
                "on a 17 of 40 eligible requests read the cache (42.5%); that is below the floor of"
                " 90%, with 99.9% confidence"
            ),
        ),
        (
            verdict({"a": GOOD}, {"a": GOOD}, max_hit_rate_drop=0.01),
            (
                "on a 400 of 410 eligible requests read the cache (97.56%): not yet sure that it is"
                " within 1 point of stable's, which is at most 99.4%"
            ),
        ),
        (
            verdict({"a": GOOD}, max_hit_rate_drop=0.05),
            (
                "on a 400 of 410 eligible requests read the cache (97.56%): above the floor of 90%"
                " and with no eligible request of stable's to compare with"
            ),
        ),
        (
            verdict({"a": Counts(errors=9)}, {"a": GOOD}, max_error_rate_increase=0.02),
            (
                "on a 9 of 9 requests failed (100%); that is more than 2 points above stable's,"
                " which is at most 1.6%, with 99% confidence"
            ),
        ),
        (
            verdict(
                {"a": GOOD},
                max_latency_increase=0.2,
                seen={"comparisons": {"a": Comparison(latency_windows=10, latency_worse=10)}},
            ),
            (
                "on a answers took over 20% longer to begin than stable's in 10 of 10 windows; that"
                " is more often than not, with 99% confidence"
            ),
        ),
        (
            verdict({"a": Counts(20, 0)}, min_hit_rate=0.0),
            "on a 20 of 20 eligible requests read the cache (100%)",
        ),
    ],
)
def test_sentence(found: Verdict, sentence: str) -> None:
    """It names the model, the counts and the limit; a wait says what is still missing."""
    assert found.message == sentence


def test_the_doubt_of_going_back_is_shared_by_weights_models_and_questions() -> None:
    """Each of them is one more chance to go back for nothing, so each asks for more evidence."""
    limits = Analysis(max_hit_rate_drop=0.05)
    (floor, *_) = readings(candidate({}), limits, models=("a", "b"), weights=4)
    assert floor.back_at == pytest.approx(4 * 2 * 3 / 0.01)
    assert floor.pass_at == pytest.approx(1 / 0.05), (
        "a pass needs all of them, so nothing is shared"
    )
    misses = {"a": Counts(0, 3)}
    assert verdict(misses).result is ROLL_BACK
    assert verdict(misses, weights=8).result is WAITING


def test_beside_stable_each_of_the_two_gets_half_of_the_doubt() -> None:
    """Stable's rate is taken at an end that is wrong with half of it, and what is left is asked."""
    ours, stable = (
        Counts(hits=800, misses=200, errors=30, answers=1000),
        Counts(hits=950, misses=50, errors=10, answers=1000),
    )
    analysis = Analysis(min_hit_rate=0.5, max_hit_rate_drop=0.1, max_error_rate_increase=0.02)
    floor, drop, errors = readings(
        candidate({"a": ours}, {"a": stable}), analysis, models=("a",), weights=2
    )
    whole = 6 / (1 - analysis.rollback_confidence)
    assert (floor.back_at, drop.back_at, errors.back_at) == (whole, 2 * whole, 2 * whole)
    passes = 1 / (1 - analysis.confidence)
    assert (floor.pass_at, drop.pass_at) == (passes, 2 * passes)
    least, most = lowest(950, 50, log(2 * whole)), highest(950, 50, log(2 * passes))
    assert drop.against == pytest.approx(exp(below(800, 200, least - 0.1)))
    assert drop.favour == pytest.approx(exp(above(800, 200, most - 0.1)))
    failed = highest(10, 1000, log(2 * whole))
    assert errors.against == pytest.approx(exp(above(30, 1000, failed + 0.02)))


def test_each_question_reads_in_words() -> None:
    """For a person, and with numbers that JSON has, however sure they are."""
    evidence = {"a": Counts(10**6, 10, errors=10**6), "b": Counts()}
    found = readings(
        candidate(evidence, {"a": GOOD}),
        Analysis(max_hit_rate_drop=0.05, max_cost_increase=0.2, min_hit_rate=0.8),
        models=("a", "b"),
        weights=1,
    )
    assert [(reading.model, reading.reason, reading.words) for reading in found] == [
        ("a", Reason.HIT_RATE_BELOW_FLOOR, "enough evidence that it is above the floor of 80%"),
        (
            "a",
            Reason.HIT_RATE_BELOW_STABLE,
            "enough evidence that it is within 5 points of stable's, which is at most 99.4%",
        ),
        (
            "a",
            Reason.ERRORS_ABOVE_STABLE,
            "enough evidence that it is more than 2 points above stable's, which is at most 1.9%",
        ),
        ("a", Reason.COST_ABOVE_STABLE, "no evidence that it is more often than not"),
        ("b", Reason.HIT_RATE_BELOW_FLOOR, "no evidence that it is below the floor of 80%"),
        (
            "b",
            Reason.ERRORS_ABOVE_STABLE,
            "no evidence that it is more than 2 points above stable's",
        ),
        ("b", Reason.COST_ABOVE_STABLE, "no evidence that it is more often than not"),
    ]
    assert "Infinity" not in json.dumps([asdict(reading) for reading in found])


shares = st.integers(0, 20).map(lambda twentieth: twentieth / 20)
counts = st.builds(
    Counts,
    *(st.integers(0, 400) for _ in range(2)),
    errors=st.integers(0, 50),
    answers=st.just(200),
)
evidences = st.dictionaries(st.sampled_from(["a", "b"]), counts)
analyses = st.builds(
    Analysis,
    min_hit_rate=shares,
    max_hit_rate_drop=st.none() | shares,
    max_error_rate_increase=st.none() | shares,
    min_requests=st.integers(1, 100),
    unused_models=st.sampled_from(["Wait", "Ignore"]),
)


@given(evidences, evidences, analyses)
def test_the_verdict_is_what_the_readings_say(
    evidence: Evidence, baseline: Evidence, analysis: Analysis
) -> None:
    """It goes back where one reading fails; a pass has every used model's every merit."""
    tried = candidate(evidence, baseline)
    found = judge(tried, analysis, models=("a", "b"), weights=2)
    read = readings(tried, analysis, models=("a", "b"), weights=2)
    assert (found.result is ROLL_BACK) == any(reading.fails for reading in read)
    used = {model for model, seen in evidence.items() if seen.eligible}
    if found.result is PASS:
        assert used
        assert used == {"a", "b"} or analysis.unused_models == "Ignore"
        assert all(evidence[model].eligible >= analysis.min_requests for model in used)
        assert all(reading.passes for reading in read if reading.model in used)


def _against(read: tuple[Reading, ...]) -> list[float]:
    return [reading.against for reading in read]


@given(counts, counts, analyses, st.sampled_from([Counts(misses=1), Counts(errors=1)]))
def test_a_miss_or_an_error_never_helps(
    ours: Counts, stable: Counts, analysis: Analysis, worse: Counts
) -> None:
    """Nothing that speaks against a candidate grows weaker by it, so what goes back still does."""

    def read(seen: Counts) -> list[float]:
        tried = candidate({"a": seen}, {"a": stable})
        return _against(readings(tried, analysis, models=("a",), weights=1))

    assert all(
        after >= before * (1 - 1e-9)
        for before, after in zip(read(ours), read(ours + worse), strict=True)
    )


@given(counts, counts, analyses, shares)
def test_a_higher_limit_is_harder_to_keep(
    ours: Counts, stable: Counts, analysis: Analysis, floor: float
) -> None:
    """What is below a floor is below every higher one; the same for what stable allows."""

    def result(min_hit_rate: float, allowed: float) -> Result:
        limits = Analysis(
            min_hit_rate=min_hit_rate, max_hit_rate_drop=allowed, max_error_rate_increase=allowed
        )
        return judge(candidate({"a": ours}, {"a": stable}), limits, models=("a",), weights=1).result

    low, high = sorted((floor, analysis.min_hit_rate))
    if low > 0 and result(low, high) is ROLL_BACK:
        assert result(high, high) is ROLL_BACK
        assert result(low, low) is ROLL_BACK


ROLLOUTS = 150


def _wrong(limits: Analysis, ours: tuple[float, float], stable: float, result: Result) -> int:
    """Of all rollouts, how many come to a result at any of 20 looks; rates are (hits, errors)."""
    draw = Random(5)
    hit_rate, error_rate = ours

    def some(of: int, rate: float) -> int:
        return sum(draw.random() < rate for _ in range(of))

    wrong = 0
    for _ in range(ROLLOUTS):
        seen, baseline = Counts(), Counts()
        for _ in range(20):
            hits, errors = some(30, hit_rate), some(30, error_rate)
            seen += Counts(hits, 30 - hits, errors, answers=30 - errors)
            hits, errors = some(60, stable), some(60, 0.1)
            baseline += Counts(hits, 60 - hits, errors, answers=60 - errors)
            tried = candidate({"a": seen}, {"a": baseline})
            if judge(tried, limits, models=("a",), weights=1).result is result:
                wrong += 1
                break
    return wrong


@pytest.mark.parametrize(
    ("what", "ours", "stable", "result"),
    [
        ("as far below stable as is allowed goes back", (0.7, 0.0), 0.8, ROLL_BACK),
        ("as far below stable as is allowed passes", (0.7, 0.0), 0.8, PASS),
        ("as many errors above stable as are allowed", (1.0, 0.2), 0.8, ROLL_BACK),
    ],
)
def test_beside_an_uncertain_stable_it_is_wrong_as_seldom_as_promised(
    what: str, ours: tuple[float, float], stable: float, result: Result
) -> None:
    """With a doubt of a tenth, exactly at what is allowed, however often one looks."""
    limits = Analysis(
        min_hit_rate=0.0,
        max_hit_rate_drop=0.1,
        max_error_rate_increase=0.1,
        min_requests=1,
        confidence=0.9,
        rollback_confidence=0.9,
    )
    assert _wrong(limits, ours, stable, result) <= ROLLOUTS / 10
    worse = (ours[0] - 0.2, ours[1] + 0.2) if result is ROLL_BACK else (0.95, 0.0)
    assert _wrong(limits, worse, stable, result) > ROLLOUTS * 2 / 3, (
        "a judge that never decides would pass, too"
    )
