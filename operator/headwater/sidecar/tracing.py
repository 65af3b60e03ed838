"""Spans of the requests that go to the provider, for whoever wants them: the extra `otel`.

Names are those of the semantic conventions for generative AI and for Anthropic
(opentelemetry.io/docs/specs/semconv/gen-ai, in development, as of 2026-11). A span has numbers and
names and no part of a prompt or an answer. Nothing here is loaded where it is not asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headwater.sidecar.exchange import Exchange
from headwater.sidecar.metrics import Identity, Outcome
from headwater.sidecar.relay.plan import Ending, Watcher

_PORTS: Final = {"http": 80, "https": 443}
_FIELDS: Final = ("traceparent", "tracestate")
_FAILED: Final = frozenset({Outcome.ERROR, Outcome.REJECTED, Outcome.ABORTED})
_BAD: Final = 400


def exporting(identity: Identity) -> TracerProvider:
    """A provider that exports as the OTEL_ variables of the environment say."""
    resource = Resource.create(
        {
            "service.name": "headwater-sidecar",
            "k8s.namespace.name": identity.namespace,
            "headwater.team": identity.team,
            "headwater.surface": identity.surface,
            "headwater.workload": identity.workload,
        }
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """Begins a span for each request, as a part of the trace that the application began."""

    def __init__(self, provider: trace.TracerProvider, upstream: str) -> None:
        """`upstream` is the provider's base URL."""
        self._tracer = provider.get_tracer("headwater.sidecar")
        self._trace = TraceContextTextMapPropagator()
        url = urlsplit(upstream)
        self._server: dict[str, str | int] = {
            "server.address": url.hostname or "",
            "server.port": url.port or _PORTS.get(url.scheme, 0),
        }

    def begin(
        self, headers: Mapping[str, str], exchange: Exchange, watcher: Watcher
    ) -> tuple[tuple[tuple[bytes, bytes], ...], Watcher]:
        """The headers that carry the trace on to the provider, and who ends the span."""
        revision = exchange.revision
        span = self._tracer.start_span(
            f"chat {exchange.model}",
            context=self._trace.extract({key: headers[key] for key in _FIELDS if key in headers}),
            kind=trace.SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": exchange.model,
                **self._server,
                "headwater.prefix": exchange.prefix,
                "headwater.version": revision.version if revision else "",
                "headwater.digest": revision.digest if revision else "",
            },
        )
        carried: dict[str, str] = {}
        self._trace.inject(carried, trace.set_span_in_context(span))
        fields = ((name.encode(), carried.get(name, "").encode("latin-1")) for name in _FIELDS)
        return tuple(fields), _Traced(span, exchange, watcher) if span.is_recording() else watcher


class _Traced:
    """Shows a watcher its answer, and ends the span with it."""

    __slots__ = ("_exchange", "_span", "_watcher", "data")

    def __init__(self, span: trace.Span, exchange: Exchange, watcher: Watcher) -> None:
        self._span = span
        self._exchange = exchange
        self._watcher = watcher
        self.data = watcher.data

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
        self._span.set_attribute("http.response.status_code", status)
        if status >= _BAD:
            self._span.set_attribute("error.type", str(status))
        added = self._watcher.began(status, fields)
        self.data = self._watcher.data
        return added

    def ended(self, ending: Ending) -> None:
        try:
            self._watcher.ended(ending)
        finally:
            span, exchange = self._span, self._exchange
            usage, outcome = exchange.usage, exchange.outcome
            if usage is not None:
                span.set_attributes(
                    {
                        "gen_ai.usage.input_tokens": usage.prompt,
                        "gen_ai.usage.output_tokens": usage.output,
                        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
                        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_5m
                        + usage.cache_write_1h,
                    }
                )
            if outcome is not None:
                span.set_attribute("headwater.outcome", outcome.value)
                if outcome in _FAILED:
                    span.set_status(trace.StatusCode.ERROR, outcome.value)
            span.end()
