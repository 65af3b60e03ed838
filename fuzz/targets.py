"""What must never happen, whatever bytes come: each target raises where it does.

Nothing is replaced but sockets: the sidecar's own desk, parsers and connections run on transports
that keep what is written. What was written to the provider is read by another parser (h11), and
its JSON by another one (Python's own).
"""

import asyncio
import json
import posixpath
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import h11

from headwater.contract import bundle as bundles
from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.content import MARKER_KEY, canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError
from headwater.contract.markers import MARKER_LIMIT
from headwater.contract.placing import Placing, Point
from headwater.contract.reasons import RefusalError
from headwater.contract.route import Revision, Route
from headwater.sidecar.bundles import BundleFollower, Served
from headwater.sidecar.desk import Desk, Health
from headwater.sidecar.exchange import Exchanges
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics
from headwater.sidecar.relay.downstream import Downstream
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.server import Relay
from headwater.sidecar.relay.upstream import Upstream
from headwater.sidecar.wishes import Wishes

MODEL: Final = "claude-opus-4-8"
CONTRACT: Final = canonical_bytes(
    content(
        tools=[{"name": "search", "input_schema": {"type": "object"}}],
        system=[{"text": "Answer in whole sentences, and name your source."}],
        ttl="5m",
    )
)
DIGEST: Final = Digest.of(CONTRACT)
BUNDLE: Final = bundles.Bundle(
    Route("ai-platform", "org-core", 1, "salt", Revision("v1", DIGEST), (MODEL,), "5m"),
    {DIGEST: CONTRACT},
)
CUT: Final = b"\n--\n"
"""Between the files of a bundle."""
PATHS: Final = (b"/v1/messages", b"/v1/messages/count_tokens", b"/v1/messages/batches")
PLACINGS: Final = (
    Placing("A"),
    Placing("C"),
    Placing(points=(Point("user", -2), Point("system", 0), Point("assistant", 0), Point())),
)

_PREPARED: Final = prepare(CONTRACT)
_HOST: Final = b"provider.test"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_ROUNDS: Final = 12
_BODY: Final = json.dumps(
    {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
).encode()


class OffContractError(Exception):
    """Something went to the provider that must not."""


class FailedError(Exception):
    """The sidecar met something that it did not foresee."""


class _Wire:
    """A transport that keeps what is written; its protocol is told when it is closed."""

    def __init__(self, protocol: Any) -> None:
        self.data = bytearray()
        self.protocol = protocol
        self.answered = False
        self.looked_at = 0
        self._closing = False
        protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        while data and not self._closing:
            room = self.protocol.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            self.protocol.buffer_updated(size)
            data = data[size:]

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str) -> None:
        return None

    def _nothing(self) -> None:
        pass

    pause_reading = resume_reading = write_eof = _nothing


class _Provider(Origin):
    """Each request gets a connection of its own, so that more than one on it is too many."""

    def __init__(self) -> None:
        super().__init__(f"http://{_HOST.decode()}")
        self.wires: list[_Wire] = []

    def idle(self) -> Upstream:
        protocol = self._made()
        self.wires.append(_Wire(protocol))
        return protocol


class _Mounted(BundleFollower):
    """Serves what it is given."""

    def __init__(self, served: Served) -> None:
        super().__init__(Path())
        self.served, self.problem = served, None


def _desk() -> Desk:
    mounted = _Mounted(Served(BUNDLE.route, {DIGEST: _PREPARED}))
    lanes = Lanes(gate_seconds=0)
    metrics = Metrics(Identity(), mounted, lanes, time.monotonic)
    exchanges = [Exchanges(mounted, lanes, metrics, time.monotonic)]
    return Desk(exchanges, Health(exchanges, time.monotonic), Wishes(None, time.monotonic))


DESK: Final = _desk()
_LOOP: Final = asyncio.new_event_loop()
_FAILED: Final[list[Any]] = []
_LOOP.set_exception_handler(lambda _, context: _FAILED.append(context))


