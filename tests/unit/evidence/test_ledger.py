"""Counters of processes that start, restart and vanish become totals that only grow."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evidence import ledger as module
from headwater.evidence.ledger import Ledger, Sample, Series
from headwater.rollout.state import Counts

OPENED = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
BEFORE, AFTER = OPENED - timedelta(hours=1), OPENED + timedelta(minutes=1)
NOW = OPENED + timedelta(minutes=5)
HOUR = timedelta(hours=1)
SERIES = Series("help-desk", "0123456789ab", "claude-opus-5")
COUNTED = Counts(1, 2, 3, 4, 5, 6, 7)
OTHER = Series("help-desk", "0123456789ab", "claude-haiku-4-5")


def sample(started: datetime, hits: int, target: str = "pod", series: Series = SERIES) -> Sample:
    return Sample(target, started, {series: Counts(hits=hits)})


def hits(ledger: Ledger, series: Series = SERIES) -> int:
    return ledger.totals(series.prefix, series.digest).get(series.model, Counts()).hits


def test_an_old_process_counts_from_where_it_was_first_seen() -> None:
    """What it had counted before belongs to a controller that recorded it."""
    ledger = Ledger(OPENED)
    assert ledger.record(sample(BEFORE, 100), NOW) == set()
    assert hits(ledger) == 0
    assert ledger.record(sample(BEFORE, 103), NOW) == {"help-desk"}
    assert hits(ledger) == 3


def test_a_series_that_appears_later_in_an_old_process_counts_whole() -> None:
    """Its first request came after the process was first seen."""
    ledger = Ledger(OPENED)
    ledger.record(Sample("pod", BEFORE, {}), NOW)
    ledger.record(sample(BEFORE, 4), NOW)
    assert hits(ledger) == 4


def test_a_young_process_counts_whole() -> None:
    """Nobody can have recorded anything of it."""
    ledger = Ledger(OPENED)
    assert ledger.record(sample(AFTER, 7), NOW) == {"help-desk"}
    assert hits(ledger) == 7


def test_a_restarted_process_begins_anew() -> None:
    """Its former counts stay, its new ones come on top."""
    ledger = Ledger(OPENED)
    ledger.record(sample(BEFORE, 100), NOW)
    ledger.record(sample(BEFORE, 110), NOW)
    ledger.record(sample(AFTER, 5), NOW)
    assert hits(ledger) == 15


def test_the_same_reading_twice_adds_nothing() -> None:
    """And names no prefix, so that nothing is reconciled for nothing."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7), NOW)
    assert ledger.record(sample(AFTER, 7), NOW) == set()
    assert hits(ledger) == 7


def test_what_a_vanished_process_counted_stays() -> None:
    """A pod that is gone takes no evidence with it; a new one of its name starts at zero."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7), NOW)
    ledger.forget(NOW + 2 * HOUR)
    assert hits(ledger) == 7
    ledger.record(sample(AFTER + HOUR, 2), NOW + 2 * HOUR)
    assert hits(ledger) == 9


@pytest.mark.parametrize("away", [timedelta(0), timedelta(minutes=10), HOUR, 2 * HOUR, 48 * HOUR])
@pytest.mark.parametrize("started", [BEFORE, OPENED, AFTER])
def test_a_process_that_was_away_is_not_counted_twice(started: datetime, away: timedelta) -> None:
    """However long: whether it is still remembered only decides about what it did meanwhile."""
    ledger = Ledger(OPENED)
    ledger.record(sample(started, 7), NOW)
    counted = hits(ledger)
    ledger.forget(NOW + away)
    ledger.record(sample(started, 7), NOW + away)
    assert hits(ledger) == counted
    ledger.record(sample(started, 8), NOW + away)
    assert hits(ledger) == counted + 1


def test_what_was_done_while_away_counts_where_the_process_is_remembered() -> None:
    """Prometheus was gone for ten minutes; the sidecars were not."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7), NOW)
    ledger.forget(NOW + timedelta(minutes=10))
    ledger.record(sample(AFTER, 12), NOW + timedelta(minutes=10))
    assert hits(ledger) == 12


def test_one_place_with_two_processes_counts_each_once() -> None:
    """A name that leads now to one process and now to another, as a load balancer's does."""
    ledger = Ledger(OPENED)
    for count in (3, 4, 5):
        ledger.record(sample(AFTER, count), NOW)
        ledger.record(sample(AFTER + timedelta(seconds=1), 10 * count), NOW)
    assert hits(ledger) == 55


def test_a_process_read_twice_in_two_ways_counts_once() -> None:
    """Two jobs of one Prometheus may scrape the same sidecar, one later than the other."""
    ledger = Ledger(OPENED)
    for first, second in ((7, 5), (8, 7), (8, 8)):
        ledger.record(sample(AFTER, first), NOW)
        ledger.record(sample(AFTER, second), NOW)
    assert hits(ledger) == 8


