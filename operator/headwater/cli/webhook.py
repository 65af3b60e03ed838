"""`headwater webhook`: the operator's role that the API server asks before it admits something."""

import asyncio
from pathlib import Path

import click

from headwater.cli._serving import Address, log_json
from headwater.cluster import ApiError
from headwater.webhook.app import Options, run
from headwater.webhook.certificates import CertificateError
from headwater.webhook.server import Listeners
from headwater.webhook.sidecar import Settings


@click.command(name="webhook")
@click.option(
    "--tls-cert-file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The server's certificate (PEM), its own first; read again when it changes.",
)
@click.option(
    "--tls-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The certificate's key (PEM, not encrypted); read again when it changes.",
)
@click.option(
    "--client-ca-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Answer only clients whose certificate these authorities (PEM) signed: the API server,"
    " where it has one for webhooks; read again when it changes.",
)
@click.option(
    "--client-name",
    "client_names",
    multiple=True,
    metavar="CN",
    help="The common name that such a certificate must have; repeat it for several. Any, where"
    " none is given.",
)
@click.option(
    "--address",
    type=Address(),
    default="0.0.0.0:9443",
    show_default=True,
    help="Where /inject and /validate are; port 0 takes a free one.",
)
@click.option(
    "--metrics-address",
    type=Address(),
    default="0.0.0.0:9484",
    show_default=True,
    envvar="HEADWATER_METRICS_ADDRESS",
    help="Where /metrics, /healthz and /readyz are; port 0 takes a free one.",
)
@click.option(
    "--sidecar-image",
    default="headwater:latest",
    show_default=True,
    envvar="HEADWATER_SIDECAR_IMAGE",
    help="Image of the sidecars that pods get.",
)
@click.option(
    "--provider-url",
    metavar="URL",
    help="Where these sidecars send to, if not to the provider itself.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="How long to serve on after SIGTERM, until nobody sends anything here any more.",
)
def command(
    tls_cert_file: Path,
    tls_key_file: Path,
    client_ca_file: Path | None,
    client_names: tuple[str, ...],
    address: tuple[str, int],
    metrics_address: tuple[str, int],
    sidecar_image: str,
    provider_url: str | None,
    drain_seconds: float,
) -> None:
    """Run the webhooks: check prefixes, and put the sidecar into pods.

    It uses the service account of its pod, or else the current context of the kubeconfig.
    """
    if provider_url is not None and not provider_url.startswith(("http://", "https://")):
        raise click.UsageError(f"--provider-url {provider_url!r} is no http:// or https:// URL.")
    if client_names and client_ca_file is None:
        raise click.UsageError("--client-name says nothing without --client-ca-file.")
    log_json()
    options = Options(
        certificate=tls_cert_file,
        key=tls_key_file,
        client_ca=client_ca_file,
        client_names=frozenset(client_names),
        address=address,
        metrics_address=metrics_address,
        sidecars=Settings(sidecar_image, provider_url),
        drain_seconds=drain_seconds,
    )
    try:
        # asyncio's own loop: see `headwater.cli.controller`.
        asyncio.run(run(options, _announce))
    except (CertificateError, ApiError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from error


def _announce(listeners: Listeners) -> None:
    # Whoever started the process reads the addresses here.
    print(f"listening on {listeners.url}", flush=True)  # noqa: T201
    print(f"metrics on {listeners.metrics_url}", flush=True)  # noqa: T201
