"""`headwater cost`: what a prefix costs with and without a cache, and with a warmer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from headwater.cli._output import show, show_data
from headwater.cli._workload import (
    COUNT,
    Amount,
    Asked,
    exact,
    sources,
    traffic_words,
    workload_options,
)
from headwater.contract.content import TTL
from headwater.economics.conversation import total, turns
from headwater.economics.formulas import Multipliers
from headwater.economics.plans import (
    TENANCIES,
    TTLS,
    WARMABLE,
    Daily,
    Plan,
    Schedules,
    Tenancy,
    Workload,
    daily,
    lane_of,
)
from headwater.economics.warming import Lane, pays_between
from headwater.providers.cost import Cost
from headwater.providers.models import ModelFacts

_PICTURES: Final = (".svg", ".png")
_LEFT: Final = ("MODEL", "TTL", "TENANTS", "LAYER", "A WARMER PAYS AT")


@dataclass(frozen=True, slots=True)
class _Case:
    """One model, one TTL, one way to share.

    Attributes:
        lane: what a warmer would keep; with fewer tokens than the minimum there is none.
        warmed: the day with it.
        band: requests a minute of all tenants between which the warmer pays for itself.
    """

    facts: ModelFacts
    ttl: TTL
    tenancy: Tenancy
    requests: Decimal
    lane: Lane
    cached: Daily
    warmed: Daily | None
    band: tuple[Decimal, Decimal] | None
    conversation: Cost | None

    @property
    def uncached(self) -> Decimal:
        return self.requests * self.cached.request.without_cache

    @property
    def multipliers(self) -> Multipliers:
        return Multipliers.of(self.lane.prices, self.ttl)


@click.command(name="cost")
@workload_options
@click.option("--ttl", type=click.Choice(TTLS), help="[default: that of the manifest, else both]")
@click.option(
    "--hit-rate",
    type=Amount("1"),
    help="Of the shared tokens, as measured.  [default: what the traffic makes of it]",
)
@click.option(
    "--turns", "count", type=click.IntRange(1), help="Price a conversation of so many turns, too."
)
@click.option("--growth", type=COUNT, default=0, help="Tokens by which each turn makes it longer.")
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg|FILE.png",
    help="Draw what the prefix costs on the first model at any traffic, with the break-evens.",
)
def command(
    asked: Asked,
    output: str,
    ttl: TTL | None,
    hit_rate: Decimal | None,
    count: int | None,
    growth: int,
    picture: Path | None,
) -> None:
    """Show what a prefix costs a day: without a cache, with one, and with a warmer.

    Requests come evenly at random unless their times were measured. Prices are dated, and their
    sources are named. docs/economics.md has the formulas.
    """
    if picture is not None:
        if picture.suffix not in _PICTURES:
            raise click.UsageError(f"--plot {picture}: name a file that ends in .svg or .png.")
        _draw(picture, *next(iter(asked.workloads.items())), asked.schedules)
    chosen = ttl or asked.ttl
    cases = [
        _case(
            facts,
            replace(workload, hit_rate=hit_rate),
            Plan(tenancy, each),
            asked.schedules,
            count=count,
            growth=growth,
        )
        for facts, workload in asked.workloads.items()
        for each in (TTLS if chosen is None else (chosen,))
        for tenancy in (TENANCIES if workload.tenants > 1 else TENANCIES[:1])
    ]
    if output != "table":
        show_data([_data(case) for case in cases], output)
        return
    workload = next(iter(asked.workloads.values()))
    show(f"{traffic_words(workload.traffic)}, US dollars a day", "", _days(cases), "")
    if workload.tenants > 1:
        show(_layers(cases), "")
    if count is not None:
        show(f"A conversation of {count} turns, US dollars", "", _conversations(cases), "")
    show(_break_evens(cases), "", sources(asked))


def _draw(picture: Path, facts: ModelFacts, workload: Workload, schedules: Schedules) -> None:
    try:
        from headwater.cli._plot import draw  # noqa: PLC0415 - matplotlib is an extra of its own
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--plot needs the Python package {error.name}, which is not installed:"
            " pip install 'headwater[plot]'. The table and -o json do without."
        ) from error
    draw(picture, facts, workload, schedules)


def _case(
    facts: ModelFacts,
    workload: Workload,
    plan: Plan,
    schedules: Schedules,
    *,
    count: int | None,
    growth: int,
) -> _Case:
    ttl = plan.ttl or TTLS[0]
    cached = daily(workload, plan, facts, schedules)
    warmed, band = None, None
    lane = lane_of(workload, plan, facts, ttl)
    for warm in WARMABLE[plan.tenancy]:
        kept = lane_of(workload, replace(plan, warm=warm), facts, ttl)
        day = daily(workload, replace(plan, warm=warm), facts, schedules)
        if kept.cached and (warmed is None or day.usd < warmed.usd):
            lane, warmed = kept, day
    if warmed is not None:
        found = pays_between(lane, schedules[ttl])
        lanes = warmed.plan.lanes(workload.tenants)
        band = found and (found[0] * lanes, found[1] * lanes)
    conversation = None
    if count is not None:
        base = workload.shared + workload.tenant
        conversation = total(turns(base, growth, [workload.tail] * count, facts, ttl), facts)
    return _Case(
        facts,
        ttl,
        plan.tenancy,
        workload.traffic.per_day,
        lane,
        cached,
        warmed,
        band,
        conversation,
    )


def _table(cases: Sequence[_Case], *headings: str) -> Table:
    tenants = ("TENANTS",) if len({case.tenancy for case in cases}) > 1 else ()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("MODEL", "TTL", *tenants, *headings):
        table.add_column(heading, justify="left" if heading in _LEFT else "right", no_wrap=True)
    return table


def _add(table: Table, case: _Case, *cells: str) -> None:
    names = (case.facts.id, case.ttl, case.tenancy)
    table.add_row(*names[: len(table.columns) - len(cells)], *cells)


def _days(cases: Sequence[_Case]) -> Table:
    table = _table(cases, "TOKENS", "HITS", "NO CACHE", "CACHED", "WARMED")
    for case in cases:
        _add(
            table,
            case,
            f"{case.lane.tokens:,}",
            _share(case.cached.line.layer.hit_rate) if case.cached.line else "-",
            _usd(case.uncached),
            _usd(case.cached.usd),
            _usd(case.warmed.usd) if case.warmed else "-",
        )
    return table


def _layers(cases: Sequence[_Case]) -> Table:
    """Of each way to share, what its parts cost."""
    table = _table(cases, "LAYER", "CACHED", "HITS", "A DAY")
    for case in cases:
        for line in case.cached.request.lines:
            _add(
                table,
                case,
                line.layer.name,
                f"{line.cached:,}",
                _share(line.layer.hit_rate) if line.cached else "-",
                _usd(line.usd * case.requests),
            )
        request = case.cached.request
        for name, usd in (("uncached", request.uncached_input), ("output", request.output)):
            if usd:
                _add(table, case, name, "-", "-", _usd(usd * case.requests))
    return table


def _conversations(cases: Sequence[_Case]) -> Table:
    table = _table(cases, "NO CACHE", "CACHED", "SAVED")
    for case in cases:
        found = case.conversation
        if found is not None:
            saved = found.savings / found.uncached if found.uncached else Decimal(0)
            _add(table, case, f"{found.uncached:,.4f}", f"{found.actual:,.4f}", _share(saved))
    return table


def _break_evens(cases: Sequence[_Case]) -> Table:
    """What follows from the prices: it does not depend on how much traffic there is."""
    table = _table(cases, "PAYS FROM", "HITS OVER", "PINGS", "A WARMER PAYS AT")
    for case in cases:
        if not case.lane.cached:
            least = f"minimum: {case.facts.min_cacheable_tokens:,}"
            _add(table, case, "-", "-", "-", least)
            continue
        _add(
            table,
            case,
            f"request {case.multipliers.pays_from_request}",
            _share(case.multipliers.profitable_hit_rate),
            f"{case.lane.pings_per_rewrite}",
            "-".join(map(_two_digits, case.band)) + "/min" if case.band else "no traffic",
        )
    return table


def _data(case: _Case) -> dict[str, Any]:
    """For programs: dollars as text, to the last digit that matters; shares from 0 to 1."""
    data: dict[str, Any] = {
        "model": case.facts.id,
        "ttl": case.ttl,
        "tenancy": case.tenancy,
        "requestsPerDay": float(case.requests),
        "tokens": case.lane.tokens,
        "cachedTokens": case.lane.cached,
        "perDayUsd": {
            "uncached": exact(case.uncached),
            "cached": exact(case.cached.usd),
            "warmed": exact(case.warmed.usd) if case.warmed else None,
            "warming": exact(case.warmed.warming) if case.warmed else None,
        },
        "warmer": case.warmed
        and {
            "keeps": case.warmed.plan.warm,
            "paysPerMinute": [float(end) for end in case.band] if case.band else None,
        },
        "perRequestUsd": {
            "layers": [
                {
                    "name": line.layer.name,
                    "tokens": line.layer.tokens,
                    "cachedTokens": line.cached,
                    "hitRate": float(line.layer.hit_rate),
                    "usd": exact(line.usd),
                }
                for line in case.cached.request.lines
            ],
            "uncachedInput": exact(case.cached.request.uncached_input),
            "output": exact(case.cached.request.output),
        },
        "breakEven": {
            "reads": float(case.multipliers.break_even_reads),
            "request": case.multipliers.pays_from_request,
            "hitRate": float(case.multipliers.profitable_hit_rate),
            "pingsPerRewrite": case.lane.pings_per_rewrite if case.lane.cached else None,
        },
    }
    if case.conversation is not None:
        data["conversationUsd"] = {
            "uncached": exact(case.conversation.uncached),
            "cached": exact(case.conversation.actual),
        }
    return data


def _share(share: Decimal) -> str:
    return f"{share:.1%}"


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _two_digits(rate: Decimal) -> str:
    """`0.0025`, `3.1`, `340`."""
    return f"{float(f'{rate:.2g}'):g}"
