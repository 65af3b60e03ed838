"""The sidecar's bookkeeping inside a program: which bytes go out, and what the answers used.

The metrics are those of the sidecar, under the same names and labels, in the program's own
Prometheus registry: a team without a sidecar counts as evidence like any other.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, cast
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

from headwater.client.contract import Contract
from headwater.contract.errors import HeadwaterError
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.exchange import Exchange, Exchanges, UnservedError
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics
from headwater.sidecar.relay.plan import Ending

_lock: Final = threading.RLock()
"""One for the process: lanes and metrics are those of all contracts, and know no threads."""
_IDENTITY: Final = ("namespace", "team", "surface", "workload", "deploy_revision")


class Traffic:
    """What goes through the wrapped clients of one contract; safe between threads."""

    def __init__(self, contract: Contract, bundles: BundleFollower, exchanges: Exchanges) -> None:
        """`bundles` is never polled: it holds what the contract serves."""
        self._contract = contract
        self._bundles = bundles
        self._exchanges = exchanges

    def open(self, headers: Mapping[str, str], body: bytes, *, counted: bool) -> "Passage":
        """Decide what is sent; `counted` where the request may touch a cache.

        Raises:
            HeadwaterError: nothing that verifies is at hand, or the request breaks the prefix.
        """
        with _lock:
            try:
                self._bundles.served, self._bundles.problem = self._contract.served(), None
                missing = None
            except HeadwaterError as error:
                self._bundles.served, self._bundles.problem = None, str(error)
                missing = error
            try:
                exchange = self._exchanges.open(headers, body, counted=counted)
            except UnservedError:
                # It has counted what it could not serve.
                raise cast("HeadwaterError", missing) from None
            exchange.enter_alone()
            return Passage(exchange)


class Passage:
    """One request on its way; counted once, however it ends."""

    def __init__(self, exchange: Exchange) -> None:
        """Made by `Traffic.open` alone."""
        self._exchange = exchange
        self._last = b""
        self._ended = False
        self.body = b"".join(exchange.parts)
        self.headers = exchange.headers

    def began(self, status: int, content_type: str) -> None:
        """The answer's head is here."""
        with _lock:
            self._exchange.began(status, content_type)

    def chunk(self, data: bytes) -> None:
        """A part of the answer passes."""
        self._exchange.chunk(data)
        self._last = (self._last + data)[-_TAIL:]

    def end(self, ending: Ending) -> None:
        """Count it. A stream that is left after its last event was read to its end."""
        if self._ended:
            return
        self._ended = True
        if ending is Ending.ABORTED and _LAST_EVENT in self._last:
            ending = Ending.COMPLETE
        with _lock:
            self._exchange.end(ending)


_LAST_EVENT: Final = b'"message_stop"'
_TAIL: Final = 256


class _InTheirs(Collector):
    """Our metrics as a part of the program's, without what they say of the process itself."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        with _lock:
            every = list(self._metrics.families())
        return [family for family in every if family.name.startswith("headwater_")]


_known: Final[WeakKeyDictionary[Contract, Traffic]] = WeakKeyDictionary()
_lanes: Final = Lanes()
_metrics: list[Metrics] = []
"""One for the process, made with the first contract that is wrapped."""


def traffic_of(contract: Contract) -> Traffic:
    """The traffic of a contract, which all its clients share."""
    with _lock:
        if contract not in _known:
            bundles = BundleFollower(Path())
            if _metrics:
                metrics = _metrics[0].also(bundles)
            else:
                metrics = Metrics(_identity(), bundles, _lanes, time.monotonic)
                REGISTRY.register(_InTheirs(metrics))
                _metrics.append(metrics)
            exchanges = Exchanges(bundles, _lanes, metrics, time.monotonic, contract.pins)
            _known[contract] = Traffic(contract, bundles, exchanges)
        return _known[contract]


def _identity() -> Identity:
    """Who this program is, from the variables that the sidecar takes it from."""
    return Identity(**{name: os.environ.get(f"HEADWATER_{name.upper()}", "") for name in _IDENTITY})
