"""The HTTP edge of the simulator: carries between the wire and the pure parts.

It decides nothing about caching. `serving` starts one in-process, for tests; `headwater
simulator` runs the same. Beside the provider's endpoints there are some of its own under
`/_simulator/`: what was received, totals, the clock, the cache, and faults to come.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from headwater.providers.models import lookup, models
from headwater.simulator.answer import Answer, error_event, model_info
from headwater.simulator.batches import Asked, Batch, Batches, read_batch
from headwater.simulator.cache import Outcome, PromptCache
from headwater.simulator.errors import ApiError, invalid
from headwater.simulator.faults import Faults, Planned
from headwater.simulator.identity import check_bearer, exchanged
from headwater.simulator.iterations import MAX_SEARCHES, Iteration, run
from headwater.simulator.journal import Journal, Record
from headwater.simulator.prompt import Prompt, read_prompt
from headwater.simulator.validation import VERSIONS

MAX_REQUEST_BYTES: Final = 32 << 20
_HANG_SECONDS: Final = 600.0
_BATCHES: Final = "/v1/messages/batches"
_MAX_MODELS_PAGE: Final = 1000

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_WORKSPACE: Final = web.RequestKey("workspace", str)
_RECORD: Final = web.RequestKey("record", Record)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a simulator behaves.

    `time_scale` speeds up the ageing of caches and leaves latency alone: an answer begins
    after `latency_base_ms` real milliseconds, and `latency_ms_per_1k` more for each thousand
    prompt tokens that are not read from cache.
    """

    time_scale: float = 1.0
    latency_base_ms: float = 20.0
    latency_ms_per_1k: float = 10.0
    answer_tokens: int = 12


