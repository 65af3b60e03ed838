"""The simulator over plain HTTP: what no SDK would send, and its own endpoints."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from headwater.providers.models import models
from headwater.simulator.server import MAX_REQUEST_BYTES, Settings, serving
from tests.cluster.waiting import eventually

HEADERS = {"x-api-key": "a", "anthropic-version": "2023-06-01"}
BLOCK = {"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral"}}
REQUEST = {
    "model": "claude-opus-4-8",
    "max_tokens": 1,
    "system": [BLOCK],
    "messages": [{"role": "user", "content": "hi"}],
}


@dataclass
class Api:
    session: aiohttp.ClientSession
    now: float = 0.0

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        data = None if raw is None else io.BytesIO(raw)
        given = HEADERS if headers is None else headers
        async with self.session.request(method, path, data=data, headers=given) as answer:
            return answer.status, await answer.json(), answer.headers

    async def read(self, **headers: str) -> int:
        """Tokens that a request reads from cache."""
        status, answer, _ = await self.call("POST", "/v1/messages", REQUEST, HEADERS | headers)
        assert status == 200
        return int(answer["usage"]["cache_read_input_tokens"])


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    found = Api(None)  # type: ignore[arg-type]  # set below: the clock is the test's
    async with (
        serving(Settings(latency_base_ms=0, latency_ms_per_1k=0), clock=lambda: found.now) as url,
        aiohttp.ClientSession(url) as found.session,
    ):
        yield found


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "kind", "words"),
    [
        ("/v1/messages", REQUEST, {}, 401, "authentication_error", "x-api-key header is required"),
        ("/v1/messages", REQUEST, HEADERS | {"x-api-key": ""}, 401, "authentication_error", ""),
        ("/v1/messages", REQUEST, {"authorization": "Basic eA=="}, 401, "authentication_error", ""),
        ("/v1/messages", REQUEST, {"x-api-key": "a"}, 400, "invalid_request_error",
         "anthropic-version: header is required"),
        ("/v1/messages", REQUEST, HEADERS | {"anthropic-version": "tomorrow"}, 400,
         "invalid_request_error", "is not a valid version"),
        ("/v1/messages", REQUEST, HEADERS | {"x-simulator-fault": "fire"}, 400,
         "invalid_request_error", "unknown fault 'fire'"),
        ("/v1/messages", b"{", HEADERS, 400, "invalid_request_error", "not valid JSON"),
        ("/v1/messages", b"[]", HEADERS, 400, "invalid_request_error", "must be a JSON object"),
        ("/v1/messages", b"\xff", HEADERS, 400, "invalid_request_error", "not valid JSON"),
        ("/v1/messages", b"[" * 50_000, HEADERS, 400, "invalid_request_error", "not valid JSON"),
        ("/v1/messages", REQUEST | {"model": "gpt"}, HEADERS, 404, "not_found_error", "model: gpt"),
        ("/v1/messages/count_tokens", {}, HEADERS, 400, "invalid_request_error", "model: Field"),
        ("/v1/complete", {}, HEADERS, 404, "not_found_error", "Not Found"),
        ("/v1/models", {}, HEADERS, 405, "invalid_request_error", "Method Not Allowed"),
        ("/_simulator/advance", {"seconds": -1}, {}, 400, "invalid_request_error", "at least 0"),
        ("/_simulator/advance", {"seconds": True}, {}, 400, "invalid_request_error", "at least 0"),
        ("/_simulator/advance", b"", {}, 400, "invalid_request_error", "not valid JSON"),
        ("/_simulator/faults", {"faults": ["fire"]}, {}, 400, "invalid_request_error",
         "unknown fault 'fire'; known are 400"),
        ("/_simulator/faults", {"fault": "429"}, {}, 400, "invalid_request_error", "fault"),
    ],
)  # fmt: skip
async def test_refusals_have_the_providers_shape(
    api: Api, path: str, body: Any, headers: dict[str, str], status: int, kind: str, words: str
) -> None:
    """Type, words, and the same request id in the body and in the header."""
    found, answer, given = await api.call("POST", path, body, headers)
    assert (found, answer["type"], answer["error"]["type"]) == (status, "error", kind)
    assert words in answer["error"]["message"]
    assert answer["request_id"] == given["request-id"]
    if status == 401:
        assert "anthropic-workspace-id" not in given


async def test_a_request_above_32_megabytes_is_too_large(api: Api) -> None:
    """One at the limit is read (and is no JSON)."""
    for size, status in ((MAX_REQUEST_BYTES, 400), (MAX_REQUEST_BYTES + 1, 413)):
        found, answer, _ = await api.call("POST", "/v1/messages", b" " * size)
        assert found == status
    assert answer["error"]["type"] == "request_too_large"


async def test_workspaces(api: Api) -> None:
    """A key is one, however it is sent; the header names one for several keys."""
    bearer = {"x-api-key": "", "authorization": "Bearer a"}
    assert await api.read() == 0
    assert await api.read(**bearer) > 0
    assert await api.read(**{"x-api-key": "b"}) == 0
    assert await api.read(**{"anthropic-workspace-id": "shared"}) == 0
    assert await api.read(**{"x-api-key": "b", "anthropic-workspace-id": "shared"}) > 0
    _, _, headers = await api.call("GET", "/v1/models")
    assert headers["anthropic-workspace-id"].startswith("wrkspc_")
    assert headers["anthropic-organization-id"]


async def test_the_clock_is_the_callers(api: Api) -> None:
    """And it can be put forward beside."""
    assert await api.read() == 0
    api.now = 299
    assert await api.read() > 0
    status, answer, _ = await api.call("POST", "/_simulator/advance", {"seconds": 301}, {})
    assert (status, answer) == (200, {"now": 600})
    assert await api.read() == 0
    status, _, _ = await api.call("DELETE", "/_simulator/cache", None, {})
    assert status == 200
    assert await api.read() == 0


async def test_what_was_received(api: Api) -> None:
    """Byte for byte, with its answer's usage, and never with a key."""
    await api.read(**{"x-api-key": "sk-secret"})
    await api.call("POST", "/v1/messages", b"{", HEADERS)
    await api.call("POST", "/v1/messages/count_tokens", REQUEST, HEADERS)
    _, (first, second, third), _ = await api.call("GET", "/_simulator/requests?bodies=1", None, {})
    assert [row["number"] for row in (first, second, third)] == [1, 2, 3]
    assert [row["status"] for row in (first, second, third)] == [200, 400, 200]
    assert json.loads(first["body"]) == REQUEST
    assert first["model"] == "claude-opus-4-8"
    assert first["usage"]["cache_write_5m"] > 0
    assert first["usage"]["output"] == 1
    assert third["path"] == "/v1/messages/count_tokens"
    assert set(third["usage"].values()) == {0}
    assert "sk-secret" not in json.dumps([first, second, third])
    _, stats, _ = await api.call("GET", "/_simulator/stats", None, {})
    assert (stats["received"], stats["cache_entries"]) == (3, 1)
    assert [row["requests"] for row in stats["totals"]] == [1]
    _, rows, _ = await api.call("GET", "/_simulator/requests", None, {})
    assert all("body" not in row for row in rows)


