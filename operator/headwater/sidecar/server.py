"""The sidecar as a whole: its two listeners, the bundles that it follows, its end.

It decides nothing: `desk` and `exchange` do. It carries nothing: `relay` does.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.desk import Desk, Health
from headwater.sidecar.exchange import Exchanges
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import Limits
from headwater.sidecar.relay.server import Relay
from headwater.sidecar.watching import renames
from headwater.sidecar.wishes import Wishes

if TYPE_CHECKING:  # an extra
    from headwater.sidecar.tracing import Tracing

_log: Final = logging.getLogger(__name__)

_PROBED: Final = Limits(connections=64, makes_room=True, head=8 << 10, head_seconds=5.0)
"""Of the listener for probes and metrics, which anybody in the cluster may reach."""
_DRAIN_SECONDS: Final = 600.0
"""As long as a request may take; the kubelet's grace period ends it sooner."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the sidecar listens, once it does: `http://host:port`."""

    url: str
    metrics_url: str


class Sidecar:
    """The proxy and the metrics listener over the bundles of one pod."""

    def __init__(
        self,
        bundles: BundleFollower,
        upstream: str,
        identity: Identity,
        clock: Callable[[], float],
        lanes: Lanes | None = None,
        others: Sequence[BundleFollower] = (),
        tracing: "Tracing | None" = None,
    ) -> None:
        """`bundles` is for requests that choose no prefix, `others` are those of further ones.

        `upstream` is a base URL; `clock` gives seconds that never go back. Without `tracing` there
        are no spans.

        Raises:
            OriginError: the upstream, or a proxy that the environment names, cannot be used.
        """
        lanes = lanes or Lanes()
        self.metrics = Metrics(identity, bundles, lanes, clock)
        self._bundles = (bundles, *others)
        self._exchanges = (
            Exchanges(bundles, lanes, self.metrics, clock),
            *(Exchanges(other, lanes, self.metrics.also(other), clock) for other in others),
        )
        self._origin = Origin(upstream)
        self._clock = clock
        self._tracing = tracing

    @contextlib.asynccontextmanager
    async def listening(
        self, *, port: int, metrics_address: tuple[str, int], poll_seconds: float = 0.5
    ) -> AsyncIterator[Listeners]:
        """Listen and follow the bundles; on leaving, requests in flight are finished first.

        Raises:
            OSError: an address cannot be had.
        """
        for bundles in self._bundles:
            bundles.poll()
        health = Health(self._exchanges, self._clock)
        wishes = Wishes(self._origin, self._clock)
        desk = Desk(self._exchanges, health, wishes, self._tracing)
        host = metrics_address[0]
        async with (
            _listening(Relay(health, limits=_PROBED), host, metrics_address[1]) as metrics_port,
            _listening(Relay(desk, self._origin), "127.0.0.1", port) as at,
        ):
            following = asyncio.create_task(self._follow(poll_seconds))
            try:
                shown = f"[{host}]" if ":" in host else host
                yield Listeners(f"http://127.0.0.1:{at}", f"http://{shown}:{metrics_port}")
            finally:
                following.cancel()
                wishes.close()

    async def _follow(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.look()

    @property
    def directories(self) -> list[Path]:
        """Where the bundles are."""
        return [bundles.directory for bundles in self._bundles]

    def look(self) -> None:
        """See whether a bundle changed."""
        for bundles in self._bundles:
            try:
                bundles.poll()
            except Exception:  # noqa: BLE001 - logged, and the process must live
                # Whatever it is, the last good bundle stays, and the next look may see better.
                _log.exception("the bundle could not be followed")


@contextlib.asynccontextmanager
async def _listening(relay: Relay, host: str, port: int) -> AsyncIterator[int]:
    bound = await relay.listen(host, port)
    try:
        yield bound
    finally:
        await relay.close(_DRAIN_SECONDS)


async def run(
    sidecar: Sidecar,
    *,
    port: int,
    metrics_address: tuple[str, int],
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    # A stream takes two descriptors, and many systems begin with 1,024 of what is allowed.
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS says infinite and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with sidecar.listening(port=port, metrics_address=metrics_address) as listeners:
        # What is there now stays, so it need not be looked at whenever garbage is sought.
        gc.collect()
        gc.freeze()
        with renames(sidecar.directories, sidecar.look):
            announce(f"listening on {listeners.url}")
            announce(f"metrics on {listeners.metrics_url}")
            await stop.wait()
        _log.info("stopping, requests in flight are finished first")
