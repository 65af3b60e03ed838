"""What the webhooks count. Own registry, so that nothing else gets in."""

from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from headwater.webhook.certificates import Certificate
from headwater.webhook.injection import Injection

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """The registry of one replica."""

    def __init__(self, certificate: Certificate) -> None:
        """Count nothing yet; `certificate` is what is served."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # its lack
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reviews = Counter(
            "headwater_webhook_reviews_total",
            "Admission reviews by what became of them",
            ("webhook", "outcome"),
            registry=registry,
        )
        self._without_sidecar = Counter(
            "headwater_webhook_pods_without_sidecar_total",
            "Pods that were skipped or refused, and why",
            ("outcome", "reason"),
            registry=registry,
        )
        self._seconds = Histogram(
            "headwater_webhook_duration_seconds",
            "From a review's arrival until its answer",
            ("webhook",),
            buckets=_BUCKETS,
            registry=registry,
        )
        Gauge(
            "headwater_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that is served ends to be valid",
            registry=registry,
        ).set_function(lambda: certificate.expires.timestamp())  # noqa: PLW0108 - it is replaced
        Gauge(
            "headwater_webhook_certificate_refused",
            "1 where the files hold a certificate that cannot be served, so that an older one is",
            registry=registry,
        ).set_function(lambda: float(certificate.problem is not None))

    def reviewed(self, webhook: str, outcome: str, seconds: float) -> None:
        """Count a review."""
        self._reviews.labels(webhook, outcome).inc()
        self._seconds.labels(webhook).observe(seconds)

    def decided(self, injection: Injection) -> None:
        """Count a pod that got no sidecar."""
        if injection.reason is not None:
            self._without_sidecar.labels(injection.outcome, injection.reason).inc()

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return prometheus_client.generate_latest(self.registry)
