"""Both ends of a relay as raw sockets, so that a test says every byte itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import (
    Collect,
    Decision,
    Ending,
    Head,
    Limits,
    Patience,
    RefusedError,
    Reply,
    Send,
)
from headwater.sidecar.relay.server import Relay
from tests.cluster.waiting import scaled

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Script = Callable[[Reader, Writer], Awaitable[None]]

SECONDS: Final = scaled(30)
"""How long a test waits for bytes that should come at once."""
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Seen:
    """What a watcher saw of one answer."""

    broken: bool = False
    status: int = 0
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ending: Ending | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        self._fail()
        self.status, self.fields = status, fields
        return [(b"x-added", b"yes")]

    def data_(self, data: bytes) -> None:
        self._fail()
        self.data += data

    def ended(self, ending: Ending) -> None:
        self._fail()
        assert self.ending is None, "an answer ends once"
        self.ending = ending
        self.over.set()

    def _fail(self) -> None:
        if self.broken:
            raise ZeroDivisionError


class Watch:
    def __init__(self, seen: Seen) -> None:
        self.began, self.data, self.ended = seen.began, seen.data_, seen.ended


class Shout:
    """In capitals, `times` over; an exclamation mark is refused."""

    def __init__(self, times: int) -> None:
        self._times = times

    def feed(self, data: bytes) -> list[bytes]:
        if b"!" in data:
            raise RefusedError(Reply(422, (), b"do not shout"))
        return [data.upper()] * self._times

    def end(self) -> None:
        pass


STRAINED_LIMIT: Final = 16 << 20
"""More than the buffers of two sockets take."""


class Desk:
    """`/held…` is collected, wrapped in brackets and watched; `/own` answered; all else passes.

    `/wait…` is decided when `decided` is set, `/shout…` is filtered as it passes.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.decided = asyncio.Event()
        self.broken = False

    def arrived(self, head: Head) -> Decision | Collect:
        self.heads.append(head)
        if head.target == b"/own":
            return Reply(200, ((b"content-type", b"text/plain"),), b"own")
        if head.target == b"/broken":
            raise ZeroDivisionError
        if head.target.startswith(b"/shout"):
            self.seen.append(Seen())
            times = 100 if head.target == b"/shout-often" else 1
            coding = ((b"content-encoding", b""),)
            watch = Watch(self.seen[-1])
            return Send(head.target, None, coding, watch, Shout(times), STRAINED_LIMIT)
        if not head.target.startswith((b"/held", b"/wait")):
            return Send(head.target)

        def decide(head: Head, body: bytes | bytearray) -> Decision | Awaitable[Decision]:
            self.bodies.append(bytes(body))
            seen = Seen(self.broken)
            self.seen.append(seen)
            send = Send(
                head.target, (b"[", body, b"]"), ((b"accept-encoding", b"identity"),), Watch(seen)
            )
            return self._later(send) if head.target.startswith(b"/wait") else send

        return Collect(decide)

    async def _later(self, send: Send) -> Decision:
        await self.decided.wait()
        return send

    def fault(self, status: int, message: str) -> Reply:
        return Reply(status, (), message.encode())


@dataclass
class Wire:
    """A relay, its provider's script, and what reached the provider."""

    port: int
    relay: Relay
    desk: Desk
    connections: list[tuple[Reader, Writer]]
    clients: list[Writer] = field(default_factory=list)

    async def open(self) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)
        self.clients.append(writer)
        return reader, writer

    async def ask(self, data: bytes) -> bytes:
        """Everything that comes back until the connection ends."""
        reader, writer = await self.open()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), SECONDS)
        finally:
            writer.close()


async def message(reader: Reader) -> tuple[bytes, bytes]:
    """One request or answer: its head, and its body without chunks."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            head += b"trailer " + line
        return head, body
    if b"\r\ncontent-length: " in lower:
        size = int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
        return head, await asyncio.wait_for(reader.readexactly(size), SECONDS)
    return head, b""


def answering(*answers: bytes) -> Script:
    """Reads a request and writes an answer, for each; then closes."""

    async def script(reader: Reader, writer: Writer) -> None:
        for answer in answers:
            await message(reader)
            writer.write(answer)
            await writer.drain()

    return script


async def echo(reader: Reader, writer: Writer) -> None:
    """Answers every request with its head and its body."""
    while True:
        head, body = await message(reader)
        said = head + body
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))


async def closed(writers: Iterable[Writer]) -> None:
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def provider(script: Script) -> AsyncIterator[tuple[int, list[tuple[Reader, Writer]]]]:
    """A listener that runs the script on every connection; its port and the connections."""
    connections: list[tuple[Reader, Writer]] = []
    tasks = set()

    async def serve(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        connections.append((reader, writer))
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        ):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 26)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await closed(writer for _, writer in connections)


@contextlib.asynccontextmanager
async def wired(
    script: Script = echo, limits: Limits | None = None, patience: Patience | None = None
) -> AsyncIterator[Wire]:
    """A relay before a provider that follows the script."""
    desk = Desk()
    async with provider(script) as (port, connections):
        origin = Origin(f"http://127.0.0.1:{port}", patience)
        relay = Relay(desk, origin, limits, tick=0.02)
        found = Wire(await relay.listen("127.0.0.1", 0), relay, desk, connections)
        try:
            yield found
        finally:
            await relay.close(0)
            await closed(found.clients)
