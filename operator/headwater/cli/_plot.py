"""What a prefix costs at any traffic, as a picture: the one module that needs matplotlib."""

import math
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from headwater.economics.plans import Daily, Plan, Schedules, Workload, cheapest, daily
from headwater.economics.traffic import Poisson
from headwater.providers.models import ModelFacts

_RATES: Final = [Decimal(10) ** (Decimal(step) / 60) for step in range(-180, 91)]
"""Requests a minute: from one in 17 hours to 30, even on a logarithmic scale."""
_A_THOUSAND: Final = 1000
_HEADROOM: Final = 1.15
_LABELLED: Final = 12
"""Rates that a region has to cover so that its name fits in."""


@dataclass(frozen=True, slots=True)
class _Line:
    plan: Plan
    label: str
    colour: str
    style: str


_LINES: Final = (
    _Line(Plan(), "no cache", "#666666", "-"),
    _Line(Plan("shared", "5m"), "5m", "#c2571a", "-"),
    _Line(Plan("shared", "1h"), "1h", "#3f5fbf", "-"),
    _Line(Plan("shared", "5m", warm="shared"), "5m, warmed", "#c2571a", "--"),
    _Line(Plan("shared", "1h", warm="shared"), "1h, warmed", "#3f5fbf", "--"),
)
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: a tenth of the size, and it can be searched
    "svg.hashsalt": "headwater",  # the same picture is the same file
    "font.family": "sans-serif",
}


def draw(picture: Path, facts: ModelFacts, workload: Workload, schedules: Schedules) -> None:
    """Draw 1,000 requests' dollars for the shared prefix over the traffic; name the cheapest.

    Raises:
        ClickException: nothing can be cached, or the file cannot be written.
    """
    if not facts.cached_tokens(workload.shared):
        raise click.ClickException(
            f"{facts.id} caches from {facts.min_cacheable_tokens:,} tokens on, and these are"
            f" {workload.shared:,}: there is nothing to draw."
        )
    days = [
        [
            daily(Workload(Poisson(rate), workload.shared), line.plan, facts, schedules)
            for line in _LINES
        ]
        for rate in _RATES
    ]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        rates = [float(rate) for rate in _RATES]
        for number, line in enumerate(_LINES):
            costs = [_a_thousand(at[number], rate) for at, rate in zip(days, _RATES, strict=True)]
            axes.plot(rates, costs, line.style, color=line.colour, label=line.label)
        axes.set_xscale("log")
        axes.set_xlim(rates[0], rates[-1])
        axes.set_ylim(0, _HEADROOM * max(_a_thousand(day, _RATES[0]) for day in days[0][:3]))
        _regions(axes, [cheapest(at) for at in days])
        asked = workload.traffic.per_minute
        if _RATES[0] < asked < _RATES[-1]:
            axes.axvline(float(asked), color="#111111", lw=1, label=f"{asked:.2g} a minute")
        axes.set_xlabel("requests a minute")
        axes.set_ylabel("US dollars for 1,000 requests")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.set_title(f"{workload.shared:,} tokens of {facts.id}", loc="left", fontsize=11, pad=22)
        axes.legend(
            frameon=False, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9
        )
        try:
            figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)
        except OSError as error:
            raise click.ClickException(f"{picture}: {error.strerror}.") from error


def _a_thousand(day: Daily, per_minute: Decimal) -> float:
    return float(day.usd / Poisson(per_minute).per_day * _A_THOUSAND)


def _regions(axes: Axes, best: list[Daily]) -> None:
    """Shade where which plan is the cheapest, and mark the break-evens between them."""
    lines = {line.plan: line for line in _LINES}
    changes = [at for at in range(1, len(best)) if best[at].plan != best[at - 1].plan]
    above = axes.get_xaxis_transform()
    for start, end in zip([0, *changes], [*changes, len(best) - 1], strict=True):
        line, left, right = lines[best[start].plan], float(_RATES[start]), float(_RATES[end])
        axes.axvspan(left, right, color=line.colour, alpha=0.08, lw=0)
        if end - start > _LABELLED:
            middle = math.sqrt(left * right)
            axes.text(middle, 1.02, line.label, ha="center", fontsize=9, transform=above)
    for at in changes:
        point = float(_RATES[at]), _a_thousand(best[at], _RATES[at])
        axes.axvline(point[0], color="#888888", lw=0.8, ls=":")
        axes.plot(*point, "o", color="#111111", ms=4)
        axes.annotate(
            f"{point[0]:.2g}", point, xytext=(4, 6), textcoords="offset points", fontsize=8
        )
