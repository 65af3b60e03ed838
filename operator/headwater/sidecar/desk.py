"""Which requests get the contract, and every answer that is the sidecar's own.

`exchange` decides what is sent for one request; here its path is read, its prefix is chosen, and
what was decided is put into the words of HTTP.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec

from headwater.contract.reasons import RefusalError
from headwater.sidecar.exchange import Batch, Exchange, Exchanges, UnservedError, headers_of
from headwater.sidecar.paths import BATCHES, MESSAGES, Place, Way, place_of
from headwater.sidecar.relay.plan import (
    Collect,
    Decision,
    Ending,
    Head,
    RefusedError,
    Reply,
    Send,
)
from headwater.sidecar.wishes import WishError, Wishes

if TYPE_CHECKING:  # an extra
    from headwater.sidecar.tracing import Tracing

WARM: Final = "/headwater/warm"
"""The sidecar's own: a wish to warm the lane of a request that will follow."""
PREFIX_PATH: Final = "/p/"
"""Stands with a prefix's name before a path of the provider's, as in a base URL."""
PREFIX_HEADER: Final = "x-headwater-prefix"
"""Chooses the prefix where the path does not."""

_CHANGED: Final = (
    # The body is another one now, uncompressed; the answer has to be read for its usage.
    (b"content-encoding", b""),
    (b"accept-encoding", b"identity"),
)
_KINDS: Final[Mapping[int, str]] = {
    404: "not_found_error",
    413: "request_too_large",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
}
"""The provider's names for errors; the others are `invalid_request_error`."""
_SERVER_ERROR: Final = 500
_EXPOSITION_SHARE: Final = 0.05
"""Of the process's time, for expositions: anybody may ask for them, and requests wait meanwhile."""
_EXPOSITION_SECONDS: Final = 0.25
"""As much of it as may be used at once."""
_WISH_LIMIT: Final = 4 << 10
"""Bytes of a wish to warm."""
_BATCH_LIMIT: Final = 256 << 20
"""Bytes of a batch: what the provider takes."""


class UnknownPrefixError(Exception):
    """A request chose a prefix that this sidecar does not have; the message says which it has."""


@dataclass(slots=True, eq=False)
class _Route:
    """What a head says; the same for all requests of a connection that have the same head."""

    target: bytes
    prefix: str | None
    headers: Mapping[str, str]
    place: Place


class _Watch:
    """Shows an exchange its answer."""

    __slots__ = ("_exchange", "data", "ended")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.data = exchange.chunk
        self.ended = exchange.end

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
        kind = fields.get(b"content-type", b"").decode("latin-1")
        self._exchange.began(status, kind, fields)
        self.data = self._exchange.chunk
        return _encoded(self._exchange.headers)


