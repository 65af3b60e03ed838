"""`headwater lint`: what is unwise about a contract, before it costs anything."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import click
from rich.text import Text

from headwater.cli._manifests import Document, Prefix, documents, prefixes, read
from headwater.cli._output import number_of, show, show_data
from headwater.cli._places import place
from headwater.cli._reports import Located, github, sarif
from headwater.cli._yaml import ManifestError
from headwater.contract.content import content_of
from headwater.contract.errors import ContentError, HeadwaterError
from headwater.contract.lint import IGNORABLE, RULES, Facts, Finding, ignored, lint, refused
from headwater.providers.minimums import sizes

_SEVERITIES: Final = ("error", "warning", "note")
_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "cyan"}


class _TroubleError(click.ClickException):
    """There was nothing to look at: 1 means that there are findings."""

    exit_code = 2


@click.command(name="lint")
@click.option(
    "-f",
    "--filename",
    "places",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    help="A manifest, a folder of them, or - for standard input; may be repeated.",
)
@click.option(
    "--previous",
    "before",
    multiple=True,
    metavar="FILE|DIR",
    help="The manifests of the version before: tools should keep its order. May be repeated.",
)
@click.option(
    "--tenant",
    "tenants",
    multiple=True,
    metavar="REGEX",
    help="A regular expression (RE2) that matches names of tenants; may be repeated.",
)
@click.option(
    "--ignore",
    "ignore",
    multiple=True,
    type=click.Choice([rule for rule in RULES if rule in IGNORABLE]),
    metavar="RULE",
    help="A rule that shall be silent; may be repeated.",
)
@click.option(
    "--fail-on",
    type=click.Choice(_SEVERITIES),
    default="error",
    show_default=True,
    help="From which severity on the exit code is 1.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, for code scanning, for a GitHub workflow.",
)
def command(
    places: tuple[str, ...],
    before: tuple[str, ...],
    tenants: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    output: str,
) -> None:
    """Look for what would make the PromptPrefixes in the manifests miss the cache.

    References to ConfigMaps are followed within the manifests given. Ends with 0 where there is
    nothing from --fail-on upwards, 1 where there is, 2 on trouble. docs/lint.md lists the rules;
    the annotation headwater.dev/lint-ignore of a PromptPrefix silences some for it alone.
    """
    try:
        given = documents(read(places, sys.stdin.buffer))
        former = prefixes(documents(read(before, sys.stdin.buffer)))
        facts = Facts(tenants=tenants, ignore=frozenset(ignore))
        found = sorted(_linted(given, former, facts), key=lambda located: located.place.order)
    except HeadwaterError as error:
        raise _TroubleError(str(error)) from error
    _print(found, output)
    at = _SEVERITIES.index(fail_on)
    if any(located.finding.severity in _SEVERITIES[: at + 1] for located in found):
        raise SystemExit(1)


def _linted(given: Sequence[Document], former: Sequence[Prefix], facts: Facts) -> Iterator[Located]:
    declared = [document for document in given if document.body["kind"] == "PromptPrefix"]
    if not declared:
        raise ManifestError("none of the manifests is a PromptPrefix.")
    in_files = {document.name for document in declared if document.source.path}
    for document in declared:
        # What was built from a file, and is given beside it, has the file's places.
        if document.source.path or document.name not in in_files:
            for finding in _findings(document, given, former, facts):
                label = "/".join(filter(None, (document.namespace, document.name)))
                yield Located(label, finding, place(finding, document, given))


def _findings(
    document: Document, given: Sequence[Document], former: Sequence[Prefix], facts: Facts
) -> tuple[Finding, ...]:
    others = [
        other
        for other in given
        if other.body["kind"] == "ConfigMap"
        or (other.name == document.name and not other.source.path)
    ]
    needed = others if document in others else [document, *others]
    ignore = facts.ignore | ignored(document.body["metadata"].get("annotations") or {})
    try:
        (prefix,) = prefixes(needed)
    except ManifestError as error:
        if not isinstance(error.__cause__, ContentError):
            raise
        return (refused(error.__cause__),)
    spec = document.body["spec"]
    content = content_of(prefix.canonical)
    former_ones = (one.canonical for one in former if one.document.name == document.name)
    before = next(map(content_of, former_ones), None)
    return lint(
        content,
        replace(
            facts,
            sizes=sizes(prefix.canonical, map(str, spec.get("models") or ()), content.provider),
            previous_tools=() if before is None else tuple(tool["name"] for tool in before.tools),
            tenants=(*facts.tenants, *map(str, spec.get("tenantPattern") or ())),
            ignore=ignore,
        ),
    )


def _print(found: Sequence[Located], output: str) -> None:
    match output:
        case "text":
            show(*map(_line, found), _summary(found), wide=True)
        case "json":
            show_data(list(map(_data, found)), "json")
        case "sarif":
            show_data(sarif(found), "json")
        case _:
            for line in github(found):
                click.echo(line)


def _line(located: Located) -> Text:
    finding, place = located.finding, located.place
    return Text.assemble(
        f"{place.source.name}:{place.line}:{place.column}: ",
        (finding.severity, _COLOURS[finding.severity]),
        f" [{finding.rule}] {finding.where}: {finding.sentence}",
    )


def _summary(found: Sequence[Located]) -> Text:
    counts = Counter(located.finding.severity for located in found)
    parts = [number_of(counts[name], name) for name in _SEVERITIES if counts[name]]
    return Text(", ".join(parts) or "Nothing found.")


def _data(located: Located) -> dict[str, Any]:
    finding, place = located.finding, located.place
    return {
        "prefix": located.prefix,
        "file": place.source.name,
        "line": place.line,
        "column": place.column,
        **asdict(finding),
        "path": finding.where,
    }
