"""Playing rollouts: how they end, when, and that the same draws give the same end."""

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from headwater.contract.route import Weight
from headwater.rollout.simulate import (
    HORIZON,
    End,
    Outcome,
    Traffic,
    _poisson,
    chance,
    simulate,
    time_to,
)
from headwater.rollout.state import Analysis, Pause, Plan, Query, SetWeight

MINUTE = timedelta(minutes=1)
STEPS = (SetWeight(Weight.percent(10)), SetWeight(Weight.percent(50)))


def played(
    rate: float, hit_rate: float, *, rollouts: int = 20, seed: int = 1, **facts: Any
) -> list[Outcome]:
    traffic = {name: facts.pop(name) for name in ("error_rate", "eligible") if name in facts}
    plan = Plan(declared=None, **({"models": ("a",), "steps": STEPS} | facts))
    given = Traffic(rate, hit_rate, stable_hit_rate=0.98, **traffic)
    return simulate(plan, given, rollouts=rollouts, draw=Random(seed))


def ends(outcomes: list[Outcome]) -> set[End]:
    return {outcome.end for outcome in outcomes}


@pytest.mark.parametrize(
    ("what", "rate", "hit_rate", "facts", "end"),
    [
        ("a good candidate", 120, 0.99, {}, End.PROMOTED),
        ("one that never hits", 120, 0.0, {}, End.ROLLED_BACK),
        ("one that fails", 120, 0.99, {"error_rate": 0.5}, End.ROLLED_BACK),
        ("hardly any traffic", 1, 0.99, {}, End.UNDECIDED),
        ("no traffic, until the horizon", 0, 1.0, {"progress_deadline": None}, End.UNDECIDED),
        ("a deadline that takes back", 1, 0.99, {"on_deadline": "RollBack"}, End.UNDECIDED),
        ("exactly at the floor", 120, 0.9, {}, End.UNDECIDED),
        ("approvals are given", 120, 0.99, {"approval_required": True}, End.PROMOTED),
        ("at once, even in the middle", 120, 0.99, {"steps": (*STEPS, Pause())}, End.PROMOTED),
        (
            "queries are left out",
            120,
            0.99,
            {"analysis": Analysis(queries=(Query("p99", maximum=1.0),))},
            End.PROMOTED,
        ),
        (
            "in the steps, too",
            120,
            0.99,
            {
                "steps": (
                    SetWeight(Weight.percent(50), Analysis(queries=(Query("p99", maximum=1.0),))),
                )
            },
            End.PROMOTED,
        ),
    ],
)
def test_the_end(what: str, rate: float, hit_rate: float, facts: dict[str, Any], end: End) -> None:
    """Each row is traffic whose end is not a matter of chance."""
    assert ends(played(rate, hit_rate, rollouts=5, **facts)) == {end}


def test_a_rate_within_reach_may_end_either_way() -> None:
    """Not each rollout of the same plan ends alike, and the same draws end the same."""
    near = played(120, 0.92)
    assert ends(near) == {End.PROMOTED, End.UNDECIDED}
    few = played(120, 0.92, rollouts=3)
    assert played(120, 0.92, rollouts=3) == few
    assert played(120, 0.92, rollouts=3, seed=2) != few


def test_undecided_lasts_until_the_deadline() -> None:
    """Or until the horizon, where there is none."""
    late = played(1, 0.99, rollouts=2, progress_deadline=30 * MINUTE)
    assert [outcome.after for outcome in late] == [30 * MINUTE] * 2
    (never,) = played(0, 0.99, rollouts=1, progress_deadline=None)
    assert HORIZON <= never.after < HORIZON * 1.2


def test_a_pause_takes_its_time() -> None:
    """And no longer: it is looked at when it ends."""
    steps = (STEPS[0], Pause(30 * MINUTE), STEPS[1])
    direct, paused = played(600, 1.0), played(600, 1.0, steps=steps)
    assert max(outcome.after for outcome in direct) < 10 * MINUTE
    assert min(outcome.after for outcome in paused) > 30 * MINUTE
    assert max(outcome.after for outcome in paused) < 40 * MINUTE


def test_a_lane_that_cools_between_requests_makes_few_of_them_eligible() -> None:
    """At three in an hour a cache of five minutes is mostly cold; a warmer keeps it warm."""
    slow: dict[str, Any] = {"progress_deadline": None, "rollouts": 3}
    assert ends(played(0.5, 1.0, **slow)) == {End.UNDECIDED}
    assert ends(played(0.5, 1.0, eligible=1.0, **slow)) == {End.PROMOTED}


def test_the_summary() -> None:
    """Chances are of all rollouts, times of those that ended so."""
    outcomes = [
        Outcome(End.PROMOTED, 1 * MINUTE),
        Outcome(End.ROLLED_BACK, 2 * MINUTE),
        Outcome(End.PROMOTED, 3 * MINUTE),
        Outcome(End.PROMOTED, 9 * MINUTE),
    ]
    assert chance(outcomes, End.PROMOTED) == 0.75
    assert chance(outcomes, End.PROMOTED, within=3 * MINUTE) == 0.5
    assert chance(outcomes, End.UNDECIDED) == 0
    assert time_to(outcomes, End.PROMOTED, 0.5) == 3 * MINUTE
    assert time_to(outcomes, End.PROMOTED, 0.9) == 9 * MINUTE
    assert time_to(outcomes, End.UNDECIDED, 0.5) is None


@pytest.mark.parametrize("mean", [0.0, 0.3, 30.0, 300.0])
def test_draws_have_the_mean_and_the_spread_of_poisson(mean: float) -> None:
    """Both are the mean, where few are drawn one by one and where many are drawn at once."""
    draw = Random(4)
    drawn = [_poisson(mean, draw) for _ in range(4000)]
    average = sum(drawn) / len(drawn)
    spread = sum((number - average) ** 2 for number in drawn) / len(drawn)
    assert average == pytest.approx(mean, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.1)