class _Strained:
    """Shows a batch its requests."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def feed(self, data: bytes) -> Iterator[bytes | memoryview]:
        try:
            yield from self._batch.feed(data)
        except RefusalError as error:
            raise RefusedError(_refused(error)) from error

    def end(self) -> None:
        try:
            self._batch.end()
        except RefusalError as error:
            raise RefusedError(_refused(error)) from error


class Health:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, exchanges: Sequence[Exchanges], clock: Callable[[], float]) -> None:
        """`exchanges` are those of the prefixes of this sidecar; `clock` gives seconds."""
        self._exchanges = exchanges
        self._clock = clock
        self._exposition = b""
        self._exposed_at = clock()
        self._allowance = _EXPOSITION_SECONDS

    def arrived(self, head: Head) -> Reply:
        """Answer."""
        path = head.target.partition(b"?")[0]
        if path == b"/metrics":
            kind = b"text/plain; version=0.0.4; charset=utf-8"
            return Reply(200, ((b"content-type", kind),), self._metrics())
        return self.answer(path) or _text(404, "there are /healthz, /readyz and /metrics.\n")

    def answer(self, path: bytes) -> Reply | None:
        """The answer to a probe; None where it is none."""
        if path == b"/healthz":
            return _text(200, "ok\n")
        if path != b"/readyz":
            return None
        bundles = [exchanges.bundles for exchanges in self._exchanges]
        for each in bundles:
            if each.served is None:
                return _text(503, f"no bundle verified: {each.problem}\n")
        problems = " ".join(each.problem for each in bundles if each.problem)
        return _text(200, f"ok, with the last good bundle: {problems}\n" if problems else "ok\n")

    def fault(self, status: int, message: str) -> Reply:
        """What the relay refuses."""
        return _text(status, f"{message}\n")

    def _metrics(self) -> bytes:
        """Return the exposition; a former one to whoever asks so often that it takes too long."""
        began = self._clock()
        earned = _EXPOSITION_SHARE * (began - self._exposed_at)
        self._exposed_at = began
        self._allowance = min(_EXPOSITION_SECONDS, self._allowance + earned)
        if self._allowance > 0:
            self._exposition = self._exchanges[0].metrics.exposition()
            self._allowance -= self._clock() - began
        return self._exposition


class Desk:
    """Decides what happens to a request of the application's."""

    def __init__(
        self,
        exchanges: Sequence[Exchanges],
        health: Health,
        wishes: Wishes,
        tracing: "Tracing | None" = None,
    ) -> None:
        """Of `exchanges`, the first are for requests that choose no prefix."""
        self._tracing = tracing
        self._exchanges = exchanges
        self._health = health
        self._collect = Collect(self._decide)
        self._collect_wish = Collect(self._wished, _WISH_LIMIT)
        self._wishes = wishes

    def arrived(self, head: Head) -> Decision | Collect:
        """Put it on the contract, or pass it untouched."""
        route = head.note
        if not isinstance(route, _Route):
            path = head.target.partition(b"?")[0]
            probe = self._health.answer(path)
            if probe is not None:
                return probe
            head.note = route = _route(head)
        place = route.place
        if place.way is Way.CONTRACT:
            return self._batch(route) if place.path == BATCHES else self._collect
        if place.path == WARM:
            if head.method != b"POST":
                return _error(405, f"{WARM} takes a POST.", {"allow": "POST"})
            return self._collect_wish
        return self._elsewhere(route)

    def fault(self, status: int, message: str) -> Reply:
        """What the relay refuses or could not carry, in the provider's shape."""
        if status == 503:  # noqa: PLR2004 - for a moment
            return _error(status, message, {"retry-after": "1"})
        again = status >= _SERVER_ERROR
        return _error(status, message, {} if again else {"x-should-retry": "false"})

    def _elsewhere(self, route: _Route) -> Decision:
        """Pass what reaches no model; of the rest the prefix decides."""
        place = route.place
        try:
            exchanges = self._exchanges[0] if place.way is Way.BESIDE else self._chosen(route)
            exchanges.metrics.others.labels(*exchanges.metrics.identity, place.kind).inc()
            if place.way is not Way.BESIDE:
                exchanges.pass_by(place)
        except (UnknownPrefixError, RefusalError, UnservedError) as error:
            return _refused(error)
        return Send(route.target)

    def _decide(self, head: Head, body: bytes | bytearray) -> Decision | Awaitable[Decision]:
        route = head.note
        assert isinstance(route, _Route)  # noqa: S101 - from `arrived`
        try:
            path = route.place.path
            exchange = self._chosen(route).open(route.headers, body, counted=path == MESSAGES)
        except (UnknownPrefixError, RefusalError, UnservedError) as error:
            return _refused(error)
        if exchange.enter_now():
            return self._sent(route, exchange)
        return self._enter(route, exchange)

    def _batch(self, route: _Route) -> Decision:
        """Pass a batch as it comes: it may be larger than the container's memory."""
        try:
            batch = self._chosen(route).open_batch(route.headers)
        except (UnknownPrefixError, UnservedError) as error:
            return _refused(error)
        watcher, strained = _Watch(batch.exchange), _Strained(batch)
        return Send(route.target, None, _CHANGED, watcher, strained, _BATCH_LIMIT)

    def _wished(self, head: Head, body: bytes | bytearray) -> Decision:
        route = head.note
        assert isinstance(route, _Route)  # noqa: S101 - from `arrived`
        try:
            verdict, form = self._wishes.take(self._chosen(route), head, route.headers, body)
        except (UnknownPrefixError, RefusalError, UnservedError) as error:
            return _refused(error)
        except WishError as error:
            return _error(400, str(error), {"x-should-retry": "false"})
        told = {"verdict": verdict, "model": form.model, "version": form.revision.version}
        kind = (b"content-type", b"application/json")
        return Reply(202, (kind,), msgspec.json.encode(told) + b"\n")

    async def _enter(self, route: _Route, exchange: Exchange) -> Send:
        try:
            await exchange.enter()
        except BaseException:
            exchange.end(Ending.ABORTED)
            raise
        return self._sent(route, exchange)

    def _sent(self, route: _Route, exchange: Exchange) -> Send:
        parts, exchange.parts = exchange.parts, ()
        # The relay lets go of them when the answer begins, and an answer may take an hour.
        watcher = _Watch(exchange)
        if self._tracing is None or not exchange.counted:
            return Send(route.target, parts, _CHANGED, watcher)
        fields, traced = self._tracing.begin(route.headers, exchange, watcher)
        return Send(route.target, parts, (*_CHANGED, *fields), traced)

    def _chosen(self, route: _Route) -> Exchanges:
        """The prefix that the path names, else the header, else the first one.

        Its name stands in its bundle.

        Raises:
            UnservedError: it may be one whose bundle did not verify.
            UnknownPrefixError: it is none of them.
        """
        chosen = route.prefix
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


