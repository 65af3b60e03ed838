"""`headwater record`: what a program asks the provider, written down on the way."""

import asyncio
import datetime as dt
import secrets
from pathlib import Path
from typing import BinaryIO, Final

import click

from headwater.cli._output import number_of
from headwater.cli._program import BASE_URL, recording, run
from headwater.client.audit import Privacy
from headwater.client.recording import Recorder
from headwater.sidecar.relay.origin import OriginError

_PROVIDER: Final = "https://api.anthropic.com"


@click.command(name="record", context_settings={"ignore_unknown_options": True})
@click.argument("command_line", metavar="-- COMMAND", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="requests.jsonl",
    show_default=True,
    help="The file to make; there must be none of this name.",
)
@click.option("--team", envvar="HEADWATER_TEAM", help="Whose requests these are.")
@click.option(
    "--privacy",
    type=click.Choice(["text", "hash"]),
    default="text",
    show_default=True,
    help="Keep requests as they are, or no more than hashes of their parts.",
)
@click.option(
    "--upstream",
    envvar=BASE_URL,
    default=_PROVIDER,
    show_default=True,
    help="Where they go on to.",
)
def command(
    command_line: tuple[str, ...],
    output: Path,
    team: str | None,
    privacy: Privacy,
    upstream: str,
) -> None:
    """Run COMMAND, and write down what it asks the provider and what that used.

    It finds a local port at ANTHROPIC_BASE_URL, from where everything goes on as it came. The file
    is for `headwater audit` and `headwater capture`; no key is kept. COMMAND's exit code is ours.
    """
    try:
        with output.open("xb") as file:
            code, recorded = asyncio.run(_record(command_line, file, team, privacy, upstream))
    except FileExistsError as error:
        raise click.UsageError(f"{output} is there already: name another one with -o.") from error
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror or error}.") from error
    except (OriginError, click.ClickException) as error:
        output.unlink()
        raise click.UsageError(str(error)) from error
    click.echo(f"{number_of(recorded, 'request')} recorded in {output}", err=True)
    raise SystemExit(code)


async def _record(
    command_line: tuple[str, ...], file: BinaryIO, team: str | None, privacy: Privacy, upstream: str
) -> tuple[int, int]:
    def write(line: bytes) -> None:
        file.write(line)
        file.flush()

    recorder = Recorder(
        write,
        lambda: dt.datetime.now(dt.UTC),
        fields={"team": team} if team else {},
        privacy=privacy,
        # Of this recording alone, and kept nowhere.
        salt=secrets.token_bytes(),
    )
    async with recording(recorder, upstream) as url:
        done = await run(command_line, url)
    return done.code, recorder.recorded
