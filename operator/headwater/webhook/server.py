"""Serves the webhooks over TLS, and probes and metrics beside them. It decides nothing.

Whoever reaches the port may ask, unless a client certificate is demanded. So the work of a review
is bounded: how many are held at once, how long one may take to arrive, and how many contents are
judged beside the loop that answers about pods.

What cannot be decided for want of an answer from the API server is answered with an HTTP error
and not with a refusal: then the `failurePolicy` of the configuration says what becomes of it.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from headwater.cluster import CACHE_WARMER, POD, PROMPT_PREFIX, ApiError, Kind
from headwater.webhook.certificates import Certificate
from headwater.webhook.injector import Injector
from headwater.webhook.metrics import Metrics
from headwater.webhook.review import Answer, Request, ReviewError, read, write
from headwater.webhook.validation import validate
from headwater.webhook.warmers import WarmerValidator

_log: Final = logging.getLogger(__name__)

BODY_LIMIT: Final = 8 << 20
"""Bytes: the API server takes objects of 3 MiB, and a review may hold the old and the new one."""
_SMALL: Final = 1 << 20
"""Bytes of a review that is held beside many others; of larger ones there are few at a time."""
_SMALL_AT_ONCE: Final = 64
_LARGE_AT_ONCE: Final = 2
_ARRIVAL_SECONDS: Final = 5.0
"""For a review to be there, from when it is read on: the API server sends it in one go."""
_KEEP_ALIVE_SECONDS: Final = 120.0
"""Longer than the API server keeps an idle connection (90 s), so that it is never this side that
closes one just as a review is sent."""
_FINISH_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 2.0

_TURN_SECONDS: Final = 2.0
"""For a place to be free: the API server waits 5 s for a pod's answer."""
_STRANGER: Final = "the client's certificate has none of the names that are expected here\n"

_Answerer = Callable[[Request], Awaitable[tuple[Answer, str]]]


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the webhooks listen, once they do."""

    url: str
    metrics_url: str


class Server:
    """One replica."""

    def __init__(
        self,
        injector: Injector,
        warmers: WarmerValidator,
        certificate: Certificate,
        metrics: Metrics,
        client_names: frozenset[str] = frozenset(),
    ) -> None:
        """Serve nothing yet.

        `client_names` are those that a client's certificate may have; empty for any.
        """
        self._injector = injector
        self._warmers = warmers
        self._certificate = certificate
        self._metrics = metrics
        self._client_names = client_names
        self._judging = asyncio.Lock()
        self._ending = False
        self._expiry_told = False

    @contextlib.asynccontextmanager
    async def listening(
        self,
        *,
        address: tuple[str, int],
        metrics_address: tuple[str, int],
        poll_seconds: float = _POLL_SECONDS,
    ) -> AsyncIterator[Listeners]:
        """Listen; on leaving, reviews in flight are answered first."""
        async with (
            _listening(self._metrics_app(), metrics_address) as metrics_url,
            _listening(self._app(), address, self._certificate.listening) as url,
        ):
            following = asyncio.create_task(self._follow(poll_seconds))
            try:
                yield Listeners(url, metrics_url)
            finally:
                following.cancel()

    def end(self) -> None:
        """From now on every connection is closed with its next answer, and readiness ends."""
        self._ending = True

    async def _follow(self, seconds: float) -> None:
        while True:
            self._tell_expiry()
            await asyncio.sleep(seconds)
            self._certificate.poll()

    def _tell_expiry(self) -> None:
        expired = self._expired()
        if expired and not self._expiry_told:
            _log.error(
                "the certificate expired %s and is served on: API servers refuse it until the"
                " files hold a new one",
                self._certificate.expires.isoformat(),
            )
        self._expiry_told = expired

    def _expired(self) -> bool:
        return self._certificate.expires <= datetime.now(UTC)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_LIMIT)
        inject = self._serve("inject", POD, ("CREATE",), self._inject)
        validate = self._serve("validate", PROMPT_PREFIX, ("CREATE", "UPDATE"), self._validate)
        app.router.add_post("/inject", inject)
        app.router.add_post("/validate", validate)
        warmer = self._serve(
            "validate-warmer", CACHE_WARMER, ("CREATE", "UPDATE"), self._validate_warmer
        )
        app.router.add_post("/validate-warmer", warmer)
        return app

    def _metrics_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        if self._ending:
            return web.Response(status=503, text="ending\n")
        if self._expired():
            return web.Response(text="ok, with a certificate that has expired\n")
        return web.Response(text="ok\n")

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=self._metrics.exposition(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    def _serve(
        self, webhook: str, kind: Kind, operations: tuple[str, ...], answerer: _Answerer
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        # Its own: contents that wait to be judged must take no place of a pod's.
        many, few = asyncio.Semaphore(_SMALL_AT_ONCE), asyncio.Semaphore(_LARGE_AT_ONCE)

        async def serve(request: web.Request) -> web.Response:
            started = time.perf_counter()
            if not self._knows(request):
                outcome, response = "stranger", web.Response(status=403, text=_STRANGER)
            else:
                small = request.content_length is not None and request.content_length <= _SMALL
                outcome, response = await _in_turn(
                    many if small else few, _respond(request, kind, operations, answerer)
                )
            self._metrics.reviewed(webhook, outcome, time.perf_counter() - started)
            if self._ending:
                response.force_close()
            return response

        return serve

    async def _inject(self, request: Request) -> tuple[Answer, str]:
        return await self._injector.answer(request)

    async def _validate(self, request: Request) -> tuple[Answer, str]:
        # One at a time, in a thread: however long it takes, pods are answered meanwhile.
        async with self._judging:
            answer = await asyncio.to_thread(validate, request)
        return answer, "refused" if answer.refusal else "admitted"

    async def _validate_warmer(self, request: Request) -> tuple[Answer, str]:
        answer = await self._warmers.answer(request)
        return answer, "refused" if answer.refusal else "admitted"

    def _knows(self, request: web.Request) -> bool:
        """Return whether the client's certificate has a name that is expected."""
        if not self._client_names:
            return True
        certificate = request.get_extra_info("peercert") or {}
        subject = (pair for part in certificate.get("subject", ()) for pair in part)
        return any(name in self._client_names for kind, name in subject if kind == "commonName")


