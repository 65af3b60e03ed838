"""The simulator over HTTP: the provider's endpoints, and a few of its own to look inside.

Its own are under `/_simulator/`: what was received (never a key, only a hash of its workspace),
totals, the clock, the cache, and faults to come.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web

from headwater.providers.models import lookup, models
from headwater.providers.usage import Usage
from headwater.simulator import answers
from headwater.simulator.cache import Cache
from headwater.simulator.errors import TYPES, ProviderError
from headwater.simulator.prompt import Prompt, read

_log: Final = logging.getLogger(__name__)

_BODY_LIMIT: Final = 32 << 20
"""Bytes of a request (platform.claude.com/docs/en/api/errors, as of 2026-08-22)."""
_RECORDS: Final = 1_000
_BODIES_BYTES: Final = 64 << 20
"""Received bodies are kept up to this many bytes in all."""
_HANG_SECONDS: Final = 600.0
_FAULTS: Final = ("400", "401", "402", "403", "404", "413", "429", "500", "504", "529")
_RETRY_AFTER: Final = "1"


@dataclass(frozen=True, slots=True)
class Settings:
    """How it behaves.

    `time_scale` makes the caches age faster and leaves the latency alone: an answer takes
    `latency_base_ms` and, for each thousand tokens not read from cache, `latency_ms_per_1k`.
    """

    time_scale: float = 1.0
    latency_base_ms: float = 20.0
    latency_ms_per_1k: float = 10.0
    answer_tokens: int = 12


@dataclass(slots=True)
class _Record:
    """What is remembered of one request."""

    number: int
    at: float
    path: str
    model: str
    workspace: str
    body: bytes
    tools_sha256: str
    system_sha256: str
    status: int = 200
    usage: Usage = field(default_factory=Usage)

    def shown(self, *, with_body: bool) -> dict[str, Any]:
        """As `/_simulator/requests` shows it."""
        listed: dict[str, Any] = {
            "number": self.number,
            "at": round(self.at, 3),
            "path": self.path,
            "status": self.status,
            "model": self.model,
            "workspace": self.workspace,
            "tools_sha256": self.tools_sha256,
            "system_sha256": self.system_sha256,
            "usage": msgspec.to_builtins(self.usage),
        }
        return listed | ({"body": self.body.decode(errors="replace")} if with_body else {})


class Simulator:
    """One provider: a cache, a clock, and what was asked of it."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._settings = settings
        self._clock = clock
        self._began = clock()
        self._advanced = 0.0
        self._cache = Cache()
        self._records: deque[_Record] = deque(maxlen=_RECORDS)
        self._kept_bytes = 0
        self._count = 0
        self._totals: dict[tuple[str, str], Counter[str]] = {}
        self._faults: deque[str] = deque()

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self._clock() - self._began) * self._settings.time_scale + self._advanced

    def app(self) -> web.Application:
        """The application to serve."""
        app = web.Application(client_max_size=_BODY_LIMIT, middlewares=[self._errors])
        app.add_routes(
            [
                web.post("/v1/messages", self._messages),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{id}", self._model),
                web.get("/_simulator/requests", self._show_requests),
                web.get("/_simulator/stats", self._show_stats),
                web.post("/_simulator/advance", self._advance),
                web.post("/_simulator/faults", self._plan_faults),
                web.delete("/_simulator/cache", self._clear),
            ]
        )
        return app

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        """Every refusal in the provider's shape, with a request id."""
        request_id = answers.identifier("req")
        request["id"] = request_id
        try:
            response: web.StreamResponse = await handler(request)
        except ProviderError as error:
            status, message = error.status, error.message
        except web.HTTPRequestEntityTooLarge:
            status, message = 413, "Request exceeds the maximum allowed number of bytes."
        except web.HTTPException as error:
            status, message = error.status, error.reason
        else:
            if not response.prepared:
                response.headers["request-id"] = request_id
            return response
        headers = {"request-id": request_id}
        if status == 429:  # noqa: PLR2004 - HTTP
            headers["retry-after"] = _RETRY_AFTER
        return web.Response(
            status=status,
            body=answers.error_body(TYPES.get(status, "api_error"), message, request_id),
            content_type="application/json",
            headers=headers,
        )

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        record, body, prompt = await self._read(request, generating=True)
        lookup_ = self._cache.look_up(prompt, record.at)
        record.usage = lookup_.usage
        fault = request.headers.get("x-simulator-fault") or (
            self._faults.popleft() if self._faults else ""
        )
        if fault in _FAULTS:
            record.status = int(fault)
            record.usage = Usage()
            raise ProviderError(record.status, f"simulated {TYPES[record.status]}")
        if fault == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        await asyncio.sleep(self._latency(lookup_.usage))
        self._cache.began(lookup_)
        limit = body["max_tokens"]
        words = answers.text_of(min(limit, self._settings.answer_tokens))
        record.usage = msgspec.structs.replace(lookup_.usage, output=len(words))
        self._count_usage(record)
        whole = answers.message(body["model"], lookup_.usage, words, limit)
        headers = self._headers(request, record.workspace)
        if body.get("stream"):
            return await self._stream(request, whole, headers, truncated=fault == "truncate")
        if fault == "truncate":
            return await self._truncated(request, msgspec.json.encode(whole), headers)
        return web.Response(
            body=msgspec.json.encode(whole), content_type="application/json", headers=headers
        )

    def _latency(self, usage: Usage) -> float:
        """Seconds until an answer begins: what is read from cache need not be computed."""
        settings = self._settings
        computed = (usage.prompt - usage.cache_read) / 1000
        return (settings.latency_base_ms + settings.latency_ms_per_1k * computed) / 1000

    async def _stream(
        self,
        request: web.Request,
        whole: dict[str, Any],
        headers: dict[str, str],
        *,
        truncated: bool,
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"content-type": "text/event-stream; charset=utf-8", **headers}
        )
        await response.prepare(request)
        chunks = list(answers.events(whole))
        for chunk in chunks[: len(chunks) // 2] if truncated else chunks:
            await response.write(chunk)
        if truncated:
            self._cut(request)
        return response

    async def _truncated(
        self, request: web.Request, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json", **headers})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        self._cut(request)
        return response

    @staticmethod
    def _cut(request: web.Request) -> None:
        """End the connection in the middle of the answer."""
        if request.transport is not None:
            request.transport.close()

    async def _count_tokens(self, request: web.Request) -> web.Response:
        _, _, prompt = await self._read(request, generating=False)
        return web.json_response({"input_tokens": prompt.tokens})

    async def _read(
        self, request: web.Request, *, generating: bool
    ) -> tuple[_Record, dict[str, Any], Prompt]:
        """Take a request in, record it, and refuse it where the provider would."""
        raw = await request.read()
        workspace = _workspace(request)
        record = self._record(request.path, workspace, raw)
        try:
            try:
                body = msgspec.json.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ProviderError(400, "The request body is not valid JSON.") from error
            prompt = read(
                body,
                version=_version(request),
                betas=request.headers.get("anthropic-beta", ""),
                workspace=workspace,
                generating=generating,
            )
        except ProviderError as error:
            record.status = error.status
            raise
        record.model = prompt.facts.id
        return record, body, prompt

    def _record(self, path: str, workspace: str, raw: bytes) -> _Record:
        self._count += 1
        parts: dict[str, bytes] = {}
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            top = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            parts = {name: bytes(top[name]) for name in ("tools", "system") if name in top}
        record = _Record(
            number=self._count,
            at=self.now,
            path=path,
            model="",
            workspace=workspace,
            body=raw,
            tools_sha256=hashlib.sha256(parts.get("tools", b"")).hexdigest(),
            system_sha256=hashlib.sha256(parts.get("system", b"")).hexdigest(),
        )
        self._kept_bytes += len(raw)
        self._records.append(record)
        for old in self._records:
            if self._kept_bytes <= _BODIES_BYTES:
                break
            self._kept_bytes -= len(old.body)
            old.body = b""
        return record

    def _count_usage(self, record: _Record) -> None:
        totals = self._totals.setdefault((record.model, record.workspace), Counter())
        totals["requests"] += 1
        totals.update(msgspec.to_builtins(record.usage))

    def _headers(self, request: web.Request, workspace: str) -> dict[str, str]:
        return {
            "request-id": request["id"],
            "anthropic-organization-id": "00000000-0000-0000-0000-000000000000",
            "anthropic-workspace-id": workspace,
        }

    async def _models(self, request: web.Request) -> web.Response:
        _workspace(request)
        listed = [answers.model_body(facts) for facts in models()]
        ids = [model["id"] for model in listed]
        query = request.query
        start = ids.index(query["after_id"]) + 1 if query.get("after_id") in ids else 0
        end = ids.index(query["before_id"]) if query.get("before_id") in ids else len(ids)
        try:
            limit = int(query.get("limit", "20"))
        except ValueError:
            limit = 0
        if not 1 <= limit <= 1000:  # noqa: PLR2004 - the provider's own bounds
            raise ProviderError(400, "limit: Input should be between 1 and 1000")
        page = listed[start:end][:limit]
        return web.json_response(
            {
                "data": page,
                "has_more": start + len(page) < end,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
            }
        )

    async def _model(self, request: web.Request) -> web.Response:
        _workspace(request)
        facts = lookup(request.match_info["id"])
        if facts is None:
            raise ProviderError(404, f"model: {request.match_info['id']}")
        return web.json_response(answers.model_body(facts))

    async def _show_requests(self, request: web.Request) -> web.Response:
        with_body = request.query.get("bodies") == "1"
        return web.json_response([record.shown(with_body=with_body) for record in self._records])

    async def _show_stats(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(
            {
                "now": self.now,
                "received": self._count,
                "totals": [
                    {"model": model, "workspace": workspace, **totals}
                    for (model, workspace), totals in sorted(self._totals.items())
                ],
            }
        )

    async def _advance(self, request: web.Request) -> web.Response:
        body = await request.json()
        seconds = body.get("seconds") if isinstance(body, dict) else None
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ProviderError(400, "seconds: a number of at least 0 is needed")
        self._advanced += seconds
        return web.json_response({"now": self.now})

    async def _plan_faults(self, request: web.Request) -> web.Response:
        body = await request.json()
        planned = body.get("faults") if isinstance(body, dict) else None
        known = (*_FAULTS, "hang", "truncate")
        if not isinstance(planned, list) or any(fault not in known for fault in planned):
            raise ProviderError(400, f"faults: a list of {', '.join(known)} is needed")
        self._faults.extend(planned)
        return web.json_response({"planned": len(self._faults)})

    async def _clear(self, request: web.Request) -> web.Response:
        del request
        self._cache.clear()
        return web.json_response({"cleared": True})


def _version(request: web.Request) -> str:
    version = request.headers.get("anthropic-version", "")
    if not version:
        raise ProviderError(400, "anthropic-version: header is required")
    return version


def _workspace(request: web.Request) -> str:
    """The workspace of a request: the header's, else the key's, as a hash that shows neither."""
    key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix(
        "Bearer "
    )
    if not key:
        raise ProviderError(401, "x-api-key header is required")
    named = request.headers.get("anthropic-workspace-id") or key
    return hashlib.sha256(f"simulated workspace\n{named}".encode("utf-8", "replace")).hexdigest()[
        :12
    ]


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    clock: Callable[[], float],
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[str]:
    """Serve inside this process; gives the base URL. Port 0 takes a free one."""
    app = Simulator(settings, clock).app()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()
