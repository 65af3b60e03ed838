"""When a warmer's job runs: never so late that a lane goes cold, never more often than needed."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import Any

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import TTL
from headwater.resources.warmer import ActiveHours
from headwater.warmer.schedule import (
    ScheduleError,
    Timetable,
    auto,
    longest_gap,
    problem,
    slowest,
    timetable,
)

NOW = datetime(2026, 11, 21, 7, 19, 41, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ttl", "start_up", "expected"),
    [
        ("5m", 30, "*/4 * * * *"),
        ("5m", 0, "*/4 * * * *"),
        ("5m", 50, "*/4 * * * *"),
        ("5m", 51, "*/3 * * * *"),
        ("5m", 111, "*/2 * * * *"),
        ("5m", 3600, "*/2 * * * *"),
        ("1h", 30, "*/30 * * * *"),
        ("1h", 0, "*/30 * * * *"),
        ("1h", 1800, "*/20 * * * *"),
        ("1h", 86_400, "*/20 * * * *"),
    ],
)
def test_auto(ttl: TTL, start_up: int, expected: str) -> None:
    """The sparsest even step whose gap, the start-up after it and a margin are within the TTL."""
    assert auto(ttl, timedelta(seconds=start_up)) == expected


@pytest.mark.parametrize("ttl", ["5m", "1h"])
@given(start_up=st.integers(0, 240))
def test_auto_keeps_lanes_warm_with_the_fewest_runs(ttl: TTL, start_up: int) -> None:
    """Whatever the start-up takes, it has no problem of its own, and no schedule is sparser."""
    took = timedelta(seconds=start_up)
    chosen = auto(ttl, took)
    assert problem(chosen, ttl, NOW, took) is None
    runs = sum(1 for _ in runs_of_an_hour(chosen))
    # Of n runs an hour, the longest gap is at least 60/n minutes, wherever they are.
    fewer = ",".join(str(60 * run // (runs - 1)) for run in range(runs - 1))
    assert problem(f"{fewer} * * * *", ttl, NOW, took) is not None


def runs_of_an_hour(cron: str) -> Iterator[datetime]:
    begin = NOW.replace(minute=0, second=0)
    after = CronSim(cron, begin - timedelta(seconds=1))
    return takewhile(lambda at: at < begin + timedelta(hours=1), after)


@pytest.mark.parametrize(
    ("before", "measured", "kept"),
    [
        (None, 12.2, 13),
        (20, 12, 20),
        (20, 90, 90),
        (90, 10, 82),
        (11, 10, 11),
        (None, 0, 0),
    ],
)
def test_slowest(before: int | None, measured: float, kept: int) -> None:
    """A slow start counts at once, and is forgotten little by little."""
    known = None if before is None else timedelta(seconds=before)
    assert slowest(known, timedelta(seconds=measured)) == timedelta(seconds=kept)


def hours(**given: Any) -> ActiveHours:
    return ActiveHours.model_validate({"from": "07:00", "to": "20:00"} | given)


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        (None, "*/4 * * * *"),
        (hours(), "*/4 7-19 * * *"),
        (hours(to="24:00"), "*/4 7-23 * * *"),
        (hours(to="08:00", timeZone="Asia/Kolkata"), "*/4 7-7 * * * (Asia/Kolkata)"),
        ({"from": "22:00", "to": "02:00"}, "*/4 22,23,0,1 * * *"),
        (hours(timeZone="Etc/GMT-3", days=["Mon", "Sun"]), "*/4 7-19 * * MON,SUN (Etc/GMT-3)"),
    ],
)  # fmt: skip
def test_active_hours(active: Any, expected: str) -> None:
    """Hours and days of a zone, as cron fields that a CronJob takes."""
    found = hours(**active) if isinstance(active, dict) else active
    assert str(timetable("Auto", "5m", found)) == expected


def test_active_hours_of_a_schedule_of_ones_own() -> None:
    """Its minutes count, and the hours are the active ones."""
    assert timetable("1-59/4 * * * *", "5m", hours()).cron == "1-59/4 7-19 * * *"


@pytest.mark.parametrize(
    ("day", "first", "runs"),
    [
        (datetime(2026, 3, 28, tzinfo=UTC), 6, 195),  # CET
        (datetime(2026, 3, 29, tzinfo=UTC), 5, 195),  # CEST since this morning
        (datetime(2026, 10, 25, tzinfo=UTC), 6, 195),  # CET again
    ],
)
def test_summer_time(day: datetime, first: int, runs: int) -> None:
    """The local hours stay, and nothing between them is left out or doubled."""
    times = timetable("Auto", "5m", hours(timeZone="Europe/Berlin"))
    at = times.after(day)
    assert (at.hour, at.minute) == (first, 0)
    walked = []
    while at < day + timedelta(days=1):
        walked.append(at)
        at = times.after(at)
    assert len(walked) == runs
    assert {b - a for a, b in pairwise(walked)} == {timedelta(minutes=4)}


@pytest.mark.parametrize("month", [3, 10])
def test_the_hour_that_comes_never_or_twice(month: int) -> None:
    """A warmer that runs through the night of the change leaves no gap in it."""
    times = timetable(
        "Auto", "5m", hours(timeZone="Europe/Berlin", **{"from": "00:00"}, to="24:00")
    )
    at = datetime(2026, month, 29 if month == 3 else 25, tzinfo=UTC) - timedelta(hours=2)
    end = at + timedelta(hours=6)
    while at < end:
        following = times.after(at)
        assert following - at <= timedelta(minutes=4)
        at = following


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_no_time_zone(zone: str) -> None:
    """It is named, and where the names are from."""
    with pytest.raises(ScheduleError, match="IANA database, like Europe/Berlin"):
        timetable("Auto", "5m", hours().model_copy(update={"time_zone": zone}))


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
        ("*/50 * * * *", "5m", ("50m between",)),
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


def test_time_zones_need_nothing_of_the_system() -> None:
    """A slim image has no database of its own."""
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    try:
        table = Timetable("0 7 * * *", "Europe/Berlin")
        assert table.after(datetime(2026, 7, 1, tzinfo=UTC)) == datetime(2026, 7, 1, 5, tzinfo=UTC)
    finally:
        zoneinfo.reset_tzpath()
