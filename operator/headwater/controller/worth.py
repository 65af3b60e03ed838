"""What a warmer may still spend today, and whether it pays at the traffic that was seen. Pure.

The formulas are those of `headwater.economics.warming`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from typing import Final, Self

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.controller.conditions import Finding
from headwater.controller.warming import LEAD, LaneKey, Lanes, gap_of
from headwater.economics.bill import PriceError
from headwater.economics.traffic import DAY, Measured, Poisson, Traffic, seconds
from headwater.economics.warming import Lane, Schedule, warmer_pays
from headwater.evidence.lanes import WINDOW
from headwater.providers.models import lookup
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Spent
from headwater.warmer.schedule import MARGIN, START_UP, Timetable, zone_of

SEEN_FOR: Final = timedelta(hours=1)
"""Traffic of a shorter time tells too little."""

_RUNS_OF_ALLOWANCE: Final = 2
"""What a run may cost at worst, and as much again for verification: beyond that its allowance
stays as it is while the budget shrinks, and the CronJob need not be written after each run."""
_CENT_OF_A_CENT: Final = Decimal("0.0001")
_QUARTER: Final = 900
"""Seconds. Hours begin with one of these in every time zone."""
_MOMENT: Final = timedelta(seconds=1)


def priced(lanes: Lanes, ttl: TTL) -> dict[LaneKey, Lane]:
    """The wanted lanes whose tokens and prices are known."""
    found = {}
    for key in sorted(lanes.wanted):
        facts, tokens = lookup(key.model), lanes.tokens.get(key)
        if facts is not None and tokens is not None and facts.prices_for(tokens) is not None:
            found[key] = Lane(tokens, facts, ttl)
    return found


def left_today(warmer: CacheWarmer, now: datetime) -> Decimal | None:
    """US dollars that warming may still cost today (UTC); None without a budget."""
    if warmer.spec.budget is None:
        return None
    spent = warmer.status.spent
    today = Decimal(spent.usd) if spent and spent.day == now.astimezone(UTC).date() else Decimal(0)
    return max(Decimal(warmer.spec.budget.max_usd_per_day) - today, Decimal(0))


def allowance(left: Decimal, lanes: Mapping[LaneKey, Lane], wanted: int) -> Decimal:
    """What the next run may cost, given what is left of the day."""
    if len(lanes) == wanted:
        worst = sum((lane.first_write for lane in lanes.values()), Decimal(0))
        left = min(left, worst * _RUNS_OF_ALLOWANCE)
    return left.quantize(_CENT_OF_A_CENT, ROUND_DOWN)


def within_budget(warmer: CacheWarmer, left: Decimal, lanes: Iterable[Lane]) -> Finding:
    """Whether what is left is enough for a request, should it have to write."""
    assert warmer.spec.budget is not None  # noqa: S101 - there is something left of it
    limit = warmer.spec.budget.max_usd_per_day
    least = min((lane.first_write for lane in lanes), default=Decimal(0))
    if left > 0 and left >= least:
        return Finding("WithinBudget", "True", "BudgetLeft", f"{limit} USD a day are not spent")
    if least > Decimal(limit):
        message = (
            f"a request that has to write costs {least:.4f} USD, and the budget of a day is {limit}"
            " USD: nothing is ever warmed with it; raise it, or drop the warmer"
        )
        return Finding("WithinBudget", "False", "BudgetTooSmall", message)
    message = (
        f"what is left of {limit} USD a day is less than a request may cost: warming goes on at"
        " midnight UTC, or with a higher budget"
    )
    return Finding("WithinBudget", "False", "BudgetSpent", message)


def spent(before: Spent | None, costs: Iterable[tuple[datetime, Decimal]]) -> Spent | None:
    """What the last day with a run has cost, given the costs of runs that are new."""
    day, usd = (before.day, Decimal(before.usd)) if before is not None else (None, Decimal(0))
    for at, cost in sorted(costs, key=lambda one: one[0]):
        on = at.astimezone(UTC).date()
        if day is None or on > day:
            day, usd = on, Decimal(0)
        if on == day:
            usd += cost
    return before if day is None else Spent(day=day, usd=f"{usd.normalize():f}")


@dataclass(frozen=True, slots=True)
class Watch:
    """The time of which traffic is known, as far as a warmer runs in it.

    Attributes:
        quarters: those of the last day's quarters of an hour, from the epoch on, that are of the
            warmer's hours; None where all are.
    """

    since: datetime
    now: datetime
    quarters: frozenset[int] | None

    @classmethod
    def of(cls, warmer: CacheWarmer, since: datetime, now: datetime) -> Self:
        """What was seen of a warmer's hours since then, and within a day.

        Raises:
            ScheduleError: there is no such time zone.
        """
        hours = warmer.spec.active_hours
        if hours is None:
            return cls(since, now, None)
        zone = zone_of(hours.time_zone)
        quarters = range(_quarter(now - WINDOW), _quarter(now) + 1)
        moments = {each: datetime.fromtimestamp(each * _QUARTER, zone) for each in quarters}
        return cls(since, now, frozenset(each for each, at in moments.items() if hours.holds(at)))

    @property
    def long_enough(self) -> bool:
        """Whether it tells something."""
        if self.quarters is None:
            return self.now - self.since >= SEEN_FOR
        seen = sum(each >= _quarter(self.since) for each in self.quarters)
        return seen * timedelta(seconds=_QUARTER) > SEEN_FOR

    def gap(self, earlier: datetime, later: datetime, ttl: TTL) -> timedelta | None:
        """How long a lane was not used while the warmer ran; None where it did not run then.

        After a pause of the warmer's, what is too long for the cache stays so, and no longer.
        """
        gap, last = later - earlier, _quarter(later)
        if self.quarters is None:
            return gap
        if last not in self.quarters:
            return None
        between = range(_quarter(earlier), last)
        ran = [each for each in between if each in self.quarters]
        if len(ran) == len(between):
            return gap
        least = timedelta(seconds=TTL_SECONDS[ttl]) + _MOMENT
        return min(gap, max(len(ran) * timedelta(seconds=_QUARTER), least))


def _quarter(at: datetime) -> int:
    return int(at.timestamp() // _QUARTER)


def traffic_of(uses: Iterable[datetime], watch: Watch, ttl: TTL) -> Traffic | None:
    """Traffic from a lane's uses, in order; None where it was seen for too short."""
    if not watch.long_enough:
        return None
    gaps = [watch.gap(earlier, later, ttl) for earlier, later in pairwise(uses)]
    found = tuple(seconds(gap) for gap in gaps if gap is not None)
    return Measured(found) if sum(found) else Poisson(Decimal(0))


