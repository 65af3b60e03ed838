"""`headwater audit`: recorded requests that should have shared a prefix and did not."""

import json
from typing import Any, BinaryIO, Final

import click
import msgspec
from rich.table import Table

from headwater.cli._output import show, show_data
from headwater.client.audit import REMEDY, UNSTABLE_BELOW, Finding, Group, Privacy, Report, audit
from headwater.contract.errors import HeadwaterError

_WORST: Final = 10


@click.command(name="audit")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--by", default="team", show_default=True, help="The field that groups requests.")
@click.option(
    "--privacy",
    type=click.Choice(["text", "hash"]),
    default="text",
    show_default=True,
    help="Show what differs, or no more than hashes of it.",
)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "sarif"]), default="table"
)
def command(file: BinaryIO, by: str, privacy: Privacy, output: str) -> None:
    """Say which recorded requests should have shared a prefix and did not, and why.

    FILE has a request a line, as JSON (`-`: standard input): a request of the Messages API, or an
    object with one as `request`, and with `time` and the field that groups them; `headwater
    record` makes such a file. docs/library.md tells more. The exit code is 1 where a group is
    unstable.
    """
    try:
        report = audit(file, by=by, privacy=privacy)
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error
    if output == "sarif":
        click.echo(json.dumps(_sarif(report, getattr(file, "name", "-")), indent=2))
    elif output != "table":
        groups = [
            {
                **msgspec.to_builtins(group),
                "reuse": round(group.reuse, 4),
                "unstable": group.unstable,
            }
            for group in report.groups
        ]
        show_data({"groups": groups, "findings": msgspec.to_builtins(report.findings)}, output)
    else:
        _page(report)
    if any(group.unstable for group in report.groups):
        raise SystemExit(1)


def _page(report: Report) -> None:
    show(_groups(report.groups))
    if not report.findings:
        show("", "Nothing that should have been shared was lost.")
    for number, found in enumerate(report.findings[:_WORST], 1):
        first, second = found.example
        show(
            "",
            f"{number}. {_of(found)}: {_costs(found)}",
            f"   {found.place}, as in line {second} after line {first}; {REMEDY[found.cause]}",
            f"   was: {found.before}",
            f"   is:  {found.after}",
        )
    if len(report.findings) > _WORST:
        show("", f"and {len(report.findings) - _WORST} more (-o json has them)")


def _of(found: Finding) -> str:
    whose = " ".join(filter(None, (found.group, found.model)))
    return f"{found.cause} of {whose}"


def _costs(found: Finding) -> str:
    usd = "" if found.usd is None else f", {found.usd:.4f} USD"
    return f"{found.times:,} times, some {found.tokens:,} tokens{usd}"


def _groups(groups: list[Group]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("group", "requests", "tokens", "sent before", "read", ""):
        table.add_column(heading, justify="left" if heading in ("group", "") else "right")
    for group in groups:
        table.add_row(
            group.name or "all",
            f"{group.requests:,}",
            f"{group.tokens:,}",
            f"{group.reuse:.0%}",
            f"{group.read / group.prompt:.0%}" if group.prompt else "-",
            f"unstable: below {UNSTABLE_BELOW:.0%}" if group.unstable else "",
        )
    return table


def _sarif(report: Report, file: str) -> dict[str, Any]:
    """SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0), the dearest first."""
    rules = [
        {"id": cause.value, "shortDescription": {"text": remedy}}
        for cause, remedy in REMEDY.items()
    ]
    results = [
        {
            "ruleId": found.cause.value,
            "level": "warning",
            "message": {
                "text": f"{_of(found)} at {found.place}: {_costs(found)}; {REMEDY[found.cause]}."
            },
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": file},
                        "region": {"startLine": found.example[1]},
                    }
                }
            ],
        }
        for found in report.findings
    ]
    driver = {"name": "headwater audit", "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
