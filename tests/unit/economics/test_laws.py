"""What holds at every price, size and traffic."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import TTL
from headwater.economics.advice import advise
from headwater.economics.bill import Layer, bill
from headwater.economics.conversation import total, turns
from headwater.economics.formulas import Multipliers
from headwater.economics.plans import Plan, Schedules, Workload, daily, plans
from headwater.economics.traffic import DAY, Measured, Poisson
from headwater.economics.warming import Lane, Schedule, daily_cost, pays_between, warmer_pays
from headwater.providers.models import ModelFacts, models

PRICED = [facts for facts in models() if facts.prices]
FACTS = st.sampled_from(PRICED)
TOKENS = st.integers(0, 200_000)
RATES = st.decimals(0, 1000, places=4)
SHARES = st.decimals(0, 1, places=4)
TTLS = st.sampled_from(["5m", "1h"])
MULTIPLIERS = st.builds(
    Multipliers, st.decimals(1, 4, places=3), st.decimals("0.001", "0.999", places=3)
)
SCHEDULES: Final[Schedules] = {
    "5m": Schedule(timedelta(minutes=4), timedelta(seconds=30), skip_when_traffic=True),
    "1h": Schedule(timedelta(minutes=30), timedelta(seconds=30), skip_when_traffic=True),
}
WORKLOADS = st.builds(
    Workload,
    st.builds(Poisson, RATES),
    shared=TOKENS,
    tenant=TOKENS,
    tail=TOKENS,
    output=TOKENS,
    tenants=st.integers(1, 1000),
)
CLOSE = Decimal("1e-20")


@given(workload=WORKLOADS, facts=FACTS, isolated=st.booleans())
def test_the_advice_is_the_cheapest_plan(
    workload: Workload, facts: ModelFacts, *, isolated: bool
) -> None:
    """Going without a cache is among them; each answer is that of the plan."""
    advice = advise(workload, facts, SCHEDULES, isolated=isolated)
    days = [
        daily(workload, plan, facts, SCHEDULES).usd
        for plan in plans(workload, facts, SCHEDULES, isolated=isolated)
    ]
    assert min(days) <= advice.best.usd <= min(days) * Decimal("1.000001")
    answers = {choice.question: choice for choice in advice.choices}
    plan = advice.best.plan
    assert advice.uncached.usd in days
    assert answers["cache"].answer == ("yes" if plan.ttl else "no")
    assert answers["ttl"].answer == (plan.ttl or "none")
    assert (answers["warm"].answer != "no") == (plan.warm != "nothing")
    warming = answers["warm"].numbers
    if plan.warm != "nothing":
        assert warming["savedUsd"] > warming["pingsUsd"]
    assert (answers["pad"].answer != "no") == plan.padded
    assert ("tenancy" in answers) == (workload.tenants > 1)
    assert (plan.tenancy == "dedicated") == isolated
    for choice in advice.choices:
        assert choice.otherwise is None or choice.otherwise >= min(days)


@given(FACTS, TTLS, st.integers(5_000, 200_000), RATES, RATES, SHARES)
def test_a_day_costs_more_with_more_requests(
    facts: ModelFacts, ttl: TTL, tokens: int, one: Decimal, other: Decimal, hits: Decimal
) -> None:
    """Without a cache, at a hit rate that is given, and with a warmer that sends every tick."""
    always = {ttl: Schedule(SCHEDULES[ttl].interval)}
    for plan, hit_rate in (
        (Plan(), None),
        (Plan("shared", ttl), hits),
        (Plan("shared", ttl, warm="shared"), None),
    ):
        less, more = (
            daily(Workload(Poisson(rate), tokens, hit_rate=hit_rate), plan, facts, always).usd
            for rate in sorted((one, other))
        )
        assert less <= more


def test_more_requests_can_cost_less() -> None:
    """Where reads are far cheaper than writes, requests that keep a lane warm earn their price.

    So the law above has no row for a lane that traffic alone keeps warm. The same effect is what a
    warmer lives on.
    """
    facts = next(facts for facts in PRICED if facts.id == "claude-opus-4-8")
    few, more, many = (
        daily(Workload(Poisson(Decimal(rate)), 20_000), Plan("shared", "5m"), facts, {}).usd
        for rate in ("0.25", "0.7", "3")
    )
    assert more < few < many


@given(FACTS, TTLS, st.integers(0, 100_000), TOKENS, SHARES, SHARES)
def test_a_bill_falls_with_the_hit_rate(
    facts: ModelFacts, ttl: TTL, tokens: int, tail: int, one: Decimal, other: Decimal
) -> None:
    """And is never below that of a hit, nor above that of a miss."""
    low, high = sorted((one, other))
    never, rarely, often, always = (
        bill([Layer("all", tokens, hits, ttl)], facts, tail=tail).total
        for hits in (Decimal(0), low, high, Decimal(1))
    )
    assert never >= rarely >= often >= always


@given(MULTIPLIERS)
def test_at_the_profitable_hit_rate_caching_makes_no_difference(each: Multipliers) -> None:
    """A token costs 1, as without a cache."""
    assert abs(each.blend(each.profitable_hit_rate) - 1) < CLOSE


@given(MULTIPLIERS)
def test_caching_pays_from_the_break_even_on(each: Multipliers) -> None:
    """With that request it is cheaper, with one less it is not."""
    requests = each.pays_from_request
    assert each.write + (requests - 1) * each.read < requests
    assert each.write + (requests - 2) * each.read >= requests - 1


@given(MULTIPLIERS, SHARES)
def test_padding_pays_above_the_hit_rate_to_beat(each: Multipliers, ratio: Decimal) -> None:
    """There the padded prompt costs what the shorter one costs uncached."""
    assert abs(each.blend(each.hit_rate_to_beat(ratio)) - ratio) < CLOSE


@given(FACTS, TTLS, TOKENS)
def test_a_warmer_never_pays_without_traffic(facts: ModelFacts, ttl: TTL, tokens: int) -> None:
    """Every tick is sent, and none saves anything."""
    verdict = warmer_pays(Poisson(Decimal(0)), Lane(tokens, facts, ttl), SCHEDULES[ttl])
    assert not verdict.pays
    assert verdict.saved == 0
    assert verdict.cost.pings == SCHEDULES[ttl].ticks_per_day


@given(FACTS, TTLS, st.integers(5_000, 200_000), RATES)
def test_a_warmer_pays_exactly_within_its_band(
    facts: ModelFacts, ttl: TTL, tokens: int, rate: Decimal
) -> None:
    """The verdict at a rate and the two break-evens are one formula."""
    lane, schedule = Lane(tokens, facts, ttl), SCHEDULES[ttl]
    verdict = warmer_pays(Poisson(rate), lane, schedule)
    within = (
        verdict.lowest is not None
        and verdict.highest is not None
        and (verdict.lowest < rate < verdict.highest)
    )
    assert verdict.pays == within


@given(facts=FACTS, ttl=TTLS, tokens=st.integers(5_000, 200_000), skips=st.booleans())
def test_the_costs_meet_at_the_break_even(
    facts: ModelFacts, ttl: TTL, tokens: int, *, skips: bool
) -> None:
    """With and without a warmer a day costs the same there: the formula has no step."""
    lane = Lane(tokens, facts, ttl)
    schedule = Schedule(SCHEDULES[ttl].interval, SCHEDULES[ttl].start_up, skip_when_traffic=skips)
    band = pays_between(lane, schedule)
    assert band is not None
    for rate in band:
        verdict = warmer_pays(Poisson(rate), lane, schedule)
        assert abs(verdict.net) < Decimal("1e-9") * verdict.cost.usd


@given(st.lists(st.decimals(1, 10_000, places=2), min_size=1, max_size=50), st.integers(1, 9_999))
def test_measured_traffic_is_between_never_and_always(gaps: list[Decimal], span: int) -> None:
    """Shares rise with the span, up to 1 at the longest gap."""
    traffic = Measured(tuple(gaps))
    shorter, longer = timedelta(seconds=span), timedelta(seconds=2 * span)
    for share in (traffic.hit_rate, traffic.recent):
        assert 0 <= share(shorter) <= share(longer) <= 1
        assert share(timedelta(seconds=10_000)) == 1


@given(FACTS, st.integers(5_000, 50_000), st.integers(0, 2_000), st.integers(1, 12))
def test_a_conversation_saves_more_with_every_turn(
    facts: ModelFacts, base: int, growth: int, count: int
) -> None:
    """Uncached it grows with the square of its turns, cached by what is added to it."""
    usages = turns(base, growth, (100,) * count, facts)
    assert [usage.prompt for usage in usages] == [
        base + turn * growth + 100 for turn in range(count)
    ]
    assert sum(usage.cache_write_5m for usage in usages) == base + (count - 1) * growth
    if count > 1:
        assert total(usages, facts).savings > total(usages[:-1], facts).savings


@given(FACTS, TTLS, TOKENS, st.integers(1, 24))
def test_a_day_of_warming_grows_with_its_hours(
    facts: ModelFacts, ttl: TTL, tokens: int, hours: int
) -> None:
    """Pings and writes are all the ticks, and each costs a read at least."""
    lane, schedule = Lane(tokens, facts, ttl), SCHEDULES[ttl]
    active = Schedule(schedule.interval, schedule.start_up, active=hours * DAY / 24)
    cost = daily_cost(active, lane)
    assert cost.pings + cost.writes == active.ticks_per_day
    assert cost.usd == cost.pings * lane.ping + cost.writes * lane.first_write
