"""`headwater capture`: from recorded requests to the PromptPrefix that would serve them."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from headwater.cli._yaml import dump
from headwater.client.capture import Capture, Program, capture
from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError


@click.command(name="capture")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--name", default="captured", show_default=True, help="The prefix's name.")
@click.option("--owner", default="my-team", show_default=True, help="The team that will own it.")
@click.option("--by", default="team", show_default=True, help="The field that groups requests.")
@click.option("--ttl", type=click.Choice(["5m", "1h"]), default="5m", show_default=True)
def command(file: BinaryIO, name: str, owner: str, by: str, ttl: TTL) -> None:
    """Print the PromptPrefix that recorded requests come to, and what each program must drop.

    FILE is as for `headwater audit`. One manifest for each prefix that at least half of a model's
    requests begin with; the exit code is 1 where they begin with none.
    """
    try:
        found = capture(file, by=by, ttl=ttl)
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error
    if not found:
        raise click.ClickException("no model's requests begin alike: `headwater audit` says why.")
    for number, each in enumerate(found, 1):
        called = name if len(found) == 1 else f"{name}-{number}"
        click.echo("---")
        for line in _told(each):
            click.echo(f"# {line}")
        click.echo(dump(_manifest(each, called, owner, ttl)), nl=False)


def _told(found: Capture) -> Iterator[str]:
    tools, blocks = len(found.content.tools), len(found.content.system)
    yield f"What to leave out of requests: the first {tools} tools and {blocks} system blocks."
    for program in found.programs:
        yield f"{program.name or 'all'}: {_program(program)}"


def _program(program: Program) -> str:
    own = ", ".join(program.own_tools)
    deferred = f"; give defer_loading: true to {own}" if own else ""
    rest = program.requests - program.on
    other = f"; {rest:,} begin otherwise and have to change first" if rest else ""
    return f"{program.on:,} of {program.requests:,} requests begin with it{other}{deferred}"


def _manifest(found: Capture, name: str, owner: str, ttl: TTL) -> dict[str, Any]:
    return {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "PromptPrefix",
        "metadata": {"name": name},
        "spec": {
            "owner": {"team": owner},
            "version": "v1",
            "digest": str(found.digest),
            "models": list(found.models),
            "ttl": ttl,
            "content": {
                "tools": [dict(tool) for tool in found.content.tools],
                "system": [
                    {key: value for key, value in block.items() if key != "type"}
                    for block in found.content.system
                ],
            },
            "consumers": {"namespaceSelector": {"matchLabels": {f"headwater.dev/{name}": "true"}}},
        },
    }