async def test_planned_faults_come_in_order_and_write_nothing(api: Api) -> None:
    """One for each request; a rate limit says how long to wait."""
    plan = {"faults": ["429", "529"], "retry_after": 0.25}
    assert (await api.call("POST", "/_simulator/faults", plan, {}))[1] == {"planned": 2}
    limited, _, headers = await api.call("POST", "/v1/messages", REQUEST)
    assert (limited, headers["retry-after"]) == (429, "0.25")
    overloaded, _, headers = await api.call("POST", "/v1/messages", REQUEST)
    assert (overloaded, "retry-after" in headers) == (529, False)
    assert await api.read() == 0


async def test_who_leaves_before_the_answer_begins_writes_nothing(api: Api) -> None:
    """The entry would be readable only from then on."""
    await api.call("POST", "/_simulator/faults", {"faults": ["hang"]}, {})
    leaving = asyncio.create_task(api.call("POST", "/v1/messages", REQUEST))

    async def received() -> bool:
        return bool((await api.call("GET", "/_simulator/stats", None, {}))[1]["received"])

    # mypy cannot tell the value from what is awaited for it
    await eventually(received, 5, "the request is received")  # type: ignore[arg-type]
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await api.read() == 0


@pytest.mark.parametrize(
    ("query", "picked", "more"),
    [
        ("", slice(0, 20), len(models()) > 20),
        ("?limit=2", slice(0, 2), True),
        ("?limit=1000", slice(0, None), False),
        ("?limit=2&after_id={2}", slice(3, 5), True),
        ("?limit=2&before_id={5}", slice(3, 5), True),
        ("?limit=9&before_id={2}", slice(0, 2), False),
    ],
)
async def test_pages_of_models(api: Api, query: str, picked: slice, more: bool) -> None:  # noqa: FBT001 - a table's column
    """Forwards after one, or backwards before one."""
    ids = [facts.dated_id or facts.id for facts in models()]
    status, page, _ = await api.call("GET", "/v1/models" + query.format(*ids))
    assert status == 200
    assert [row["id"] for row in page["data"]] == ids[picked]
    assert page["has_more"] is more
    assert (page["first_id"], page["last_id"]) == (ids[picked][0], ids[picked][-1])


