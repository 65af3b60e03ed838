"""Counters of processes that start, restart and vanish become totals that only grow."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from headwater.evidence.ledger import Ledger, Sample, Series
from headwater.rollout.state import Counts

OPENED = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
BEFORE, AFTER = OPENED - timedelta(hours=1), OPENED + timedelta(minutes=1)
SERIES = Series("help-desk", "0123456789ab", "claude-opus-5")
OTHER = Series("help-desk", "0123456789ab", "claude-haiku-4-5")


def sample(started: datetime, hits: int, target: str = "pod", series: Series = SERIES) -> Sample:
    return Sample(target, started, {series: Counts(hits=hits)})


def hits(ledger: Ledger, series: Series = SERIES) -> int:
    return ledger.totals(series.prefix, series.digest).get(series.model, Counts()).hits


def test_an_old_process_counts_from_where_it_was_first_seen() -> None:
    """What it had counted before belongs to a controller that recorded it."""
    ledger = Ledger(OPENED)
    assert ledger.record(sample(BEFORE, 100)) == set()
    assert hits(ledger) == 0
    assert ledger.record(sample(BEFORE, 103)) == {"help-desk"}
    assert hits(ledger) == 3


def test_a_series_that_appears_later_in_an_old_process_counts_whole() -> None:
    """Its first request came after the process was first seen."""
    ledger = Ledger(OPENED)
    ledger.record(Sample("pod", BEFORE, {}))
    ledger.record(sample(BEFORE, 4))
    assert hits(ledger) == 4


def test_a_young_process_counts_whole() -> None:
    """Nobody can have recorded anything of it."""
    ledger = Ledger(OPENED)
    assert ledger.record(sample(AFTER, 7)) == {"help-desk"}
    assert hits(ledger) == 7


def test_a_restarted_process_begins_anew() -> None:
    """Its former counts stay, its new ones come on top."""
    ledger = Ledger(OPENED)
    ledger.record(sample(BEFORE, 100))
    ledger.record(sample(BEFORE, 110))
    ledger.record(sample(AFTER, 5))
    assert hits(ledger) == 15


def test_the_same_reading_twice_adds_nothing() -> None:
    """And names no prefix, so that nothing is reconciled for nothing."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7))
    assert ledger.record(sample(AFTER, 7)) == set()
    assert hits(ledger) == 7


def test_what_a_vanished_process_counted_stays() -> None:
    """A pod that is gone takes no evidence with it; a new one of its name starts at zero."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7))
    ledger.forget_except([])
    assert hits(ledger) == 7
    ledger.record(sample(AFTER + timedelta(minutes=1), 2))
    assert hits(ledger) == 9


def test_a_series_missing_from_one_reading_is_not_counted_twice() -> None:
    """Nor is one that fell: within one process a counter only grows, whatever a reading says."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7))
    ledger.record(Sample("pod", AFTER, {}))
    ledger.record(sample(AFTER, 2))
    ledger.record(sample(AFTER, 8))
    assert hits(ledger) == 8


def test_totals_are_those_of_one_revision_by_model() -> None:
    """Another prefix or digest is another matter."""
    ledger = Ledger(OPENED)
    ledger.record(Sample("pod", AFTER, {SERIES: Counts(1, 2, 3), OTHER: Counts(4)}))
    ledger.record(sample(AFTER, 50, "b", Series("help-desk", "ffffffffffff", "claude-opus-5")))
    ledger.record(sample(AFTER, 60, "c", Series("sales", "0123456789ab", "claude-opus-5")))
    assert ledger.totals("help-desk", "0123456789ab") == {
        "claude-opus-5": Counts(1, 2, 3),
        "claude-haiku-4-5": Counts(4),
    }


acts = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(["answers", "restarts", "is read", "is gone"]),
        st.sampled_from([SERIES, OTHER]),
        st.builds(Counts, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(acts)
def test_totals_are_what_honest_processes_answered_since_the_opening(
    story: list[tuple[str, str, Series, Counts]],
) -> None:
    """Totals never fall, never count twice, and lose only what was never read before a restart."""
    ledger = Ledger(OPENED)
    clock = BEFORE
    starts = dict.fromkeys(("one", "two", "three"), clock)
    counters: dict[str, dict[Series, Counts]] = defaultdict(dict)
    answered: dict[Series, Counts] = {SERIES: Counts(), OTHER: Counts()}
    for target in starts:  # all that there is at the opening is read once
        ledger.record(Sample(target, starts[target], {}))
    clock = OPENED
    unread: dict[str, dict[Series, Counts]] = defaultdict(dict)
    for target, act, series, counts in story:
        before = ledger.totals(SERIES.prefix, SERIES.digest)
        clock += timedelta(seconds=1)
        if act == "answers":
            counters[target][series] = counters[target].get(series, Counts()) + counts
            unread[target][series] = unread[target].get(series, Counts()) + counts
        elif act == "is read":
            ledger.record(Sample(target, starts[target], dict(counters[target])))
            for known, fresh in unread.pop(target, {}).items():
                answered[known] += fresh
        else:
            starts[target], counters[target] = clock, {}
            unread.pop(target, None)
            if act == "is gone":
                ledger.forget_except(set(starts) - {target})
        after = ledger.totals(SERIES.prefix, SERIES.digest)
        for model, total in before.items():
            grown = after[model] - total
            assert min(grown.hits, grown.misses, grown.errors) >= 0
    totals = ledger.totals(SERIES.prefix, SERIES.digest)
    for series, counts in answered.items():
        assert totals.get(series.model, Counts()) == counts
