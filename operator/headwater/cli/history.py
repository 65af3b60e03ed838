"""`headwater history`: what happened to a prefix and who asked for it, the newest first."""

from datetime import UTC, datetime

import click
from rich.table import Table

from headwater.cli._cluster import ask, cluster_options, find, typed
from headwater.cli._output import output_option, show, show_data, span
from headwater.controller.authors import told
from headwater.resources import PromptPrefix


@click.command(name="history")
@click.argument("name")
@cluster_options
@output_option
def command(name: str, namespace: str | None, context: str | None, output: str | None) -> None:
    """Show what happened to a prefix, why and at whose request, the newest first."""
    body = ask(context, lambda cluster: find(cluster, namespace, name))
    prefix = typed(body)
    if output in ("json", "yaml"):
        entries = list(reversed(body.get("status", {}).get("history", [])))
        show_data(entries, output)
    elif prefix.status.history:
        wide = output == "wide"
        show(table(prefix, datetime.now(UTC), wide=wide), wide=wide)
    else:
        click.echo(f"nothing has happened to {name} yet.", err=True)


def table(prefix: PromptPrefix, now: datetime, *, wide: bool = False) -> Table:
    """The history as rows."""
    found = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("AGE", *(["TIME"] if wide else []), "VERSION", "DIGEST", "EVENT"):
        found.add_column(heading, no_wrap=True)
    found.add_column("REASON", overflow="fold")
    for entry in reversed(prefix.status.history):
        time = [f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"] if wide else []
        digest = entry.digest if wide else entry.digest.short
        why = told(entry.reason, entry.by)
        found.add_row(span(entry.at, now), *time, entry.version, digest, entry.event, why)
    return found
