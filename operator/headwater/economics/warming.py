"""Whether keeping a lane warm pays, and what it costs.

A warmer turns cold starts, which write at w, into reads at r, and pays for its pings. Under Poisson
traffic of λ it pays iff λ·e^(-λ·TTL)·(w - r) > ping ÷ interval: with little traffic there is
little to save, and much traffic keeps the lane warm by itself.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError
from headwater.economics.bill import MILLION, price_list
from headwater.economics.traffic import DAY, Traffic, seconds
from headwater.providers.models import ModelFacts, Prices

_HALVINGS: Final = 60
"""Of an interval in search for a break-even: beyond what a Decimal's 28 digits can show of it."""


class ScheduleError(HeadwaterError):
    """A schedule that no warmer can keep."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One cache: so many tokens for one model; a lane below the model's minimum holds nothing."""

    tokens: int
    facts: ModelFacts
    ttl: TTL

    @property
    def lifetime(self) -> timedelta:
        """How long an entry lives, from the start of the request that last used it."""
        return timedelta(seconds=TTL_SECONDS[self.ttl])

    @property
    def cached(self) -> int:
        """Tokens that the provider caches."""
        return self.facts.cached_tokens(self.tokens)

    @property
    def prices(self) -> Prices:
        """Those of a warming request.

        Raises:
            PriceError: none is published.
        """
        return price_list(self.facts, self.tokens + self.facts.warm_uncached_tokens)

    @property
    def penalty(self) -> Decimal:
        """What a cold start costs more than a read, in dollars."""
        return self.cached * (self.prices.write(self.ttl) - self.prices.read) / MILLION

    @property
    def overhead(self) -> Decimal:
        """What a warming request is billed for besides the cached tokens, in dollars."""
        uncached = self.tokens - self.cached + self.facts.warm_uncached_tokens
        return (
            uncached * self.prices.input + self.facts.warm_output_tokens * self.prices.output
        ) / MILLION

    @property
    def ping(self) -> Decimal:
        """A warming request that finds the lane warm, in dollars."""
        return self.cached * self.prices.read / MILLION + self.overhead

    @property
    def first_write(self) -> Decimal:
        """A warming request that finds the lane cold, in dollars."""
        return self.ping + self.penalty

    @property
    def pings_per_rewrite(self) -> int:
        """Pings that one avoided rewrite pays for, overhead included."""
        return int(self.penalty / self.ping)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a warmer runs.

    Attributes:
        interval: the longest gap between two ticks.
        start_up: from the tick to its request.
        active: how much of each day it runs, in one piece.
        pauses: how often it begins anew, for each day on which it runs, because it leaves out days.
        skip_when_traffic: leave out a tick where real requests keep the lane warm until the next.
    """

    interval: timedelta
    start_up: timedelta = timedelta()
    active: timedelta = DAY
    skip_when_traffic: bool = False
    pauses: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if self.interval <= timedelta() or self.start_up < timedelta():
            raise ScheduleError("an interval has to be longer than 0, and a start-up 0 or longer.")
        if not timedelta() < self.active <= DAY:
            raise ScheduleError("a warmer runs for more than 0 and up to 24 hours of a day.")

    @property
    def ticks_per_day(self) -> Decimal:
        """How often it runs a day."""
        return Decimal(self.active // timedelta(microseconds=1)) / (
            self.interval // timedelta(microseconds=1)
        )

    def keeps_warm(self, lifetime: timedelta) -> bool:
        """Whether an entry outlives the time between two of its requests."""
        return self.interval + self.start_up <= lifetime

    def slack(self, lifetime: timedelta) -> timedelta:
        """How old a real request may be that makes a tick needless; 0 where none is left out."""
        if not self.skip_when_traffic:
            return timedelta()
        return max(lifetime - self.interval - self.start_up, timedelta())


@dataclass(frozen=True, slots=True)
class DailyCost:
    """A day of warming one lane: requests that read, requests that write, US dollars."""

    pings: Decimal
    writes: Decimal
    usd: Decimal


def daily_cost(schedule: Schedule, lane: Lane, traffic: Traffic | None = None) -> DailyCost:
    """What a day of warming a lane costs.

    Without traffic every tick is sent; where the lane goes cold between ticks each is a write, and
    where it goes cold over night, or over days that are left out, the first after that is.

    Raises:
        PriceError: the model has no published price.
    """
    ticks = schedule.ticks_per_day
    if traffic is not None:
        ticks *= 1 - traffic.recent(schedule.slack(lane.lifetime))
    if schedule.keeps_warm(lane.lifetime):
        cold_nights = DAY - schedule.active + schedule.interval > lane.lifetime
        nightly = Decimal(schedule.active < DAY and cold_nights)
        writes = min(max(nightly, schedule.pauses), ticks)
    else:
        # Only real requests in between can have kept the lane warm until the tick.
        warm = Decimal(0) if traffic is None else traffic.recent(lane.lifetime)
        writes = ticks * (1 - warm)
    pings = ticks - writes
    return DailyCost(pings, writes, pings * lane.ping + writes * lane.first_write)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a warmer pays for one lane, in requests and US dollars a day while it runs.

    Attributes:
        cold_starts: real requests that would write without the warmer, and read with it.
        saved: what they cost less.
        cost: what the warmer's requests cost, and how many they are.
        lowest: the requests a minute above which it pays under Poisson traffic; None with `highest`
            where it never does.
        highest: those from which on traffic keeps the lane warm by itself.
        message: the same in words.
    """

    pays: bool
    cold_starts: Decimal
    saved: Decimal
    cost: DailyCost
    lowest: Decimal | None
    highest: Decimal | None
    message: str

    @property
    def net(self) -> Decimal:
        """What the warmer earns a day; negative where it costs."""
        return self.saved - self.cost.usd


