"""`headwater diff`: how two contracts differ, and what that costs in the provider's cache."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from headwater.cli._cluster import ask, cluster_options, find
from headwater.cli._manifests import STDIN, documents, prefixes, read
from headwater.cli._output import show, show_data
from headwater.cli._revisions import contract_of, digest_of_version
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.diff import Change, Difference, Parting, difference, unified
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError
from headwater.providers.models import lookup
from headwater.providers.tokens import estimate_tokens

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_BEFORE, _BEHIND = 24, 40
"""Characters of an excerpt that stand before and behind the first difference."""
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}
_COLOURS: Final = {"+": "green", "-": "red", "~": "yellow", ">": "yellow", "@": "cyan"}


class _TroubleError(click.ClickException):
    """The two could not be compared. As with diff(1), 1 means that they differ."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two contracts; `label` is how the person may know it."""

    label: str
    canonical: bytes
    models: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        """Its name."""
        return Digest.of(self.canonical)


@dataclass(frozen=True, slots=True)
class Cost:
    """About how many tokens the contracts have for a model, before and after.

    `same` stand before the first difference, `cached` of them are still read from the cache, and
    `written` are written into it anew.
    """

    model: str
    before: int
    after: int
    same: int
    cached: int
    written: int


@click.command(name="diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--prefix", metavar="NAME", help="The prefix that a bare VERSION is of.")
@cluster_options
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For programs.")
def command(
    before: str,
    after: str,
    prefix: str | None,
    namespace: str | None,
    context: str | None,
    output: str | None,
) -> None:
    """Show how two contracts differ, and what that costs in the provider's cache.

    A and B are NAME@VERSION, a VERSION with --prefix NAME, or a manifest: FILE, DIR or - for
    standard input. Ends with 0 where they are the same, 1 where they differ, 2 on trouble.
    """
    try:
        sides = _sides((before, after), prefix, namespace, context)
    except HeadwaterError as error:
        raise _TroubleError(str(error)) from error
    except click.UsageError:
        raise
    except click.ClickException as error:
        raise _TroubleError(error.message) from error
    first, second = sides
    found = difference(first.canonical, second.canonical)
    if output is not None:
        show_data(_data(first, second, found), output)
    else:
        _print(first, second, found)
    if found.parting is not None:
        raise SystemExit(1)


def _sides(
    operands: Sequence[str], prefix: str | None, namespace: str | None, context: str | None
) -> list[Side]:
    found: dict[str, Side] = {}
    published = []
    for operand in operands:
        name, at, version = operand.rpartition("@")
        if _is_manifest(operand, prefix):
            found[operand] = _from_manifest(operand, prefix or "")
        elif at:
            published.append((operand, name, version))
        elif prefix is not None:
            published.append((operand, prefix, operand))
        else:
            raise click.UsageError(
                f"{operand!r} is no manifest that is there: write NAME@VERSION for a published"
                " version, or give the name with --prefix."
            )

    async def ask_cluster(cluster: KubernetesCluster) -> None:
        for operand, name, version in published:
            body = await find(cluster, namespace, name)
            canonical = await contract_of(cluster, body, digest_of_version(body, version))
            models = tuple(body["spec"]["models"])
            found[operand] = Side(f"{name}@{version}", canonical, models)

    if published:
        ask(context, ask_cluster)
    return [found[operand] for operand in operands]


def _is_manifest(operand: str, prefix: str | None) -> bool:
    """A version may be called as a folder is: with --prefix it is a version, without it is not."""
    if operand == STDIN or operand.endswith((*_SUFFIXES, "/")):
        return True
    return prefix is None and Path(operand).exists()


def _from_manifest(place: str, name: str) -> Side:
    """The only prefix of a manifest, or the one of that name."""
    found = prefixes(documents(read([place], sys.stdin.buffer)))
    meant = [item for item in found if name in ("", item.document.name)]
    if len(meant) != 1:
        names = ", ".join(item.document.name for item in found) or "none"
        raise HeadwaterError(
            f"{place}: one PromptPrefix is compared, and there are {names}: choose with --prefix."
        )
    (item,) = meant
    models = tuple(item.document.body["spec"].get("models") or ())
    return Side(f"{item.document.source.name} ({item.version})", item.canonical, models)


