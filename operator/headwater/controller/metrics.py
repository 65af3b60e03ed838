"""What a controller shows of its work, as Prometheus reads it: the table in docs/operating.md."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headwater.controller.evidence import Evidence
from headwater.controller.queue import WorkQueue

_PREFIX: Final = ("namespace", "prefix")


@dataclass(frozen=True, slots=True, eq=False)
class Metrics(Collector):
    """Of one process; it has neither a queue nor evidence while another one leads."""

    queue: WorkQueue[Any] | None
    evidence: Evidence | None

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(self)
        warmth = self.evidence.warmth.exposition() if self.evidence else b""
        return generate_latest(registry) + warmth

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What is so at this moment."""
        leads = self.queue is not None
        yield _gauge("headwater_controller_leads", "1 where this one works", float(leads))
        if self.queue is None or self.evidence is None:
            return
        yield _gauge(
            "headwater_controller_failing",
            "Prefixes and warmers whose last reconcile failed; each is tried again",
            self.queue.failing,
        )
        yield _gauge(
            "headwater_controller_evidence_available",
            "0 where the source of evidence is silent, so that rollouts stand still",
            float(not self.evidence.outage),
        )
        phase = GaugeMetricFamily(
            "headwater_prefix_phase",
            "1 for the phase that a prefix is in",
            labels=(*_PREFIX, "phase"),
        )
        stalled = GaugeMetricFamily(
            "headwater_prefix_stalled",
            "1 where a prefix does not become what it declares before somebody acts",
            labels=_PREFIX,
        )
        for key, record in self.evidence.store.prefixes.items():
            status = record.body.get("status") or {}
            conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
            phase.add_metric((*key, status.get("phase", "Pending")), 1)
            stalled.add_metric(key, float(conditions.get("Stalled") == "True"))
        yield phase
        yield stalled


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value)
