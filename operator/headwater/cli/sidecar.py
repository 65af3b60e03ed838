"""`headwater sidecar`: what runs beside an application in its pod, or on a developer's machine."""

import asyncio
import contextlib
import time
from pathlib import Path
from types import ModuleType

import click
import uvloop

from headwater.cli._serving import Address, log_json
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.metrics import Identity
from headwater.sidecar.relay.origin import OriginError
from headwater.sidecar.server import Sidecar, run


@click.command(name="sidecar")
@click.option(
    "--bundle",
    "bundles",
    type=click.Path(file_okay=False, path_type=Path),
    multiple=True,
    envvar="HEADWATER_BUNDLE",
    help="The directory where the bundle's ConfigMap is mounted. Repeat for several prefixes: the"
    " first is for requests that choose none.",
)
@click.option(
    "--from-cluster",
    metavar="NAMESPACE/NAME",
    help="Follow this bundle ConfigMap through the API server instead, as kubeconfig says.",
)
@click.option("--port", default=8484, show_default=True, help="On 127.0.0.1; 0 takes a free one.")
@click.option(
    "--metrics-address",
    type=Address(),
    default="127.0.0.1:9484",
    show_default=True,
    envvar="HEADWATER_METRICS_ADDRESS",
    help="Where /metrics, /healthz and /readyz are; port 0 takes a free one.",
)
@click.option(
    "--upstream",
    default="https://api.anthropic.com",
    show_default=True,
    envvar="HEADWATER_UPSTREAM",
    help="The provider's base URL.",
)
@click.option("--namespace", default="", envvar="HEADWATER_NAMESPACE", help="Metrics label.")
@click.option("--team", default="", envvar="HEADWATER_TEAM", help="Metrics label.")
@click.option("--surface", default="", envvar="HEADWATER_SURFACE", help="Metrics label.")
@click.option("--workload", default="", envvar="HEADWATER_WORKLOAD", help="Metrics label.")
@click.option(
    "--deploy-revision", default="", envvar="HEADWATER_DEPLOY_REVISION", help="Metrics label."
)
@click.option(
    "--otel",
    is_flag=True,
    envvar="HEADWATER_OTEL",
    help="Export a span for each request, to where OTEL_EXPORTER_OTLP_ENDPOINT says.",
)
def command(
    bundles: tuple[Path, ...],
    from_cluster: str | None,
    port: int,
    metrics_address: tuple[str, int],
    upstream: str,
    namespace: str,
    team: str,
    surface: str,
    workload: str,
    deploy_revision: str,
    *,
    otel: bool,
) -> None:
    """Run the localhost proxy that sends the contract's bytes or nothing.

    The application sets ANTHROPIC_BASE_URL to the address that is printed.
    """
    if bool(bundles) == (from_cluster is not None):
        raise click.UsageError("give either --bundle DIR or --from-cluster NAMESPACE/NAME.")
    log_json()
    identity = Identity(namespace, team, surface, workload, deploy_revision)

    tracing = _import_tracing() if otel else None

    async def serve(*directories: Path) -> None:
        first, *others = map(BundleFollower, directories)
        with contextlib.ExitStack() as stack:
            traced = None
            if tracing is not None:
                provider = tracing.exporting(identity)
                stack.callback(provider.shutdown)
                traced = tracing.Tracing(provider, upstream)
            sidecar = Sidecar(
                first, upstream, identity, time.monotonic, others=others, tracing=traced
            )
            await run(sidecar, port=port, metrics_address=metrics_address, announce=_announce)

    try:
        if bundles:
            uvloop.run(serve(*bundles))
        else:
            # asyncio's own loop, for aiohttp's sake: see `headwater.cli.controller`.
            assert from_cluster is not None  # noqa: S101 - checked above, for the type checker
            _follow = _import_follow()
            with _follow.mirror_directory() as directory:
                asyncio.run(_follow.alongside(from_cluster, directory, serve(directory)))
    except OriginError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from error


def _import_tracing() -> ModuleType:
    try:
        from headwater.sidecar import tracing  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--otel needs the Python package {error.name}, which is not installed:"
            " pip install 'headwater[otel]'."
        ) from error
    return tracing


def _import_follow() -> ModuleType:
    try:
        from headwater.cli import _follow  # noqa: PLC0415 - needs kubernetes, which pods do not have
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--from-cluster needs the Python package {error.name}, which is not installed:"
            " pip install 'headwater[operator]'."
        ) from error
    return _follow


def _announce(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - whoever started the process reads the address here