def _route(head: Head) -> _Route:
    path, query, rest = head.target.partition(b"?")
    target, prefix = head.target, None
    if path.startswith(PREFIX_PATH.encode()):
        _, _, name, *below = path.split(b"/", 3)
        if below and below[0].startswith(b"v1/"):
            path = b"/" + below[0]
            target, prefix = path + query + rest, unquote(name.decode("ascii"))
    headers = {
        # Header bytes that are no UTF-8 become surrogates, as everywhere in Python.
        name.decode("ascii"): value.decode("utf-8", "surrogateescape")
        for name, value in head.fields.items()
    }
    if prefix is None:
        prefix = headers.get(PREFIX_HEADER)
    return _Route(target, prefix, headers, place_of(head.method, path))


def _refused(error: UnknownPrefixError | RefusalError | UnservedError) -> Reply:
    if isinstance(error, UnservedError):
        # A bundle may be on its way, so a retry is not in vain.
        message = f"no verified bundle, so nothing is sent: {error}"
        return _error(503, message, {"retry-after": "1"})
    headers = headers_of(error) if isinstance(error, RefusalError) else {}
    status = 400 if isinstance(error, RefusalError) else 404
    return _error(status, str(error), {"x-should-retry": "false", **headers})


def _text(status: int, text: str) -> Reply:
    return Reply(status, ((b"content-type", b"text/plain; charset=utf-8"),), text.encode())


def _error(status: int, message: str, headers: Mapping[str, str]) -> Reply:
    """An error in the provider's own shape, so that its SDKs raise what they always raise."""
    request_id = f"req_headwater_{secrets.token_hex(8)}"
    document = {
        "type": "error",
        "error": {
            "type": _KINDS.get(status, "invalid_request_error"),
            "message": f"headwater: {message}",
        },
        "request_id": request_id,
    }
    named = {"content-type": "application/json", "request-id": request_id, **headers}
    return Reply(status, _encoded(named), msgspec.json.encode(document))


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode()) for name, value in headers.items()]
