"""Bodies that are changed as they pass: refused in their middle, held back, cut."""

import asyncio
import gzip

import pytest

from headwater.sidecar.relay.plan import Ending
from tests.cluster.waiting import scaled
from tests.integration.relay.test_requests import POST, in_chunks, with_length
from tests.integration.relay.wire import OK, STRAINED_LIMIT, Reader, Writer, message, wired

LONG = b"a rather long body, " * 10_000
PACKED = gzip.compress(LONG)


@pytest.mark.parametrize("at", [0, 1, len(LONG) // 2, len(LONG)])
async def test_what_is_refused_in_its_middle_is_no_request(at: int) -> None:
    """The application gets the answer, the provider gets no end; the next request passes."""
    whole: list[bytes] = []

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            whole.append((await message(reader))[1])
            writer.write(OK)

    async with wired(script) as wire:
        answer = await wire.ask(with_length(b"/shout", LONG[:at] + b"!" + LONG[at:]))
        assert answer.startswith(b"HTTP/1.1 422 ")
        assert answer.endswith(b"do not shout")
        assert [seen.ending for seen in wire.desk.seen] == [Ending.ABORTED]
        assert whole == []
        reader, writer = await wire.open()
        writer.write(with_length(b"/shout", LONG))
        assert (await message(reader))[0].startswith(b"HTTP/1.1 200 ")
        assert whole == [LONG.upper()]
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (with_length(b"/shout", b"no gzip", b"Content-Encoding: gzip\r\n"), 400),
        (with_length(b"/shout", PACKED[:-5], b"Content-Encoding: gzip\r\n"), 400),
        (with_length(b"/shout", b"x", b"Content-Encoding: br\r\n"), 415),
        (with_length(b"/shout", PACKED + LONG, b"Content-Encoding: gzip\r\n"), 400),
        (with_length(b"/shout", bytes(STRAINED_LIMIT + 1)), 413),
        (
            in_chunks(
                b"/shout",
                gzip.compress(bytes(2 * STRAINED_LIMIT)),
                1 << 16,
                b"Content-Encoding: gzip\r\n",
            ),
            413,
        ),
    ],
    ids=["no gzip", "cut gzip", "another coding", "more than gzip", "too large", "a bomb"],
)
async def test_what_cannot_be_read_is_refused(request_bytes: bytes, status: int) -> None:
    """As of bodies that are held."""
    async with wired() as wire:
        assert (await wire.ask(request_bytes)).startswith(b"HTTP/1.1 %d " % status)
        assert [seen.ending for seen in wire.desk.seen] == [Ending.ABORTED]


async def test_a_provider_that_reads_slowly_slows_the_client() -> None:
    """A body that becomes a hundred times as large is made only as fast as it is taken."""
    go_on = asyncio.Event()
    taken = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while data := await reader.read(1 << 16):
            taken += len(data)

    async with wired(script) as wire:
        _, writer = await wire.open()
        writer.write(POST % b"/shout-often" + b"Content-Length: %d\r\n\r\n" % STRAINED_LIMIT)
        sent = 0
        while sent < STRAINED_LIMIT:
            writer.write(bytes(1 << 16))
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
            sent += 1 << 16
        # The provider's own reader takes 128 MB before it stops reading.
        assert sent < STRAINED_LIMIT
        go_on.set()
        await asyncio.wait_for(writer.drain(), scaled(30))
        writer.transport.abort()


async def test_a_provider_that_answers_early_leaves_the_connection_usable() -> None:
    """Of a body that had come whole, and was not all sent on: the next request is read."""

    async def script(reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/shout-often" in head:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
            await reader.read(1)
            return
        writer.write(OK)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        for _ in range(3):
            writer.write(with_length(b"/shout-often", LONG[:40_000]))
            assert (await message(reader))[0].startswith(b"HTTP/1.1 401 ")
            writer.write(with_length(b"/own", b""))
            assert (await message(reader))[1] == b"own"
        writer.close()


async def test_others_get_their_turn_meanwhile() -> None:
    """While a large body is filtered, another request is answered."""
    async with wired() as wire:
        _, large = await wire.open()
        large.write(with_length(b"/shout", LONG * 15))
        reader, writer = await wire.open()
        writer.write(with_length(b"/shout", b"hi"))
        head, body = await message(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body.endswith(b"HI")
        large.transport.abort()
        writer.close()
