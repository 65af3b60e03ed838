"""`headwater consumers`: the pods that use a prefix, those that are not as they should be first."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.table import Table

from headwater.cli._cluster import ask, cluster_options, find, typed
from headwater.cli._output import number_of, show, show_data, span
from headwater.cluster import POD, Object, RefusedError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.cluster.labels import ROLE_LABEL
from headwater.controller.consumers import consumers_in
from headwater.controller.objects import SIDECAR, Key
from headwater.resources import PromptPrefix
from headwater.resources.status import ConsumerCounts, ConsumerException
from headwater.webhook.pods import Pod
from headwater.webhook.sidecar import SURFACE_LABEL, TEAM_LABEL


@dataclass(frozen=True, slots=True)
class Row:
    """A pod. `bundle` is current, old or unknown, empty where nobody looks; `seen` is a time."""

    namespace: str
    pod: str
    team: str = ""
    surface: str = ""
    workload: str = ""
    revision: str = ""
    bundle: str = ""
    epoch: int | None = None
    reason: str = ""
    at: str = ""
    count: int | None = None
    seen: datetime | None = None
    uncached: int | None = None
    """Requests with as much uncached system text of their own as the contract has, or more."""


@click.command(name="consumers")
@click.argument("name")
@cluster_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["wide", "json", "yaml", "name"]),
    help="More columns, the rows as data, or namespace/pod alone.",
)
def command(name: str, namespace: str | None, context: str | None, output: str | None) -> None:
    """Show the pods that use a prefix: whose, on which bundle, and what is off the contract."""

    async def work(cluster: KubernetesCluster) -> tuple[PromptPrefix, list[Object] | None]:
        prefix = typed(await find(cluster, namespace, name))
        try:
            pods = [body async for body in cluster.list(POD, label_selector=ROLE_LABEL)]
        except RefusedError:
            return prefix, None
        return prefix, pods

    prefix, pods = ask(context, work)
    found = rows(prefix, pods)
    if output in ("json", "yaml"):
        show_data([_plain(row) for row in found], output)
    elif output == "name":
        for row in found:
            click.echo(f"{row.namespace}/{row.pod}")
    elif found:
        wide = output == "wide"
        show(table(found, datetime.now(UTC), wide=wide), wide=wide)
    for line in remarks(prefix, pods, found):
        click.echo(line, err=True)


def rows(prefix: PromptPrefix, pods: Iterable[Object] | None) -> list[Row]:
    """The pods that mount the bundle; where they cannot be listed, those that the status names."""
    counts = _counts(prefix)
    named = {Key(row.namespace, row.pod): row for row in counts.exceptions}
    if pods is None:
        return [_exception(row, prefix.status.epoch) for row in named.values()]
    key = Key(prefix.metadata.namespace, prefix.metadata.name)
    using = {consumers[key].pod: body for body in pods if key in (consumers := consumers_in(body))}
    exceptions = [
        _exception(row, prefix.status.epoch) for pod, row in named.items() if pod in using
    ]
    others = (_row(pod, using[pod]) for pod in sorted(using.keys() - named.keys()))
    return [*exceptions, *others]


def _exception(row: ConsumerException, epoch: int) -> Row:
    bundle = "unknown" if row.epoch is None else "current" if row.epoch == epoch else "old"
    return Row(
        row.namespace,
        row.pod,
        row.team,
        row.surface,
        row.workload,
        row.deploy_revision,
        bundle,
        row.epoch,
        row.reason or "",
        row.at or "",
        row.count,
        row.last_seen,
        row.uncached_system,
    )


def _row(key: Key, body: Object) -> Row:
    pod = msgspec.convert(body, Pod)
    labels = pod.labels
    return Row(
        key.namespace,
        key.name,
        labels.get(TEAM_LABEL, ""),
        labels.get(SURFACE_LABEL, ""),
        pod.workload,
        labels.get(pod.deploy_label, ""),
        "current" if labels.get(ROLE_LABEL) == SIDECAR else "",
    )


def remarks(
    prefix: PromptPrefix, pods: Iterable[Object] | None, found: Iterable[Row]
) -> Iterable[str]:
    """What the rows do not say."""
    counts = _counts(prefix)
    if pods is None:
        yield (
            "you may not list pods in all namespaces: of"
            f" {number_of(counts.pods, 'pod')} these are shown that are not as they should be."
        )
    elif not list(found):
        yield f"no pod mounts the bundle of {prefix.metadata.name}."
    if counts.uncached_system:
        yield (
            f"{number_of(counts.uncached_system, 'pod')} with as much system text of their own as"
            " the contract has, or more, in no cache: it may be a copy of the contract that is paid"
            " for beside it."
        )
    most = max(counts.old_bundle, counts.off_contract, counts.uncached_system or 0)
    if most > len(counts.exceptions):
        yield (
            f"{number_of(counts.off_contract, 'pod')} off the contract, {counts.old_bundle:,} on an"
            f" old bundle: the status names the first {len(counts.exceptions)}, others look as if"
            " they were current."
        )


def table(found: Iterable[Row], now: datetime, *, wide: bool = False) -> Table:
    """The rows for people; the column of uncached text is there where one has any."""
    found = list(found)
    uncached = any(row.uncached is not None for row in found)
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("NAMESPACE", "POD", "TEAM", "SURFACE", "WORKLOAD", "REVISION", "BUNDLE"):
        shown.add_column(heading, overflow="fold")
    told = ["OFF CONTRACT", "COUNT", *(["UNCACHED TEXT"] if uncached else []), "SEEN"]
    for heading in (*(["EPOCH"] if wide else []), *told):
        shown.add_column(heading, overflow="fold")
    for row in found:
        off = f"{row.reason} at {row.at}" if row.at else row.reason
        seen = "" if row.seen is None else f"{row.seen.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
        shown.add_row(
            *(row.namespace, row.pod, row.team, row.surface, row.workload, row.revision),
            row.bundle,
            *([_number(row.epoch)] if wide else []),
            off,
            _number(row.count),
            *([_number(row.uncached)] if uncached else []),
            seen if wide or row.seen is None else span(row.seen, now),
        )
    return shown


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _plain(row: Row) -> dict[str, Any]:
    said = {name: value for name, value in asdict(row).items() if value not in ("", None)}
    return said | ({"seen": row.seen.isoformat()} if row.seen else {})


def _counts(prefix: PromptPrefix) -> ConsumerCounts:
    return prefix.status.consumers or ConsumerCounts(namespaces=0)