class Simulator:
    """State and handlers of one simulator; `clock` gives seconds that never go back."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._began = clock()
        self._advanced = 0.0
        self._cache = PromptCache()
        self._journal = Journal()
        self._faults = Faults()
        self._batches = Batches()
        self._requests = 0

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self._clock() - self._began) * self._settings.time_scale + self._advanced

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._frame], client_max_size=MAX_REQUEST_BYTES)
        app.on_response_prepare.append(self._add_headers)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_post(_BATCHES, self._create_batch)
        app.router.add_get(f"{_BATCHES}/{{batch}}", self._batch)
        app.router.add_get(f"{_BATCHES}/{{batch}}/results", self._batch_results)
        app.router.add_post("/v1/oauth/token", self._token)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{model}", self._model)
        app.router.add_get("/_simulator/requests", self._show_requests)
        app.router.add_get("/_simulator/stats", self._show_stats)
        app.router.add_post("/_simulator/advance", self._advance)
        app.router.add_delete("/_simulator/cache", self._clear_cache)
        app.router.add_post("/_simulator/faults", self._plan_faults)
        return app

    # The frame of every request -----------------------------------------------------------

    @web.middleware
    async def _frame(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._requests += 1
        request[_REQUEST_ID] = f"req_simulator{self._requests:012d}"
        try:
            response = await handler(request)
        except ApiError as error:
            response = self._refusal(request, error)
        except web.HTTPRequestEntityTooLarge:
            response = self._refusal(request, ApiError(413, "Request exceeds the maximum size"))
        except web.HTTPException as error:
            status = error.status if error.status in {404, 405} else 400
            response = self._refusal(request, ApiError(status, error.reason))
        if (record := request.get(_RECORD)) is not None:
            record.status = response.status
        return response

    def _refusal(self, request: web.Request, error: ApiError) -> web.Response:
        return web.Response(
            status=error.status,
            body=error.body(request[_REQUEST_ID]),
            content_type="application/json",
            headers=error.headers,
        )

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["request-id"] = request.get(_REQUEST_ID, "req_simulator")
        if (workspace := request.get(_WORKSPACE)) is not None:
            response.headers["anthropic-organization-id"] = "org_simulator"
            response.headers["anthropic-workspace-id"] = workspace

    def _enter(self, request: web.Request) -> str:
        """Authenticate and check the version; the version is returned."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        if not key:
            raise ApiError(401, "x-api-key header is required")
        check_bearer(token, ",".join(request.headers.getall("anthropic-beta", [])))
        named = request.headers.get("anthropic-workspace-id", "")
        if not named.isascii():
            raise invalid("anthropic-workspace-id: header must be ASCII")
        # One workspace a key unless the header names one. Only a hash of the key is kept.
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        request[_WORKSPACE] = named or f"wrkspc_{digest[:16]}"
        version = request.headers.get("anthropic-version")
        if version is None:
            raise invalid("anthropic-version: header is required")
        if version not in VERSIONS:
            raise invalid(f'anthropic-version: "{version}" is not a valid version')
        return version

    async def _read(self, request: web.Request, *, counting: bool = False) -> Prompt:
        version = self._enter(request)
        body = await request.read()
        record = self._journal.add(
            request[_REQUEST_ID], self.now, request.path, request[_WORKSPACE], body
        )
        request[_RECORD] = record
        return self._prompt(request, record, version, counting=counting)

    def _prompt(
        self, request: web.Request, record: Record, version: str, *, counting: bool = False
    ) -> Prompt:
        values = ",".join(request.headers.getall("anthropic-beta", []))
        betas = frozenset(beta.strip() for beta in values.split(",") if beta.strip())
        prompt = read_prompt(
            _decoded(record.body),
            workspace=record.workspace,
            version=version,
            betas=betas,
            counting=counting,
        )
        record.model = prompt.facts.id
        return prompt

    # The API ------------------------------------------------------------------------------

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        prompt = await self._read(request)
        record = request[_RECORD]
        fault = self._faults.take(request.headers.get("x-simulator-fault"))
        if fault == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        if fault in {"hang", "disconnect"}:
            return _hung_up(request)
        if fault == "error-event" and not prompt.stream:
            raise ApiError(529, "Overloaded")
        outcome = self._cache.begin(prompt.positions, prompt.facts.min_cacheable_tokens, record.at)
        processed = prompt.tokens - outcome.usage.cache_read
        latency_ms = (
            self._settings.latency_base_ms + self._settings.latency_ms_per_1k * processed / 1000
        )
        await asyncio.sleep(latency_ms / 1000)
        self._cache.commit(outcome)
        message_id = f"msg_simulator{request[_REQUEST_ID][-12:]}"
        searches = _searches(request) if prompt.searches else 0
        iterations = run(prompt, outcome, self._cache, searches=searches, now=record.at)
        answer = Answer(prompt, iterations, message_id, self._settings.answer_tokens)
        self._journal.finish(record, answer.usage, answer.bill)
        if prompt.stream:
            return await _stream(request, answer, fault)
        if fault == "truncate":
            return await _half(request, answer.json())
        return web.Response(body=answer.json(), content_type="application/json")

    async def _count_tokens(self, request: web.Request) -> web.Response:
        prompt = await self._read(request, counting=True)
        return _json({"input_tokens": prompt.tokens})

    async def _create_batch(self, request: web.Request) -> web.Response:
        version = self._enter(request)
        asked = read_batch(await request.read())
        found = [(each, *self._answered(request, each, version)) for each in asked]
        # They are answered side by side: none finds what another one writes.
        for _, _, outcome in found:
            if outcome is not None:
                self._cache.commit(outcome)
        results = [{"custom_id": each.custom_id, "result": result} for each, result, _ in found]
        batch = Batch(f"msgbatch_simulator{request[_REQUEST_ID][-12:]}", self.now, results)
        self._batches.add(request[_WORKSPACE], batch)
        return _json(batch.shown(_url(request)))

    def _answered(
        self, request: web.Request, asked: Asked, version: str
    ) -> tuple[dict[str, Any], Outcome | None]:
        """The result of a batch's request, and what it did to the cache."""
        record = self._journal.add(
            request[_REQUEST_ID], self.now, request.path, request[_WORKSPACE], bytes(asked.params)
        )
        try:
            prompt = self._prompt(request, record, version)
            if not prompt.max_tokens:
                raise invalid("max_tokens: a batch warms nothing")
        except ApiError as error:
            record.status = error.status
            return {"type": "errored", "error": msgspec.Raw(error.body(record.request_id))}, None
        outcome = self._cache.begin(prompt.positions, prompt.facts.min_cacheable_tokens, record.at)
        answer = Answer(
            prompt,
            [Iteration("message", outcome.usage)],
            f"msg_simulator{record.number:012d}",
            self._settings.answer_tokens,
            tier="batch",
        )
        self._journal.finish(record, answer.usage, answer.bill)
        record.status = 200
        return {"type": "succeeded", "message": msgspec.Raw(answer.json())}, outcome

    async def _batch(self, request: web.Request) -> web.Response:
        self._enter(request)
        batch = self._batches.find(request[_WORKSPACE], request.match_info["batch"])
        shown = batch.shown(_url(request))
        batch.ended = True
        return _json(shown)

    async def _batch_results(self, request: web.Request) -> web.Response:
        self._enter(request)
        batch = self._batches.find(request[_WORKSPACE], request.match_info["batch"])
        if not batch.ended:
            raise invalid(f"{batch.id}: it is still in progress")
        return web.Response(body=batch.lines(), content_type="application/binary")

    async def _token(self, request: web.Request) -> web.Response:
        return _json(exchanged(_decoded(await request.read())))

    async def _models(self, request: web.Request) -> web.Response:
        self._enter(request)
        query = request.query
        try:
            limit = int(query.get("limit", "20"))
        except ValueError:
            raise invalid("limit: Input should be a valid integer") from None
        if not 1 <= limit <= _MAX_MODELS_PAGE:
            raise invalid(f"limit: Input should be between 1 and {_MAX_MODELS_PAGE}")
        rows = [model_info(facts) for facts in models()]
        # The SDK writes a list's name with brackets.
        if wanted := query.getall("lifecycle", []) + query.getall("lifecycle[]", []):
            rows = [row for row in rows if row["lifecycle"] in wanted]
        ids = [row["id"] for row in rows]
        backwards = "before_id" in query
        if backwards:
            rows = rows[: _index(ids, query["before_id"], "before_id")]
        elif "after_id" in query:
            rows = rows[_index(ids, query["after_id"], "after_id") + 1 :]
        page = rows[-limit:] if backwards else rows[:limit]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return _json(
            {"data": page, "has_more": len(rows) > limit, "first_id": first, "last_id": last}
        )

    async def _model(self, request: web.Request) -> web.Response:
        self._enter(request)
        name = request.match_info["model"]
        if (facts := lookup(name)) is None:
            raise ApiError(404, f"model: {name}")
        return _json(model_info(facts))

    # Control and observation --------------------------------------------------------------

    async def _show_requests(self, request: web.Request) -> web.Response:
        return _json(self._journal.requests(bodies=request.query.get("bodies") == "1"))

    async def _show_stats(self, request: web.Request) -> web.Response:
        del request
        return _json(
            {
                "now": self.now,
                "received": self._journal.received,
                "cache_entries": len(self._cache),
                "totals": list(self._journal.totals()),
            }
        )

    async def _advance(self, request: web.Request) -> web.Response:
        seconds = _decoded(await request.read()).get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise invalid("seconds: Input should be a number of at least 0")
        self._advanced += seconds
        return _json({"now": self.now})

    async def _clear_cache(self, request: web.Request) -> web.Response:
        del request
        self._cache.clear()
        return _json({})

    async def _plan_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.plan(msgspec.json.decode(await request.read(), type=Planned))
        except msgspec.DecodeError as error:
            raise invalid(str(error)) from error
        return _json({"planned": len(self._faults)})


