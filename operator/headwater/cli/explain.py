"""`headwater explain`: a request as the provider's cache sees it."""

from decimal import Decimal
from typing import Any, BinaryIO, Final

import click
import msgspec
from rich.table import Table

from headwater.cli._output import show, show_data
from headwater.client.explain import Explanation, explain
from headwater.contract.errors import HeadwaterError
from headwater.providers.models import data_date

_PLAIN: Final = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}


@click.command(name="explain")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table")
def command(file: BinaryIO, output: str) -> None:
    """Show what of a request is cached, at which price, and what would lose it.

    FILE is a request of the Messages API as JSON (`-`: standard input). Tokens are estimated, and
    nobody is asked. docs/library.md tells what markers and prefixes are.
    """
    try:
        request = msgspec.json.decode(file.read(), type=dict[str, Any])
        found = explain(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, HeadwaterError) as error:
        raise click.ClickException(f"the request: {error}") from error
    if output != "table":
        show_data(msgspec.to_builtins(found), output)
        return
    show(_headline(found), "", _segments(found), "", "what would lose how much of it:")
    show(_changes(found))
    if found.warnings:
        show("", *found.warnings)


def _headline(found: Explanation) -> str:
    if found.minimum is None:
        return f"{found.model}: nothing is known of this model"
    as_of = data_date().isoformat()
    return f"{found.model} caches from {found.minimum:,} tokens on; list prices as of {as_of}"


def _segments(found: Explanation) -> Table:
    table = Table(**_PLAIN)  # type: ignore[arg-type] # all three are what it takes
    for heading in ("from", "to", "tokens", "prefix", "marker", "first time", "then"):
        table.add_column(
            heading, justify="left" if heading in ("from", "to", "marker") else "right"
        )
    for each in found.segments:
        marker = (
            "none" if each.ttl is None else each.ttl if each.cached else f"{each.ttl}, too short"
        )
        table.add_row(
            each.first,
            each.last,
            f"{each.tokens:,}",
            f"{each.prefix:,}",
            marker,
            _dollars(each.written),
            _dollars(each.read),
        )
    return table


def _changes(found: Explanation) -> Table:
    table = Table(**_PLAIN)  # type: ignore[arg-type] # as above
    for heading in ("another", "stays cached", "costs once"):
        table.add_column(heading, justify="left" if heading == "another" else "right")
    for each in found.changes:
        table.add_row(each.what, f"{each.keeps:,}", _dollars(each.costs))
    return table


def _dollars(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:.6f}"
