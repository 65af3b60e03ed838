"""Answers on the wire: every way to frame one, every way to lose one, and who is asked twice."""

import asyncio
import gzip
import socket
import struct
import zlib
from typing import Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import Ending, Patience
from tests.cluster.waiting import scaled
from tests.integration.relay.wire import (
    OK,
    Reader,
    Script,
    Writer,
    answering,
    message,
    provider,
    wired,
)

HELD = b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
PASS = b"POST /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
BODY = b"event: ping\ndata: {}\n\n" * 3
PACKED = gzip.compress(BODY, mtime=0)

ANSWERS = [
    (b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY), BODY, BODY),
    (
        b"transfer-encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:]))
        + b"0\r\n\r\n",
        BODY,
        BODY,
    ),
    (
        b"transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        + b"%x;a=b\r\n%b\r\n0\r\nX-Sum: 7\r\n\r\n" % (len(BODY), BODY),
        BODY,
        BODY,
    ),
    (
        b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(PACKED), PACKED),
        PACKED,
        BODY,
    ),
    (
        b"content-encoding: deflate\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(zlib.compress(BODY)), zlib.compress(BODY)),
        zlib.compress(BODY),
        BODY,
    ),
    (b"content-encoding: br\r\ncontent-length: 3\r\n\r\n\x01\x02\x03", b"\x01\x02\x03", None),
    (b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nno!", b"no!", b""),
    (b"content-length: 0\r\n\r\n", b"", b""),
]


