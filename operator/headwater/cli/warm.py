"""`headwater warm`: what a CacheWarmer's Job runs, and what a person may run by hand."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import msgspec

from headwater.contract import bundle
from headwater.contract.errors import BundleError
from headwater.warmer import job
from headwater.warmer.report import Report, WarmedLane, encode


def _key_file(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for item in given:
        name, separator, path = item.partition("=")
        if not (name and separator and path):
            # The whole of it is not repeated: someone may have given the key itself.
            raise click.BadParameter("write NAME=FILE, the file holding the API key.")
        if name in files:
            raise click.BadParameter(f"{name} is given twice: each credential needs its own name.")
        files[name] = Path(path)
    return files


@click.command()
@click.option(
    "--bundle",
    "directory",
    required=True,
    type=click.Path(path_type=Path),
    help="The directory where a bundle is mounted.",
)
@click.option(
    "--credential",
    "key_files",
    required=True,
    multiple=True,
    metavar="NAME=FILE",
    callback=_key_file,
    help="A credential's name and the file of its API key; may be repeated.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model to warm; may be repeated.  [default: those of the bundle]",
)
@click.option(
    "--revisions",
    type=click.Choice(["Stable", "StableAndCandidate"]),
    default="StableAndCandidate",
    show_default=True,
    help="Whether a candidate is warmed, too.",
)
@click.option(
    "--base-url",
    help="The provider's base URL.  [default: ANTHROPIC_BASE_URL, else the provider's own]",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=120,
    show_default=True,
    help="Seconds after which lanes without an answer count as failed.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the report of at most 4,096 bytes (a Job: /dev/termination-log).",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What to print.",
)
def command(
    directory: Path,
    key_files: dict[str, Path],
    models: tuple[str, ...],
    revisions: Literal["Stable", "StableAndCandidate"],
    base_url: str | None,
    time_limit: float,
    report_file: Path | None,
    output: str,
) -> None:
    """Warm the cache lanes of a contract once: one request for each, billed as a cache read.

    Ends with 0 where every lane is warm, else with 1.
    """
    try:
        run = job.Run(
            bundle=bundle.decode(_files(directory)),
            revisions=revisions,
            now=lambda: datetime.now(UTC),
            base_url=base_url,
            time_limit=time_limit,
        )
        lanes = asyncio.run(job.warm(run, key_files, models))
    except BundleError as error:
        message = f"the bundle in {directory} cannot be used: {error}"
        _write(report_file, Report(message=message))
        raise click.ClickException(message) from error
    _write(report_file, Report(lanes))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(lanes, enc_hook=str), indent=2).decode())
    else:
        for lane in lanes:
            click.echo(_line(lane))
    if any(lane.state != "Warm" for lane in lanes):
        raise SystemExit(1)


def _files(directory: Path) -> dict[str, bytes]:
    try:
        # `..data` and what it points to are the kubelet's own; the links beside them are ours.
        return {
            path.name: path.read_bytes()
            for path in directory.iterdir()
            if not path.name.startswith("..") and path.is_file()
        }
    except OSError as error:
        raise BundleError(f"{error.strerror}: is a bundle's ConfigMap mounted there?") from error


def _write(path: Path | None, report: Report) -> None:
    if path is not None:
        path.write_bytes(encode(report))


def _line(lane: WarmedLane) -> str:
    parts = [f"{lane.state:<6}", lane.credential, lane.model, lane.digest.short]
    if lane.usage is not None:
        written = lane.usage.cache_write_5m + lane.usage.cache_write_1h
        parts.append(
            f"read {lane.usage.cache_read:,}  wrote {written:,}  uncached {lane.usage.uncached:,}"
        )
    return "  ".join(part for part in (*parts, lane.message) if part)