def request(data: bytes) -> None:
    """What an application sends, whatever it is; the first byte says how.

    Its high bit: the rest is the body of a good request for one of `PATHS`. Else the rest is what
    comes over the connection, in pieces of so many bytes (0: at once).

    Raises:
        OffContractError: something reached the provider that should not have.
        FailedError: a fault of the sidecar's own.
    """
    if not data:
        return
    first, rest = data[0], data[1:]
    if first & 0x80:
        path = PATHS[(first & 0x7F) % len(PATHS)]
        length = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (path, len(rest))
        first, rest = 0, length + rest
    _FAILED.clear()
    client, wires = _LOOP.run_until_complete(_carried(rest, first or len(rest)))
    if _FAILED or b"HTTP/1.1 500 " in client.data:
        raise FailedError(f"{_FAILED} {bytes(client.data)!r}")
    for wire in wires:
        for method, target, headers, body in sent_on(bytes(wire.data)):
            check(method, target, headers, body)


async def _carried(data: bytes, piece: int) -> tuple[_Wire, list[_Wire]]:
    provider = _Provider()
    relay = Relay(DESK, provider)
    client = _Wire(Downstream(relay))
    for start in range(0, len(data), piece or 1):
        client.feed(data[start : start + piece])
        await _answered(provider)
    for _ in range(_ROUNDS):
        await _answered(provider)
    client.close()
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    return client, provider.wires


async def _answered(provider: _Provider) -> None:
    await asyncio.sleep(0)
    for wire in provider.wires:
        if wire.answered or len(wire.data) == wire.looked_at:
            continue
        wire.looked_at = len(wire.data)
        if any(body is not None for *_, body in sent_on(bytes(wire.data))):
            wire.answered = True
            wire.feed(_ANSWER)
    await asyncio.sleep(0)


def sent_on(
    data: bytes,
) -> Iterator[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes | None]]:
    """The request on a connection to the provider; the body is None where it is not whole."""
    if b"\r\n\r\n" not in data:
        return
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        head = connection.next_event()
        if not isinstance(head, h11.Request):
            raise OffContractError(f"no request was sent: {data!r}")
        pieces = []
        while isinstance(event := connection.next_event(), h11.Data):
            pieces.append(event.data)
        body = b"".join(pieces) if isinstance(event, h11.EndOfMessage) else None
    except h11.RemoteProtocolError as error:
        raise OffContractError(f"{error}: {data!r}") from error
    if connection.trailing_data[0] and body is not None:
        raise OffContractError(f"more than one request was sent: {data!r}")
    yield head.method, head.target, list(head.headers), body


def check(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None
) -> None:
    names = [name for name, _ in headers]
    if any(name.startswith(b"x-headwater-") for name in names):
        raise OffContractError(f"a private header was sent: {names}")
    if [value for name, value in headers if name == b"host"] != [_HOST]:
        raise OffContractError(f"another host was named: {headers}")
    path = unquote(target.partition(b"?")[0].decode("latin-1"))
    path = "/" + posixpath.normpath(path).lstrip("/")
    if method != b"POST" or path.encode("utf-8", "replace") not in PATHS:
        return
    if body is None and path.endswith("batches"):
        return  # refused in its middle: the provider has no request
    if body is None or b"content-encoding" in names:
        raise OffContractError(f"a body was sent that was not looked at: {headers}")
    if path.endswith("batches"):
        # Whichever of two lists it takes.
        lists = [value for name, value in _pairs(body) if name == "requests"]
        params = [json.dumps(_unique(entry)["params"]) for entries in lists for entry in entries]
        if body.count(_PREPARED.system) < len(params):
            raise OffContractError(f"an entry of a batch is off the contract: {body!r}")
    elif not (
        _holds(body, b"system", _PREPARED.system) and _holds(body, b"tools", _PREPARED.tools)
    ):
        raise OffContractError(f"off the contract: {body!r}")
    else:
        _object(body)


