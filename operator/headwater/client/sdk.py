"""`headwater.wrap`: the provider's own client, and every request of it on the contract.

The request is rewritten where the SDK lets a subclass do so, after it was built and before each
attempt, so that a refusal reaches the caller as it is and is not retried. The answer is watched
from where an HTTP client lets an authentication see it, on its way to the SDK. Imported when a
client is wrapped, and only then: it needs `anthropic`, in whichever version the caller has.
"""

import functools
import importlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import anthropic
import msgspec

from headwater.client.contract import Contract
from headwater.client.source import load
from headwater.client.traffic import Passage, Traffic, traffic_of
from headwater.contract.errors import RequestError
from headwater.sidecar.relay.plan import Ending

_Client = TypeVar("_Client", anthropic.Anthropic, anthropic.AsyncAnthropic)

# The HTTP library differs between the SDK's versions: it is what their own client derives from.
_base: Final = anthropic.DefaultHttpxClient.__mro__[1]
_http: Final[Any] = importlib.import_module(_base.__module__.partition(".")[0])
_PASSAGE: Final = "headwater"
_WRAPPING: Final = "_headwater"
_COUNTED: Final = "/v1/messages"
_ON_CONTRACT: Final = (_COUNTED, "/v1/messages/count_tokens")
_BATCHES: Final = "/v1/messages/batches"


def wrap(client: _Client, contract: Contract | str | None = None) -> _Client:
    """A client like the given one that puts the contract before every request it sends.

    That goes for `create`, `stream`, `count_tokens` and `batches.create`, and for what
    `with_options` makes of it; everything else is as it was, and so is the given client.
    `contract` may be a name for `load`; without it, it is the one bundle that there is. A header
    `x-headwater-session` (`extra_headers`) names the conversation.

    Raises:
        BundleError: the contract cannot be loaded.
        RequestError: it is not a client of the provider's own API.
    """
    if not isinstance(client, anthropic.Anthropic | anthropic.AsyncAnthropic):
        raise RequestError(
            "client",
            f"{type(client).__name__} is not anthropic.Anthropic or AsyncAnthropic: use"
            " Contract.request with other clients.",
        )
    if not isinstance(contract, Contract):
        contract = load(contract)
    known: _Wrapping | None = vars(client).get(_WRAPPING)
    plain = client if known is None else known.client
    wrapped = plain.copy()
    vars(wrapped)[_WRAPPING] = _Wrapping(plain, contract, traffic_of(contract))
    kind: Any = type(plain)
    wrapped.__class__ = _kind_of(kind)
    return wrapped


class _Wrapping(NamedTuple):
    """What a wrapped client knows besides; it is one of `client`'s own copies."""

    client: Any
    contract: Contract
    traffic: Traffic


@functools.cache
def _kind_of(kind: type) -> Any:
    """A client's class, with two of its hooks taken; SDK and caller see the class they know."""

    class Wrapped(kind):  # type: ignore[misc] # whatever class the caller has
        @property
        def custom_auth(self) -> Any:
            return _Watch(super().custom_auth or self._client.auth)

        def copy(self, **options: Any) -> Any:
            wrapping: _Wrapping = vars(self)[_WRAPPING]
            return wrap(wrapping.client.copy(**options), wrapping.contract)

        with_options = copy

    class Synchronous(Wrapped):
        def _prepare_request(self, request: Any) -> None:
            super()._prepare_request(request)
            _put_on_contract(request, vars(self)[_WRAPPING].traffic)

    class Asynchronous(Wrapped):
        async def _prepare_request(self, request: Any) -> None:
            await super()._prepare_request(request)
            _put_on_contract(request, vars(self)[_WRAPPING].traffic)

    found = Asynchronous if issubclass(kind, anthropic.AsyncAnthropic) else Synchronous
    found.__name__ = found.__qualname__ = kind.__name__
    return found


