"""Spans of requests, where they are asked for: names, numbers, and the trace that goes on."""

import signal
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.metrics import Identity
from headwater.sidecar.server import Sidecar
from headwater.sidecar.tracing import Tracing
from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import scaled
from tests.integration.test_sidecar import HELLO, MESSAGE, Handler, listening
from tests.integration.test_sidecar_process import BODY, Provider, address, ask, start
from tests.unit.sidecar import bundles

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
HEADERS: Final = {"x-api-key": "sk-test", "anthropic-version": "2023-06-01",
                  "traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}  # fmt: skip


async def traced(
    directory: Path,
    *bodies: Mapping[str, Any],
    sampler: Sampler | None = None,
    answer: Handler | None = None,
) -> tuple[InMemorySpanExporter, list[int]]:
    """What was exported of some requests, and with which statuses they were answered."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    bundles.mount(directory, bundles.make(size=3000))
    statuses = []
    provided = listening(answer) if answer else serving(Settings(latency_base_ms=1))
    async with provided as url, aiohttp.ClientSession() as client:
        sidecar = Sidecar(
            BundleFollower(directory),
            url,
            Identity(),
            lambda: 1000.0,
            tracing=Tracing(provider, url),
        )
        async with sidecar.listening(port=0, metrics_address=("127.0.0.1", 0)) as at:
            for body in bodies:
                sent = {"model": bundles.MODEL, **HELLO, **body}
                headers = HEADERS | sent.pop("headers", {})
                path = sent.pop("path", "/v1/messages")
                async with client.post(f"{at.url}{path}", json=sent, headers=headers) as got:
                    await got.read()
                    statuses.append(got.status)
    return memory, statuses


async def test_a_span_says_what_was_asked_and_what_it_used(tmp_path: Path) -> None:
    """In the conventions' names; as a child of the application's span, and no text in it."""
    memory, _ = await traced(tmp_path / "b", {}, {"stream": True})
    wrote, read = memory.get_finished_spans()
    assert (wrote.name, wrote.kind) == (f"chat {bundles.MODEL}", SpanKind.CLIENT)
    assert wrote.parent is not None
    assert wrote.context is not None
    assert f"{wrote.parent.span_id:016x}" == PARENT
    assert f"{wrote.context.trace_id:032x}" == TRACE
    first, second = dict(wrote.attributes or {}), dict(read.attributes or {})
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": bundles.MODEL,
        "server.address": "127.0.0.1",
        "headwater.prefix": "ai-platform/org-core",
        "headwater.version": "v1",
        "http.response.status_code": 200,
    }
    assert expected.items() <= first.items()
    assert expected.items() <= second.items()
    assert (first["headwater.outcome"], second["headwater.outcome"]) == ("miss", "hit")
    written, again = (each["gen_ai.usage.cache_creation.input_tokens"] for each in (first, second))
    assert isinstance(written, int)
    assert written > 1000
    assert (again, second["gen_ai.usage.cache_read.input_tokens"]) == (0, written)
    total = second["gen_ai.usage.input_tokens"]
    assert isinstance(total, int)
    assert total > written
    told = wrote.to_json() + read.to_json()
    assert "hello" not in told
    assert "steady" not in told
    assert "sk-test" not in told


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [("529", 529, "529"), ("401", 401, "401"), ("error-event", 200, None)],
)
async def test_what_fails_is_an_error(
    tmp_path: Path, fault: str, status: int, error: str | None
) -> None:
    """By its status, or by its stream's last event."""
    body = {"headers": {"x-simulator-fault": fault}, "stream": True}
    memory, _ = await traced(tmp_path / "b", body)
    (span,) = memory.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is StatusCode.ERROR


async def test_what_is_not_sent_or_not_counted_has_no_span(tmp_path: Path) -> None:
    """A refusal, and counting tokens."""
    memory, statuses = await traced(
        tmp_path / "b", {"tools": [{"name": "own"}]}, {"path": "/v1/messages/count_tokens"}
    )
    assert statuses == [400, 200]
    assert not memory.get_finished_spans()


@pytest.mark.parametrize(("sampler", "flags"), [(None, "01"), (ALWAYS_OFF, "00")])
async def test_the_trace_goes_on_to_the_provider(
    tmp_path: Path, sampler: Sampler | None, flags: str
) -> None:
    """Sampled or not: the same trace and state, and the span here as its parent."""
    got: list[Mapping[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        got.append(request.headers)
        return web.json_response(MESSAGE)

    memory, _ = await traced(tmp_path / "b", {}, sampler=sampler, answer=answer)
    (headers,) = got
    version, trace, parent, found = headers["traceparent"].split("-")
    assert (version, trace, found) == ("00", TRACE, flags)
    assert parent != PARENT
    assert headers["tracestate"] == "vendor=1"
    assert len(memory.get_finished_spans()) == (flags == "01")


def test_the_process_exports_what_it_traced(tmp_path: Path) -> None:
    """As the environment says, at its end at the latest; without the flag nothing is loaded."""
    exported: list[tuple[str, bytes]] = []

    class Collector(Provider):
        def do_POST(self) -> None:  # noqa: N802 - the library's name
            if self.path == "/v1/traces":
                body = self.rfile.read(int(self.headers["content-length"]))
                exported.append((self.headers["content-type"], body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()
            else:
                super().do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    bundles.write_plain(tmp_path, bundles.make())
    try:
        for flags in ([], ["--otel"]):
            process = start(
                *("--bundle", str(tmp_path), "--port", "0", "--upstream", url),
                *("--metrics-address", "127.0.0.1:0", *flags),
                OTEL_EXPORTER_OTLP_ENDPOINT=url,
                OTEL_EXPORTER_OTLP_COMPRESSION="none",
                NO_PROXY="127.0.0.1",
            )
            with process:
                at = address(process, "listening on ")
                assert ask(f"{at}/v1/messages", BODY)[0] == 200
                loaded = Path(f"/proc/{process.pid}/maps")
                if loaded.exists():
                    assert ("_upb" in loaded.read_text()) == bool(flags)
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=scaled(30))
                assert process.returncode == 0
            assert len(exported) == len(flags)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    ((kind, body),) = exported
    assert kind == "application/x-protobuf"
    assert f"chat {bundles.MODEL}".encode() in body