def test_a_start_to_come_proves_no_youth() -> None:
    """A node's clock is wrong: what its process counted may have been recorded before."""
    ledger = Ledger(OPENED)
    ledger.record(sample(NOW + HOUR, 7), NOW)
    assert hits(ledger) == 0
    ledger.forget(NOW + 2 * HOUR)
    ledger.record(sample(NOW + timedelta(minutes=90), 3, "other"), NOW + 2 * HOUR)
    assert hits(ledger) == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that restarts without end pushes out only those that were read before it."""
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 5, "steady"), NOW)
    for number in range(100):
        now = NOW + timedelta(seconds=number)
        ledger.record(sample(now, 1, "restless"), now)
        ledger.record(sample(AFTER, 5 + number, "steady"), now)
        ledger.forget(now)
    assert len(ledger._processes) == 10
    assert hits(ledger) == 100 + 5 + 99


def test_when_a_revision_was_used_last() -> None:
    """When its counters last grew, and nothing of what was before the ledger."""
    ledger = Ledger(OPENED)
    assert ledger.opened_at == OPENED
    ledger.record(sample(BEFORE, 100), NOW)
    assert ledger.used_at("help-desk", "0123456789ab") is None
    ledger.record(sample(BEFORE, 101), NOW + HOUR)
    ledger.record(sample(BEFORE, 101), NOW + 2 * HOUR)
    assert ledger.used_at("help-desk", "0123456789ab") == NOW + HOUR
    assert ledger.used_at("help-desk", "ffffffffffff") is None


def test_a_series_missing_from_one_reading_is_not_counted_twice() -> None:
    """Nor is one that fell: within one process a counter only grows, whatever a reading says."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7), NOW)
    ledger.record(Sample("pod", AFTER, {}), NOW)
    ledger.record(sample(AFTER, 2), NOW)
    ledger.record(sample(AFTER, 8), NOW)
    assert hits(ledger) == 8


def test_totals_are_those_of_one_revision_by_model() -> None:
    """Another prefix or digest is another matter."""
    ledger = Ledger(OPENED)
    ledger.record(Sample("pod", AFTER, {SERIES: COUNTED, OTHER: Counts(4)}), NOW)
    ledger.record(sample(AFTER, 50, "b", Series("help-desk", "ffffffffffff", "claude-opus-5")), NOW)
    ledger.record(sample(AFTER, 60, "c", Series("sales", "0123456789ab", "claude-opus-5")), NOW)
    assert ledger.totals("help-desk", "0123456789ab") == {
        "claude-opus-5": COUNTED,
        "claude-haiku-4-5": Counts(4),
    }


ACTS = ("answers", "restarts", "is read", "hours pass")
stories = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(ACTS),
        st.sampled_from([SERIES, OTHER]),
        st.builds(Counts, *[st.integers(0, 5)] * 7),
    ),
    max_size=40,
)


@given(stories)
def test_totals_are_what_honest_processes_answered_since_the_opening(
    story: list[tuple[str, str, Series, Counts]],
) -> None:
    """Totals never fall, never count twice, and lose only what was not read for hours, or never."""
    ledger = Ledger(OPENED)
    clock = OPENED
    starts = dict.fromkeys(("one", "two", "three"), BEFORE)
    counters: dict[str, dict[Series, Counts]] = defaultdict(dict)
    answered: dict[Series, Counts] = {SERIES: Counts(), OTHER: Counts()}
    for target in starts:  # all that there is at the opening is read once
        ledger.record(Sample(target, starts[target], {}), clock)
    unread: dict[str, dict[Series, Counts]] = defaultdict(dict)
    for target, act, series, counts in story:
        before = ledger.totals(SERIES.prefix, SERIES.digest)
        clock += timedelta(seconds=1)
        match act:
            case "answers":
                counters[target][series] = counters[target].get(series, Counts()) + counts
                unread[target][series] = unread[target].get(series, Counts()) + counts
            case "is read":
                ledger.record(Sample(target, starts[target], dict(counters[target])), clock)
                for known, fresh in unread.pop(target, {}).items():
                    answered[known] += fresh
            case "restarts":
                starts[target], counters[target] = clock, {}
                unread.pop(target, None)
            case "hours pass":
                clock += 3 * HOUR
        ledger.forget(clock)
        after = ledger.totals(SERIES.prefix, SERIES.digest)
        for model, total in before.items():
            assert min((after[model] - total).all()) >= 0
    totals = ledger.totals(SERIES.prefix, SERIES.digest)
    for series, counts in answered.items():
        lost = counts - totals.get(series.model, Counts())
        assert min(lost.all()) >= 0
        if "hours pass" not in {act for _, act, _, _ in story}:
            assert lost == Counts()


def test_what_is_nobodys_counts_for_nobody_later() -> None:
    """A pod that begins to consume a prefix does not bring along what it had counted before."""
    ledger = Ledger(OPENED)
    assert ledger.record(sample(AFTER, 100), NOW, lambda _: ()) == set()
    assert ledger.record(sample(AFTER, 103), NOW, lambda name: (f"ai/{name}",)) == {"ai/help-desk"}
    assert hits(ledger) == 0
    assert ledger.totals("ai/help-desk", SERIES.digest)[SERIES.model].hits == 3


def test_one_process_may_count_for_several() -> None:
    """One outside of the cluster, of whom nobody knows which prefix of a name it serves."""
    ledger = Ledger(OPENED)
    ledger.record(sample(AFTER, 7), NOW, lambda name: (f"a/{name}", f"b/{name}"))
    for owner in ("a/help-desk", "b/help-desk"):
        assert ledger.totals(owner, SERIES.digest)[SERIES.model].hits == 7