def _put_on_contract(request: Any, traffic: Traffic) -> None:
    """Give a request that is about to be sent its body on the contract."""
    path = request.url.path
    if request.method != "POST" or not path.endswith((*_ON_CONTRACT, _BATCHES)):
        return
    headers = {name: value for name, value in request.headers.items() if not _is_ours(name)}
    extensions = dict(request.extensions)
    if path.endswith(_BATCHES):
        body = _batch(request, traffic)
    else:
        counted = path.endswith(_COUNTED)
        passage = traffic.open(dict(request.headers), request.read(), counted=counted)
        body = passage.body
        extensions[_PASSAGE] = passage
        # A compressed answer could not be counted.
        headers["accept-encoding"] = "identity"
    del headers["content-length"]
    rewritten = _http.Request(
        request.method, request.url, headers=headers, content=body, extensions=extensions
    )
    vars(request).update(vars(rewritten))


def _is_ours(name: str) -> bool:
    return name.startswith("x-headwater-")


class _Batched(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Batch(msgspec.Struct):
    requests: list[_Batched]


def _batch(request: Any, traffic: Traffic) -> bytes:
    """A batch with each of its requests on the contract."""
    headers = dict(request.headers)
    try:
        batch = msgspec.json.decode(request.read(), type=_Batch)
    except msgspec.MsgspecError as error:
        raise RequestError("requests", f"{error}; a batch's requests have params.") from error
    for each in batch.requests:
        body = traffic.open(headers, bytes(each.params), counted=False).body
        each.params = msgspec.Raw(body)
    return msgspec.json.encode(batch)


class _Watch(_http.Auth):  # type: ignore[misc] # the library is not known before
    """Sees each attempt's answer; what authenticates besides goes on as it did."""

    def __init__(self, other: Any) -> None:
        self._other = other or _http.Auth()
        self.requires_request_body = self._other.requires_request_body
        self.requires_response_body = self._other.requires_response_body

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        flow = self._other.sync_auth_flow(request)
        try:
            sent = next(flow)
            while True:
                response = yield sent
                try:
                    sent = flow.send(response)
                except StopIteration:
                    break
            _answered(request, response, _Read)
        except GeneratorExit:
            _unanswered(request)
            raise
        finally:
            flow.close()

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        flow = self._other.async_auth_flow(request)
        try:
            sent = await anext(flow)
            while True:
                response = yield sent
                try:
                    sent = await flow.asend(response)
                except StopAsyncIteration:
                    break
            _answered(request, response, _ReadAsync)
        except GeneratorExit:
            _unanswered(request)
            raise
        finally:
            await flow.aclose()


def _answered(request: Any, response: Any, read: Callable[[Any, Passage], Any]) -> None:
    passage = request.extensions.get(_PASSAGE)
    if passage is not None:
        passage.began(response.status_code, response.headers.get("content-type", ""))
        response.headers.update(passage.headers)
        response.stream = read(response.stream, passage)


def _unanswered(request: Any) -> None:
    """No answer came: the connection failed, or the caller gave up waiting."""
    passage = request.extensions.get(_PASSAGE)
    if passage is not None:
        error = sys.exception()
        failed = error is not None and isinstance(error.__context__, _http.TransportError)
        passage.end(Ending.CUT if failed else Ending.ABORTED)


class _Read(_http.SyncByteStream):  # type: ignore[misc] # as above
    """An answer's body, looked at as it is read."""

    def __init__(self, stream: Any, passage: Passage) -> None:
        self._stream = stream
        self._passage = passage

    def __iter__(self) -> Iterator[bytes]:
        try:
            for data in self._stream:
                self._passage.chunk(data)
                yield data
        except _http.TransportError:
            self._passage.end(Ending.CUT)
            raise
        self._passage.end(Ending.COMPLETE)

    def close(self) -> None:
        self._stream.close()
        self._passage.end(Ending.ABORTED)


class _ReadAsync(_http.AsyncByteStream):  # type: ignore[misc] # as above
    """The same for asyncio."""

    def __init__(self, stream: Any, passage: Passage) -> None:
        self._stream = stream
        self._passage = passage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._stream:
                self._passage.chunk(data)
                yield data
        except _http.TransportError:
            self._passage.end(Ending.CUT)
            raise
        self._passage.end(Ending.COMPLETE)

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._passage.end(Ending.ABORTED)