def _costs(before: Side, after: Side, found: Difference) -> Iterator[Cost]:
    for model in dict.fromkeys((*after.models, *before.models)):
        old, new = (estimate_tokens(side.canonical, model) for side in (before, after))
        if found.parting is None:
            yield Cost(model, old, new, same=new, cached=new, written=0)
            continue
        same, cached = (estimate_tokens(text, model) for text in (found.shared, found.kept))
        facts = lookup(model)
        if facts is not None and cached < facts.min_cacheable_tokens:
            cached = 0
        yield Cost(model, old, new, same, cached, written=max(0, new - cached))


def _print(before: Side, after: Side, found: Difference) -> None:
    show(Text(f"- {before.label}  {before.digest.short}", _COLOURS["-"]))
    show(Text(f"+ {after.label}  {after.digest.short}", _COLOURS["+"]))
    if found.parting is None:
        show(Text("\nThe same bytes."))
        return
    show(Text(), *map(_sentence, found.changes))
    show(*_shown(found.parting))
    costs = list(_costs(before, after, found))
    show(Text(f"\n{_kept(before, found, costs)}\n"), _cost_table(costs))
    for change in found.changes:
        if change.kind != "moved":
            lines = unified(before.canonical, after.canonical, change, (before.label, after.label))
            show(Text(), *(Text(line, _COLOURS.get(line[:1], "")) for line in lines))


def _sentence(change: Change) -> Text:
    sign = _SIGNS[change.kind]
    index = change.before if change.after is None else change.after
    what = f"{change.part}[{index}]" + (f" {change.name}" if change.name else "")
    how = {
        "added": "is new",
        "removed": "is gone",
        "moved": f"stood at {change.part}[{change.before}]",
        "changed": f"has another {' and '.join(change.fields)}",
    }[change.kind]
    if change.kind == "changed" and change.before != change.after:
        how += f" than {change.part}[{change.before}] had"
    return Text(f"{sign} {what} {how}", _COLOURS[sign])


def _shown(parting: Parting) -> Iterator[Text]:
    """Both contracts around the first byte that differs, and a caret below it."""
    yield Text(f"\nThe first difference: {parting.path}, byte {parting.offset:,}", "bold")
    shared, *rests = _excerpt(parting)
    for sign, rest in zip("-+", rests, strict=True):
        yield Text(f"{sign} {shared}{rest}", _COLOURS[sign])
    yield Text(" " * (2 + cell_len(shared)) + "^")


def _excerpt(parting: Parting) -> tuple[str, str, str]:
    """What is shared, and what each goes on with: as much as fits into a line."""
    shared = parting.shared[-_BEFORE:]
    cut = "…" if len(parting.shared) > _BEFORE else ""
    before, after = (
        rest[:_BEHIND] + ("…" if len(rest) > _BEHIND else "")
        for rest in (parting.before, parting.after)
    )
    return cut + shared, before, after


def _kept(before: Side, found: Difference, costs: Sequence[Cost]) -> str:
    """What the cache of the first contract still serves."""
    parts = " and ".join(
        f"{part}[0] to {part}[{count - 1}]" if count > 1 else f"{part}[0]"
        for part, count in (("tools", found.kept_tools), ("system", found.kept_blocks))
        if count
    )
    if not parts:
        return f"No cache entry of {before.label} can be read: everything is written anew."
    if costs and not any(cost.cached for cost in costs):
        return (
            f"What is the same up to a cache marker ({parts}) is too short to be cached by itself:"
            " everything is written anew."
        )
    return f"The cache of {before.label} still has {parts}; the rest is written anew."


def _cost_table(costs: list[Cost]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("TOKENS, ABOUT", no_wrap=True)
    for heading in ("BEFORE", "AFTER", "SAME", "CACHED", "ANEW"):
        table.add_column(heading, justify="right")
    for cost in costs:
        numbers = (cost.before, cost.after, cost.same, cost.cached, cost.written)
        table.add_row(cost.model, *(f"{number:,}" for number in numbers))
    return table


def _data(before: Side, after: Side, found: Difference) -> dict[str, Any]:
    first = None
    if (parting := found.parting) is not None:
        excerpt = dict(zip(("shared", "before", "after"), _excerpt(parting), strict=True))
        first = {"path": parting.path, "offset": parting.offset, **excerpt}
    return {
        "before": {"label": before.label, "digest": str(before.digest)},
        "after": {"label": after.label, "digest": str(after.digest)},
        "same": found.parting is None,
        "changes": [asdict(change) | {"fields": list(change.fields)} for change in found.changes],
        "firstDifference": first,
        "stillCached": {"tools": found.kept_tools, "system": found.kept_blocks},
        "estimatedTokens": [asdict(cost) for cost in _costs(before, after, found)],
    }
