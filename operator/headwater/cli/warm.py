"""`headwater warm`: what a CacheWarmer's Job runs, and what a person may run by hand."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec

from headwater.contract import bundle
from headwater.contract.bundle import Bundle
from headwater.contract.errors import BundleError
from headwater.providers.models import lookup
from headwater.warmer import job
from headwater.warmer.identity import Identity
from headwater.warmer.report import Report, WarmedLane, encode

_LANE_PARTS: Final = 3


def _named(item: str, given: Mapping[str, Any]) -> tuple[str, str]:
    name, separator, value = item.partition("=")
    if not (name and separator and value):
        # The whole of it is not repeated: someone may have given the key itself.
        raise click.BadParameter("write NAME=FILE, the file holding the API key.")
    if name in given:
        raise click.BadParameter(f"{name} is given twice: each credential needs its own name.")
    return name, value


def _key_files(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for item in given:
        name, path = _named(item, files)
        files[name] = Path(path)
    return files


def _identities(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> dict[str, Identity]:
    found: dict[str, Identity] = {}
    for item in given:
        name, value = _named(item, found)
        file, *ids = value.split(":")
        if not 2 <= len(ids) <= 4 or not all(ids[:2]):  # noqa: PLR2004 - as the message says
            raise click.BadParameter(
                "write NAME=TOKEN_FILE:RULE:ORGANIZATION, and :SERVICE_ACCOUNT:WORKSPACE where the"
                " rule allows several."
            )
        rule, organization, *more = ids
        account, workspace = (*more, "", "")[:2]
        found[name] = Identity(Path(file), rule, organization, account or None, workspace or None)
    return found


def _lanes(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> frozenset[tuple[str, str, str]]:
    found = set()
    for item in given:
        credential, _slash, rest = item.partition("/")
        model, _slash, digest = rest.rpartition("/")
        if not (credential and model and digest):
            raise click.BadParameter(
                f"{item!r} is no lane: write CREDENTIAL/MODEL/DIGEST, 12 characters of the digest."
            )
        found.add((credential, model, digest))
    return frozenset(found)


def _dollars(_: click.Context, __: click.Parameter, given: str | None) -> Decimal | None:
    if given is None:
        return None
    try:
        amount = Decimal(given)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{given!r} is no amount of US dollars, like 0.25.")
    return amount


def _trigger(context: click.Context, __: click.Parameter, name: str | None) -> None:
    if name is None:
        return
    # A job's pod has room for the provider's SDK, and not for Kubernetes' besides.
    from headwater.cli._trigger import trigger  # noqa: PLC0415

    click.echo(trigger(name, context.params.get("namespace"), context.params.get("context")))
    context.exit()


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
    multiple=True,
    metavar="NAME=FILE",
    callback=_key_files,
    help="A credential's name and the file of its API key; may be repeated.",
)
@click.option(
    "--identity",
    "identities",
    multiple=True,
    metavar="NAME=FILE:RULE:ORG[:ACCOUNT[:WORKSPACE]]",
    callback=_identities,
    help="Instead of a key: the file of a service account's token, and who that is to the"
    " provider; may be repeated.",
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
    "--thinking",
    type=click.Choice(["adaptive", "disabled"]),
    help="As the real requests have it: it keys the provider's cache.",
)
@click.option(
    "--effort",
    type=click.Choice(["low", "medium", "high", "xhigh", "max"]),
    help="As the real requests have it.",
)
@click.option(
    "--speed", type=click.Choice(["standard", "fast"]), help="As the real requests have it."
)
@click.option(
    "--beta",
    "betas",
    multiple=True,
    help="A beta that the real requests ask for; may be repeated.",
)
@click.option(
    "--verify",
    "verify_attempts",
    type=click.IntRange(0, 5),
    default=0,
    show_default=True,
    help="After a write, how often to try whether it can be read.",
)
@click.option(
    "--verify-delay",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    help="Seconds before each try.",
)
@click.option(
    "--skip",
    multiple=True,
    metavar="CREDENTIAL/MODEL/DIGEST",
    callback=_lanes,
    help="A lane to leave out; may be repeated.",
)
@click.option(
    "--allowance",
    metavar="USD",
    callback=_dollars,
    help="What the run may cost at most: no request is sent that could cost more.",
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
@click.option(
    "--once",
    is_flag=True,
    expose_value=False,
    help="Warm once and end: what it does in any case, said for the reader of a script.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would cost, and send nothing.")
@click.option(
    "--trigger",
    metavar="NAME",
    expose_value=False,
    callback=_trigger,
    help="Run the CacheWarmer of this name in the cluster now, unless its lanes are warm.",
)
@click.option(
    "-n",
    "--namespace",
    is_eager=True,
    help="Of that CacheWarmer.  [default: that of the context]",
)
@click.option(
    "--context", is_eager=True, help="Another context of the kubeconfig than the current one."
)
def command(
    directory: Path,
    key_files: dict[str, Path],
    identities: dict[str, Identity],
    models: tuple[str, ...],
    revisions: Literal["Stable", "StableAndCandidate"],
    thinking: str | None,
    effort: str | None,
    speed: str | None,
    betas: tuple[str, ...],
    verify_attempts: int,
    verify_delay: float,
    skip: frozenset[tuple[str, str, str]],
    allowance: Decimal | None,
    base_url: str | None,
    time_limit: float,
    report_file: Path | None,
    output: str,
    namespace: str | None,
    context: str | None,
    *,
    dry_run: bool,
) -> None:
    """Warm the cache lanes of a contract once: one request for each, billed as a cache read.

    Ends with 0 where every lane is warm, else with 1.
    """
    del namespace, context  # of --trigger
    accesses: dict[str, job.Access] = {**key_files, **identities}
    if len(accesses) != len(key_files) + len(identities):
        raise click.UsageError("a key and an identity have the same name: each needs its own.")
    if not accesses:
        raise click.UsageError(
            "nobody to warm for: give --credential NAME=FILE, or --identity for a workload."
        )
    try:
        run = job.Run(
            bundle=bundle.decode(_files(directory)),
            revisions=revisions,
            now=lambda: datetime.now(UTC),
            base_url=base_url,
            time_limit=time_limit,
            settings=job.Settings(_fields(thinking, effort, speed), betas),
            skip=skip,
            allowance=allowance,
            verify_attempts=verify_attempts,
            verify_delay=verify_delay,
        )
        if dry_run:
            for line in _costs(run.bundle, accesses, models or run.bundle.route.models, revisions):
                click.echo(line)
            return
        lanes = asyncio.run(job.warm(run, accesses, models))
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
    if any(lane.state not in ("Warm", "Skipped") for lane in lanes):
        raise SystemExit(1)


def _fields(thinking: str | None, effort: str | None, speed: str | None) -> dict[str, object]:
    fields: dict[str, object] = {}
    if thinking is not None:
        fields["thinking"] = {"type": thinking}
    if effort is not None:
        fields["output_config"] = {"effort": effort}
    if speed is not None:
        fields["speed"] = speed
    return fields


def _costs(
    found: Bundle, names: Mapping[str, object], models: tuple[str, ...], revisions: str
) -> Iterator[str]:
    """What one run costs: a line for each lane, and their sum."""
    route = found.route
    warmed = route.offered if revisions == "StableAndCandidate" else (route.stable,)
    reads, writes = Decimal(0), Decimal(0)
    for name in names:
        for model in models:
            facts = lookup(model)
            for revision in warmed:
                tokens = job.tokens_of(found, revision.digest, model)
                where = f"{name}  {model}  {revision.version} {revision.digest.short}"
                worst = job.worst_cost(found, revision.digest, model)
                prices = facts.prices_for(tokens) if facts is not None else None
                if worst is None or prices is None:
                    yield f"{where}  no price of {model} is known"
                    continue
                read = tokens * prices.read / 1_000_000
                reads, writes = reads + read, writes + worst
                yield f"{where}  {tokens:,} tokens  read {read:.4f} USD  write {worst:.4f} USD"
    yield f"a run costs {reads:.4f} USD while all lanes are warm, {writes:.4f} USD at most"


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
    parts = [f"{lane.state:<7}", lane.credential, lane.model, lane.digest.short]
    if lane.usage is not None:
        written = lane.usage.cache_write_5m + lane.usage.cache_write_1h
        parts.append(
            f"read {lane.usage.cache_read:,}  wrote {written:,}  uncached {lane.usage.uncached:,}"
        )
    if lane.usd is not None:
        parts.append(f"{lane.usd:.4f} USD")
    return "  ".join(part for part in (*parts, lane.message) if part)
