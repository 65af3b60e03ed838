"""What to do with a workload: the cheapest plan, and the inequality behind each part of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from headwater.contract.content import TTL
from headwater.economics.formulas import Multipliers
from headwater.economics.plans import (
    TTLS,
    Daily,
    Plan,
    Schedules,
    Tenancy,
    Workload,
    cheapest,
    daily,
    lane_of,
    plans,
)
from headwater.economics.warming import warmer_pays
from headwater.providers.models import ModelFacts


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to one question.

    Attributes:
        inequality: what decided, with its numbers; it is true as it stands.
        numbers: those of the inequality and of the formulas behind it, by name. Shares are from 0
            to 1, `…Usd` are US dollars a day.
        otherwise: the least that a day costs with another answer; None where there is none.
    """

    question: str
    answer: str
    inequality: str
    numbers: Mapping[str, Decimal]
    otherwise: Decimal | None


@dataclass(frozen=True, slots=True)
class Advice:
    """The cheapest plan, what no cache would cost, and why each part is as it is."""

    best: Daily
    uncached: Daily
    choices: tuple[Choice, ...]


def advise(
    workload: Workload, facts: ModelFacts, schedules: Schedules, *, isolated: bool = False
) -> Advice:
    """The cheapest way to serve a workload; `isolated` tenants may share no cache.

    Raises:
        PriceError, LayerError, TrafficError: see `daily`.
    """
    days = [
        daily(workload, plan, facts, schedules)
        for plan in plans(workload, facts, schedules, isolated=isolated)
    ]
    case = _Case(workload, facts, schedules, tuple(days))
    choices = [case.cache(), case.ttl(), case.warm(), case.pad()]
    if workload.tenants > 1:
        choices.insert(0, case.tenancy(isolated=isolated))
    return Advice(case.best, days[0], tuple(choices))


