"""`headwater sidecar`: what runs beside an application in its pod, or on a developer's machine."""

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.metrics import Identity
from headwater.sidecar.server import Sidecar, run

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit():
            self.fail(f"{value!r} is no HOST:PORT, such as 127.0.0.1:9484.", param, ctx)
        return host.strip("[]"), int(port)


@click.command(name="sidecar")
@click.option(
    "--bundle",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADWATER_BUNDLE",
    help="The directory where the bundle's ConfigMap is mounted.",
)
@click.option(
    "--from-cluster",
    metavar="NAMESPACE/NAME",
    help="Follow this bundle ConfigMap through the API server instead, as kubeconfig says.",
)
@click.option("--port", default=8484, show_default=True, help="On 127.0.0.1; 0 takes a free one.")
@click.option(
    "--metrics-address",
    type=_Address(),
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
def command(
    bundle: Path | None,
    from_cluster: str | None,
    port: int,
    metrics_address: tuple[str, int],
    upstream: str,
    namespace: str,
    team: str,
    surface: str,
    workload: str,
) -> None:
    """Run the localhost proxy that sends the contract's bytes or nothing.

    The application sets ANTHROPIC_BASE_URL to the address that is printed.
    """
    if (bundle is None) == (from_cluster is None):
        raise click.UsageError("give either --bundle DIR or --from-cluster NAMESPACE/NAME.")
    if not upstream.startswith(("http://", "https://")):
        raise click.UsageError(f"--upstream {upstream!r} is no http:// or https:// URL.")
    _log_json()
    identity = Identity(namespace=namespace, team=team, surface=surface, workload=workload)

    async def serve(directory: Path) -> None:
        sidecar = Sidecar(BundleFollower(directory), upstream, identity, time.monotonic)
        await run(sidecar, port=port, metrics_address=metrics_address, announce=_announce)

    try:
        if bundle is not None:
            # asyncio's own loop: see `headwater.cli.controller`.
            asyncio.run(serve(bundle))
        else:
            assert from_cluster is not None  # noqa: S101 - checked above, for the type checker
            _follow = _import_follow()
            with _follow.mirror_directory() as directory:
                asyncio.run(_follow.alongside(from_cluster, directory, serve(directory)))
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from error


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


class _JsonFormatter(logging.Formatter):
    """One event a line: what the record says, and what was given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False, default=str)


def _log_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
