"""The formulas against a simulation of requests, ticks and a cache, event by event."""

import heapq
import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Final

import pytest

from headwater.contract.content import TTL
from headwater.economics.traffic import Measured, Poisson
from headwater.economics.warming import Lane, Schedule, daily_cost, warmer_pays
from headwater.providers.models import lookup

REQUESTS: Final = 30_000
MOST_DAYS: Final = 200
DAY: Final = 86_400.0
SIGMAS: Final = 4
"""Of sampling error: one seed in some ten thousand is further off."""


@dataclass
class Seen:
    requests: int = 0
    cold: int = 0
    ticks: int = 0


def lane_of(ttl: TTL) -> Lane:
    facts = lookup("claude-opus-4-8")
    assert facts is not None
    return Lane(20_000, facts, ttl)


def play(per_minute: float, lane: Lane, schedule: Schedule | None, draw: Random, days: int) -> Seen:
    """A cache that lives for the TTL from the start of whatever used it last; a warmer's is hot."""
    seen, asked, lifetime = Seen(), -DAY, lane.lifetime.total_seconds()
    used = asked if schedule is None else 0.0
    events = [(draw.expovariate(per_minute / 60), "request")]
    if schedule is not None:
        events.append((0.0, "tick"))
        slack = schedule.slack(lane.lifetime).total_seconds()
        interval = schedule.interval.total_seconds()
        start_up = schedule.start_up.total_seconds()
    heapq.heapify(events)
    while events[0][0] < days * DAY:
        now, event = heapq.heappop(events)
        if event == "request":
            seen.requests += 1
            seen.cold += now - used > lifetime
            used = asked = now
            heapq.heappush(events, (now + draw.expovariate(per_minute / 60), "request"))
        elif event == "ping":
            seen.ticks += 1
            used = now
        else:
            if now - asked > slack or not slack:
                heapq.heappush(events, (now + start_up, "ping"))
            heapq.heappush(events, (now + interval, "tick"))
    return seen


def days_of(per_minute: str) -> int:
    """Enough for the law of large numbers, and no longer than a test may take."""
    return max(1, min(MOST_DAYS, int(REQUESTS / float(per_minute) / 1440)))


def agrees(found: float, expected: Decimal, events: float) -> bool:
    """Within the sampling error of so many independent events."""
    return abs(found - float(expected)) <= SIGMAS * math.sqrt(max(events, 1))


@pytest.mark.parametrize("ttl", ["5m", "1h"])
@pytest.mark.parametrize("per_minute", ["0.005", "0.1", "1"])
def test_cold_starts(per_minute: str, ttl: TTL) -> None:
    """As many as λ·e^(-λ·TTL) says, and none with a warmer."""
    lane, traffic = lane_of(ttl), Poisson(Decimal(per_minute))
    draw, days = Random(11), days_of(per_minute)
    seen = play(float(per_minute), lane, None, draw, days)
    expected = traffic.per_day * (1 - traffic.hit_rate(lane.lifetime)) * days
    assert agrees(seen.cold, expected, seen.cold)
    assert agrees(seen.requests, traffic.per_day * days, seen.requests)
    schedule = Schedule(lane.lifetime * 0.8)
    warmed = play(float(per_minute), lane, schedule, draw, days)
    assert warmed.cold == 0
    assert warmed.ticks == schedule.ticks_per_day * days


@pytest.mark.parametrize("per_minute", ["0.02", "0.5", "4"])
def test_ticks_that_traffic_makes_needless(per_minute: str) -> None:
    """They are left out as often as the formula says, and the lane never goes cold for it."""
    lane, traffic = lane_of("1h"), Poisson(Decimal(per_minute))
    schedule = Schedule(timedelta(minutes=20), timedelta(seconds=30), skip_when_traffic=True)
    days = days_of(per_minute)
    seen = play(float(per_minute), lane, schedule, Random(12), days)
    expected = daily_cost(schedule, lane, traffic).pings * days
    assert agrees(seen.ticks, expected, seen.ticks)
    assert seen.cold == 0


def test_measured_gaps_of_poisson_traffic_give_its_verdict() -> None:
    """Both kinds of traffic are one formula, fed in two ways."""
    draw = Random(13)
    gaps = tuple(Decimal(draw.expovariate(0.2 / 60)) for _ in range(40_000))
    measured, drawn = Measured(gaps), Poisson(Decimal("0.2"))
    lane, schedule = lane_of("5m"), Schedule(timedelta(minutes=4), skip_when_traffic=True)
    found, expected = (warmer_pays(each, lane, schedule) for each in (measured, drawn))
    assert found.pays
    assert expected.pays
    assert float(found.net) == pytest.approx(float(expected.net), rel=0.03)


@pytest.mark.parametrize("per_minute", ["0.1", "1", "10", "100"])
def test_money_with_a_warmer(per_minute: str) -> None:
    """What the prefix costs in all is within a hundredth of the formula's."""
    lane = lane_of("5m")
    schedule = Schedule(timedelta(minutes=4), timedelta(seconds=30), skip_when_traffic=True)
    days = days_of(per_minute)
    traffic = Poisson(Decimal(per_minute))
    seen = play(float(per_minute), lane, schedule, Random(14), days)
    read = lane.ping - lane.overhead
    spent = seen.requests * read + seen.cold * lane.penalty + seen.ticks * lane.ping
    expected = days * (traffic.per_day * read + daily_cost(schedule, lane, traffic).usd)
    assert float(spent) == pytest.approx(float(expected), rel=0.02)