def _holds(body: bytes, key: bytes, part: bytes) -> bool:
    begins = b'"%b":[%b' % (key, part)
    return begins + b"]" in body or begins + b"," in body


def _pairs(body: bytes) -> Any:
    """A body as another reader reads it."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=list)
    except RecursionError:
        return []


def _object(body: bytes) -> dict[str, Any]:
    """Whichever of two equal keys another reader takes, there is one."""
    return _unique(_pairs(body))


def _unique(pairs: Any) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise OffContractError(f"a key stands twice: {keys}")
    return dict(pairs)


def bundle(data: bytes) -> None:
    """What is mounted, whatever it is: a route, a contract, a packed contract, with CUT between.

    `@DIGEST@` in the route stands for the contract's digest, which no fuzzer would guess.

    Raises:
        OffContractError: what is no contract under its digest would be used.
    """
    parts = [*data.split(CUT, 2), b"", b""][:3]
    route, plain, packed = parts
    name = Digest.of(plain)
    route = route.replace(b"@DIGEST@", name.encode())
    files = {bundles.ROUTE_FILE: route, f"{name.hex}.json": plain, f"{DIGEST.hex}.json.gz": packed}
    try:
        found = bundles.decode(files)
        contracts = {digest: prepare(data) for digest, data in found.contracts.items()}
    except BundleError:
        return
    for digest, canonical in found.contracts.items():
        if Digest.of(canonical) != digest:
            raise OffContractError(f"{digest} was not verified")
    for contract in contracts.values():
        try:
            sent = splice(Request.read(_BODY), contract, (MODEL,)).body
        except RefusalError:
            continue
        _object(sent)
        for key, part in ((b"system", contract.system), (b"tools", contract.tools)):
            if part and not _holds(sent, key, part):
                raise OffContractError(f"off the contract: {sent!r}")


def placing(data: bytes) -> None:
    """The body of a request whose prefix declares markers; the first byte says which.

    Raises:
        OffContractError: more was put in than markers, or another number of them.
    """
    first, body = data[:1], data[1:]
    declared = PLACINGS[ord(first or b"\0") % len(PLACINGS)]
    try:
        plain = splice(Request.read(body), _PREPARED, (MODEL,))
    except RefusalError:
        return
    placed = splice(Request.read(body), _PREPARED, (MODEL,), declared)
    (before, had, repeated), (after, has, repeats) = map(_unmarked, (plain.body, placed.body))
    added = placed.own_markers - plain.own_markers
    if before != after or has - had != added or repeats > repeated:
        raise OffContractError(f"other than markers were put in: {placed.body!r}")
    if added and placed.own_markers + _PREPARED.markers > MARKER_LIMIT:
        raise OffContractError(f"too many markers: {placed.body!r}")


def _unmarked(body: bytes) -> tuple[Any, int, int]:
    """A request with texts as blocks and without their markers; and how many these were.

    Besides, how many keys were repeated in an object, anywhere.
    """
    repeated = 0

    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated += len(pairs) - len(dict(pairs))
        return dict(pairs)

    try:
        text = body.decode("utf-8", "surrogateescape")
        document: dict[str, Any] = json.loads(text, object_pairs_hook=read)
    except RecursionError:
        return None, 0, 0
    messages = document.get("messages")
    found = 0
    for holder, key in (
        (document, "system"),
        *((each, "content") for each in messages or () if isinstance(each, dict)),
    ):
        if isinstance(holder.get(key), str):
            holder[key] = [{"type": "text", "text": holder[key]}]
        blocks = holder.get(key)
        for block in blocks if isinstance(blocks, list) else ():
            if isinstance(block, dict) and block.get(MARKER_KEY) is not None:
                found += 1
                del block[MARKER_KEY]
    return document, found, repeated


TARGETS: Final = {"request": request, "bundle": bundle, "placing": placing}
