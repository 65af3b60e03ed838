"""The sidecar between real clients and providers that behave, misbehave and vanish."""

import asyncio
import contextlib
import gzip
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import pytest
import yarl
from aiohttp import web

from headwater.contract.assembly import prepare
from headwater.contract.bundle import Bundle
from headwater.contract.route import pick
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.metrics import Identity
from headwater.sidecar.server import Sidecar
from tests.cluster.waiting import eventually, scaled
from tests.unit.sidecar import bundles

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": bundles.MODEL,
    "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 0,
              "cache_creation_input_tokens": 100},
}  # fmt: skip
HELLO: Any = {"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = event("message_start", message={**MESSAGE, "content": []})
EVENTS = [
    START,
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi \U0001f30a"}),
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
    event("message_stop"),
]


@dataclass
class Upstream:
    """A provider that does what a test says, and remembers what it was sent."""

    url: str = ""
    handler: Handler | None = None
    bodies: list[bytes] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        return await self.handler(request) if self.handler else web.json_response(MESSAGE)


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()
    async with listening(found.handle) as found.url:
        yield found


@dataclass
class Running:
    url: str
    metrics_url: str
    directory: Path
    sidecar: Sidecar
    client: aiohttp.ClientSession

    def sdk(self, **options: Any) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=self.url, api_key="sk-test", **options)

    def post(self, data: bytes | str | io.BytesIO, **options: Any) -> Any:
        return self.client.post(f"{self.url}/v1/messages", data=data, **options)

    def counted(self, line: str) -> bool:
        return any(
            all(part in found for part in line.split())
            for found in self.sidecar.metrics.exposition().decode().splitlines()
        )


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    upstream_url: str,
    declared: Bundle | None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    if declared is not None:
        bundles.mount(directory, declared)
    sidecar = Sidecar(BundleFollower(directory), upstream_url, Identity(), clock)
    async with (
        aiohttp.ClientSession() as client,
        sidecar.listening(port=0, metrics_address=("127.0.0.1", 0), poll_seconds=0.02) as at,
    ):
        yield Running(at.url, at.metrics_url, directory, sidecar, client)


@pytest.fixture
async def sidecar(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Running]:
    async with running(tmp_path / "bundle", upstream.url, bundles.make()) as found:
        yield found


async def test_sdk_gets_its_answer_and_the_provider_the_contract(
    sidecar: Running, upstream: Upstream
) -> None:
    """The very bytes, both revision headers on the answer, the key passed on as it came."""
    async with sidecar.sdk() as sdk:
        answer = await sdk.messages.with_raw_response.create(model=bundles.MODEL, **HELLO)
    assert (await answer.parse()).content[0].type == "text"
    contract = prepare(bundles.contract("v1"))
    assert answer.headers["x-headwater-digest"] == contract.digest
    assert answer.headers["x-headwater-version"] == "v1"
    (body,) = upstream.bodies
    assert b'"tools":[' + contract.tools + b"]" in body
    assert b'"system":[' + contract.system + b"]" in body
    sent = upstream.requests[0].headers
    assert "sk-test" in (sent.get("x-api-key", "") + sent.get("authorization", ""))
    assert sent["host"] in upstream.url
    assert sent["accept-encoding"] == "identity"
    assert sidecar.counted('headwater_requests_total outcome="miss" eligible="false" 1.0')


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for each in EVENTS:
        await response.write(each)
    return response


async def test_sdk_streams(sidecar: Running, upstream: Upstream) -> None:
    """Every event arrives, and the usage in them is counted."""
    upstream.handler = streamed
    async with (
        sidecar.sdk() as sdk,
        sdk.messages.stream(model=bundles.MODEL, **HELLO) as stream,
    ):
        assert await stream.get_final_text() == "hi \U0001f30a"
    await eventually(lambda: sidecar.counted("headwater_output_tokens_total v1 5.0"), 5, "counted")
    assert sidecar.counted('headwater_input_tokens_total kind="cache_write_5m" 100.0')