@pytest.mark.parametrize(("answer", "body", "decoded"), ANSWERS)
@pytest.mark.parametrize("size", [1, 4, 1 << 20])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_every_framing_however_it_is_cut(
    answer: bytes, body: bytes, decoded: bytes | None, size: int, before: bytes
) -> None:
    """The application gets the original, the watcher a readable copy; the connection is kept."""
    sent = (
        before + b"HTTP/1.1 207 Odd\r\nX-Theirs: 1\r\nset-cookie: a\r\nset-cookie: b\r\n" + answer
    )

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            await message(reader)
            for at in range(0, len(sent), size):
                writer.write(sent[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        for turn in range(2):
            writer.write(HELD)
            head, got = await message(reader)
            assert got == body
            assert head.startswith(b"HTTP/1.1 207 Odd\r\n")
            for line in (b"X-Theirs: 1", b"set-cookie: a", b"set-cookie: b", b"x-added: yes"):
                assert line in head
            assert (b"trailer X-Sum: 7" in head) == (b"X-Sum" in answer)
            seen = wire.desk.seen[turn]
            await asyncio.wait_for(seen.over.wait(), scaled(30))
            assert (seen.status, seen.ending) == (207, Ending.COMPLETE)
            if decoded is not None:
                assert seen.data == decoded
        assert len(wire.connections) == 1


async def test_an_answer_that_ends_with_the_connection_is_whole() -> None:
    """No length and no chunks: what came until the end is the answer."""
    async with wired(answering(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nall of it")) as wire:
        reader, writer = await wire.open()
        for turn in range(2):
            writer.write(HELD)
            assert (await message(reader))[1] == b"all of it"
            assert wire.desk.seen[turn].ending is Ending.COMPLETE


async def test_informational_answers_pass() -> None:
    """Early hints are for the application; the final answer follows."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with wired(answering(hint + OK)) as wire:
        reader, writer = await wire.open()
        writer.write(PASS)
        assert await reader.readuntil(b"\r\n\r\n") == hint
        assert (await message(reader))[1] == b"ok"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status: int) -> None:
    """Nothing is waited for and nothing made up."""
    answer = b"HTTP/1.1 %d X\r\netag: a\r\n\r\n" % status
    async with wired(answering(answer, OK)) as wire:
        reader, writer = await wire.open()
        writer.write(PASS)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        writer.write(PASS)
        assert (await message(reader))[1] == b"ok"


async def test_an_answer_may_come_before_the_request_is_whole() -> None:
    """A provider that refuses an upload is heard; that connection is not used again."""

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig")
        await reader.read()

    async with wired(script) as wire:
        said = await wire.ask(b"POST /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nx")
        assert said.startswith(b"HTTP/1.1 413 Large\r\n")
        assert said.endswith(b"\r\n\r\nbig")


def reset(writer: Writer) -> None:
    """Close as a process that crashes does."""
    found = writer.transport.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


CUTS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("old", [True, False])
async def test_a_cut_answer_stays_cut(cut: bytes, *, hard: bool, old: bool) -> None:
    """What came is passed on; the end that did not come is not made up."""

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        writer.write(cut)
        await asyncio.sleep(0.05)
        if hard:
            reset(writer)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        writer.write(HELD.replace(b"1.1", b"1.0") if old else HELD)
        head = await reader.readuntil(b"\r\n\r\n")
        rest = b""
        try:
            while data := await asyncio.wait_for(reader.read(99), scaled(30)):
                rest += data
            ended = True
        except ConnectionResetError:
            ended = False
        if b"content-length: 9" in head:
            assert rest == b"half"
        elif old:
            assert not ended, "to a reader without chunks only a reset shows it"
        else:
            assert rest == b"4\r\nhalf\r\n"
        await asyncio.wait_for(wire.desk.seen[0].over.wait(), scaled(30))
        assert wire.desk.seen[0].ending is Ending.CUT


async def nothing(reader: Reader, writer: Writer) -> None:
    await message(reader)


async def abrupt(reader: Reader, writer: Writer) -> None:
    await message(reader)
    reset(writer)


async def silent(reader: Reader, writer: Writer) -> None:
    await reader.read(1 << 20)
    await asyncio.sleep(60)


NO_ANSWERS: list[tuple[Script, int]] = [
    (nothing, 502),
    (abrupt, 502),
    (silent, 504),
    (answering(b"SSH-2.0-x\r\n"), 502),
    (answering(b"HTTP/1.1 200 OK\r\ncontent-le"), 502),
    (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nxx"), 502),
    (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"), 502),
    (answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 502),
    (answering(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), 502),
    (answering(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 400_000), 502),
]


@pytest.mark.parametrize(("script", "status"), NO_ANSWERS)
@pytest.mark.parametrize("request_bytes", [HELD, PASS])
async def test_no_answer_is_an_error_and_never_a_second_request(
    script: Script, status: int, request_bytes: bytes
) -> None:
    """What was received may have been charged. The application's connection stays good."""
    silence = 0.1 if script is silent else scaled(30)
    async with wired(script, patience=Patience(silence=silence)) as wire:
        reader, writer = await wire.open()
        writer.write(request_bytes)
        head, body = await message(reader)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"nothing was retried" in body
        assert len(wire.connections) == 1
        assert all(seen.ending is Ending.CUT for seen in wire.desk.seen)
        writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await message(reader))[1] == b"own"


async def test_a_provider_that_cannot_be_reached() -> None:
    """Refused at once is a 502, and the next request tries again."""
    async with wired() as wire:
        assert wire.relay.origin is not None
        async with provider(answering(OK)) as (gone, _):
            pass
        there = wire.relay.origin._port
        wire.relay.origin._port = gone
        reader, writer = await wire.open()
        writer.write(HELD)
        assert (await message(reader))[0].startswith(b"HTTP/1.1 502 ")
        wire.relay.origin._port = there
        writer.write(HELD)
        assert (await message(reader))[0].startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_was_closed_meanwhile_costs_no_request() -> None:
    """The provider had closed it before it received anything, so the request is sent anew."""
    asked = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal asked
        await message(reader)
        asked += 1
        writer.write(OK)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        for turn in range(1, 20):
            writer.write(HELD if turn % 2 else b"GET /pass HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await message(reader))[1] == b"ok"
            assert asked == turn


async def test_a_close_that_crosses_the_request_costs_no_request_either() -> None:
    """The relay's event loop has not seen the end yet when it writes."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        origin = Origin(f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with wired() as wire:
            wire.relay.origin, origin.clock = origin, wire.relay.clock
            reader, writer = await wire.open()
            writer.write(HELD)
            for _ in range(9):
                found, _ = await loop.sock_accept(listener)
                found.settimeout(0)
                while b"[hi]" not in await loop.sock_recv(found, 1 << 16):
                    pass
                await loop.sock_sendall(found, OK)
                assert (await message(reader))[1] == b"ok"
                # Both in one turn of the loop: the request is read before the other socket's end.
                found.close()
                writer.write(HELD)


@pytest.mark.parametrize("hard", [True, False])
async def test_what_was_received_is_not_sent_again(*, hard: bool) -> None:
    """On a connection that was used before, too: the request was read, and then it was closed."""
    asked = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal asked
        await message(reader)
        writer.write(OK)
        await message(reader)
        asked += 1
        if hard:
            reset(writer)

    async with wired(script) as wire:
        reader, writer = await wire.open()
        writer.write(HELD)
        await message(reader)
        writer.write(HELD)
        assert (await message(reader))[0].startswith(b"HTTP/1.1 502 ")
        assert asked == 1


@pytest.mark.parametrize(
    "answer", [OK, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_bytes_that_nobody_asked_for_close_the_connection(answer: bytes) -> None:
    """An answer too many must never become the answer of the next request, nor a part of this."""
    async with wired(answering(answer + OK, answer)) as wire:
        reader, writer = await wire.open()
        for _ in range(3):
            writer.write(PASS)
            head, body = await message(reader)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body == b"ok"
            await asyncio.sleep(0.02)
        assert len(wire.connections) == 3


LONG: Final = 100_000_000
"""Bytes of an answer: more than all buffers on its way."""


@pytest.mark.parametrize("framing", [b"content-length: %d\r\n" % LONG, b"connection: close\r\n"])
async def test_an_application_that_reads_slowly_slows_the_provider(framing: bytes) -> None:
    """Of a long answer only buffers are in memory, and no time-out ends it."""
    sent = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        piece = bytes(1 << 20)
        while sent < LONG:
            writer.write(piece[: LONG - sent])
            await writer.drain()
            sent += len(piece)

    async with wired(script, patience=Patience(silence=scaled(1))) as wire:
        reader, writer = await wire.open()
        transport = cast("asyncio.Transport", writer.transport)
        transport.pause_reading()
        writer.write(HELD)
        before = -1
        while sent != before or not sent:
            before = sent
            await asyncio.sleep(scaled(1.2))
        assert sent < 60 << 20
        transport.resume_reading()
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < LONG:
            data = await asyncio.wait_for(reader.read(1 << 20), scaled(30))
            assert data
            got += len(data)


async def test_a_stream_passes_event_by_event() -> None:
    """The first event is there before the provider makes the second."""
    go_on = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(b"1\r\n%d\r\n" % number)
            await go_on.wait()
            go_on.clear()
        writer.write(b"0\r\n\r\n")

    async with wired(script) as wire:
        reader, writer = await wire.open()
        writer.write(HELD)
        await reader.readuntil(b"\r\n\r\n")
        for number in range(3):
            piece = await asyncio.wait_for(reader.readexactly(6), scaled(30))
            assert piece == b"1\r\n%d\r\n" % number
            go_on.set()
        assert await reader.readexactly(5) == b"0\r\n\r\n"


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.binary(max_size=120), max_size=8), whole=st.booleans())
def test_any_answer_ends_the_request(parts: list[bytes], *, whole: bool) -> None:
    """Any bytes for an answer: the application gets one answer or a closed connection."""

    async def script(reader: Reader, writer: Writer) -> None:
        await message(reader)
        if whole:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)

    async def law() -> None:
        async with wired(script, patience=Patience(silence=0.05)) as wire:
            said = await wire.ask(
                b"Host: a\r\nConnection: close\r\n".join(HELD.split(b"Host: a\r\n"))
            )
            assert not said or said.startswith(b"HTTP/1.1 ")
            assert wire.desk.seen[0].ending is not None

    asyncio.run(law())


async def test_a_watcher_that_fails_changes_nothing() -> None:
    """What counts may break; the answer passes."""
    async with wired(answering(OK, OK)) as wire:
        wire.desk.broken = True
        reader, writer = await wire.open()
        for _ in range(2):
            writer.write(HELD)
            assert (await message(reader))[1] == b"ok"
        assert len(wire.connections) == 1
