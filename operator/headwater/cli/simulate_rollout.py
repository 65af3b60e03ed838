"""`headwater simulate-rollout`: what a plan would do, before anyone's traffic finds out."""

import re
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any, Final

import click
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from headwater.cli._manifests import Document, documents, read
from headwater.cli._output import console, show, show_data
from headwater.contract.errors import HeadwaterError
from headwater.controller.status import plan_from
from headwater.resources import PromptPrefix
from headwater.rollout.simulate import End, Outcome, Traffic, chance, simulate, time_to
from headwater.rollout.state import Plan

_A_MINUTE: Final = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?")
_BAR: Final = 40
_FIGURES: Final = 80
"""Columns that the figures may take; bars get what is left of the terminal."""
_LOOKS: Final = 8
_MARKS: Final = {
    End.PROMOTED: ("█", "green"),
    End.ROLLED_BACK: ("▒", "red"),
    End.UNDECIDED: ("·", "dim"),
}
_MEDIAN, _MOST = 0.5, 0.9


def _rate(_: click.Context, __: click.Parameter, given: str) -> float:
    found = _RATE.fullmatch(given)
    if found is None or not float(found[1]):
        raise click.BadParameter("write a number and a unit, such as 2/s, 120/min or 900/h.")
    return float(found[1]) * _A_MINUTE[found[2] or "min"]


def _share(
    help_text: str, name: str, default: float | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name,
        type=click.FloatRange(0, 1),
        default=default,
        show_default=default is not None,
        help=help_text,
    )


@click.command(name="simulate-rollout")
@click.option(
    "-f",
    "--filename",
    "places",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    help="The manifest of a PromptPrefix, or - for standard input.",
)
@click.option(
    "--rate",
    required=True,
    callback=_rate,
    metavar="N/UNIT",
    help="Requests of all consumers together: 2/s, 120/min, 900/h.",
)
@_share("The candidate's true hit rate.", "--hit-rate", default=0.95)
@_share("Stable's.  [default: as the candidate's]", "--stable-hit-rate")
@_share("The share of the candidate's requests that fail.", "--error-rate", default=0.0)
@_share(
    "The share of requests whose lane was warm; 1 with a warmer."
    "  [default: what the rate and the TTL make of it, without one]",
    "--eligible",
)
@click.option("--rollouts", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other draws.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
)
def command(
    places: tuple[str, ...],
    rate: float,
    hit_rate: float,
    stable_hit_rate: float | None,
    error_rate: float,
    eligible: float | None,
    rollouts: int,
    seed: int,
    output: str,
) -> None:
    """Play the rollout that a manifest declares many times, and tell how it ends.

    Beside the hit rate that is asked for, a few others show where the verdict turns. Approvals
    are given at once, queries are left out, and neither cost nor latency is simulated.
    """
    try:
        prefix = _only(documents(read(places, sys.stdin.buffer)))
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error
    plan = plan_from(prefix, None)
    if plan.strategy == "Immediate":
        raise click.ClickException(
            "the strategy is Immediate, which promotes without evidence: nothing to simulate."
        )
    stable = hit_rate if stable_hit_rate is None else stable_hit_rate
    played = {
        each: simulate(
            plan,
            Traffic(rate, each, stable, error_rate, eligible),
            rollouts=rollouts,
            draw=Random(seed),  # noqa: S311 - a simulation
        )
        for each in _rates(plan, hit_rate)
    }
    if output == "table":
        title = f"{prefix.metadata.name} {prefix.spec.version}: {rollouts} rollouts at {rate:g}/min"
        legend = "█ promoted  ▒ rolled back  · undecided"
        asked = f"\nat a hit rate of {hit_rate:.4g}, as time passes:"
        show(_table(title, played, hit_rate), legend, asked, _plot(played[hit_rate]))
    else:
        rows = [_row(each, outcomes) for each, outcomes in played.items()]
        given = {"requestsPerMinute": rate, "stableHitRate": stable, "errorRate": error_rate}
        show_data({**given, "rollouts": rollouts, "seed": seed, "rows": rows}, output)


def _only(given: Sequence[Document]) -> PromptPrefix:
    found = [document for document in given if document.body["kind"] == "PromptPrefix"]
    if len(found) != 1:
        raise click.ClickException(
            f"the manifests hold {len(found)} PromptPrefixes: give the file of one."
        )
    try:
        return PromptPrefix.model_validate(found[0].body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise click.ClickException(f"{found[0].place}: {where}: {first['msg']}.") from error


def _rates(plan: Plan, asked: float) -> list[float]:
    """The hit rate that was asked for, and some below and above the floor."""
    floor = plan.analysis.min_hit_rate
    below = [max(0.0, floor - less) for less in (0.1, 0.05)]
    above = [floor + (1 - floor) * quarters / 4 for quarters in range(5)]
    return sorted({asked, 0.5, *(round(rate, 4) for rate in (*below, *above))})


def _table(title: str, played: dict[float, list[Outcome]], asked: float) -> Table:
    """How the rollouts end at each hit rate, the one that was asked for in bold."""
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for heading in ("hit rate", "promoted", "median", "p90", "rolled back", "median", "p90"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("undecided", justify="right", no_wrap=True)
    table.add_column("")
    room = max(0, min(_BAR, console().width - _FIGURES))
    for rate, outcomes in played.items():
        cells = []
        for end in (End.PROMOTED, End.ROLLED_BACK):
            times = [time_to(outcomes, end, share) for share in (_MEDIAN, _MOST)]
            cells += [f"{chance(outcomes, end):.1%}", *map(_written, times)]
        undecided = f"{chance(outcomes, End.UNDECIDED):.1%}"
        style = "bold" if rate == asked else None
        table.add_row(f"{rate:.4g}", *cells, undecided, _bar(outcomes, room), style=style)
    return table


def _plot(outcomes: Sequence[Outcome]) -> Table:
    """What is decided as time passes."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    last = outcomes[-1].after
    for look in range(1, _LOOKS + 1):
        within = last * look / _LOOKS
        table.add_row(f"after {_written(within)}", _bar(outcomes, _BAR, within))
    return table


def _bar(outcomes: Sequence[Outcome], width: int, within: timedelta = timedelta.max) -> Text:
    bar, drawn, share = Text(), 0, 0.0
    for end, (mark, style) in _MARKS.items():
        share += chance(outcomes, end, within)
        cells = round(share * width) - drawn
        bar.append(mark * cells, style)
        drawn += cells
    return bar


def _written(time: timedelta | None) -> str:
    if time is None:
        return "-"
    minutes = time.total_seconds() / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - 2 h


def _row(rate: float, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A row for programs; times in seconds, null where nothing ended so."""
    row: dict[str, Any] = {"hitRate": rate}
    for end in End:
        found: dict[str, float | None] = {"chance": round(chance(outcomes, end), 4)}
        for name, share in (("medianSeconds", _MEDIAN), ("p90Seconds", _MOST)):
            time = time_to(outcomes, end, share)
            found[name] = None if time is None else round(time.total_seconds())
        row[end[0].lower() + end[1:]] = found
    return row
