"""What a warmer may still spend, and whether it pays."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.controller.warming import LaneKey, Lanes
from headwater.controller.worth import (
    Watch,
    allowance,
    economical,
    left_today,
    priced,
    schedule_of,
    spent,
    traffic_of,
    within_budget,
)
from headwater.economics.traffic import Measured, Poisson
from headwater.economics.warming import daily_cost
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Spent
from headwater.warmer.schedule import Timetable

NOW = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)
OPUS = LaneKey("prod", "claude-opus-4-8", "sha256:a")
HOUSE = LaneKey("prod", "house", "sha256:a")
LANES = Lanes(wanted=frozenset({OPUS}), tokens={OPUS: 20_000})
WRITE = Decimal("0.12505")
"""20,000 tokens for five minutes, and ten uncached ones."""


def warmer(usd: str | None = "1.00", already: Spent | None = None, **spec: Any) -> CacheWarmer:
    body: dict[str, Any] = {
        "metadata": {"name": "warm"},
        "spec": {
            "prefixRef": {"name": "house"},
            "credentials": [{"name": "prod", "secretRef": {"name": "s", "key": "k"}}],
            **({} if usd is None else {"budget": {"maxUsdPerDay": usd}}),
            **spec,
        },
    }
    if already is not None:
        body["status"] = {"spent": {"day": already.day.isoformat(), "usd": already.usd}}
    return CacheWarmer.model_validate(body)


@pytest.mark.parametrize(
    ("usd", "already", "left"),
    [
        (None, None, None),
        ("1.00", None, "1.00"),
        ("1.00", Spent(day=NOW.date(), usd="0.75"), "0.25"),
        ("1.00", Spent(day=NOW.date(), usd="1.5"), "0"),
        ("1.00", Spent(day=date(2026, 11, 20), usd="0.75"), "1.00"),
    ],
)
def test_what_is_left_of_a_day(usd: str | None, already: Spent | None, left: str | None) -> None:
    """A day is one in UTC, and each begins with all of it."""
    found = left_today(warmer(usd, already), NOW)
    assert found == (None if left is None else Decimal(left))


def test_an_allowance_stays_while_there_is_enough() -> None:
    """The CronJob is written when the budget gets short, and not after each run."""
    known = priced(LANES, "5m")
    assert [allowance(Decimal(left), known, 1) for left in (5, 4)] == [Decimal("0.2501")] * 2
    assert allowance(Decimal("0.2"), known, 1) == Decimal("0.2000")
    assert allowance(Decimal(5), known, 2) == Decimal(5)  # one lane's price is not known


@pytest.mark.parametrize(
    ("usd", "left", "reason"),
    [
        ("1.00", "0.2", "BudgetLeft"),
        ("1.00", "0.1", "BudgetSpent"),
        ("1.00", "0", "BudgetSpent"),
        ("0.10", "0.1", "BudgetTooSmall"),
    ],
)
def test_a_budget_is_kept_before_the_request(usd: str, left: str, reason: str) -> None:
    """Less than a write may cost is not enough, whatever the next request would cost."""
    found = within_budget(warmer(usd), Decimal(left), priced(LANES, "5m").values())
    assert (found.status, found.reason) == (str(reason == "BudgetLeft"), reason)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * 86_400).map(lambda after: NOW + timedelta(seconds=after)),
            st.decimals(0, 1, places=9),
        ),
        min_size=1,
    )
)
def test_costs_add_up_to_the_last_day(costs: list[tuple[datetime, Decimal]]) -> None:
    """In whatever order and in however many steps they come to be known."""
    last = max(at.date() for at, _ in costs)
    total = sum((usd for at, usd in costs if at.date() == last), Decimal(0))
    found = spent(None, costs)
    assert found is not None
    assert (found.day, Decimal(found.usd)) == (last, total)
    step = None
    for one in sorted(costs):
        step = spent(step, [one])
    assert step == found
    assert spent(found, []) == found


def test_traffic_that_was_seen_for_too_short_tells_nothing() -> None:
    """A first hour is watched; after it, no request at all is traffic as well."""
    uses = [NOW - timedelta(minutes=minutes) for minutes in (40, 30, 10)]
    early, late = (Watch.of(warmer(), NOW - timedelta(minutes=ago), NOW) for ago in (59, 60))
    assert traffic_of(uses, early, "5m") is None
    assert traffic_of([], late, "5m") == Poisson(Decimal(0))
    assert traffic_of(uses, late, "5m") == Measured((Decimal(600), Decimal(1200)))


WORK = {"timeZone": "Europe/Berlin", "from": "08:00", "to": "18:00", "days": ["Mon", "Tue", "Fri"]}


@pytest.mark.parametrize(
    ("now", "known"),
    [
        ("2026-11-21T12:00", 0),  # a Saturday: Friday afternoon was seen, and was quiet
        ("2026-11-22T12:00", None),  # a Sunday
        ("2026-11-23T08:30", None),  # the first half hour of Monday
        ("2026-11-23T09:30", 0),
    ],
)
def test_days_on_which_it_does_not_run_tell_nothing(now: str, known: int | None) -> None:
    """Or a warmer would be called useless every Monday, for the quiet of a weekend."""
    at = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    watch = Watch.of(warmer(activeHours=WORK), at - timedelta(days=9), at)
    quiet = traffic_of([at - timedelta(hours=20)], watch, "5m")
    assert quiet == (None if known is None else Poisson(Decimal(known)))


def test_a_night_is_no_part_of_the_traffic() -> None:
    """Requests of the night count for nothing, and a morning's first finds what was kept warm."""
    at = datetime(2026, 11, 24, 8, 20, tzinfo=ZoneInfo("Europe/Berlin"))  # a Tuesday
    watch = Watch.of(warmer(activeHours=WORK), at - timedelta(days=9), at)
    minutes = (15 * 60, 15 * 60 - 10, 14 * 60 + 40, 6 * 60, 15, 5)  # before: 17:20, 17:30, 17:40…
    uses = [at - timedelta(minutes=ago) for ago in minutes]
    assert traffic_of(uses, watch, "5m") == Measured(tuple(map(Decimal, (600, 600, 301, 600))))
    assert traffic_of(uses, watch, "1h") == Measured(tuple(map(Decimal, (600, 600, 3601, 600))))