def schedule_of(warmer: CacheWarmer, times: Timetable, ttl: TTL) -> Schedule:
    """A warmer's runs, as the formulas know them."""
    hours, gap = warmer.spec.active_hours, gap_of(times)
    active = DAY if hours is None else timedelta(hours=(hours.end - hours.first) % 24 or 24)
    # What must be warm for longer, and is decided earlier, is left out more rarely.
    slower = (warmer.status.start_up or START_UP) + MARGIN + LEAD
    room = timedelta(seconds=TTL_SECONDS[ttl]) - gap
    return Schedule(
        gap,
        max(min(slower, room), timedelta()),
        active,
        skip_when_traffic=warmer.spec.skip_when_traffic,
        pauses=Decimal(0) if hours is None else hours.pauses,
    )


def economical(
    warmer: CacheWarmer,
    times: Timetable,
    ttl: TTL,
    lanes: Mapping[LaneKey, Lane],
    traffic: Mapping[LaneKey, Traffic],
) -> Finding | None:
    """Whether warming pays at the traffic seen; None where too little of it was."""
    schedule = schedule_of(warmer, times, ttl)
    known = sorted(lanes.keys() & traffic.keys())
    if not known:
        return None
    try:
        verdicts = [warmer_pays(traffic[key], lanes[key], schedule) for key in known]
    except PriceError as error:
        return Finding("Economical", "Unknown", "NoPrice", str(error))
    saved = sum((each.saved for each in verdicts), Decimal(0))
    cost = sum((each.cost.usd for each in verdicts), Decimal(0))
    cold = sum((each.cold_starts for each in verdicts), Decimal(0))
    numbers = (
        f"{cold:,.1f} cold starts a day would cost {saved:,.4f} USD, and warming costs"
        f" {cost:,.4f} USD a day, for {len(known)} lanes at the traffic seen"
    )
    if saved > cost:
        return Finding("Economical", "True", "Pays", numbers)
    bands = [f"{each.lowest:.3f} to {each.highest:.3f}" for each in verdicts if each.lowest]
    when = f"between {bands[0]} requests a minute on a lane" if bands else "at no traffic"
    message = f"{numbers}; it pays {when}: suspend it, or try another TTL (headwater advise)"
    return Finding("Economical", "False", "CostsMore", message)
