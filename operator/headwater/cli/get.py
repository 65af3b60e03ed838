"""`headwater get`: every prefix as a tree, so that a rollout is understood at a glance."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import click
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from headwater.cli._cluster import ask, cluster_options, every, find
from headwater.cli._output import (
    console,
    listed,
    number_of,
    output_option,
    plain,
    show,
    show_data,
    span,
)
from headwater.cli._standing import Standing, counted, found_on, share, standing, step, strength
from headwater.cluster import PROMPT_PREFIX, ApiError, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.route import Revision
from headwater.resources.status import QueryAnswers
from headwater.rollout.state import Phase

_COLOURS: Final = {
    Phase.STABLE: "green",
    Phase.ROLLED_BACK: "red",
    Phase.DEGRADED: "red",
}
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
"""Seconds between two attempts to follow a prefix while the API server does not answer."""


@click.command(name="get")
@click.argument("name", required=False)
@cluster_options
@click.option("-A", "--all-namespaces", is_flag=True, help="The prefixes of every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing NAME as it changes.")
@output_option
def command(
    name: str | None,
    namespace: str | None,
    context: str | None,
    output: str | None,
    *,
    all_namespaces: bool,
    watch: bool,
) -> None:
    """Show prefixes: what is stable, what is canaried, and what that waits for."""
    if all_namespaces and (name or namespace):
        raise click.UsageError("-A shows everything: leave NAME and -n out, or -A.")
    if watch and name is None:
        raise click.UsageError("-w follows one prefix: give its NAME.")

    async def work(cluster: KubernetesCluster) -> None:
        if watch:
            assert name is not None  # noqa: S101 - checked above, for the type checker
            await _watch(cluster, namespace or cluster.namespace, name, output)
        elif name is not None:
            _show([await find(cluster, namespace, name)], output, one=True)
        else:
            place = None if all_namespaces else namespace or cluster.namespace
            found = await every(cluster, place)
            if not found and output not in ("json", "yaml"):
                where = "any namespace" if place is None else f"the namespace {place!r}"
                click.echo(f"there is no PromptPrefix in {where}.", err=True)
            _show(found, output, full_names=all_namespaces)

    try:
        ask(context, work)
    except KeyboardInterrupt:  # the way out of -w
        raise SystemExit(0) from None


def _show(
    found: list[Object], output: str | None, *, one: bool = False, full_names: bool = False
) -> None:
    if output in ("json", "yaml"):
        show_data(plain(found[0]) if one else listed(found), output)
        return
    for index, body in enumerate(found):
        if index:
            click.echo()
        wide = output == "wide"
        show(tree(body, datetime.now(UTC), wide=wide, full_name=full_names), wide=wide)


async def _watch(cluster: KubernetesCluster, namespace: str, name: str, output: str | None) -> None:
    """Show a prefix whenever it changes, until it is deleted or the person has seen enough."""
    latest = await find(cluster, namespace, name)
    if output in ("json", "yaml") or not sys.stdout.isatty():
        shown = None
        async for body in _followed(cluster, namespace, name):
            # What is shown rests on these alone; other fields change without a word.
            matters = body["spec"], body.get("status")
            if matters != shown:
                if shown is not None and output != "json":
                    click.echo("---" if output == "yaml" else "")
                shown = matters
                _show([body], output, one=True)
        return

    def screen() -> Tree:
        return tree(latest, datetime.now(UTC), wide=output == "wide")

    # Ages go on between two changes.
    with Live(get_renderable=screen, console=console(), refresh_per_second=1):
        async for body in _followed(cluster, namespace, name):
            latest = body


async def _followed(cluster: KubernetesCluster, namespace: str, name: str) -> AsyncIterator[Object]:
    """The prefix, and each newer form; over an outage of the API server, too."""
    wait = _FIRST_WAIT
    while True:
        try:
            yield await cluster.get(PROMPT_PREFIX, namespace, name)
            wait = _FIRST_WAIT
            async for body in cluster.follow(PROMPT_PREFIX, namespace, name):
                yield body
        except NotFoundError as error:
            raise click.ClickException(f"{name} was deleted.") from error
        except ApiError as error:
            click.echo(f"{error}; trying again in {wait:g} s", err=True)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


def tree(body: Object, now: datetime, *, wide: bool = False, full_name: bool = False) -> Tree:
    """A prefix as a tree: what consumers get, what is on its way, and why it is there."""
    found = standing(body)
    root = Tree(_head(found, full_name=full_name), guide_style="dim")
    _stable(root, found, now, wide=wide)
    _candidate(root, found, now, wide=wide)
    _others(root, found, now, wide=wide)
    consumers = found.prefix.status.consumers
    if consumers is not None:
        pods = [number_of(consumers.pods, "pod")] if consumers.pods else []
        old = [f"{consumers.old_bundle:,} on an old bundle"] if consumers.old_bundle else []
        off = [f"{consumers.off_contract:,} off the contract"] if consumers.off_contract else []
        counts = (number_of(consumers.namespaces, "namespace"), *pods, *old, *off)
        root.add(_line("consumers", ", ".join(counts)))
    return root


def _head(found: Standing, *, full_name: bool) -> Text:
    metadata, owner, phase = found.prefix.metadata, found.prefix.spec.owner, found.state.phase
    name = f"{metadata.namespace}/{metadata.name}" if full_name else metadata.name
    contact = f" ({owner.contact})" if owner.contact else ""
    return Text.assemble(
        (name, "bold"),
        "  ",
        (phase.value, _COLOURS.get(phase, "yellow")),
        f"  of {owner.team}{contact}",
        *([f"\n{found.message}"] if found.message else []),
    )


def _stable(root: Tree, found: Standing, now: datetime, *, wide: bool) -> None:
    stable = found.prefix.status.stable
    if stable is None or found.state.stable is None:
        root.add(_line("stable", "none"))
        return
    rate = f", {stable.hit_rate} hits" if stable.hit_rate else ""
    since = _moment(stable.promoted_at, now, wide=wide)
    root.add(_line("stable", f"{_revision(found.state.stable, wide=wide)}  since {since}{rate}"))


def _candidate(root: Tree, found: Standing, now: datetime, *, wide: bool) -> None:
    candidate = found.state.candidate
    if candidate is None:
        return
    since = _moment(candidate.started_at, now, wide=wide)
    node = root.add(
        _line(
            "candidate",
            f"{_revision(candidate.revision, wide=wide)}  {share(candidate)},"
            f" {step(found.plan, candidate)}, since {since}",
        )
    )
    for model in found.plan.models:
        evidence = node.add(Text(f"{model}  {counted(candidate.evidence.get(model))}"))
        for reading in found_on(found, model):
            behind = f" ({strength(reading)})" if wide else ""
            evidence.add(Text(reading.words + behind))
    assert found.prefix.status.candidate is not None  # noqa: S101 - the state is made of it
    for row in found.prefix.status.candidate.queries:
        node.add(Text(f"query {row.name}  {_answer(row)}"))


def _answer(row: QueryAnswers) -> str:
    answer = f"no answer: {row.problem}" if row.value is None else f"answered {row.value}"
    return f"{answer}, {row.failures} failed" if row.failures else answer


def _others(root: Tree, found: Standing, now: datetime, *, wide: bool) -> None:
    """What neither is stable nor canaried: declared, gone back, on its way out."""
    state, declared = found.state, found.plan.declared
    candidate = state.candidate.revision if state.candidate else None
    gone = state.rolled_back
    if gone is not None:
        when = _moment(gone.at, now, wide=wide)
        revision = _revision(gone.revision, wide=wide)
        root.add(_line("went back", f"{revision}  since {when}: {gone.message}"))
    if declared not in (state.stable, candidate, gone and gone.revision) and declared is not None:
        root.add(_line("declared", f"{_revision(declared, wide=wide)}  not served yet"))
    for item in state.retained:
        left = f"for another {span(now, item.until)}" if item.until > now else "while it is used"
        root.add(_line("retained", f"{_revision(item.revision, wide=wide)}  {left}"))


def _line(label: str, text: str) -> Text:
    return Text.assemble((f"{label:<11}", "bold"), text)


def _revision(revision: Revision, *, wide: bool) -> str:
    return f"{revision.version}  {revision.digest if wide else revision.digest.short}"


def _moment(at: datetime, now: datetime, *, wide: bool) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ} ({span(at, now)})" if wide else span(at, now)
