"""The judge: counts go in, a verdict comes out. Ratios of nothing are never formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rollout.judge import judge
from headwater.rollout.state import Counts, Evidence, Result

WAITING, PASS, ROLL_BACK = Result.WAITING, Result.PASS, Result.ROLL_BACK


def seen(hits: int, misses: int, errors: int = 0) -> Counts:
    return Counts(hits, misses, errors)


@pytest.mark.parametrize(
    ("what", "evidence", "floor", "needed", "result"),
    [
        ("nothing at all", {}, 0.9, 20, WAITING),
        ("none of it eligible", {"a": seen(0, 0)}, 0.9, 20, WAITING),
        ("errors alone", {"a": seen(0, 0, errors=100)}, 0.9, 20, WAITING),
        ("one request short", {"a": seen(19, 0)}, 0.9, 20, WAITING),
        ("just enough", {"a": seen(20, 0)}, 0.9, 20, PASS),
        ("exactly at the floor", {"a": seen(18, 2)}, 0.9, 20, PASS),
        ("one below the floor", {"a": seen(17, 3)}, 0.9, 20, ROLL_BACK),
        ("early, and the floor can still be reached", {"a": seen(0, 2)}, 0.9, 20, WAITING),
        ("early, and hits alone cannot reach it any more", {"a": seen(0, 3)}, 0.9, 20, ROLL_BACK),
        ("late misses after many hits", {"a": seen(900, 100)}, 0.9, 20, PASS),
        ("one too many after many hits", {"a": seen(899, 101)}, 0.9, 20, ROLL_BACK),
        ("both models good", {"a": seen(20, 0), "b": seen(20, 1)}, 0.9, 20, PASS),
        ("one of two models below", {"a": seen(900, 0), "b": seen(0, 3)}, 0.9, 20, ROLL_BACK),
        ("one of two models short", {"a": seen(900, 0), "b": seen(1, 0)}, 0.9, 20, WAITING),
        ("one of two models unused", {"a": seen(20, 0), "b": seen(0, 0)}, 0.9, 20, PASS),
        ("a floor of 0 forgives every miss", {"a": seen(0, 20)}, 0.0, 20, PASS),
        ("a floor of 0 still wants requests", {"a": seen(0, 19)}, 0.0, 20, WAITING),
        ("a floor of 1 forgives none", {"a": seen(5, 1)}, 1.0, 20, ROLL_BACK),
        ("a floor of 1, reached", {"a": seen(20, 0)}, 1.0, 20, PASS),
        ("one request may be enough", {"a": seen(1, 0)}, 0.9, 1, PASS),
        ("a floor that binary fractions miss", {"a": seen(7, 3)}, 0.7, 10, PASS),
    ],
)
def test_verdict(what: str, evidence: Evidence, floor: float, needed: int, result: Result) -> None:
    """Each row is a verdict on one set of counts."""
    assert judge(evidence, min_hit_rate=floor, min_requests=needed).result is result


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        ({}, "none of 20 eligible requests seen"),
        ({"a": seen(3, 0), "b": seen(1, 1)}, "3 on a, 2 on b of 20 eligible requests seen"),
        ({"a": seen(19, 1)}, "on a 19 of 20 eligible requests read the cache (95%)"),
        (
            {"a": seen(8999, 1001)},
            "on a 8999 of 10000 eligible requests read the cache (89.99%), and the floor is 90%",
        ),
    ],
)
def test_sentence(evidence: Evidence, sentence: str) -> None:
    """The reason names models and counts, and no rounding hides what was decided."""
    assert judge(evidence, min_hit_rate=0.9, min_requests=20).message == sentence


models = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(Counts, st.integers(0, 60), st.integers(0, 60), st.integers(0, 9)),
)


@given(models, st.integers(0, 100), st.integers(1, 50))
def test_a_verdict_is_what_the_counts_say(evidence: Evidence, floor: int, needed: int) -> None:
    """A pass has every used model at the floor; a roll back has one that cannot reach it."""
    verdict = judge(evidence, min_hit_rate=floor / 100, min_requests=needed).result
    used = [counts for counts in evidence.values() if counts.eligible]
    if verdict is PASS:
        assert used
        assert all(100 * one.hits >= floor * one.eligible for one in used)
        assert all(one.eligible >= needed for one in used)
    # At best every request that is still to come is a hit.
    best = [one.hits + max(0, needed - one.eligible) for one in used]
    lost = [
        100 * hits < floor * max(one.eligible, needed) for one, hits in zip(used, best, strict=True)
    ]
    assert (verdict is ROLL_BACK) == any(lost)


@given(models, st.integers(1, 50))
def test_a_miss_never_helps(evidence: Evidence, needed: int) -> None:
    """What goes back goes back with one more miss, too."""
    if judge(evidence, min_hit_rate=0.9, min_requests=needed).result is ROLL_BACK:
        worse = {model: counts + Counts(misses=1) for model, counts in evidence.items()}
        assert judge(worse, min_hit_rate=0.9, min_requests=needed).result is ROLL_BACK