async def _respond(
    request: web.Request, kind: Kind, operations: tuple[str, ...], answerer: _Answerer
) -> tuple[str, web.Response]:
    if request.content_type != "application/json":
        return "bad_request", web.Response(status=415, text="send a review as application/json\n")
    try:
        review = read(await _arrived(request))
        known = (review.kind.group, review.kind.kind) == (kind.group, kind.kind)
        if not known or review.operation not in operations:
            return "misdirected", _answered(review, _misdirected(review, kind, operations))
        answer, outcome = await answerer(review)
    except web.HTTPRequestEntityTooLarge:
        return "bad_request", web.Response(
            status=413, text=f"a review has at most {BODY_LIMIT:,} bytes\n"
        )
    except ReviewError as error:
        return "bad_request", web.Response(status=400, text=f"{error}\n")
    except (ApiError, TimeoutError) as error:
        reason = str(error) or "the API server did not answer in time"
        _log.warning("a review could not be answered: %s", reason)
        return "unavailable", web.Response(status=503, text=f"{reason}\n")
    return outcome, _answered(review, answer)


async def _in_turn(
    places: asyncio.Semaphore, work: Coroutine[Any, Any, tuple[str, web.Response]]
) -> tuple[str, web.Response]:
    """Do the work when there is a place for it; in vain it is not waited for."""
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await places.acquire()
    except TimeoutError:
        work.close()
        return "unavailable", web.Response(status=503, text="too many reviews are being answered\n")
    try:
        return await work
    finally:
        places.release()


async def _arrived(request: web.Request) -> bytes:
    """Return the body.

    Raises:
        ReviewError: it took too long.
    """
    try:
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            return await request.read()
    except TimeoutError:
        raise ReviewError(f"the review did not arrive within {_ARRIVAL_SECONDS:g} s") from None


def _answered(review: Request, answer: Answer) -> web.Response:
    return web.Response(body=write(review.uid, answer), content_type="application/json")


def _misdirected(review: Request, kind: Kind, operations: tuple[str, ...]) -> Answer:
    """A configuration that sends too much must not stop the cluster."""
    warning = (
        f"headwater was asked about {review.operation[:80]} of {review.kind.kind[:80]} and knows"
        f" {' and '.join(operations)} of {kind.kind}: correct the rules of the configuration"
    )
    return Answer(warnings=[warning])


@contextlib.asynccontextmanager
async def _listening(
    app: web.Application, address: tuple[str, int], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        shutdown_timeout=_FINISH_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, *address, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        yield f"{'http' if tls is None else 'https'}://{host}:{port}"
    finally:
        await runner.cleanup()