@dataclass(frozen=True, slots=True)
class _Case:
    """A workload with all its plans, priced."""

    workload: Workload
    facts: ModelFacts
    schedules: Schedules
    days: tuple[Daily, ...]

    @property
    def best(self) -> Daily:
        """The cheapest; of equals the simplest."""
        return cheapest(self.days)

    @property
    def nearest(self) -> Plan:
        """The cheapest plan that caches: what there is to say about a cache is about this one."""
        return cheapest(day for day in self.days if day.plan.ttl).plan

    @property
    def nearest_ttl(self) -> TTL:
        """Its TTL."""
        return self.nearest.ttl or TTLS[0]

    def multipliers(self, ttl: TTL) -> Multipliers:
        return Multipliers.of(lane_of(self.workload, self.nearest, self.facts, ttl).prices, ttl)

    def hit_rate(self, ttl: TTL, *, padded: bool = False) -> Decimal | None:
        """Of the first entry, without a warmer; None where nothing is cached."""
        plan = replace(self.nearest, ttl=ttl, warm="nothing", padded=padded or self.nearest.padded)
        line = daily(self.workload, plan, self.facts, self.schedules).line
        return None if line is None else line.layer.hit_rate

    def otherwise(self, part: Callable[[Plan], object]) -> Decimal | None:
        """The least that a day costs with a plan that differs in this part."""
        others = [day.usd for day in self.days if part(day.plan) != part(self.best.plan)]
        return min(others, default=None)

    def cache(self) -> Choice:
        ttl, plan, minimum = self.nearest_ttl, self.best.plan, self.facts.min_cacheable_tokens
        needed, hits = self.multipliers(ttl).profitable_hit_rate, self.hit_rate(ttl)
        otherwise = self.otherwise(lambda other: other.ttl is None)
        numbers = {"profitableHitRate": needed, "usd": self.best.usd}
        if hits is None:
            inequality = f"fewer tokens than {minimum:,}, the minimum"
        else:
            numbers["hitRate"] = hits
            sign = ">" if hits > needed else "≤"
            inequality = f"hit rate {_share(hits)} {sign} (w - 1) ÷ (w - r) = {_share(needed)}"
            if plan.ttl and hits <= needed:
                inequality = (
                    f"{dollars(self.best.usd)} with a warmer < {dollars(otherwise)} without a cache"
                )
        return Choice("cache", "yes" if plan.ttl else "no", inequality, numbers, otherwise)

    def ttl(self) -> Choice:
        least = {ttl: cheapest(day for day in self.days if day.plan.ttl == ttl).usd for ttl in TTLS}
        chosen = self.nearest_ttl
        (other,) = (ttl for ttl in TTLS if ttl != chosen)
        answer = chosen if self.best.plan.ttl else "none"
        numbers = {f"usd{ttl}": usd for ttl, usd in least.items()}
        hits, others = self.hit_rate(chosen), self.hit_rate(other)
        if hits is None or others is None:
            return Choice("ttl", answer, "nothing is cached", numbers, least[other])
        numbers |= {f"hitRate{chosen}": hits, f"hitRate{other}": others}
        sign = "<" if least[chosen] < least[other] else "≈"
        inequality = (
            f"{dollars(least[chosen])} with {chosen} {sign} {dollars(least[other])} with {other}"
            f" (hit rates {_share(hits)} and {_share(others)} without a warmer)"
        )
        return Choice("ttl", answer, inequality, numbers, least[other])

    def warm(self) -> Choice:
        ttl, near = self.nearest_ttl, self.nearest
        alike = [
            day
            for day in self.days
            if replace(day.plan, warm=near.warm) == near and day.plan.warm != "nothing"
        ]
        answer = {"nothing": "no", "shared": "yes", "tenant": "each tenant's"}[self.best.plan.warm]
        otherwise = self.otherwise(lambda other: other.warm)
        if not alike:
            return Choice("warm", answer, "there is nothing to keep warm", {}, otherwise)
        warmed = cheapest(alike)
        plan = replace(near, warm="nothing")
        cold = daily(self.workload, plan, self.facts, self.schedules)
        lanes = warmed.plan.lanes(self.workload.tenants)
        lane = lane_of(self.workload, warmed.plan, self.facts, ttl)
        verdict = warmer_pays(self.workload.traffic.split(lanes), lane, self.schedules[ttl])
        numbers = {
            "coldStarts": verdict.cold_starts * lanes,
            "savedUsd": cold.usd - (warmed.usd - warmed.warming),
            "pings": (verdict.cost.pings + verdict.cost.writes) * lanes,
            "pingsUsd": warmed.warming,
        }
        if verdict.lowest is not None and verdict.highest is not None:
            numbers |= {
                "paysAbovePerMinute": verdict.lowest * lanes,
                "paysBelowPerMinute": verdict.highest * lanes,
            }
        sign = ">" if numbers["savedUsd"] > numbers["pingsUsd"] else "≤"
        inequality = (
            f"λ·e^(-λ·TTL)·(w - r): {numbers['coldStarts']:,.1f} cold starts ="
            f" {dollars(numbers['savedUsd'])} {sign} ping ÷ interval:"
            f" {numbers['pings']:,.0f} pings = {dollars(numbers['pingsUsd'])}"
        )
        return Choice("warm", answer, inequality, numbers, otherwise)

    def pad(self) -> Choice:
        minimum = self.facts.min_cacheable_tokens
        own = self.workload.tenant if self.nearest.tenancy != "shared" else 0
        tokens = self.workload.shared + own
        numbers = {"tokens": Decimal(tokens), "minimum": Decimal(minimum)}
        answer = f"to {minimum:,}" if self.best.plan.padded else "no"
        otherwise = self.otherwise(lambda other: other.padded)
        if tokens >= minimum and not self.best.plan.padded:
            inequality = f"{tokens:,} tokens ≥ {minimum:,}, the minimum"
            return Choice("pad", answer, inequality, numbers, otherwise)
        ttl = self.nearest_ttl
        needed = self.multipliers(ttl).hit_rate_to_beat(Decimal(self.workload.shared) / minimum)
        alone = self.hit_rate(ttl, padded=True) or Decimal(0)
        hits = Decimal(1) if self.nearest.warm != "nothing" else alone
        numbers |= {"hitRate": hits, "hitRateToBeat": needed}
        inequality = (
            f"hit rate {_share(hits)}{' with the warmer' if self.nearest.warm != 'nothing' else ''}"
            f" {'>' if hits > needed else '≤'} (w - T₀ ÷ T₁) ÷ (w - r) = {_share(needed)},"
            f" T₀ = {self.workload.shared:,}, T₁ = {minimum:,}"
        )
        return Choice("pad", answer, inequality, numbers, otherwise)

    def tenancy(self, *, isolated: bool) -> Choice:
        least: dict[Tenancy, Decimal] = {}
        for day in self.days:
            if day.plan.ttl:
                least[day.plan.tenancy] = min(day.usd, least.get(day.plan.tenancy, day.usd))
        ttl = self.nearest_ttl
        lane = lane_of(self.workload, self.nearest, self.facts, ttl)
        alone = self.workload.traffic.split(self.workload.tenants).hit_rate(lane.lifetime)
        needed = self.multipliers(ttl).profitable_hit_rate
        numbers = {f"{tenancy}Usd": usd for tenancy, usd in least.items()}
        numbers |= {"tenantHitRate": alone, "profitableHitRate": needed}
        costs = ", ".join(f"{tenancy} {dollars(usd)}" for tenancy, usd in least.items())
        sign = ">" if alone > needed else "≤"
        if isolated:
            inequality = "tenants may share no cache: each has a workspace of its own"
        elif self.nearest.warm == "tenant":
            inequality = f"with a warmer for each tenant's lane a day is {costs}"
        else:
            inequality = (
                f"a tenant's own hit rate {_share(alone)} {sign} (w - 1) ÷ (w - r) ="
                f" {_share(needed)}; a day: {costs}"
            )
        answer = self.nearest.tenancy
        others = [usd for tenancy, usd in least.items() if tenancy != answer]
        return Choice("tenancy", answer, inequality, numbers, min(others, default=None))


def _share(share: Decimal) -> str:
    return f"{share:.1%}"


def dollars(amount: Decimal | None) -> str:
    """`1,234.50 USD`, and below a dollar with four digits."""
    if amount is None:
        return "-"
    return f"{amount:,.2f} USD" if amount >= 1 else f"{amount:.4f} USD"
