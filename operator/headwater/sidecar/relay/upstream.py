"""One connection to the provider: one request at a time, its answer parsed by llhttp."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import httptools

from headwater.sidecar.relay.plan import Bytes, Clock, Field

_log: Final = logging.getLogger(__name__)

ROOM: Final = bytearray(64 << 10)
"""Every connection of this thread reads into it, because a read is used before the next one."""
READ_BUFFER: Final = memoryview(ROOM)
PIECE: Final = 256 << 10
"""Bytes handed to a socket at once: what it does not take, asyncio's own loop copies."""
_HEAD_LIMIT: Final = 256 << 10
"""Bytes of an answer's headers."""
_NEVER: Final = float("inf")

_INFO_SIZE: Final = 128
_ACKNOWLEDGED: Final = slice(120, _INFO_SIZE)
"""`tcpi_bytes_acked` in Linux's `struct tcp_info` (since 4.1)."""


class Sink(Protocol):
    """Who waits for an answer."""

    def interim(self, status: int, reason: bytes, headers: Sequence[Field]) -> None:
        """An informational answer (1xx); the final one follows."""

    def answered(self, answer: "Answer") -> None:
        """The final head is here."""

    def passed(self, data: bytes, trailers: Sequence[Field], *, ended: bool) -> None:
        """What one read brought of the body; `trailers` come with the end."""

    def lost(self, why: str, *, late: bool, unprocessed: bool) -> None:
        """No more of the answer will come; `unprocessed` where the provider received nothing."""

    def writable(self) -> None:
        """The connection takes more of the request."""


class Answer:
    """The head of an answer."""

    __slots__ = ("fields", "headers", "length", "reason", "status")

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[Field] = []
        self.fields: dict[bytes, bytes] = {}
        self.length: bytes | None = None


