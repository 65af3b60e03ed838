"""Processes that count as sidecars do, and that a test can restart."""

import itertools
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

PREFIX: Final = "help-desk"
MODEL: Final = "claude-opus-5"

_IDENTITY: Final = {
    "namespace": "support",
    "team": "sales",
    "surface": "chat",
    "workload": "web",
}
_LABELS: Final = (*_IDENTITY, "prefix", "version", "digest12", "model")
_digests = itertools.count(0xABCDEF000000)


class Pod:
    """One sidecar's metrics on a port of its own, by the library that sidecars use.

    No two serve the same `digest12`.
    """

    def __init__(self) -> None:
        self.digest12 = f"{next(_digests):x}"
        self._port = 0
        self.start()

    def start(self) -> None:
        """Begin at zero, on the same port as before."""
        registry = CollectorRegistry()
        # As the process collector's, but of the moment.
        Gauge("process_start_time_seconds", "Start", registry=registry).set(time.time())
        verified = Gauge(
            "headwater_bundle_verified", "Verified", (*_IDENTITY, "prefix"), registry=registry
        )
        verified.labels(**_IDENTITY, prefix=PREFIX).set(1)
        self._requests = Counter(
            "headwater_requests_total",
            "Requests",
            (*_LABELS, "outcome", "eligible"),
            registry=registry,
        )
        self._cost = Counter("headwater_cost_usd_total", "Cost", _LABELS, registry=registry)
        self._first_byte = Histogram(
            "headwater_time_to_first_byte_seconds", "Time", _LABELS, registry=registry
        )
        self._server, self._thread = start_http_server(self._port, "127.0.0.1", registry)
        self._port = self._server.server_port

    def stop(self) -> None:
        """Take its counters with it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where its metrics are, as `host:port`."""
        return f"127.0.0.1:{self._port}"

    def count(self, outcome: str, number: int, *, eligible: bool = True, cost: float = 0.0) -> None:
        """Count requests, each of which cost that many dollars and began after half a second."""
        revision = {"prefix": PREFIX, "version": "v2", "digest12": self.digest12, "model": MODEL}
        labels = {**_IDENTITY, **revision}
        flag = "true" if eligible else "false"
        self._requests.labels(**labels, outcome=outcome, eligible=flag).inc(number)
        self._cost.labels(**labels).inc(cost * number)
        for _ in range(number):
            self._first_byte.labels(**labels).observe(0.5)

    def job(self, name: str = "sidecars", **labels: str) -> Mapping[str, Any]:
        """A scrape configuration for it; the labels are the target's."""
        targets = [{"targets": [self.address], "labels": labels}]
        return {"job_name": name, "static_configs": targets}
