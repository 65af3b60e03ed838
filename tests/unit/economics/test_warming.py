"""What a warmer costs a day, and when it is worth it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from headwater.contract.content import TTL
from headwater.economics.traffic import Measured, Poisson
from headwater.economics.warming import (
    Lane,
    Schedule,
    ScheduleError,
    daily_cost,
    pays_between,
    warmer_pays,
)
from headwater.providers.models import lookup

D = Decimal
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def lane(ttl: TTL = "5m", tokens: int = 20_000) -> Lane:
    facts = lookup("claude-opus-4-8")
    assert facts is not None
    return Lane(tokens, facts, ttl)


@pytest.mark.parametrize(
    ("schedule", "ttl", "pings", "writes"),
    [
        (Schedule(4 * MINUTE), "5m", 360, 0),
        (Schedule(30 * MINUTE), "1h", 48, 0),
        (Schedule(4 * MINUTE, active=10 * HOUR), "5m", 149, 1),
        (Schedule(30 * MINUTE, active=23.5 * HOUR), "1h", 47, 0),
        (Schedule(30 * MINUTE, active=23 * HOUR), "1h", 45, 1),
        (Schedule(10 * MINUTE), "5m", 0, 144),
        (Schedule(5 * MINUTE, MINUTE), "5m", 0, 288),
    ],
)
def test_a_day(schedule: Schedule, ttl: TTL, pings: int, writes: int) -> None:
    """A lane that goes cold over night begins with a write; one between ticks writes each time."""
    cost = daily_cost(schedule, lane(ttl))
    assert cost.pings == pings
    assert cost.writes == writes
    assert cost.usd == pings * lane(ttl).ping + writes * lane(ttl).first_write


def test_a_cold_schedule_writes_less_with_traffic() -> None:
    """Requests in between keep the lane warm until some of its ticks."""
    cost = daily_cost(Schedule(10 * MINUTE), lane(), Poisson(D("0.2")))
    assert 0 < cost.writes < 144
    assert cost.writes + cost.pings == 144


def test_a_schedule_that_goes_cold_never_pays() -> None:
    """Its ticks write, and save nobody a write."""
    verdict = warmer_pays(Poisson(D("0.2")), lane(), Schedule(10 * MINUTE))
    assert not verdict.pays
    assert verdict.saved == 0
    assert verdict.lowest is None
    assert "do not keep a cache of 5m warm: each tick writes" in verdict.message


@pytest.mark.parametrize(
    ("per_minute", "pays"), [("0.01", False), ("0.1", True), ("0.6", True), ("2", False)]
)
def test_little_and_much_traffic_need_no_warmer(per_minute: str, *, pays: bool) -> None:
    """In between it pays; the message has both amounts."""
    verdict = warmer_pays(Poisson(D(per_minute)), lane(), Schedule(4 * MINUTE))
    assert verdict.pays is pays
    assert (verdict.net > 0) is pays
    assert f"are {verdict.saved:,.2f} USD; 360 warming requests" in verdict.message


def test_traffic_that_comes_every_ten_minutes_sharp() -> None:
    """Measured gaps, all cold: each of 144 requests would write."""
    verdict = warmer_pays(Measured((D(600),) * 9), lane(), Schedule(4 * MINUTE))
    assert verdict.cold_starts == 144
    assert verdict.pays


def test_leaving_out_needless_ticks_lets_it_pay_longer() -> None:
    """Skipping widens the band upwards: there most ticks are needless."""
    always, skipping = (
        pays_between(lane("1h"), Schedule(20 * MINUTE, skip_when_traffic=skips))
        for skips in (False, True)
    )
    assert always is not None
    assert skipping is not None
    assert skipping[0] < always[0]
    assert skipping[1] > 2 * always[1]


@pytest.mark.parametrize(
    ("interval", "start_up", "active"),
    [
        (0 * MINUTE, 0 * MINUTE, HOUR),
        (MINUTE, -MINUTE, HOUR),
        (MINUTE, MINUTE, 25 * HOUR),
        (MINUTE, MINUTE, 0 * HOUR),
    ],
)
def test_schedules_that_cannot_be(
    interval: timedelta, start_up: timedelta, active: timedelta
) -> None:
    """Refused where they are made."""
    with pytest.raises(ScheduleError):
        Schedule(interval, start_up, active)