class Upstream(asyncio.BufferedProtocol):
    """A connection; idle where it has no sink.

    Attributes:
        deadline: on the clock, when to call `expired`.
        paused: whether more of a request has to wait.
    """

    def __init__(
        self,
        clock: Clock,
        silence: float,
        opened: Callable[["Upstream"], None],
        idle: Callable[["Upstream"], None],
        closed: Callable[["Upstream"], None],
    ) -> None:
        """`opened` and `closed` are called once, `idle` whenever it can be used again."""
        self._clock = clock
        self._silence = silence
        self._opened = opened
        self._idle = idle
        self._closed = closed
        self._pieces: list[bytes] = []
        self._end: int | None = None
        self.on_body = self._pieces.append
        """A part of the body; parts are many, and this is the cheapest way to take one."""
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._socket: socket.socket | None = None
        self._sink: Sink | None = None
        self._answer = Answer()
        self._begun = False
        self._bodiless = False
        self._until_closed = False
        self._keep = False
        self._done = False
        self._unknown_coding = False
        self._head_size = 0
        self._trailers: list[Field] = []
        self._waiting: list[Bytes] = []
        self._request_ended = True
        self._acknowledged: bytes | None = None
        self.paused = False
        self.deadline = _NEVER

    def send(
        self,
        head: bytes,
        parts: Sequence[Bytes] | None,
        sink: Sink,
        *,
        head_only: bool,
        reused: bool,
    ) -> None:
        """Begin a request; with `parts` None, `write` and `end` follow.

        `head_only` is for HEAD, whose answer has a length and no body.
        """
        self._sink = sink
        self._answer = Answer()
        self._begun = self._done = self._until_closed = False
        self._end = None
        self._bodiless = head_only
        self._head_size = 0
        self._request_ended = parts is not None
        self._acknowledged = self._bytes_acknowledged() if reused else None
        self.deadline = self._clock.now + self._silence
        if not parts:
            self._transport.write(head)
        elif sum(map(len, parts)) <= PIECE:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._waiting = _pieces((head, *parts))
            self._pump()

    def write(self, data: Bytes) -> None:
        """Send a part of the body, framed as the head says."""
        self.deadline = self._clock.now + self._silence
        self._transport.write(data)

    def end(self, data: bytes) -> None:
        """Send the end of the body."""
        self._request_ended = True
        self.write(data)

    def abandon(self) -> None:
        """Nobody waits for the answer any more: the provider should notice at once."""
        self._sink = None
        self._waiting.clear()
        self._forget_socket()
        self._transport.abort()

    def hold(self) -> None:
        """Read no more until `go_on`: the application is slower."""
        self._transport.pause_reading()
        self.deadline = _NEVER

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()
        self.deadline = self._clock.now + self._silence

    @property
    def usable(self) -> bool:
        """Whether an idle connection can take a request, as far as is known here."""
        return not self._transport.is_closing()

    def expired(self) -> None:
        """The deadline is over."""
        if self._sink is None:
            self._transport.close()
        else:
            self._lose("did not answer in time", late=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast("asyncio.Transport", transport)
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and hasattr(socket, "TCP_INFO"):
            # A descriptor of our own: uvloop closes the transport's before it says that it is lost.
            self._socket = socket.socket(fileno=os.dup(found.fileno()))
        self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        del sizehint
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        if self._sink is None:
            # Nobody asked for anything: whatever it is, it belongs to no request.
            self._transport.abort()
            return
        self.deadline = self._clock.now + self._silence
        try:
            self._parser.feed_data(READ_BUFFER[:nbytes])
        except httptools.HttpParserUpgrade:
            self._lose("switched to another protocol")
            return
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                _log.exception("an answer could not be carried")
            if not self._done:
                if self._begun:
                    self._flush(ended=False)
                self._lose(f"gave an answer that is no HTTP ({error})")
                return
            self._keep = False
        if self._unknown_coding:
            self._lose("gave an answer in a transfer-encoding that it was not asked for")
            return
        if not self._begun:
            self._head_size += nbytes
            if self._head_size > _HEAD_LIMIT:
                self._lose("gave an answer with too many headers")
            return
        self._flush(ended=self._done)

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:  # noqa: D102
        self.paused = True

    def resume_writing(self) -> None:  # noqa: D102
        self.paused = False
        if self._sink is None:
            return
        self.deadline = self._clock.now + self._silence
        if self._waiting:
            self._pump()
        else:
            self._sink.writable()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._closed(self)
        try:
            self._ended(exc)
        finally:
            self._forget_socket()

    def _ended(self, exc: Exception | None) -> None:
        if self._sink is None:
            return
        if self._begun and self._until_closed and exc is None:
            self._done = True
            self._flush(ended=True)
        else:
            why = f"gave no answer ({type(exc).__name__ if exc else 'it closed the connection'})"
            self._lose(why, unprocessed=self._nothing_received(exc))

    def on_message_begin(self) -> None:
        """An answer begins; a second one, that nobody asked for, makes the connection unusable."""
        if self._done:
            self._keep = False

    def on_status(self, status: bytes) -> None:
        """The reason phrase, or a part of it."""
        if not self._done:
            self._answer.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer."""
        if self._done:
            return
        headers = self._trailers if self._begun else self._answer.headers
        headers.append((name.lower(), name, value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        if self._done:
            return
        answer = self._answer
        answer.status = status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - informational
            return
        fields = answer.fields
        for lower, _, value in answer.headers:
            known = fields.get(lower)
            fields[lower] = value if known is None else b"%b,%b" % (known, value)
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._unknown_coding = True
            return
        answer.length = fields.get(b"content-length")
        no_body = self._bodiless or status in (204, 304)
        self._until_closed = not no_body and coding is None and answer.length is None
        self._begun = True
        if self._sink is not None:
            self._sink.answered(answer)
        if self._bodiless:
            self._done = True
            self._end = 0
            # llhttp does not know the method, and waits for a body.
            self._keep = False

    def on_message_complete(self) -> None:
        """The answer is at its end, or was an informational one."""
        if self._done:
            return
        if self._unknown_coding:
            return
        if not self._begun:
            if self._sink is not None and self._answer.status > 101:  # noqa: PLR2004 - not of a body
                self._sink.interim(self._answer.status, self._answer.reason, self._answer.headers)
            self._answer = Answer()
            return
        # It says yes in its callback alone.
        self._keep = self._parser.should_keep_alive()
        self._done = True
        self._end = len(self._pieces)

    def _pump(self) -> None:
        while self._waiting and not self.paused:
            self._transport.write(self._waiting.pop())

    def _flush(self, *, ended: bool) -> None:
        """Give the sink what one read brought; at the end the connection is free again."""
        sink, trailers = self._sink, self._trailers
        # What came behind the end belongs to no request.
        data = b"".join(self._pieces if self._end is None else self._pieces[: self._end])
        self._pieces.clear()
        if sink is None:
            return
        if ended:
            self._trailers = []
            self._sink = None
            if self._keep and self._request_ended and not self._waiting and self._written:
                self._idle(self)
            else:
                self._waiting.clear()
                self._transport.abort()
        sink.passed(data, trailers, ended=ended)

    @property
    def _written(self) -> bool:
        return self._transport.get_write_buffer_size() == 0

    def _lose(self, why: str, *, late: bool = False, unprocessed: bool = False) -> None:
        sink, self._sink = self._sink, None
        self._waiting.clear()
        self._transport.abort()
        if sink is not None:
            sink.lost(why, late=late, unprocessed=unprocessed)

    def _nothing_received(self, error: Exception | None) -> bool:
        """Whether the provider had closed the connection before a byte of this request came.

        So it is where it said so (an end, not a reset) and that segment acknowledges nothing of
        the request. A reset proves nothing: what was read just before it may not have been
        acknowledged yet.
        """
        return (
            not self._begun
            and (error is None or isinstance(error, BrokenPipeError))
            and self._acknowledged is not None
            and self._bytes_acknowledged() == self._acknowledged
        )

    def _forget_socket(self) -> None:
        found, self._socket = self._socket, None
        if found is not None:
            found.close()

    def _bytes_acknowledged(self) -> bytes | None:
        """Over the connection's life; None where the system does not tell."""
        if self._socket is None:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        except OSError:
            return None
        return info[_ACKNOWLEDGED] or None


def _pieces(parts: Sequence[Bytes]) -> list[Bytes]:
    """What is to be written, the last first: large parts in slices, small ones together."""
    pieces: list[Bytes] = []
    small: list[Bytes] = []
    for part in parts:
        for start in range(0, len(part), PIECE):
            piece = memoryview(part)[start : start + PIECE]
            if sum(map(len, small)) + len(piece) > PIECE:
                pieces.append(_joined(small))
                small = []
            small.append(piece)
    pieces.append(_joined(small))
    return pieces[::-1]


def _joined(parts: Sequence[Bytes]) -> Bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)
