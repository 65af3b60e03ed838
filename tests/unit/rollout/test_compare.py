"""Windows of answers: when one is full, who is worse in it, and when it begins anew."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rollout.compare import WINDOW, advance
from headwater.rollout.eprocess import above
from headwater.rollout.state import Analysis, Comparison, Counts

COST = Analysis(max_cost_increase=0.2)
LATENCY = Analysis(max_latency_increase=0.2)
BOTH = Analysis(max_cost_increase=0.2, max_latency_increase=0.2)


def answers(number: int, micros: int = 100, ms: int = 300) -> Counts:
    """So many answers, each at this cost and with this time until it began."""
    return Counts(
        answers=number,
        cost_micros=number * micros,
        first_bytes=number,
        first_byte_ms=number * ms,
    )


@pytest.mark.parametrize(
    ("what", "ours", "theirs", "analysis", "windows"),
    [
        ("as dear", answers(20), answers(20), COST, (1, 0, 0, 0)),
        ("dearer, as far as is allowed", answers(20, 120), answers(20), COST, (1, 0, 0, 0)),
        ("dearer by more", answers(20, 121), answers(20), COST, (1, 1, 0, 0)),
        ("more answers, not dearer", answers(900), answers(20), COST, (1, 0, 0, 0)),
        ("many windows at once are one", answers(900, 200), answers(90), COST, (1, 1, 0, 0)),
        ("one answer of ours short", answers(19, 200), answers(90), COST, (0, 0, 0, 0)),
        ("one answer of theirs short", answers(90, 200), answers(19), COST, (0, 0, 0, 0)),
        ("slower, and only cost is judged", answers(20, 100, 900), answers(20), COST, (1, 0, 0, 0)),
        ("slower", answers(20, 900, 361), answers(20), LATENCY, (0, 0, 1, 1)),
        ("slower, as far as is allowed", answers(20, 1, 360), answers(20), LATENCY, (0, 0, 1, 0)),
        ("dearer and faster", answers(20, 200, 100), answers(20), BOTH, (1, 1, 1, 0)),
        ("nothing began", Counts(answers=90), answers(90), BOTH, (0, 0, 0, 0)),
        ("free against free", answers(20, 0), answers(20, 0), COST, (1, 0, 0, 0)),
        ("not free against free", answers(20, 1), answers(20, 0), COST, (1, 1, 0, 0)),
        ("neither is judged", answers(90, 200), answers(90), Analysis(), (0, 0, 0, 0)),
    ],
)
def test_one_look(
    what: str,
    ours: Counts,
    theirs: Counts,
    analysis: Analysis,
    windows: tuple[int, int, int, int],
) -> None:
    """What the first look at these counts makes of them: windows and those lost."""
    found = advance(Comparison(), ours, theirs, analysis)
    assert windows == (
        found.cost_windows,
        found.cost_worse,
        found.latency_windows,
        found.latency_worse,
    )
    closed = any(windows)
    assert (found.candidate_mark == ours) is closed, "the next window begins where this one ended"
    assert (found.baseline_mark == theirs) is closed


def test_a_window_counts_what_came_since_the_last_one() -> None:
    """A dear beginning is one lost window, however dear it was."""
    first = advance(Comparison(), answers(20, 10_000), answers(40), COST)
    again = advance(first, answers(20, 10_000) + answers(19), answers(80), COST)
    assert again == first
    second = advance(again, answers(20, 10_000) + answers(20), answers(80), COST)
    assert (second.cost_windows, second.cost_worse) == (2, 1)


def test_a_window_begins_with_the_candidates_first_answer() -> None:
    """What stable's answers cost before that belongs to another time."""
    waiting = advance(Comparison(), Counts(), answers(5000, 1), COST)
    assert waiting.baseline_mark == answers(5000, 1)
    found = advance(waiting, answers(20), answers(5000, 1) + answers(20), COST)
    assert (found.cost_windows, found.cost_worse) == (1, 0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(answers(25), answers(100)), (answers(70), answers(30))]
)
def test_counts_that_fell_begin_a_window(ours: Counts, theirs: Counts) -> None:
    """They were counted anew: a difference to the old marks would be nonsense."""
    before = Comparison(
        cost_windows=3, cost_worse=1, candidate_mark=answers(50), baseline_mark=answers(60)
    )
    found = advance(before, ours, theirs, COST)
    assert (found.candidate_mark, found.baseline_mark) == (ours, theirs)
    assert (found.cost_windows, found.cost_worse) == (3, 1)


sides = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500)), max_size=30)


@given(sides, sides)
def test_no_answer_counts_twice(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
    """However the looks fall, windows are no more than the answers make, and lost ones no more."""
    found, mine, its = Comparison(), Counts(), Counts()
    for (ours_more, ours_micros), (theirs_more, theirs_micros) in zip(ours, theirs, strict=False):
        mine += answers(ours_more, ours_micros)
        its += answers(theirs_more, theirs_micros)
        found = advance(found, mine, its, BOTH)
        assert advance(found, mine, its, BOTH) == found, "a look at nothing new changes nothing"
    assert 0 <= found.cost_worse <= found.cost_windows
    assert found.cost_windows == found.latency_windows
    assert found.cost_windows * WINDOW <= min(mine.answers, its.answers)
    assert found.latency_worse == 0, "each answer took as long as every other"


def test_a_tie_in_every_window_is_no_evidence() -> None:
    """The same cost on both sides loses none."""
    found = Comparison()
    for number in range(1, 200):
        found = advance(found, answers(20 * number), answers(60 * number), COST)
    assert found.cost_windows == 199
    assert above(found.cost_worse, found.cost_windows - found.cost_worse, 0.5) < log(2)
