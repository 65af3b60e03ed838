"""What a request costs through each peer, as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

_KINDS: Final = {"json": "JSON", "burst": "events in a burst", "paced": "an event every 10 ms"}
_BYTES: Final = {"1k": 1e3, "100k": 1e5, "1m": 1e6}
_SIZES: Final = {1e3: "1 KB", 1e5: "100 KB", 1e6: "1 MB"}
# Name, colour, marker, and where a figure stands beside its point.
_PEERS: Final = {
    "litellm": ("LiteLLM", "#7a4fa3", "s", (-5, 7)),
    "portkey": ("Portkey", "#3f5fbf", "D", (3, -15)),
    "sidecar": ("sidecar, with a contract of 20 KB", "#c2571a", "o", (-4, 8)),
    "nginx": ("nginx", "#666666", "^", (12, -14)),
}
_TIMES: Final = {1e1: "10 µs", 1e2: "100 µs", 1e3: "1 ms", 1e4: "10 ms", 1e5: "100 ms"}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: it can be searched
    "svg.hashsalt": "headwater",  # the same picture is the same file
    "font.family": "sans-serif",
}


Costs = Mapping[tuple[str, str], Mapping[str, float | str]]
"""By kind of answer and size, then by peer: microseconds, or the reason why there are none."""


def draw(costs: Costs, picture: Path) -> None:
    """Draw processor time over the size of a request, a panel for each kind of answer."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        panels = figure.subplots(1, len(_KINDS), sharex=True, sharey=True)
        for axes, (kind, title) in zip(panels, _KINDS.items(), strict=True):
            _panel(axes, {size: costs[kind, size] for size in _BYTES})
            axes.set_title(title, loc="left", fontsize=10)
        panels[0].set_ylabel("processor time for a request")
        panels[1].set_xlabel("size of the request")
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center", ncols=len(_PEERS), frameon=False, fontsize=9,
        )  # fmt: skip
        figure.savefig(picture, metadata={"Date": None})


def _panel(axes: Axes, costs: Mapping[str, Mapping[str, float | str]]) -> None:
    for peer, (label, colour, marker, offset) in _PEERS.items():
        found = [
            (_BYTES[size], cost)
            for size, by_peer in costs.items()
            if isinstance(cost := by_peer[peer], float)
        ]
        axes.plot(*zip(*found, strict=True), marker, ls="-", ms=5, color=colour, label=label)
        for at, cost in found:
            axes.annotate(
                _time(cost), (at, cost), xytext=offset, textcoords="offset points",
                ha="center", fontsize=7, color=colour,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1.8e2, 7e6)
    axes.set_ylim(6, 3e5)
    axes.xaxis.set_major_locator(FixedLocator(list(_SIZES)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _SIZES[size]))
    axes.yaxis.set_major_locator(FixedLocator(list(_TIMES)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda time, _: _TIMES[time]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True, axis="y", color="#dddddd", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _time(us: float) -> str:
    value, unit = (us / 1e3, "ms") if us >= 1e3 else (us, "µs")
    return f"{value:.{1 if value < 10 else 0}f} {unit}"
