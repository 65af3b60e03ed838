"""Evidence about a rate: what moves it, what it never does, and how often it is wrong."""

from itertools import accumulate
from math import exp, inf, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rollout.eprocess import above, below, highest, lowest

numbers = st.integers(0, 5000)
thousandths = st.integers(0, 1000)
enough = st.sampled_from([log(20), log(100), log(4800)])
TINY = 1e-9


@given(numbers, numbers, thousandths, thousandths)
def test_evidence_rises_with_the_floor(hits: int, misses: int, one: int, other: int) -> None:
    """What speaks against a floor speaks against every higher one, at least as loudly."""
    low, high = sorted((one / 1000, other / 1000))
    assert below(hits, misses, low) <= below(hits, misses, high) + TINY
    assert above(hits, misses, high) <= above(hits, misses, low) + TINY


@given(numbers, numbers, thousandths)
def test_a_success_speaks_for_a_rate_and_a_failure_against_it(
    hits: int, misses: int, thousandth: int
) -> None:
    """In both directions, whatever was counted before."""
    floor = thousandth / 1000
    assert below(hits + 1, misses, floor) <= below(hits, misses, floor) + TINY
    assert below(hits, misses + 1, floor) >= below(hits, misses, floor) - TINY
    assert above(hits + 1, misses, floor) >= above(hits, misses, floor) - TINY
    assert above(hits, misses + 1, floor) <= above(hits, misses, floor) + TINY


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 999), thousandths)
def test_at_and_above_the_floor_it_is_not_expected_to_grow(
    hits: int, misses: int, thousandth: int, up: int
) -> None:
    """One request more multiplies it by at most 1 on average: what all else rests on."""
    floor = thousandth / 1000
    rate = floor + (1 - floor) * up / 1000
    now = below(hits, misses, floor)
    after_hit = below(hits + 1, misses, floor) - now
    after_miss = below(hits, misses + 1, floor) - now
    assert rate * exp(after_hit) + (1 - rate) * exp(after_miss) <= 1 + TINY


@given(numbers, numbers, enough)
def test_a_confidence_sequence_holds_the_estimate_and_ends_where_rates_are_refuted(
    hits: int, misses: int, needed: float
) -> None:
    """Its end is the last thousandth that is refuted; the next one is not."""
    low, high = lowest(hits, misses, needed), highest(hits, misses, needed)
    share = hits / (hits + misses) if hits + misses else 0.5
    assert 0 <= low <= share <= high <= 1
    if low > 0:
        assert above(hits, misses, low) >= needed
    if low < 0.999:
        assert above(hits, misses, low + 0.001) < needed
    if high < 1:
        assert below(hits, misses, high) >= needed - TINY


@pytest.mark.parametrize(
    ("what", "found", "expected"),
    [
        ("nothing seen", below(0, 0, 0.9), 0.0),
        ("no rate is below 0", below(5, 90, 0.0), below(5, 0, 0.9)),
        ("one failure refutes a floor of 1", below(10**6, 1, 1.0), inf),
        ("a floor of 1 without a failure", below(3, 0, 1.0), below(3, 0, 0.5)),
        ("no rate is above 1", above(9, 0, 1.0), 0.0),
        ("the lowest rate that nothing tells of", lowest(0, 0, log(20)), 0.0),
        ("the highest", highest(0, 0, log(20)), 1.0),
    ],
)
def test_the_ends(what: str, found: float, expected: float) -> None:
    """At 0, at 1 and without counts there are no surprises and no errors."""
    assert found == expected


def test_a_billion_requests_are_no_overflow() -> None:
    """The logarithm holds what the number could not."""
    assert below(10**9, 10**9, 0.9) > 10**8
    assert below(10**9, 0, 0.9) < -(10**6)


@pytest.mark.parametrize(("floor", "doubt"), [(0.85, 0.05), (0.9, 0.01), (0.5, 0.05)])
def test_it_is_wrong_as_seldom_as_promised(floor: float, doubt: float) -> None:
    """At the floor itself, looked at after each of 300 requests, so many times over."""
    draw, times = Random(11), 400

    def ever(hits: list[bool]) -> bool:
        seen = accumulate(hits)
        return any(below(h, n - h, floor) >= log(1 / doubt) for n, h in enumerate(seen, start=1))

    wrong = sum(ever([draw.random() < floor for _ in range(300)]) for _ in range(times))
    # Three standard deviations of so many draws are allowed on top.
    assert wrong <= times * doubt + 3 * (times * doubt) ** 0.5
    assert wrong > 0, "a test that never decides would pass, too"