async def test_a_stream_passes_chunk_by_chunk(sidecar: Running, upstream: Upstream) -> None:
    """The first event is here before the provider has made the second."""
    go_on = asyncio.Event()

    async def paced(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(START)
        await go_on.wait()
        await response.write(EVENTS[-1])
        return response

    upstream.handler = paced
    async with sidecar.post(json.dumps({"model": bundles.MODEL, **HELLO})) as answer:
        assert await answer.content.readexactly(len(START)) == START
        go_on.set()
        assert await answer.content.read() == EVENTS[-1]


@pytest.mark.parametrize("length", [None, 1000])
async def test_a_cut_answer_stays_cut(
    sidecar: Running, upstream: Upstream, length: int | None
) -> None:
    """What came is passed on, and the end that did not come is not made up."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        response.content_length = length
        await response.prepare(request)
        await response.write(START)
        assert request.transport is not None
        request.transport.close()
        return response

    upstream.handler = cut
    async with sidecar.post(json.dumps({"model": bundles.MODEL, **HELLO})) as answer:
        assert await answer.content.readexactly(len(START)) == START
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    await eventually(lambda: sidecar.counted('requests_total outcome="error" 1.0'), 5, "counted")


@pytest.mark.parametrize("begun", [True, False])
async def test_an_application_that_goes_away_takes_its_request_along(
    sidecar: Running, upstream: Upstream, *, begun: bool
) -> None:
    """Tokens that nobody reads should not be made, and nothing is concluded from it."""
    here, gone = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        try:
            if begun:
                response = web.StreamResponse(headers={"content-type": "text/event-stream"})
                await response.prepare(request)
                await response.write(START)
            here.set()
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            gone.set()

    upstream.handler = endless
    asking = asyncio.create_task(
        sidecar.post(json.dumps({"model": bundles.MODEL, **HELLO})).__aenter__()
    )
    await here.wait()
    if begun:
        (await asking).close()
    else:
        asking.cancel()
    await asyncio.wait_for(gone.wait(), scaled(30))
    await eventually(lambda: sidecar.counted('requests_total outcome="aborted" 1.0'), 5, "counted")


BAD = [
    (b"", "not_json"),
    (b"not json", "not_json"),
    (b"a=1&b=2", "not_json"),
    (json.dumps({"model": "claude-other", **HELLO}).encode(), "other_model"),
    (json.dumps({"model": bundles.MODEL, "tools": [{"name": "t"}], **HELLO}).encode(), "own_tools"),
]


@pytest.mark.parametrize(("data", "reason"), BAD)
async def test_what_breaks_the_contract_is_refused_in_the_providers_shape(
    sidecar: Running, upstream: Upstream, data: bytes, reason: str
) -> None:
    """A 400 that names the reason; nothing reached the provider."""
    async with sidecar.post(data, headers={"content-type": "text/plain"}) as answer:
        document = await answer.json()
    assert answer.status == 400
    assert document["type"] == "error"
    assert document["error"]["type"] == "invalid_request_error"
    assert document["error"]["message"].startswith(f"headwater: {reason}: ")
    assert document["request_id"] == answer.headers["request-id"]
    assert upstream.bodies == []


async def test_the_sdk_raises_what_it_always_raises_and_does_not_retry(
    sidecar: Running, upstream: Upstream
) -> None:
    """A fifth marker and an hour after five minutes never leave the pod."""
    marker = {"type": "ephemeral"}
    blocks: Any = [{"type": "text", "text": "x", "cache_control": marker}] * 3
    messages: Any = [{"role": "user", "content": blocks}]
    async with sidecar.sdk() as sdk:
        with pytest.raises(anthropic.BadRequestError, match="too_many_markers"):
            await sdk.messages.create(model=bundles.MODEL, max_tokens=5, messages=messages)
        marker["ttl"] = "1h"
        with pytest.raises(anthropic.BadRequestError, match="ttl_order"):
            await sdk.messages.create(
                model=bundles.MODEL,
                max_tokens=5,
                messages=[{"role": "user", "content": blocks[:1]}],
            )
    assert upstream.bodies == []
    assert sidecar.counted("contract_violations_total too_many_markers 1.0")


async def test_observe_passes_the_very_bytes(tmp_path: Path, upstream: Upstream) -> None:
    """Not a space is changed, JSON or not."""
    observed = bundles.observing(bundles.make())
    async with running(tmp_path / "b", upstream.url, observed) as sidecar:
        for data, _ in BAD:
            async with sidecar.post(data) as answer:
                assert answer.status == 200
                assert "x-headwater-digest" not in answer.headers
    assert upstream.bodies == [data for data, _ in BAD]


async def test_ten_megabytes_of_history(sidecar: Running, upstream: Upstream) -> None:
    """Sent whole, one byte for one byte."""
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": f"{number} \u00e9" * 1000}
        for number in range(1600)
    ]
    data = json.dumps({"model": bundles.MODEL, "max_tokens": 5, "messages": messages}).encode()
    assert len(data) > 10_000_000
    async with sidecar.post(io.BytesIO(data)) as answer:
        assert answer.status == 200
    raw = json.dumps(messages).encode()
    assert raw in upstream.bodies[0]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/files"])
async def test_a_compressed_request_is_unpacked_for_the_contract_alone(
    sidecar: Running, upstream: Upstream, path: str
) -> None:
    """Its body is another one then, and leaves uncompressed; what passes keeps its coding."""
    data = gzip.compress(json.dumps({"model": bundles.MODEL, **HELLO}).encode())
    headers = {"content-encoding": "gzip"}
    async with sidecar.client.post(sidecar.url + path, data=data, headers=headers) as answer:
        assert answer.status == 200
    passed = path == "/v1/files"
    assert ("content-encoding" in upstream.requests[0].headers) == passed
    # The provider of this test unpacks what says that it is packed.
    assert json.loads(upstream.bodies[0])["model"] == bundles.MODEL


async def test_a_client_may_ask_before_it_sends(sidecar: Running, upstream: Upstream) -> None:
    """`Expect: 100-continue` is answered here, where the body goes."""
    data = json.dumps({"model": bundles.MODEL, **HELLO})
    async with sidecar.post(data, expect100=True) as answer:
        assert answer.status == 200
    assert "expect" not in upstream.requests[0].headers


async def test_count_tokens_counts_with_the_contract(sidecar: Running, upstream: Upstream) -> None:
    """An application that asks for a size gets the size of what it would send."""

    async def count(request: web.Request) -> web.StreamResponse:
        return web.json_response({"input_tokens": 14})

    upstream.handler = count
    async with sidecar.sdk() as sdk:
        counted = await sdk.messages.count_tokens(
            model=bundles.MODEL, messages=HELLO["messages"], system="mine"
        )
    assert counted.input_tokens == 14
    assert len(json.loads(upstream.bodies[0])["system"]) == 2
    assert not sidecar.counted("headwater_requests_total outcome")


async def test_each_request_of_a_batch_is_on_the_contract(
    sidecar: Running, upstream: Upstream
) -> None:
    """And one that breaks it refuses the batch, naming the entry."""

    async def accepted(request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": "msgbatch_1", "type": "message_batch"})

    upstream.handler = accepted
    good: Any = {"custom_id": "a", "params": {"model": bundles.MODEL, **HELLO}}
    bad: Any = {"custom_id": "b", "params": {"model": "claude-other", **HELLO}}
    async with sidecar.sdk() as sdk:
        batch = await sdk.messages.batches.create(requests=[good, good])
        assert batch.id == "msgbatch_1"
        with pytest.raises(anthropic.BadRequestError, match="other_model") as error:
            await sdk.messages.batches.create(requests=[good, bad])
    assert error.value.response.headers["x-headwater-at"] == "requests[1].params.model"
    (body,) = upstream.bodies
    contract = prepare(bundles.contract("v1"))
    assert body.count(b'"system":[' + contract.system + b"]") == 2
    assert not sidecar.counted("headwater_requests_total outcome")


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/%6Dessages", "/v1//messages", "/v1/./messages", "/x/../v1/messages"),
        *("/v1/messages/", "/V1/messages", "/v1/messages;x=1", "/v1/%256Dessages"),
    ],
)
async def test_no_spelling_of_the_path_goes_round_the_contract(
    sidecar: Running, upstream: Upstream, path: str
) -> None:
    """What the provider may read as the same path is the same path here."""
    url = yarl.URL(sidecar.url + path, encoded=True)
    body = json.dumps({"model": bundles.MODEL, **HELLO})
    async with sidecar.client.post(url, data=body) as answer:
        assert answer.headers["x-headwater-version"] == "v1"
    assert prepare(bundles.contract("v1")).system in upstream.bodies[0]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/v1/messages", "/anthropic/v1/messages", "/p/team/house/v1/messages"),
        *("/v1/complete", "/v1/chat/completions", "/model/m/invoke", "/v1/something_new"),
    ],
)
async def test_no_other_way_leads_to_a_model(
    sidecar: Running, upstream: Upstream, path: str
) -> None:
    """It is refused, with the path to use; nobody is sent anything."""
    body = json.dumps({"model": bundles.MODEL, **HELLO})
    async with sidecar.client.post(sidecar.url + path, data=body) as answer:
        assert answer.status == 400
        assert answer.headers["x-headwater-reason"] == "other_path"
        assert "send the request to /v1/messages" in (await answer.json())["error"]["message"]
    assert upstream.requests == []
    assert sidecar.counted('contract_violations_total reason="other_path" 1.0')


async def test_other_ways_pass_where_the_prefix_only_observes(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Byte for byte, and counted."""
    observed = bundles.observing(bundles.make())
    async with running(tmp_path / "b", upstream.url, observed) as sidecar:
        async with sidecar.client.post(f"{sidecar.url}/v1/complete", data=b"{}") as answer:
            assert answer.status == 200
        assert sidecar.counted('contract_violations_total reason="other_path" 1.0')
        assert sidecar.counted('other_requests_total kind="model" 1.0')
    assert upstream.bodies == [b"{}"]


async def test_everything_else_passes_untouched(sidecar: Running, upstream: Upstream) -> None:
    """Paths, queries, bodies and answers of other parts of the API; no connection's headers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        packed = gzip.compress(b"packed")
        return web.Response(
            status=207, body=packed, headers={"content-encoding": "gzip", "x-theirs": "1"}
        )

    upstream.handler = answer
    async with sidecar.client.put(
        yarl.URL(f"{sidecar.url}/v1/files?a=%2F&b=1", encoded=True),
        data=b"\x00" * 100_000,
        headers={"connection": "x-mine", "x-mine": "1", "x-headwater-session": "s", "x-kept": "1"},
    ) as got:
        assert (got.status, await got.read(), got.headers["x-theirs"]) == (207, b"packed", "1")
    (request,) = upstream.requests
    assert (request.method, request.raw_path) == ("PUT", "/v1/files?a=%2F&b=1")
    assert upstream.bodies == [b"\x00" * 100_000]
    assert "x-kept" in request.headers
    assert not {"x-mine", "x-headwater-session"} & {name.lower() for name in request.headers}


async def test_connections_to_the_provider_are_kept(sidecar: Running, upstream: Upstream) -> None:
    """A new connection for each request would cost a TLS handshake each time."""
    for _ in range(5):
        async with sidecar.post(json.dumps({"model": bundles.MODEL, **HELLO})) as answer:
            await answer.read()
    assert len(upstream.connections) == 1


async def test_a_provider_that_is_down_is_a_502(tmp_path: Path) -> None:
    """In the provider's shape, so that the SDK retries as it would have."""
    async with listening(Upstream().handle) as gone:
        pass
    async with running(tmp_path / "b", gone, bundles.make()) as sidecar:
        async with sidecar.sdk(max_retries=0) as sdk:
            with pytest.raises(anthropic.InternalServerError) as error:
                await sdk.messages.create(model=bundles.MODEL, **HELLO)
        assert error.value.status_code == 502
        assert "nothing was retried" in error.value.message
        assert sidecar.counted('requests_total outcome="error" 1.0')


async def test_without_a_bundle_nothing_is_sent_until_one_comes(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Not ready and a 503 with the reason; then ready, without a restart."""
    async with running(tmp_path / "b", upstream.url, None) as sidecar:
        async with sidecar.client.get(f"{sidecar.metrics_url}/readyz") as ready:
            assert ready.status == 503
            assert "No such file" in await ready.text()
        async with sidecar.client.get(f"{sidecar.url}/healthz") as alive:
            assert alive.status == 200
        async with sidecar.sdk(max_retries=0) as sdk:
            with pytest.raises(anthropic.InternalServerError, match="no verified bundle"):
                await sdk.messages.create(model=bundles.MODEL, **HELLO)
            bundles.mount(sidecar.directory, bundles.make())
            # The SDK's own retries bridge the moment in which the bundle is found.
            await sdk.with_options(max_retries=5).messages.create(model=bundles.MODEL, **HELLO)
        async with sidecar.client.get(f"{sidecar.url}/readyz") as ready:
            assert ready.status == 200
    assert len(upstream.bodies) == 1


async def test_a_flipped_byte_is_never_sent(sidecar: Running, upstream: Upstream) -> None:
    """The last good bundle answers, and /readyz and the metrics say what is wrong."""
    data = next(
        path for path in (sidecar.directory / "..data").iterdir() if path.name != "route.json"
    )
    data.write_bytes(data.read_bytes().replace(b"Windows", b"windows"))
    await eventually(lambda: sidecar.counted("headwater_bundle_verified 0.0"), 5, "refused")
    async with sidecar.sdk() as sdk:
        await sdk.messages.create(model=bundles.MODEL, **HELLO)
    assert b"Windows" in upstream.bodies[0]
    async with sidecar.client.get(f"{sidecar.metrics_url}/readyz") as ready:
        assert ready.status == 200
        assert "bytes were changed" in await ready.text()


async def test_a_conversation_stays_on_its_revision_across_a_swap(
    sidecar: Running, upstream: Upstream
) -> None:
    """Its history is cached behind v1; a new conversation gets what is drawn for it."""
    canary = bundles.make("v1", "v2", weight=10_000)
    assert pick(canary.route, "new").version == "v2"
    async with sidecar.sdk() as sdk:

        async def version(conversation: str) -> str:
            answer = await sdk.messages.with_raw_response.create(
                model=bundles.MODEL, extra_headers={"x-headwater-session": conversation}, **HELLO
            )
            found: str = answer.headers["x-headwater-version"]
            return found

        assert await version("old") == "v1"
        bundles.mount(sidecar.directory, canary)
        await eventually(lambda: sidecar.counted('bundle_info role="candidate"'), 5, "swapped")
        assert (await version("old"), await version("new")) == ("v1", "v2")
        bundles.mount(sidecar.directory, bundles.make("v1"))
        gone = lambda: not sidecar.counted('bundle_info role="candidate"')  # noqa: E731 - named
        await eventually(gone, 5, "swapped back")
        assert await version("new") == "v1"
    assert "x-headwater-session" not in upstream.requests[0].headers


async def test_a_cold_lane_is_written_once(sidecar: Running, upstream: Upstream) -> None:
    """Fifty at once on a cold lane: the provider sees one until its answer begins."""
    answer_now = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await answer_now.wait()
        return web.json_response(MESSAGE)

    upstream.handler = slow

    async def ask(sdk: anthropic.AsyncAnthropic) -> None:
        await sdk.messages.create(model=bundles.MODEL, **HELLO)

    async with sidecar.sdk() as sdk:
        asking = [asyncio.create_task(ask(sdk)) for _ in range(50)]
        await eventually(lambda: len(upstream.bodies) == 1, 5, "the first is there")
        async with sidecar.client.get(f"{sidecar.url}/healthz") as alive:
            assert alive.status == 200
        assert len(upstream.bodies) == 1
        answer_now.set()
        await asyncio.gather(*asking)
    assert len(upstream.bodies) == 50
    assert sidecar.counted('headwater_requests_total eligible="true" 49.0')


async def test_a_request_in_flight_is_finished_before_the_end(
    tmp_path: Path, upstream: Upstream
) -> None:
    """A rollout of the pod loses no answer."""
    here, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        here.set()
        await go_on.wait()
        return web.json_response(MESSAGE)

    upstream.handler = slow
    async with aiohttp.ClientSession() as client:

        async def ask(url: str) -> int:
            body = json.dumps({"model": bundles.MODEL, **HELLO})
            async with client.post(f"{url}/v1/messages", data=body) as answer:
                return answer.status

        async with running(tmp_path / "b", upstream.url, bundles.make()) as sidecar:
            asking = asyncio.create_task(ask(sidecar.url))
            await here.wait()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
        assert asking.done(), "the sidecar ends after its last answer"
        assert await asking == 200