def warmer_pays(traffic: Traffic, lane: Lane, schedule: Schedule) -> Verdict:
    """Whether a warmer earns more than it costs at this traffic.

    The traffic is that of the hours in which the warmer runs.

    Raises:
        PriceError: the model has no published price.
    """
    warms = schedule.keeps_warm(lane.lifetime) and lane.cached > 0
    requests = traffic.per_day * seconds(schedule.active) / seconds(DAY)
    cold = requests * (1 - traffic.hit_rate(lane.lifetime)) if warms else Decimal(0)
    cost, saved = daily_cost(schedule, lane, traffic), cold * lane.penalty
    band = pays_between(lane, schedule)
    return Verdict(
        pays=saved > cost.usd,
        cold_starts=cold,
        saved=saved,
        cost=cost,
        lowest=band[0] if band else None,
        highest=band[1] if band else None,
        message=_words(lane, schedule, cold, saved, cost),
    )


def _words(lane: Lane, schedule: Schedule, cold: Decimal, saved: Decimal, cost: DailyCost) -> str:
    if not lane.cached:
        return (
            f"{lane.facts.id} caches from {lane.facts.min_cacheable_tokens:,} tokens on, and these"
            f" are {lane.tokens:,}: there is nothing to keep warm."
        )
    if not schedule.keeps_warm(lane.lifetime):
        return (
            f"a tick every {schedule.interval} and {schedule.start_up} of start-up do not keep a"
            f" cache of {lane.ttl} warm: each tick writes."
        )
    requests = cost.pings + cost.writes
    return (
        f"{cold:,.1f} cold starts a day, each {lane.penalty:.4f} dearer than a read, are"
        f" {saved:,.2f} USD; {requests:,.0f} warming requests a day are {cost.usd:,.2f} USD."
    )


def pays_between(lane: Lane, schedule: Schedule) -> tuple[Decimal, Decimal] | None:
    """The requests a minute between which a warmer pays under Poisson traffic; None: it never does.

    λ·e^(-λ·T) > ping ÷ (penalty · interval), where T is the TTL less the slack in which a real
    request makes a tick needless: those ticks become rarer as e^(-λ·slack). The left side is
    highest at λ = 1 ÷ T. What a day's first write costs is left out.
    """
    if not lane.cached or not schedule.keeps_warm(lane.lifetime):
        return None
    least = lane.ping / lane.penalty / seconds(schedule.interval)
    span = seconds(lane.lifetime - schedule.slack(lane.lifetime))

    def gain(rate: Decimal) -> Decimal:
        return rate * (-rate * span).exp() - least

    peak = 1 / span
    if gain(peak) <= 0:
        return None
    beyond = 2 * peak
    while gain(beyond) > 0:
        beyond *= 2
    ends = []
    for outside, inside in ((Decimal(0), peak), (beyond, peak)):
        low, high = outside, inside
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if gain(middle) > 0 else (middle, high)
        ends.append((low + high) / 2 * 60)
    return ends[0], ends[1]
