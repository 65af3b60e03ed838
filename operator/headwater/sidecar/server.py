"""Carries HTTP between application and provider; the only module that knows an HTTP library.

It decides nothing: `exchange` does. Bytes pass as they come, an answer that the provider cut
stays cut, and an application that goes away takes its upstream request with it. Nothing is
retried here, because a request that was written may have been charged.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
import yarl
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from headwater.contract.reasons import RefusalError
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.exchange import Ending, Exchange, Exchanges, UnservedError, headers_of
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics

_log: Final = logging.getLogger(__name__)

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
PREFIX_PATH: Final = "/p/{prefix}"
"""Stands before a path of the provider's, as in a base URL, and chooses the prefix."""
PREFIX_HEADER: Final = "x-headwater-prefix"
"""Chooses the prefix where the path does not."""

_BODY_LIMIT: Final = 64 << 20
"""Bytes of a request held for the splice; the provider takes 32 MB and says so itself."""
_PIECE: Final = 256 << 10
"""Bytes written at once."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=600)
"""Seconds; 600 is what the provider's own SDKs wait."""
_DRAIN_SECONDS: Final = 600.0
"""As long as a request may take; the kubelet's grace period ends it sooner."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, 7.6.1: they are about one connection, and there are two."""
_OWN_HEADERS: Final = "x-headwater-"


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the sidecar listens, once it does: `http://host:port`."""

    url: str
    metrics_url: str


class UnknownPrefixError(Exception):
    """A request chose a prefix that this sidecar does not have; the message says which it has."""


class Sidecar:
    """The proxy and the metrics listener over the bundles of one pod."""

    def __init__(
        self,
        bundles: BundleFollower,
        upstream: str,
        identity: Identity,
        clock: Callable[[], float],
        lanes: Lanes | None = None,
        others: Sequence[BundleFollower] = (),
    ) -> None:
        """`bundles` is for requests that choose no prefix, `others` are those of further ones.

        `upstream` is a base URL; `clock` gives seconds that never go back.
        """
        lanes = lanes or Lanes()
        self.metrics = Metrics(identity, bundles, lanes, clock)
        self._bundles = (bundles, *others)
        self._exchanges = (
            Exchanges(bundles, lanes, self.metrics, clock),
            *(Exchanges(other, lanes, self.metrics.also(other), clock) for other in others),
        )
        self._upstream = upstream.rstrip("/")
        self._client: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def listening(
        self, *, port: int, metrics_address: tuple[str, int], poll_seconds: float = 0.5
    ) -> AsyncIterator[Listeners]:
        """Listen and follow the bundles; on leaving, requests in flight are finished first."""
        for bundles in self._bundles:
            bundles.poll()
        async with (
            aiohttp.ClientSession(
                timeout=_TIMEOUT,
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            ) as self._client,
            _listening(self._metrics_app(), *metrics_address) as metrics_url,
            _listening(self._app(), "127.0.0.1", port) as url,
        ):
            following = asyncio.create_task(self._follow(poll_seconds))
            try:
                yield Listeners(url, metrics_url)
            finally:
                following.cancel()

    async def _follow(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            for bundles in self._bundles:
                try:
                    bundles.poll()
                except Exception:  # noqa: BLE001 - logged, and the loop must live
                    # Whatever it is, the last good bundle stays, and the next poll may see better.
                    _log.exception("the bundle could not be followed")

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_LIMIT)
        self._add_health(app)
        for base in ("", PREFIX_PATH):
            app.router.add_post(base + MESSAGES, self._messages)
            app.router.add_post(base + COUNT_TOKENS, self._messages)
            app.router.add_route("*", f"{base}/v1/{{path:.*}}", self._pass_through)
        app.router.add_route("*", "/{path:.*}", self._pass_through)
        return app

    def _metrics_app(self) -> web.Application:
        app = web.Application()
        self._add_health(app)
        app.router.add_get("/metrics", self._serve_metrics)
        return app

    def _add_health(self, app: web.Application) -> None:
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        for bundles in self._bundles:
            if bundles.served is None:
                return web.Response(status=503, text=f"no bundle verified: {bundles.problem}\n")
        problems = " ".join(bundles.problem for bundles in self._bundles if bundles.problem)
        return web.Response(
            text=f"ok, with the last good bundle: {problems}\n" if problems else "ok\n"
        )

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=self.metrics.exposition(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _error(
                413,
                "request_too_large",
                f"the request is larger than {_BODY_LIMIT:,} bytes: shorten the history.",
                {"x-should-retry": "false"},
            )
        headers = {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers}
        try:
            exchanges = self._chosen(request)
            counted = request.path.endswith(MESSAGES)
            exchange = exchanges.open(headers, body, counted=counted)
        except UnknownPrefixError as error:
            return _error(
                404, "not_found_error", f"headwater: {error}", {"x-should-retry": "false"}
            )
        except RefusalError as error:
            return _error(
                400,
                "invalid_request_error",
                f"headwater: {error}",
                {"x-should-retry": "false", **headers_of(error)},
            )
        except UnservedError as error:
            # A bundle may be on its way, so a retry is not in vain.
            return _error(
                503,
                "api_error",
                f"headwater: no verified bundle, so nothing is sent: {error}",
                {"retry-after": "1"},
            )
        ending = Ending.ABORTED
        try:
            await exchange.enter()
            response, ending = await self._carry(request, exchange.body, exchange)
        finally:
            exchange.end(ending)
        return response

    def _chosen(self, request: web.Request) -> Exchanges:
        """The prefix that the path names, else the header, else the first one.

        Its name stands in its bundle.

        Raises:
            UnservedError: it may be one whose bundle did not verify.
            UnknownPrefixError: it is none of them.
        """
        chosen = request.match_info.get("prefix", request.headers.get(PREFIX_HEADER))
        if chosen is None:
            return self._exchanges[0]
        names = []
        for exchanges in self._exchanges:
            served = exchanges.bundles.served
            if served is not None and served.route.prefix == chosen:
                return exchanges
            names.append(served.route.prefix if served is not None else "")
        if not all(names):
            # It may be the one that is missing.
            raise UnservedError(f"a bundle did not verify, and no other one is of {chosen[:80]!r}.")
        raise UnknownPrefixError(
            f"there is no prefix {chosen[:80]!r} here: this sidecar has {', '.join(names)}."
        )

    async def _pass_through(self, request: web.Request) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        response, _ = await self._carry(request, body, None)
        return response

    async def _carry(
        self,
        request: web.Request,
        body: bytes | aiohttp.StreamReader | None,
        exchange: Exchange | None,
    ) -> tuple[web.StreamResponse, Ending]:
        """Send, and stream the answer back; cancelled where the application goes away."""
        try:
            upstream = await self._client.request(
                request.method,
                yarl.URL(self._upstream + _upstream_path(request), encoded=True),
                headers=_request_headers(
                    request.headers, len(body) if isinstance(body, bytes) else None
                ),
                data=_in_pieces(body) if isinstance(body, bytes) and len(body) > _PIECE else body,
                allow_redirects=False,
            )
        except TimeoutError:
            return _upstream_error(504, "timeout_error", "did not answer in time"), Ending.COMPLETE
        except aiohttp.ClientError as error:
            reason = f"gave no answer ({type(error).__name__})"
            return _upstream_error(502, "api_error", reason), Ending.COMPLETE
        async with upstream:
            if exchange is not None:
                exchange.began(upstream.status, upstream.headers.get("content-type", ""))
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            response.headers.extend(_kept(upstream.headers, ()))
            if exchange is not None:
                response.headers.update(exchange.headers)
            await response.prepare(request)
            try:
                async for chunk in upstream.content.iter_any():
                    if exchange is not None:
                        exchange.chunk(chunk)
                    await response.write(chunk)
            except aiohttp.ClientConnectionResetError:  # of the application: it went away
                raise
            except (aiohttp.ClientError, TimeoutError, OSError):
                # Closing without the end of the body is how HTTP says that it is missing.
                if request.transport is not None:
                    request.transport.close()
                return response, Ending.CUT
            return response, Ending.COMPLETE


def _upstream_path(request: web.Request) -> str:
    """The path as the provider knows it, and the query, as they came."""
    path = request.rel_url.raw_path_qs
    return "/" + path.split("/", 3)[3] if "prefix" in request.match_info else path


async def _in_pieces(body: bytes) -> AsyncIterator[memoryview]:
    """A large body bit by bit, so that other requests are served between."""
    view = memoryview(body)
    for start in range(0, len(view), _PIECE):
        yield view[start : start + _PIECE]


def _request_headers(headers: CIMultiDictProxy[str], size: int | None) -> CIMultiDict[str]:
    if size is None:
        # A compressed body was unpacked by the HTTP library, so it has another length now.
        unpacked = ("content-encoding", "content-length") if "content-encoding" in headers else ()
        return _kept(headers, ("host", "expect", *unpacked))
    # The body is another one now, uncompressed; the answer has to be read for its usage.
    changed = ("content-length", "content-encoding", "accept-encoding")
    kept = _kept(headers, ("host", "expect", *changed))
    kept["content-length"] = str(size)
    kept["accept-encoding"] = "identity"
    return kept


def _kept(headers: CIMultiDictProxy[str], dropped: Iterable[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    away = _HOP_BY_HOP | named | set(dropped)
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in away and not name.lower().startswith(_OWN_HEADERS)
    )


def _upstream_error(status: int, kind: str, reason: str) -> web.Response:
    return _error(status, kind, f"headwater: the provider {reason}; nothing was retried here.", {})


def _error(status: int, kind: str, message: str, headers: dict[str, str]) -> web.Response:
    """An error in the provider's own shape, so that its SDKs raise what they always raise."""
    request_id = f"req_headwater_{secrets.token_hex(8)}"
    document = {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }
    return web.Response(
        status=status,
        body=msgspec.json.encode(document),
        content_type="application/json",
        headers={"request-id": request_id, **headers},
    )


@contextlib.asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=_DRAIN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


async def run(
    sidecar: Sidecar,
    *,
    port: int,
    metrics_address: tuple[str, int],
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with sidecar.listening(port=port, metrics_address=metrics_address) as listeners:
        announce(f"listening on {listeners.url}")
        announce(f"metrics on {listeners.metrics_url}")
        await stop.wait()
        _log.info("stopping, requests in flight are finished first")