async def test_models_by_lifecycle(api: Api) -> None:
    """One or several; none of them is an empty page."""
    retiring = [facts.dated_id or facts.id for facts in models() if facts.retires_on]
    for query, number in (
        ("lifecycle[]=deprecated", len(retiring)),
        ("lifecycle[]=active&lifecycle[]=deprecated", len(models())),
        ("lifecycle=retired", 0),
    ):
        _, page, _ = await api.call("GET", f"/v1/models?{query}&limit=1000")
        assert len(page["data"]) == number


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=none"])
async def test_a_page_that_is_none(api: Api, query: str) -> None:
    """400, naming the parameter."""
    status, answer, _ = await api.call("GET", f"/v1/models?{query}")
    assert status == 400
    assert answer["error"]["message"].startswith(query.split("=", maxsplit=1)[0])


async def test_cached_tokens_make_an_answer_faster() -> None:
    """What is read need not be computed: here 100 ms for each thousand tokens that are not."""
    loop = asyncio.get_running_loop()
    settings = Settings(latency_base_ms=0, latency_ms_per_1k=100)
    async with serving(settings, clock=loop.time) as url, aiohttp.ClientSession(url) as session:
        seconds = []
        for _ in range(2):
            began = loop.time()
            await Api(session).read()
            seconds.append(loop.time() - began)
    assert seconds[0] >= 0.26
    assert seconds[1] < seconds[0]


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "between 1 and 100,000 requests"),
        ([{"custom_id": "a"}], "`params`"),
        ([{"custom_id": "a b", "params": {}}], "requests.0.custom_id"),
        ([{"custom_id": "a", "params": {}}] * 2, "requests.1.custom_id: it is used twice"),
    ],
)
async def test_a_batch_is_refused_as_a_whole(api: Api, requests: Any, words: str) -> None:
    status, answer, _ = await api.call("POST", "/v1/messages/batches", {"requests": requests})
    assert status == 400
    assert words in answer["error"]["message"]


async def test_a_batch_is_its_workspaces_own_and_not_ended_at_once(api: Api) -> None:
    """As the provider's: results are there when it says so, and another key does not find it."""
    requests = [{"custom_id": "a", "params": REQUEST}]
    _, made, _ = await api.call("POST", "/v1/messages/batches", {"requests": requests})
    path = f"/v1/messages/batches/{made['id']}"
    assert made["request_counts"]["processing"] == 1
    assert (await api.call("GET", f"{path}/results"))[0] == 400
    assert (await api.call("GET", path, headers=HEADERS | {"x-api-key": "b"}))[0] == 404
    seen = [(await api.call("GET", path))[1] for _ in range(2)]
    assert [each["processing_status"] for each in seen] == ["in_progress", "ended"]
    assert seen[1]["results_url"].endswith(f"{path}/results")
    assert await api.read() > 0
