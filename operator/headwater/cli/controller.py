"""`headwater controller`: the operator's main role."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import click

from headwater.contract.errors import HeadwaterError
from headwater.controller.app import Options, run
from headwater.controller.lease import home
from headwater.evidence.prometheus import Prometheus


@click.command()
@click.option(
    "--image",
    default="headwater:latest",
    show_default=True,
    envvar="HEADWATER_IMAGE",
    help="Image of the warming jobs: normally the controller's own.",
)
@click.option(
    "--scrape-target",
    "targets",
    multiple=True,
    metavar="URL",
    help="Metrics URL of a sidecar outside the cluster; repeat for more.",
)
@click.option(
    "--scrape-interval",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="Seconds between two readings of the sidecars' counters.",
)
@click.option(
    "--prometheus-url",
    metavar="URL",
    envvar="HEADWATER_PROMETHEUS_URL",
    help="Read the counters from this Prometheus, not from the sidecars, and ask it the queries"
    " of spec.rollout.analysis.",
)
@click.option(
    "--prometheus-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with a bearer token for it, read anew at each request.",
)
@click.option(
    "--prometheus-ca-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the authorities (PEM) that its certificate is checked against.",
)
@click.option(
    "--provider-url",
    metavar="URL",
    help="Where warming jobs send to, if not to the provider itself.",
)
@click.option(
    "--liveness",
    metavar="URL",
    help="Where to serve the liveness probe, like http://0.0.0.0:8080/healthz.",
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Work only while holding a Lease, so that of several controllers one does.",
)
@click.option(
    "--lease-namespace",
    default=home,
    show_default="the pod's own, or default outside of a pod",
    metavar="NAME",
    help="Where the Lease headwater-controller is.",
)
@click.option(
    "--no-pod-annotations",
    is_flag=True,
    help="Leave pods alone: an abort then reaches them with their kubelet's next sync.",
)
@click.option("--verbose", is_flag=True, help="Log what is done, not only what is noteworthy.")
def command(
    image: str,
    targets: tuple[str, ...],
    scrape_interval: float,
    prometheus_url: str | None,
    prometheus_token_file: Path | None,
    prometheus_ca_file: Path | None,
    provider_url: str | None,
    liveness: str | None,
    lease_namespace: str,
    *,
    leader_election: bool,
    no_pod_annotations: bool,
    verbose: bool,
) -> None:
    """Run the operator: publish contracts, roll them out, schedule warmers.

    It uses the service account of its pod, or else the current context of the kubeconfig.
    """
    if targets and prometheus_url:
        raise click.UsageError(
            "--scrape-target and --prometheus-url exclude each other: let that Prometheus scrape it"
        )
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for noisy in ("kopf", "asyncio", "aiohttp", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
    options = Options(
        image=image,
        targets=targets,
        scrape_interval=timedelta(seconds=scrape_interval),
        prometheus=_prometheus(prometheus_url, prometheus_token_file, prometheus_ca_file),
        provider_url=provider_url,
        liveness=liveness,
        pod_annotations=not no_pod_annotations,
        lease_namespace=lease_namespace if leader_election else None,
    )
    try:
        # asyncio's own loop: under uvloop 0.23, aiohttp's failed connections leave descriptors
        # behind that are taken for others later (github.com/MagicStack/uvloop/issues/653). An
        # outage of the API server was enough for it.
        asyncio.run(run(options))
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error


def _prometheus(
    url: str | None, token_file: Path | None, ca_file: Path | None
) -> Prometheus | None:
    if url is None:
        if token_file or ca_file:
            raise click.UsageError(
                "--prometheus-token-file and --prometheus-ca-file need a URL:"
                " give --prometheus-url, too"
            )
        return None
    try:
        return Prometheus(url, token_file, ca_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prometheus-url") from error
