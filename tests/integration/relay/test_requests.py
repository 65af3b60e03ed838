"""Requests on the wire: every way to frame one, what is refused, and who waits for whom."""

import asyncio
import contextlib
import gzip
import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.sidecar.relay.plan import Ending, Limits
from headwater.sidecar.relay.room import Room
from tests.cluster.waiting import eventually, scaled
from tests.integration.relay.wire import OK, Reader, Writer, message, wired

POST = b"POST %b HTTP/1.1\r\nHost: sidecar\r\n"


def with_length(path: bytes, body: bytes, more: bytes = b"") -> bytes:
    return POST % path + more + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(path: bytes, body: bytes, size: int = 7, more: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
    return POST % path + more + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


BODY = b'{"a": 1.0, "b": "\\u00e9"}'
GOOD = [
    (with_length(b"/held", BODY), b"[" + BODY + b"]"),
    (in_chunks(b"/held", BODY), b"[" + BODY + b"]"),
    (with_length(b"/pass", BODY), BODY),
    (in_chunks(b"/pass", BODY), BODY),
    (with_length(b"/wait", BODY), b"[" + BODY + b"]"),
    (with_length(b"/shout", BODY), BODY.upper()),
    (in_chunks(b"/shout", BODY), BODY.upper()),
    (with_length(b"/shout", b""), b""),
    (
        in_chunks(b"/shout", gzip.compress(BODY, mtime=0), 5, b"Content-Encoding: gzip\r\n"),
        BODY.upper(),
    ),
    (
        with_length(b"/held", gzip.compress(BODY, mtime=0), b"Content-Encoding: gzip\r\n"),
        b"[" + BODY + b"]",
    ),
    (
        in_chunks(b"/held", zlib.compress(BODY), 5, b"Content-Encoding: deflate\r\n"),
        b"[" + BODY + b"]",
    ),
    (with_length(b"/pass", b""), b""),
    (with_length(b"/held", b""), b"[]"),
    (b"GET /pass?a=%2F&b HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    (b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n", b"[]"),
    (
        with_length(b"/held", BODY, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
        b"[" + BODY + b"]",
    ),
    (
        in_chunks(b"/pass", BODY, 9, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        BODY,
    ),
    (b"GET /pass HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b""),
]


@pytest.mark.parametrize(("request_bytes", "body"), GOOD)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
async def test_every_framing_however_it_is_cut(
    request_bytes: bytes, body: bytes, size: int
) -> None:
    """The provider gets the same body, whether bytes come one by one or all at once; twice."""
    async with wired() as wire:
        wire.desk.decided.set()
        reader, writer = await wire.open()
        for _ in range(2):
            for at in range(0, len(request_bytes), size):
                writer.write(request_bytes[at : at + size])
                await asyncio.sleep(0)
            head, said = await message(reader)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert said.endswith(b"\r\n\r\n" + body)
        writer.close()
        assert len(wire.connections) == 1, "the connection to the provider is used again"


@settings(max_examples=60, deadline=None)
@given(
    which=st.lists(st.sampled_from(GOOD), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 2_000), max_size=12),
)
def test_pipelined_requests_are_answered_in_their_order(
    which: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """However many come at once, and wherever the bytes are split."""

    async def law() -> None:
        async with wired() as wire:
            wire.desk.decided.set()
            reader, writer = await wire.open()
            data = b"".join(each for each, _ in which)
            places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
            for start, stop in itertools.pairwise(places):
                writer.write(data[start:stop])
                await asyncio.sleep(0)
            for _, body in which:
                _, said = await message(reader)
                assert said.endswith(b"\r\n\r\n" + body)
            writer.close()

    asyncio.run(law())


@pytest.mark.parametrize("sizes", [(10, 5_000_000, 10), (5_000_000,) * 2, (300_000,) * 6])
@pytest.mark.parametrize("path", [b"/held", b"/pass"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_large_and_small_bodies_one_after_the_other(
    sizes: tuple[int, ...], path: bytes, *, chunked: bool
) -> None:
    """What is read past the parser ends exactly where the next request begins."""
    bodies = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    async with wired() as wire:
        reader, writer = await wire.open()
        for body in bodies:
            writer.write(in_chunks(path, body, 70_000) if chunked else with_length(path, body))
        for body in bodies:
            _, said = await message(reader)
            assert said.split(b"\r\n\r\n", 1)[1].strip(b"[]") == body
        writer.close()


BAD = [
    (b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    (b"Content-Length: 1, 1\r\n\r\nx", 400),
    (b"Content-Length: +1\r\n\r\nx", 400),
    (b"Content-Length: -1\r\n\r\nx", 400),
    (b"Content-Length: 0x1\r\n\r\nx", 400),
    (b"Content-Length: \r\n\r\nx", 400),
    (b"Content-Length: 99999999999999999999999\r\n\r\nx", 400),
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    (b"Transfer-Encoding: identity\r\n\r\n", 501),
    (b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    (b"X: a\r\n b\r\n\r\n", 400),
    (b"X : a\r\n\r\n", 400),
    (b"X: a\x00\r\n\r\n", 400),
    (b"X: a\nY: b\r\n\r\n", 400),
    (b"X: a\rY: b\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1;a\n\r\nx\r\n0\r\n\r\n", 400),
    (b"Host: again\r\n\r\n", 400),
    (b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    (b"X: a\r\n" * 20_000 + b"\r\n", 431),
    (b"X: " + b"a" * 700_000, 431),
    (b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: abcdefgh\r\n" * 9_000 + b"\r\n", 431),
]
BAD_LINES = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /\r\n\r\n", 505),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET pass HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\n\r\nhello", 405),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400),
]


@pytest.mark.parametrize("path", [b"/held", b"/pass"])
async def test_a_head_that_came_before_is_read_as_it_was_then(path: bytes) -> None:
    """On one connection: other lengths, other headers amidst, a request in parts, two at once."""
    bodies = [b"", b"hi", b"x" * 3_000, b"y" * 300_000, b"hi"]
    alike = [with_length(path, body) for body in bodies]
    other = with_length(path, b"other", b"X-Other: 1\r\n")
    async with wired() as wire:
        reader, writer = await wire.open()

        async def expect(body: bytes) -> bytes:
            head, found = (await message(reader))[1].split(b"\r\n\r\n", 1)
            assert found == (b"[%b]" % body if path == b"/held" else body)
            return head.lower()

        for data, body in (*zip(alike, bodies, strict=True), (other, b"other"), (alike[1], b"hi")):
            writer.write(data)
            assert (b"x-other: 1" in await expect(body)) == (data is other)
        writer.write(alike[1] + alike[2])
        await expect(bodies[1])
        await expect(bodies[2])
        writer.write(alike[2][:-1_000])
        await asyncio.sleep(0)
        writer.write(alike[2][-1_000:] + alike[1])
        await expect(bodies[2])
        await expect(bodies[1])
        writer.write(alike[1].replace(b"Length: 2", b"Length: 2, 2"))
        assert (await message(reader))[0].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(POST % path + data, status) for data, status in BAD for path in (b"/held", b"/pass")]
    + BAD_LINES,
    ids=lambda value: value[:90] if isinstance(value, bytes) else None,
)
async def test_what_two_readers_could_read_in_two_ways_is_refused(
    request_bytes: bytes, status: int
) -> None:
    """Once, with a reason, and the connection ends; what comes behind it is not read."""
    smuggled = b"GET /pass/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    async with wired() as wire:
        said = await wire.ask(request_bytes + smuggled)
        assert said.startswith(b"HTTP/1.1 %d " % status), said[:300]
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in said
        assert all(not head.target.startswith(b"/pass/smuggled") for head in wire.desk.heads)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), tail=st.binary(max_size=60))
def test_whatever_comes_is_answered_or_closed(data: bytes, tail: bytes) -> None:
    """Any bytes, alone and behind the beginning of a request; the next client is served."""

    async def law() -> None:
        async with wired(
            limits=Limits(head_seconds=0.02, body_seconds=0.02, idle_seconds=0.02)
        ) as wire:
            for each in (data, POST % b"/held" + data + b"\r\n\r\n" + tail):
                # A client that is too slow for so short limits may see a reset.
                with contextlib.suppress(ConnectionResetError):
                    said = await wire.ask(each)
                    assert not said or said.startswith(b"HTTP/1.1 ")

            said = b""
            while not said:
                with contextlib.suppress(ConnectionResetError):
                    said = await wire.ask(b"GET /own HTTP/1.0\r\n\r\n")
            assert said.endswith((b"own", b"took too long."))

    asyncio.run(law())


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a/../b?c#d", b"/a/../b?c#d"),
        (b"http://evil.example/v1/x?y=1", b"/v1/x?y=1"),
        (b"HTTP://evil.example", b"/"),
        (b"http://evil.example?x=/", b"/?x=/"),
    ],
)
async def test_a_request_cannot_choose_where_it_goes(target: bytes, expected: bytes) -> None:
    """Neither by its Host nor by an absolute form: there is one provider."""
    async with wired() as wire:
        said = await wire.ask(
            b"GET %b HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n" % target
        )
        assert b"\r\n\r\nGET %b HTTP/1.1\r\nhost: 127.0.0.1:" % expected in said


async def test_headers_of_one_connection_stay_on_it() -> None:
    """All others pass: their case, their order, their values, repeated ones too."""
    theirs = (
        b"X-One: 1\r\nx-two:  a b \r\nX-ONE: 2\r\nX-Odd: \xff\xe9\r\nAuthorization: Bearer k\r\n"
    )
    ours = (
        b"Connection: keep-alive, x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: p\r\nX-Headwater-Session: s\r\n"
    )
    async with wired() as wire:
        reader, writer = await wire.open()
        writer.write(with_length(b"/pass", b"", theirs + ours))
        _, said = await message(reader)
        assert b"X-One: 1\r\nx-two: a b \r\nX-ONE: 2\r\nX-Odd: \xff\xe9\r\n" in said
        for name in (b"x-mine", b"keep-alive", b"te:", b"proxy-", b"x-headwater", b"connection"):
            assert name not in said.lower()
        writer.close()


async def test_a_client_may_ask_before_it_sends() -> None:
    """`100 Continue` comes where the body is wanted, and the provider never hears of it."""
    async with wired() as wire:
        reader, writer = await wire.open()
        for path in (b"/held", b"/pass"):
            writer.write(POST % path + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            _, said = await message(reader)
            assert b"expect" not in said.lower()
        writer.close()
        refused = POST % b"/held" + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
        assert (await wire.ask(refused)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (with_length(b"/held", b"x" * 2000), 413),
        (in_chunks(b"/held", b"x" * 2000, 100), 413),
        (
            with_length(
                b"/held", gzip.compress(bytes(9_000), mtime=0), b"Content-Encoding: gzip\r\n"
            ),
            413,
        ),
        (with_length(b"/held", b"no gzip", b"Content-Encoding: gzip\r\n"), 400),
        (
            with_length(b"/held", gzip.compress(BODY, mtime=0)[:-3], b"Content-Encoding: gzip\r\n"),
            400,
        ),
        (with_length(b"/held", b"x", b"Content-Encoding: br\r\n"), 415),
        (
            with_length(b"/held", 2 * gzip.compress(BODY, mtime=0), b"Content-Encoding: gzip\r\n"),
            400,
        ),
        (with_length(b"/broken", b"x"), 500),
    ],
)
async def test_bodies_that_cannot_be_held_are_refused(request_bytes: bytes, status: int) -> None:
    """Nothing reaches the provider, and a client that is still sending can read why."""
    async with wired(limits=Limits(body=1000)) as wire:
        said = await wire.ask(request_bytes)
        assert said.startswith(b"HTTP/1.1 %d " % status)
        assert wire.connections == []


async def test_trailers_of_a_streamed_request_pass() -> None:
    """They are part of the message, and the provider may read them."""
    async with wired() as wire:
        reader, writer = await wire.open()
        writer.write(
            POST % b"/pass" + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
        )
        _, said = await message(reader)
        assert b"trailer X-Sum: 7\r\n" in said
        writer.close()


async def test_a_streamed_body_arrives_before_its_end() -> None:
    """Uploads are not held."""
    first = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"hello")
        first.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)

    async with wired(script) as wire:
        _, writer = await wire.open()
        writer.write(POST % b"/pass" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await asyncio.wait_for(first.wait(), scaled(30))
        writer.close()


async def test_a_provider_that_reads_slowly_slows_the_client() -> None:
    """Of an endless upload only buffers are in memory."""
    sent = 0
    go_on = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while await reader.read(1 << 20):
            pass

    async with wired(script) as wire:
        _, writer = await wire.open()
        writer.write(POST % b"/pass" + b"Content-Length: 1000000000\r\n\r\n")
        piece = bytes(1 << 20)
        while True:
            writer.write(piece)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
            sent += len(piece)
            # The provider's own reader takes 128 MB before it stops reading.
            assert sent < 250 << 20
        go_on.set()
        await asyncio.wait_for(writer.drain(), scaled(30))
        writer.transport.abort()


async def test_clients_that_dawdle_are_refused() -> None:
    """Half a head, half a body, and nothing at all; a provider that thinks is not hurried."""
    short = scaled(0.1)
    limits = Limits(head_seconds=short, body_seconds=short, idle_seconds=short)
    async with wired(limits=limits) as wire:
        assert (await wire.ask(b"POST / HTT")).startswith(b"HTTP/1.1 408 ")
        for path in (b"/held", b"/pass"):
            head = POST % path + b"Content-Length: 9\r\n\r\nhalf"
            assert (await wire.ask(head)).startswith(b"HTTP/1.1 408 ")
        assert await wire.ask(b"") == b""
        assert (await wire.ask(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")).endswith(b"own")
        reader, writer = await wire.open()
        writer.write(with_length(b"/wait", BODY))
        await asyncio.sleep(3 * short)
        wire.desk.decided.set()
        assert (await message(reader))[0].startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_too_many_connections_are_told_so() -> None:
    """And those that are open go on."""
    async with wired(limits=Limits(connections=2)) as wire:
        reader, writer = await wire.open()
        writer.write(with_length(b"/pass", b"x"))
        await message(reader)
        other = await wire.open()
        assert (await wire.ask(b"")).startswith(b"HTTP/1.1 503 ")
        other[1].close()
        writer.write(with_length(b"/pass", b"x"))
        assert (await message(reader))[0].startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("path", [b"/wait", b"/held", b"/pass"])
async def test_a_client_that_leaves_takes_its_request_along(path: bytes) -> None:
    """Waiting or sent: the provider sees its connection closed, and the watcher is told."""
    here, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        here.set()
        assert await reader.read() == b""
        gone.set()

    async with wired(script) as wire:
        _, writer = await wire.open()
        writer.write(with_length(path, BODY))
        if path != b"/wait":
            await asyncio.wait_for(here.wait(), scaled(30))
            writer.close()
            await asyncio.wait_for(gone.wait(), scaled(30))
        else:
            await eventually(lambda: wire.desk.bodies, 5, "the request waits")
            writer.close()
            await asyncio.sleep(0.05)
            wire.desk.decided.set()
            await asyncio.sleep(0.05)
            assert wire.connections == []
        if path == b"/held":
            assert wire.desk.seen[0].ending is Ending.ABORTED


async def test_old_clients_are_answered_without_chunks() -> None:
    """HTTP/1.0: one request a connection, and the end of the connection ends the answer."""

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    async with wired(script) as wire:
        said = await wire.ask(b"POST /held HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        assert said.endswith(b"\r\n\r\nhi")
        assert b"chunked" not in said


async def test_head_has_no_body() -> None:
    """Its length is passed on, and the next request finds its own answer."""

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            head, _ = await message(reader)
            writer.write(OK.removesuffix(b"ok") if head.startswith(b"HEAD") else OK)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        for _ in range(2):
            writer.write(
                b"HEAD /pass HTTP/1.1\r\nHost: a\r\n\r\nGET /pass HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 2" in head
            assert (await message(reader))[1] == b"ok"
        writer.close()


async def test_closing_lets_answers_come_to_their_end() -> None:
    """No new connection, idle ones end at once, a running one is finished, a stuck one cut."""

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        writer.write(OK.removesuffix(b"k"))
        await asyncio.sleep(0.2)
        writer.write(b"k")
        await message(reader)

    async with wired(script) as wire:
        idle, _ = await wire.open()
        reader, writer = await wire.open()
        writer.write(with_length(b"/held", BODY))
        await reader.readuntil(b"\r\n\r\no")
        closing = asyncio.create_task(wire.relay.close(scaled(5)))
        assert await asyncio.wait_for(idle.read(), scaled(30)) == b""
        with pytest.raises(OSError, match="111"):
            await wire.open()
        assert await asyncio.wait_for(reader.read(), scaled(30)) == b"k"
        await closing
        writer.close()


async def test_nobody_is_waited_for_longer_than_the_grace() -> None:
    """A stuck answer does not keep the pod from ending."""
    async with wired() as wire:
        reader, writer = await wire.open()
        writer.write(with_length(b"/wait", BODY))
        await eventually(lambda: wire.desk.bodies, 5, "the request waits")
        await asyncio.wait_for(wire.relay.close(0.1), scaled(30))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


LARGE = b"x" * (1 << 20)


async def test_large_bodies_wait_for_room() -> None:
    """What is held together is bounded; a small one, and one that is not held, pass meanwhile."""
    answer = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            _, body = await message(reader)
            if len(body) > 1 << 19:
                await answer.wait()
            writer.write(OK)

    async with wired(script, Limits(held=(1 << 21) + 100, room_seconds=600)) as wire:
        opened = [await wire.open() for _ in range(4)]
        for _, writer in opened:
            writer.write(with_length(b"/held", LARGE))
        await eventually(lambda: len(wire.desk.bodies) == 2, 10, "two are sent")
        for path in (b"/held", b"/pass"):
            assert b" 200 " in await wire.ask(with_length(path, BODY, b"Connection: close\r\n"))
        assert wire.desk.bodies == [LARGE, LARGE, BODY]
        # One that leaves while it waits is seen to be gone when its turn comes.
        opened[2][1].transport.abort()
        answer.set()
        for reader, _ in (opened[0], opened[1], opened[3]):
            assert b" 200 " in (await message(reader))[0]
        # All of it was given back.
        reader, writer = await wire.open()
        for _ in range(5):
            writer.write(with_length(b"/held", LARGE))
            assert b" 200 " in (await message(reader))[0]


async def test_a_body_of_unknown_length_keeps_what_it_needs_alone() -> None:
    """However many are under way: what a chunked one might have had is free when it has come."""
    async with wired(silent_provider, Limits(body=1 << 20, held=(1 << 20) + 1000)) as wire:
        for number in range(1, 9):
            _, writer = await wire.open()
            writer.write(in_chunks(b"/held", BODY))
            await eventually(lambda n=number: len(wire.desk.bodies) == n, 10, "it is sent")  # type: ignore[misc]


def test_who_leaves_the_line_lets_the_next_one_in() -> None:
    """The one behind may fit where the one in front did not."""
    room = Room(100)
    first: list[int] = []
    second: list[int] = []
    assert room.take(80, first.append) == 80
    gone, next_one = first.append, second.append
    assert (room.take(50, gone), room.take(20, next_one)) == (0, 0)
    room.forget(gone)
    assert (first, second) == ([], [20])
    assert room.take(1, next_one) == 0
    room.give(80)
    assert second == [20, 1]


async def test_who_waits_too_long_for_room_may_try_again() -> None:
    """503, before anything was sent."""
    limits = Limits(held=1 << 20, room_seconds=scaled(0.2))
    async with wired(silent_provider, limits) as wire:
        _, first = await wire.open()
        first.write(with_length(b"/held", LARGE))
        await eventually(lambda: wire.desk.bodies == [LARGE], 10, "one is sent")
        assert (await wire.ask(with_length(b"/held", LARGE))).startswith(b"HTTP/1.1 503 ")
        first.transport.abort()
        reader, writer = await wire.open()
        writer.write(with_length(b"/held", LARGE))
        await eventually(lambda: len(wire.desk.bodies) == 2, 10, "its room is free again")
        del reader


async def silent_provider(reader: Reader, writer: Writer) -> None:
    """Reads, and says nothing."""
    del writer
    while await reader.read(1 << 16):
        pass
