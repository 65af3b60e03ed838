"""What `headwater cost` and `headwater advise` are asked about: models, tokens and traffic."""

import datetime as dt
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import Any, Final, get_args

import click
from rich.text import Text

from headwater.cli._manifests import Prefix, documents, prefixes, read
from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError
from headwater.economics.plans import TTLS, Schedules, Workload
from headwater.economics.traffic import Measured, Poisson, Traffic
from headwater.economics.warming import Schedule
from headwater.providers.models import FactsError, ModelFacts, data_date, models, overlaid
from headwater.providers.tokens import ESTIMATE_MARGIN, estimate_tokens
from headwater.warmer.schedule import START_UP, auto, longest_gap

COUNT: Final = click.IntRange(0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be priced.

    Attributes:
        workloads: for each model: its tokenizer decides how long the prefix is.
        ttl: that of the manifest; None without one.
        estimated: whether tokens are an estimate of ours.
        schedules: how a warmer would keep each TTL.
    """

    workloads: Mapping[ModelFacts, Workload]
    ttl: TTL | None
    estimated: bool
    schedules: Schedules


class Amount(click.ParamType[Decimal]):
    """A number of 0 or more, up to a limit, kept to the last digit."""

    name = "number"

    def __init__(self, most: str | None = None) -> None:
        self._most = None if most is None else Decimal(most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """From what was typed."""
        try:
            found = Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is no number: write one like 0.5.", param, ctx)
        if not found.is_finite() or found < 0:
            self.fail(f"{value} is too little or no end: give 0 or more.", param, ctx)
        if self._most is not None and found > self._most:
            self.fail(f"{value} is too much: give {self._most} or less.", param, ctx)
        return found


_OPTIONS: Final = (
    click.option(
        "-f",
        "--filename",
        "places",
        multiple=True,
        metavar="FILE|DIR|-",
        help="The manifest of a PromptPrefix: its models, its TTL, its tokens by an estimate.",
    ),
    click.option("--model", "names", multiple=True, help="A model; may be repeated."),
    click.option("--tokens", type=COUNT, help="Tokens of the prefix that all requests share."),
    click.option(
        "--tail", type=COUNT, default=0, help="Tokens of a request behind it: history, question."
    ),
    click.option("--output-tokens", type=COUNT, default=0, help="Tokens of an answer."),
    click.option(
        "--requests-per-minute", "rate", type=Amount(), help="Requests of all tenants together."
    ),
    click.option(
        "--arrivals",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Instead of a rate: a file with the time of a request in each line, in order:"
        " 2026-11-21T09:00:00Z.",
    ),
    click.option(
        "--tenants",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="How many there are.",
    ),
    click.option(
        "--tenant-tokens",
        type=COUNT,
        default=0,
        help="Tokens that the requests of one tenant share, behind those that all share.",
    ),
    click.option(
        "--every-run",
        is_flag=True,
        help="Price a warmer that leaves no run out: `skipWhenTraffic: false`.",
    ),
    click.option(
        "--facts",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="HEADWATER_FACTS",
        help="A file of your own prices, minimums and models, laid over those of this release"
        " (docs/economics.md).  [env: HEADWATER_FACTS]",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
    ),
)


def workload_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that describe a workload; the command gets it as its first argument."""

    @wraps(command)
    def asking(
        places: tuple[str, ...],
        names: tuple[str, ...],
        tokens: int | None,
        tail: int,
        output_tokens: int,
        rate: Decimal | None,
        arrivals: Path | None,
        tenants: int,
        tenant_tokens: int,
        facts: Path | None,
        *,
        every_run: bool,
        **others: Any,
    ) -> None:
        if (rate is None) == (arrivals is None):
            raise click.UsageError("give either --requests-per-minute or --arrivals.")
        if tenant_tokens and tenants == 1:
            raise click.UsageError("--tenant-tokens needs --tenants: how many share the rest?")
        if not places and (tokens is None or not names):
            raise click.UsageError("give a manifest with -f, or both --model and --tokens.")
        try:
            prefix = _only(prefixes(documents(read(places, sys.stdin.buffer)))) if places else None
            traffic = Poisson(rate) if rate is not None else _measured(arrivals)
            workloads = {
                model: Workload(
                    traffic,
                    shared=_tokens(prefix, model) if tokens is None else tokens,
                    tenant=tenant_tokens,
                    tail=tail,
                    output=output_tokens,
                    tenants=tenants,
                )
                for model in _models(names or _declared(prefix), facts)
            }
            kept = schedules(skip_when_traffic=not every_run)
            command(Asked(workloads, _ttl(prefix), tokens is None, kept), **others)
        except HeadwaterError as error:
            raise click.ClickException(str(error)) from error

    for option in reversed(_OPTIONS):
        asking = option(asking)
    return asking


def schedules(*, skip_when_traffic: bool = True) -> Schedules:
    """How a CacheWarmer with `schedule: Auto` keeps each TTL."""
    any_day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return {
        ttl: Schedule(
            longest_gap(auto(ttl), any_day), START_UP, skip_when_traffic=skip_when_traffic
        )
        for ttl in TTLS
    }


def sources(asked: Asked) -> Text:
    """Where the figures come from, and how good they are."""
    lines = []
    if asked.estimated:
        lines.append(f"Tokens are an estimate, good to {ESTIMATE_MARGIN:.0%} or so.")
    cited: dict[str, list[str]] = {}
    for facts, workload in asked.workloads.items():
        prices = facts.prices_for(workload.shared + workload.tenant + workload.tail)
        for source in {str(facts.min_cacheable_source), str(prices.source) if prices else ""} - {
            ""
        }:
            cited.setdefault(source, []).append(facts.id)
    lines += [f"{', '.join(names)}: {source}." for source, names in sorted(cited.items())]
    return Text("\n".join(lines), "dim")


def traffic_words(traffic: Traffic) -> str:
    """`0.1 requests a minute (144 a day)`."""
    measured = ", as measured" if isinstance(traffic, Measured) else ""
    return f"{traffic.per_minute:.4g} requests a minute ({traffic.per_day:,.0f} a day{measured})"


def exact(amount: Decimal) -> str:
    """US dollars for programs: no float, no exponent, a billionth's precision."""
    return f"{amount:.9f}".rstrip("0").rstrip(".")


def _only(found: list[Prefix]) -> Prefix:
    if len(found) != 1:
        raise click.ClickException(
            f"the manifests hold {len(found)} PromptPrefixes: give the file of one."
        )
    return found[0]


def _spec(prefix: Prefix | None) -> Mapping[str, Any]:
    return {} if prefix is None else prefix.document.body["spec"]


def _declared(prefix: Prefix | None) -> tuple[str, ...]:
    names = tuple(map(str, _spec(prefix).get("models") or ()))
    if not names:
        raise click.UsageError("the manifest names no models: give one with --model.")
    return names


def _ttl(prefix: Prefix | None) -> TTL | None:
    if prefix is None:
        return None
    declared = _spec(prefix).get("ttl", TTLS[0])
    return next(ttl for ttl in get_args(TTL) if ttl == declared)


def _tokens(prefix: Prefix | None, model: ModelFacts) -> int:
    return 0 if prefix is None else estimate_tokens(prefix.canonical, model.id)


def _models(names: tuple[str, ...], file: Path | None) -> list[ModelFacts]:
    known = models()
    if file is not None:
        try:
            known = overlaid(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, FactsError) as error:
            raise click.ClickException(f"{file}: {error}") from error
    by_name = {name: facts for facts in known for name in (facts.id, facts.dated_id) if name}
    for name in names:
        if name not in by_name:
            ids = ", ".join(facts.id for facts in known)
            raise click.ClickException(
                f"nothing is known of the model {name!r} (facts of {data_date()}). Known are {ids}."
                " Give the facts of another one with --facts (docs/economics.md)."
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def _measured(file: Path | None) -> Measured:
    if file is None:
        raise click.UsageError("give either --requests-per-minute or --arrivals.")
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: {error}") from error
    times = []
    for number, line in enumerate(lines, 1):
        try:
            times.append(dt.datetime.fromisoformat(line).astimezone(dt.UTC))
        except ValueError as error:
            raise click.ClickException(
                f"{file}: line {number}: {line!r} is no time: write 2026-11-21T09:00:00Z."
            ) from error
    return Measured.at(times)