def _searches(request: web.Request) -> int:
    """How many web searches a request wants to have pretended."""
    asked = request.headers.get("x-simulator-searches", "0")
    if not asked.isascii() or not asked.isdecimal() or int(asked[:9]) > MAX_SEARCHES:
        raise invalid(f"x-simulator-searches: give a number of at most {MAX_SEARCHES}")
    return int(asked)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise invalid("The request body must be a JSON object.")
    return decoded


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _url(request: web.Request) -> str:
    return f"{request.url.origin()}{_BATCHES}"


def _index(ids: list[str], wanted: str, name: str) -> int:
    if wanted not in ids:
        raise invalid(f"{name}: no model {wanted!r} in this list")
    return ids.index(wanted)


async def _stream(request: web.Request, answer: Answer, fault: str | None) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    )
    await response.prepare(request)
    for event in answer.events():
        await response.write(event)
        if fault is not None and event.startswith(b"event: content_block_delta"):
            if fault == "error-event":
                await response.write(error_event("overloaded_error", "Overloaded"))
                break
            return _hung_up(request, response)
    with contextlib.suppress(ConnectionResetError):  # a client may leave once it has it all
        await response.write_eof()
    return response


async def _half(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _hung_up(request, response)


def _hung_up(
    request: web.Request, response: web.StreamResponse | None = None
) -> web.StreamResponse:
    """Close the connection in the middle of things."""
    if request.transport is not None:
        request.transport.close()
    return response or web.Response(status=500)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.monotonic,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[str]:
    """A simulator that listens while the block runs; gives its base URL. Port 0: a free one."""
    runner = web.AppRunner(
        Simulator(settings, clock).app(),
        access_log=None,
        shutdown_timeout=0.5,
        handler_cancellation=True,  # an answer that nobody waits for any more never begins
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
