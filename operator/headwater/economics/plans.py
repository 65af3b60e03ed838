"""The ways to serve one workload, and what each costs a day.

A plan says who shares the prefix, whether it is cached and for how long, whether a warmer keeps it
warm, and whether it is padded to the model's minimum.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Final, Literal, get_args

from headwater.contract.content import TTL
from headwater.economics.bill import Bill, Layer, Line, bill
from headwater.economics.traffic import Traffic
from headwater.economics.warming import Lane, Schedule, daily_cost
from headwater.providers.models import ModelFacts

Tenancy = Literal["shared", "hybrid", "dedicated"]
"""Who shares what: `shared` caches what all tenants have in common, and each request sends its
tenant's own part anew; `hybrid` caches that part, too, behind the common one; `dedicated` gives
each tenant a workspace, and so caches that no other tenant reads."""

TENANCIES: Final = get_args(Tenancy)
Warmed = Literal["nothing", "shared", "tenant"]
"""What a warmer keeps: one lane of what all tenants have in common, or one lane for each tenant
with its own part, which keeps the common part warm, too."""

WARMABLE: Final[Mapping[Tenancy, tuple[Warmed, ...]]] = {
    "shared": ("shared",),
    "hybrid": ("shared", "tenant"),
    "dedicated": ("tenant",),
}
TTLS: Final[tuple[TTL, ...]] = get_args(TTL)
_NO_DIFFERENCE: Final = Decimal("1.000001")
"""Heavy traffic keeps every TTL warm, and exp() would decide between them by its last digit."""
Schedules = Mapping[TTL, Schedule]
"""How a warmer would keep entries of each TTL."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a model, by all tenants together.

    Attributes:
        traffic: requests of all tenants, of which each tenant sends an equal part.
        shared: tokens that all requests begin with.
        tenant: tokens that all requests of a tenant go on with.
        tail: tokens of a request that no other shares.
        output: tokens of an answer.
        tenants: how many there are.
        hit_rate: of the shared tokens, as measured; None: what the traffic makes of it.
    """

    traffic: Traffic
    shared: int
    tenant: int = 0
    tail: int = 0
    output: int = 0
    tenants: int = 1
    hit_rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to serve a workload; `ttl` is None where nothing is cached."""

    tenancy: Tenancy = "shared"
    ttl: TTL | None = None
    warm: Warmed = "nothing"
    padded: bool = False

    def lanes(self, tenants: int) -> int:
        """How many lanes of the kind that `lane_of` gives there are."""
        return tenants if self.by_tenant else 1

    @property
    def by_tenant(self) -> bool:
        """Whether each tenant has its own lane from the first token on, or one that is warmed."""
        return self.tenancy == "dedicated" or self.warm == "tenant"


@dataclass(frozen=True, slots=True)
class Daily:
    """A plan's day in US dollars; `request` is the bill of one request on average."""

    plan: Plan
    request: Bill
    warming: Decimal
    usd: Decimal

    @property
    def line(self) -> Line | None:
        """The first entry that the provider keeps: what hits are about; None without any."""
        return next((line for line in self.request.lines if line.cached), None)


def lane_of(workload: Workload, plan: Plan, facts: ModelFacts, ttl: TTL) -> Lane:
    """The lane that a warmer of this plan keeps: a tenant's own, or that of all."""
    own = workload.tenant if plan.by_tenant else 0
    padding = _padding(workload, facts) if plan.padded else 0
    return Lane(workload.shared + padding + own, facts, ttl)


def daily(workload: Workload, plan: Plan, facts: ModelFacts, schedules: Schedules) -> Daily:
    """What a day of this plan costs.

    Raises:
        PriceError: the model has no published price.
        LayerError: a negative number of tokens.
        TrafficError: measured gaps, and more than one tenant.
    """
    alone = workload.traffic.split(workload.tenants)
    padding = _padding(workload, facts) if plan.padded else 0
    shared, tenant = workload.shared + padding, workload.tenant
    warming = Decimal(0)
    if plan.ttl is None:
        request = bill((), facts, tail=shared + tenant + workload.tail, output=workload.output)
    else:
        lane = lane_of(workload, plan, facts, plan.ttl)
        readers = alone if plan.tenancy == "dedicated" else workload.traffic
        hits = readers.hit_rate(lane.lifetime) if workload.hit_rate is None else workload.hit_rate
        own_hits = min(alone.hit_rate(lane.lifetime), hits)
        if plan.warm != "nothing":
            users = alone if plan.by_tenant else workload.traffic
            each = daily_cost(schedules[plan.ttl], lane, users).usd
            warming = each * plan.lanes(workload.tenants)
            hits = Decimal(1)
            own_hits = hits if plan.by_tenant else own_hits
        layers = [Layer("shared", shared, hits, plan.ttl)]
        tail = workload.tail
        if plan.tenancy == "shared":
            tail += tenant
        elif tenant:
            layers.append(Layer("tenant", tenant, own_hits, plan.ttl))
        request = bill(layers, facts, tail=tail, output=workload.output)
    usd = workload.traffic.per_day * request.total + warming
    return Daily(plan, request, warming, usd)


def cheapest(days: Iterable[Daily]) -> Daily:
    """The least; of those that differ by no more than a millionth from it the first."""
    given = list(days)
    enough = min(day.usd for day in given) * _NO_DIFFERENCE
    return next(day for day in given if day.usd <= enough)


def plans(
    workload: Workload, facts: ModelFacts, schedules: Schedules, *, isolated: bool = False
) -> Iterator[Plan]:
    """Every plan that the model and the schedules can carry out, that without a cache first.

    Then the simplest first. One tenant shares with nobody; `isolated` tenants may share with
    nobody; what is long enough is not padded; only a lane that is cached and that its schedule
    keeps warm can be warmed.
    """
    tenancies: tuple[Tenancy, ...] = TENANCIES if workload.tenants > 1 else ("shared",)
    if isolated:
        tenancies = ("dedicated",)
    yield Plan(tenancies[0])
    for padded, warm, ttl, tenancy in product((False, True), get_args(Warmed), TTLS, tenancies):
        plan = Plan(tenancy, ttl, warm, padded)
        if padded and not _padding(workload, facts):
            continue
        if warm != "nothing":
            lane = lane_of(workload, plan, facts, ttl)
            kept = schedules[ttl].keeps_warm(lane.lifetime)
            if warm not in WARMABLE[tenancy] or not (lane.cached and kept):
                continue
        yield plan


def _padding(workload: Workload, facts: ModelFacts) -> int:
    return max(facts.min_cacheable_tokens - workload.shared, 0)
