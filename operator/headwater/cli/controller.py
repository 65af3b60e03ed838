"""`headwater controller`: the operator's main role."""

import asyncio
import logging
from datetime import timedelta

import click

from headwater.contract.errors import HeadwaterError
from headwater.controller.app import Options, run


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
    "--provider-url",
    metavar="URL",
    help="Where warming jobs send to, if not to the provider itself.",
)
@click.option(
    "--liveness",
    metavar="URL",
    help="Where to serve the liveness probe, like http://0.0.0.0:8080/healthz.",
)
@click.option("--verbose", is_flag=True, help="Log what is done, not only what is noteworthy.")
def command(
    image: str,
    targets: tuple[str, ...],
    scrape_interval: float,
    provider_url: str | None,
    liveness: str | None,
    *,
    verbose: bool,
) -> None:
    """Run the operator: publish contracts, roll them out, schedule warmers.

    It uses the service account of its pod, or else the current context of the kubeconfig.
    """
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
        provider_url=provider_url,
        liveness=liveness,
    )
    try:
        # asyncio's own loop: under uvloop 0.23, aiohttp's failed connections leave descriptors
        # behind that are taken for others later (github.com/MagicStack/uvloop/issues/653). An
        # outage of the API server was enough for it.
        asyncio.run(run(options))
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error
