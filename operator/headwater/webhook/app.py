"""A replica of the webhooks from its start to its end."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headwater.cluster.kubernetes import KubernetesCluster
from headwater.webhook.certificates import Certificate
from headwater.webhook.injector import Injector
from headwater.webhook.lookup import Lookup
from headwater.webhook.metrics import Metrics
from headwater.webhook.server import Listeners, Server
from headwater.webhook.sidecar import Settings
from headwater.webhook.warmers import WarmerValidator

_log: Final = logging.getLogger(__name__)

_CONNECTIONS: Final = 8
"""To the API server: a reading takes two milliseconds, and each of these takes memory."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a replica is told at its start.

    `client_ca` is a file with the authorities of the API server's own certificate; with None,
    whoever connects is answered. `client_names` are the common names that such a certificate may
    have; empty for any. `drain_seconds` is how long it serves on once it is to end: as long as it
    takes until nobody sends it anything any more.
    """

    certificate: Path
    key: Path
    client_ca: Path | None
    client_names: frozenset[str]
    address: tuple[str, int]
    metrics_address: tuple[str, int]
    sidecars: Settings
    drain_seconds: float


async def run(options: Options, announce: Callable[[Listeners], None]) -> None:
    """Serve until SIGTERM or SIGINT, then on for a while, and finish what is in flight.

    Raises:
        CertificateError: there is no certificate to begin with.
        ApiError: no cluster is configured.
    """
    certificate = Certificate(options.certificate, options.key, options.client_ca)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = await KubernetesCluster.connect(connections=_CONNECTIONS)
    try:
        metrics = Metrics(certificate)
        server = Server(
            Injector(Lookup(cluster, time.monotonic), options.sidecars, metrics.decided),
            WarmerValidator(cluster, lambda: datetime.now(UTC)),
            certificate,
            metrics,
            options.client_names,
        )
        async with server.listening(
            address=options.address, metrics_address=options.metrics_address
        ) as listeners:
            announce(listeners)
            await stop.wait()
            _log.info("ending, once nothing is sent here any more")
            server.end()
            await asyncio.sleep(options.drain_seconds)
    finally:
        await cluster.close()
