"""When a warmer's job runs: never so late that a lane goes cold, never more often than needed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import TTL
from headwater.warmer.schedule import ScheduleError, auto, longest_gap, problem

NOW = datetime(2026, 11, 21, 7, 19, 41, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ttl", "start_up", "expected"),
    [
        ("5m", 30, "*/4 * * * *"),
        ("5m", 60, "*/4 * * * *"),
        ("5m", 61, "*/3 * * * *"),
        ("1h", 30, "*/30 * * * *"),
        ("1h", 0, "*/30 * * * *"),
    ],
)
def test_auto(ttl: TTL, start_up: int, expected: str) -> None:
    """The sparsest even step whose gap, and the start-up after it, are within the TTL."""
    assert auto(ttl, timedelta(seconds=start_up)) == expected


@pytest.mark.parametrize("ttl", ["5m", "1h"])
@given(start_up=st.integers(0, 240))
def test_auto_keeps_lanes_warm(ttl: TTL, start_up: int) -> None:
    """Whatever the start-up takes, what Auto chooses has no problem of its own."""
    margin = timedelta(seconds=start_up)
    assert problem(auto(ttl, margin), ttl, NOW, margin) is None


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("* * * * *", timedelta(minutes=1)),
        ("*/4 * * * *", timedelta(minutes=4)),
        ("*/50 * * * *", timedelta(minutes=50)),
        ("*/7 * * * *", timedelta(minutes=7)),
        ("0,4,50 * * * *", timedelta(minutes=46)),
        ("5/15 * * * *", timedelta(minutes=15)),
        ("0 * * * *", timedelta(hours=1)),
        ("30 6 * * *", timedelta(days=1)),
        ("*/4 7-19 * * *", timedelta(hours=11, minutes=4)),
        ("*/4 7-19 * * MON-FRI", timedelta(days=2, hours=11, minutes=4)),
        ("* * 1-30 * *", timedelta(days=1, minutes=1)),
        ("0 0 * 2-12 *", timedelta(days=32)),
        ("0 0 1 jan *", timedelta(days=366)),  # 2028 is a leap year
        ("0 0 29 2 *", timedelta(days=4 * 365 + 1)),
        ("0 12 13 * fri", timedelta(days=7)),  # both days restricted: either is enough
    ],
)
def test_longest_gap(cron: str, gap: timedelta) -> None:
    """Nights, weekends, short months and leap years count, however far off the next one is."""
    assert longest_gap(cron, NOW) == gap


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=6),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=6),
)
def test_longest_gap_is_that_of_every_run_walked(minutes: set[int], hours: set[int]) -> None:
    """The day that is looked at stands for all: a walk over three days finds the same gap."""
    cron = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
    end = NOW + timedelta(days=3)
    walked = list(takewhile(lambda at: at < end, CronSim(cron, NOW)))
    assert longest_gap(cron, NOW) == max(later - earlier for earlier, later in pairwise(walked))


@pytest.mark.parametrize(
    ("cron", "ttl", "named"),
    [
        ("*/5 * * * *", "5m", ("5m between", "30s more", "cache of 5m", "'*/4 * * * *'")),
        ("*/50 * * * *", "1h", None),
        ("0 * * * *", "1h", ("1h between", "cache of 1h", "'*/30 * * * *'")),
        ("*/4 7-19 * * 1-5", "5m", ("2d 11h 4m between",)),
        ("*/4 * * * *", "5m", None),
        ("*/4 * * * *", "1h", None),
    ],
)
def test_problem(cron: str, ttl: TTL, named: tuple[str, ...] | None) -> None:
    """A schedule that is too sparse is answered with its gap, the TTL and what would do."""
    found = problem(cron, ttl, NOW)
    if named is None:
        assert found is None
    else:
        assert found is not None
        assert [part for part in named if part not in found] == []


@pytest.mark.parametrize("cron", ["", "Auto", "* * * *", "61 * * * *", "*/0 * * * *", "0 0 30 2 *"])
def test_no_schedule(cron: str) -> None:
    """What no clock can follow is refused with the words to write instead."""
    with pytest.raises(ScheduleError, match=r"'\*/4 \* \* \* \*', or Auto"):
        longest_gap(cron, NOW)