@pytest.mark.parametrize(
    ("days", "pauses"),
    [
        ([], "0"),
        (["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], "0"),
        (["Mon", "Tue", "Wed", "Thu", "Fri"], "0.2"),
        (["Sun", "Mon"], "0.5"),
        (["Mon", "Wed"], "1"),
    ],
)
def test_after_days_that_are_left_out_it_begins_with_a_write(days: list[str], pauses: str) -> None:
    """From midnight to midnight on five days, one of them has it."""
    of = warmer(activeHours={"from": "00:00", "to": "24:00", "days": days})
    schedule = schedule_of(of, Timetable("*/4 * * * *"), "5m")
    assert schedule.active == timedelta(days=1)
    assert daily_cost(schedule, priced(LANES, "5m")[OPUS]).writes == Decimal(pauses)


@pytest.mark.parametrize(
    ("gap", "status"),
    [
        pytest.param(None, "False", id="nobody asks"),
        pytest.param(2 * 3600, "False", id="too rarely: each ping costs, few writes are spared"),
        pytest.param(600, "True", id="every ten minutes: each would write"),
        pytest.param(60, "False", id="every minute: traffic keeps it warm"),
    ],
)
def test_whether_it_pays(gap: int | None, status: str) -> None:
    """By the inequality of docs/economics.md, with its numbers in the sentence."""
    traffic = Poisson(Decimal(0)) if gap is None else Measured((Decimal(gap),) * 20)
    of = warmer(None, skipWhenTraffic=False)
    found = economical(of, Timetable("*/4 * * * *"), "5m", priced(LANES, "5m"), {OPUS: traffic})
    assert found is not None
    assert found.status == status
    assert "cold starts a day would cost" in found.message
    assert "warming costs 3.6" in found.message  # 360 reads of 20,000 tokens
    assert ("headwater advise" in found.message) == (status == "False")


def test_without_traffic_or_price_nothing_is_said() -> None:
    """No verdict is better than a guess."""
    times = Timetable("*/4 * * * *")
    assert economical(warmer(), times, "5m", priced(LANES, "5m"), {}) is None
    unpriced = Lanes(wanted=frozenset({HOUSE}), tokens={HOUSE: 20_000})
    assert priced(unpriced, "5m") == {}
