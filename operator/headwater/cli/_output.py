"""How the commands print: in colour on a terminal, the same words without it elsewhere."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console, RenderableType

from headwater.cluster import Object

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_UNBOUNDED: Final = 10_000
"""Columns where there is no terminal: what is searched in must not be broken into lines."""

output_option: Final = click.option(
    "-o",
    "--output",
    type=click.Choice(["wide", "json", "yaml"]),
    help="More columns, or the objects themselves, as kubectl prints them.",
)


def console(*, wide: bool = False) -> Console:
    """Standard output; `wide` leaves it to the terminal to break lines.

    NO_COLOR and COLUMNS are honoured, and what objects say is no markup.
    """
    bounded = not wide and (sys.stdout.isatty() or "COLUMNS" in os.environ)
    width = None if bounded else _UNBOUNDED
    return Console(width=width, markup=False, highlight=False, emoji=False)


def show(*renderables: RenderableType, wide: bool = False) -> None:
    """Print, without the blanks with which a table fills its lines."""
    target = console(wide=wide)
    with target.capture() as captured:
        target.print(*renderables, sep="\n")
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)


def show_data(value: Any, output: str) -> None:
    """Print as JSON or as YAML."""
    if output == "json":
        text = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    else:
        # A tenth of the start of a command, for those who want YAML.
        from headwater.cli._yaml import dump  # noqa: PLC0415

        text = dump(value)
    click.echo(text, nl=False)


def plain(body: Object) -> Object:
    """An object as kubectl prints it: without the record of who set which field."""
    metadata = {name: part for name, part in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}


def listed(bodies: Sequence[Object]) -> Object:
    """Objects as kubectl prints several."""
    return {
        "apiVersion": "v1",
        "items": [plain(body) for body in bodies],
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }


def number_of(count: int, thing: str) -> str:
    """`1 miss`, `1,200 misses`."""
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing}{'es' if thing.endswith('s') else 's'}"


def span(since: datetime, until: datetime) -> str:
    """A time between two moments, in its largest unit of which there are two: `90s`, `47h`."""
    seconds = max(0, int((until - since).total_seconds()))
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
