"""One connection of an application: its requests parsed by llhttp and answered in their order."""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable
from typing import Final, Protocol, cast

import httptools

from headwater.sidecar.relay.body import Collector, UnreadableError
from headwater.sidecar.relay.carriage import Carriage
from headwater.sidecar.relay.headers import own_head
from headwater.sidecar.relay.message import UNKNOWN, Known, Message, Shape, size
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import (
    Clock,
    Collect,
    Decision,
    Desk,
    Limits,
    Reply,
    Send,
)
from headwater.sidecar.relay.room import Room
from headwater.sidecar.relay.upstream import READ_BUFFER, ROOM

_log: Final = logging.getLogger(__name__)

_NEVER: Final = float("inf")
_IN_PLACE: Final = 64 << 10
"""Bytes still to come of a body from which on they are read to where they stay."""
_LENGTH_NAME: Final = len(b"content-length")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)


class House(Protocol):
    """What the connections of one listener have in common."""

    desk: Desk
    origin: Origin | None
    """None where the desk answers everything itself."""
    limits: Limits
    room: Room
    clock: Clock
    closing: bool

    def admitted(self, connection: "Downstream") -> bool:
        """A connection is open; whether there is room for it."""

    def gone(self, connection: "Downstream") -> None:
        """A connection is closed."""


class Downstream(asyncio.BufferedProtocol):
    """Reads requests, asks the desk, answers; a client of its carriages.

    Attributes:
        deadline: on the loop's clock, when to call `expired`.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._parsed: Message | None = None
        self._in_head = False
        self._head_size = 0
        self._current: Message | None = None
        self._queue: deque[Message] = deque()
        self._collector: Collector | None = None
        self._decide: Collect | None = None
        self._waits = False
        """For room for the body."""
        self._room = 0
        self._direct: memoryview | None = None
        self._carriage: Carriage | None = None
        self._deciding: asyncio.Future[Decision] | None = None
        self._shape = UNKNOWN
        self._known: Known | None = None
        self._begins = 0
        self._had_turn = False
        self._upgrades = False
        self._reframing = False
        self._deaf = False
        self._held = False
        self._answered = False
        self._lost = False
        self.modern = True
        self.persists = True
        self.crowded = False
        self.deadline = self._house.clock.now + house.limits.head_seconds

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self._current is not None

    @property
    def peer(self) -> object:
        """The address of the other side, without its port."""
        return (self._transport.get_extra_info("peername") or ("",))[0]

    def retire(self) -> None:
        """No further request: close now, or after the answer that is under way."""
        if self._current is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def expired(self) -> None:
        """The deadline is over."""
        if self._deaf or (self._current is None and not self._in_head):
            self._transport.abort()
        elif self._waits:
            self._refuse(503, "too many large requests are being sent: try again in a moment.")
        elif self._in_head and self._current is None:
            self._refuse(408, "the request's headers took too long.")
        else:
            self._refuse(408, "the request's body took too long.")

    # The application's side of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast("asyncio.Transport", transport)
        if not self._house.admitted(self):
            self._refuse(503, "too many connections are open.")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        del sizehint
        return READ_BUFFER if self._direct is None else self._direct

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        if self._direct is not None:
            self._read_in_place(nbytes)
        elif not self._deaf:
            between = self._parsed is None and self._current is None and not self._queue
            message = self._known.whole(ROOM, nbytes) if between and self._known else None
            if message is not None:
                self._begin(message)
            else:
                # Between two requests the next read begins with a head: it may be one to know.
                self._begins = nbytes if between else 0
                self._had_turn = False
                self._parse(READ_BUFFER[:nbytes])
                self._begins = 0
        self._schedule()

    def eof_received(self) -> None:  # noqa: D102
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        del exc
        self._lost = True
        self._leave()
        self._house.gone(self)

    def pause_writing(self) -> None:  # noqa: D102
        self.crowded = True
        if self._carriage is not None:
            self._carriage.slower()

    def resume_writing(self) -> None:  # noqa: D102
        self.crowded = False
        if self._carriage is not None:
            self._carriage.faster()
        elif self._queue:
            self._next()
        elif self._current is None and not self._deaf:
            self._transport.resume_reading()

    # What llhttp finds.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._reframing:
            return
        self._parsed = Message(UNKNOWN)
        self._in_head = True
        self._head_size = 0
        if self._current is None:
            self.deadline = self._house.clock.now + self._house.limits.head_seconds

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        if self._parsed is not None:
            self._parsed.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer."""
        message = self._parsed
        assert message is not None  # noqa: S101 - llhttp's order
        if not self._in_head:
            if not self._reframing:
                message.trailers.append((name.lower(), name, value))
        elif len(name) == _LENGTH_NAME and name.lower() == b"content-length":
            message.length = value
        else:
            message.flat += (name, value)

    def on_headers_complete(self) -> None:
        """The head is here."""
        if self._reframing:
            self._reframing = False
            return
        message = self._parsed
        assert message is not None  # noqa: S101 - as above
        self._in_head = False
        parser, shape = self._parser, self._shape
        method, version = parser.get_method(), parser.get_http_version()
        self._upgrades = parser.should_upgrade()
        if (
            message.flat != shape.flat
            or message.url != shape.url
            or method != shape.method
            or version != shape.version
        ):
            # Of the callbacks alone it is told rightly whether the connection is kept.
            keep = parser.should_keep_alive()
            shape = Shape(method, message.url, version, message.flat, keep=keep)
            self._shape, self._known = shape, None
            if size(message.flat) > self._house.limits.head:
                shape.fault = 431, "the request's headers are too large."
        message.shape, message.fault = shape, shape.fault
        if self._begins and self._known is None and not self._upgrades:
            self._known = Known.learn(shape, ROOM, self._begins)
        self._begins = 0
        if message.fault is not None or not message.bodiless:
            self._enqueue(message)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        message = self._parsed
        assert message is not None  # noqa: S101 - as above
        if message is self._current and not self._waits:
            self._take(body)
        else:
            message.pieces.append(body)

    def on_message_complete(self) -> None:
        """The request is at its end."""
        message = self._parsed
        assert message is not None  # noqa: S101 - as above
        if self._upgrades and not message.bodiless:
            return
        if message.trailers and size(message.trailers) > self._house.limits.head:
            raise UnreadableError(431, "the request's trailers are too large.")
        self._parsed = None
        message.complete = True
        if message is self._current:
            if not self._waits:
                self._taken()
        elif message.bodiless and message.fault is None:
            self._enqueue(message)

    # What a carriage does.

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        self._answered = True
        self._transport.write(data)

    def interim(self, data: bytes) -> None:
        """Send an informational answer, which is none yet."""
        self._transport.write(data)

    def hold(self) -> None:
        """Read no more of the request for now."""
        self._held = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._held = False
        if not self._queue:
            self._transport.resume_reading()
        self._schedule()

    def lighter(self) -> None:
        """The body is needed no more."""
        self._let_go()

    def finish(self) -> None:
        """The answer is whole."""
        self._let_go()
        message, self._current = self._current, None
        held, self._held = self._held, False
        self._carriage = self._collector = self._decide = None
        if message is None or self._lost:
            return
        if not message.complete or message.fault is not None:
            self._linger()
        elif not self.persists or self._house.closing:
            self._transport.close()
        else:
            self.deadline = self._house.clock.now + self._house.limits.idle_seconds
            if self.crowded:
                # Whoever does not read the answers gets no more of them.
                self._transport.pause_reading()
            elif self._queue:
                self._loop.call_soon(self._next)
            elif held:
                # The answer came before all of the body had been sent on.
                self._transport.resume_reading()

    def cut(self) -> None:
        """The answer stays without its end: a length or a last chunk is missing."""
        self._let_go()
        self._carriage = None
        self._deaf = True
        if not self.modern:
            # The end of the connection would be the end of the answer, so it must not look whole.
            found: socket.socket | None = self._transport.get_extra_info("socket")
            if found is not None:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
            return
        self._transport.close()

    def fail(self, status: int, message: str) -> None:
        """Answer with an error of the relay's own."""
        self._carriage = None
        self._reply(self._house.desk.fault(status, message))

    def unreadable(self, status: int, message: str) -> None:
        """Answer with an error of the relay's own, and read no more of the request."""
        self._carriage = None
        self._refuse(status, message)

    def refused(self, reply: Reply) -> None:
        """Answer so, and read no more of the request."""
        self._carriage = None
        self._refuse_with(reply)

    def _relay(self, send: Send) -> None:
        origin, message = self._house.origin, self._current
        if origin is None or message is None:
            raise RuntimeError("nothing can be sent from here")
        self._collector = self._decide = None
        self._carriage = Carriage(
            self,
            message.shape.head,
            send,
            origin,
            length=message.length,
            chunked=message.shape.chunked,
            coding=message.shape.coding,
        )
        self._carriage.start()

    def _enqueue(self, message: Message) -> None:
        if self._deaf:
            return
        waits = bool(self._queue)
        if self._current is None and not waits and not self._had_turn:
            self._had_turn = True
            self._begin(message)
            return
        self._queue.append(message)
        self._transport.pause_reading()
        if self._current is None and not waits:
            # One answer in a turn of the loop: whoever asks often must not keep others waiting.
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin the next of the requests that came without waiting for an answer."""
        if self._lost or self._current is not None or not self._queue or self.crowded:
            return
        self._begin(self._queue.popleft())
        self._read_on()
        self._schedule()

    def _read_on(self) -> None:
        """Read again, unless something has to come first."""
        unread = self.crowded and self._current is None
        if not (self._queue or self._held or self._waits or self._lost or unread):
            self._transport.resume_reading()

    def _begin(self, message: Message) -> None:
        self._current = message
        self._answered = False
        self.modern = message.shape.modern
        self.persists = message.shape.keep and not self._house.closing
        if message.fault is not None:
            self._deaf = True
            self._reply(self._house.desk.fault(*message.fault))
            return
        try:
            plan = self._house.desk.arrived(message.shape.head)
            if isinstance(plan, Reply):
                self._reply(plan)
                return
            if isinstance(plan, Send):
                self._relay(plan)
            else:
                limit, coding = plan.limit or self._house.limits.body, message.shape.coding
                if message.complete and not coding and len(message.pieces) == 1:
                    (body,) = message.pieces
                    if len(body) <= limit:
                        self._decided(plan.decide(message.shape.head, body))
                        return
                length = None if message.length is None else int(message.length)
                self._collector = Collector(length, coding, limit)
                self._decide = plan
                # How much a body without a length has is seen when it has come.
                needed = limit if coding or length is None else length
                if needed > _IN_PLACE:
                    self._room = self._house.room.take(needed, self._asked_in)
                    if not self._room:
                        self._waits = True
                        self._transport.pause_reading()
                        return
        except UnreadableError as error:
            self._refuse(error.status, str(error))
            return
        except Exception:  # noqa: BLE001 - logged; one request must not end the others
            _log.exception("a request could not be decided")
            self._refuse(500, "the sidecar failed; its log says how.")
            return
        self._go_in(message)

    def _asked_in(self, room: int) -> None:
        """There is room for the body now."""
        self._room = room
        self._loop.call_soon(self._admit)

    def _admit(self) -> None:
        message = self._current
        if not self._waits or message is None:
            return
        self._waits = False
        self._read_on()
        self._go_in(message)
        self._schedule()

    def _let_go(self) -> None:
        """Give back the room of a body that is held no more."""
        if self._waits:
            self._waits = False
            self._house.room.forget(self._asked_in)
        room, self._room = self._room, 0
        if room:
            self._house.room.give(room)

    def _take_less(self, size: int) -> None:
        """Give back what a body did not need whose size was not known."""
        spare = self._room - size
        if spare > 0:
            self._room = size
            self._house.room.give(spare)

    def _go_in(self, message: Message) -> None:
        """Take what came of the body so far."""
        if message.shape.expects and not message.complete and not message.pieces:
            self._transport.write(_CONTINUE)
        pieces, message.pieces = message.pieces, []
        for piece in pieces:
            self._take(piece)
        if message.complete:
            self._taken()

    def _take(self, data: bytes) -> None:
        """A part of the body of the request that is being served."""
        if self._collector is not None:
            try:
                self._collector.feed(data)
            except UnreadableError as error:
                self._refuse(error.status, str(error))
        elif self._carriage is not None:
            self._carriage.body(data)

    def _taken(self) -> None:
        """Its body is whole."""
        if self._carriage is not None:
            message = self._current
            self._carriage.body_end(message.trailers if message is not None else ())
        elif self._collector is not None and self._decide is not None and self._current is not None:
            collector, self._collector = self._collector, None
            try:
                body = collector.end()
                self._take_less(len(body))
                self._decided(self._decide.decide(self._current.shape.head, body))
            except UnreadableError as error:
                self._refuse(error.status, str(error))
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a request could not be decided")
                self._refuse(500, "the sidecar failed; its log says how.")

    def _decided(self, decision: Decision | Awaitable[Decision]) -> None:
        if isinstance(decision, Reply):
            self._reply(decision)
        elif isinstance(decision, Send):
            self._relay(decision)
        else:
            self._deciding = asyncio.ensure_future(decision)
            self._deciding.add_done_callback(self._waited)

    def _waited(self, decision: asyncio.Future[Decision]) -> None:
        self._deciding = None
        if decision.cancelled() or self._lost:
            return
        error = decision.exception()
        if error is not None:
            _log.error("a request could not be decided", exc_info=error)
            self._refuse(500, "the sidecar failed; its log says how.")
        else:
            self._decided(decision.result())

    def _reply(self, reply: Reply) -> None:
        message = self._current
        head_only = message is not None and message.shape.head.method == b"HEAD"
        framing = b"content-length: %d\r\n" % len(reply.body)
        if not self.persists or (message is not None and not message.complete):
            framing += b"connection: close\r\n"
        head = own_head(reply.status, reply.headers, framing)
        self.write(head if head_only else head + reply.body)
        self.finish()

    def _refuse(self, status: int, text: str) -> None:
        """What was read is no request, or not all of one: answer if there is no answer yet."""
        self._deaf = True
        self._direct = None
        carriage, self._carriage = self._carriage, None
        self._collector = self._decide = None
        if carriage is not None:
            carriage.abandon()
        self._refuse_with(self._house.desk.fault(status, text))

    def _refuse_with(self, reply: Reply) -> None:
        self._deaf = True
        if self._answered:
            self.cut()
            return
        if self._current is None:
            self._current = Message(UNKNOWN)
        self._current.fault = reply.status, ""
        self.persists = False
        self._reply(reply)

    def _parse(self, data: memoryview) -> None:
        parser = self._parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self._ignore_upgrade(data[error.args[0] :])
        except httptools.HttpParserError as error:
            if self._deaf:
                return
            cause = error.__context__
            if isinstance(cause, UnreadableError):
                self._malformed(cause.status, str(cause))
            elif isinstance(error, httptools.HttpParserCallbackError):
                _log.exception("a request could not be taken")
                self._malformed(500, "the sidecar failed; its log says how.")
            else:
                self._malformed(400, f"the request is not well formed ({error}).")
        if self._in_head or (self._parsed is not None and self._parsed.trailers):
            self._head_size += len(data)
            if self._head_size > self._house.limits.head and not self._deaf:
                self._malformed(431, "the request's headers are too large.")
        collector, parsed = self._collector, self._parsed
        if (
            collector is not None
            and collector.room is not None
            and parsed is self._current
            and len(collector.room) >= _IN_PLACE
        ):
            self._direct = collector.room

    def _malformed(self, status: int, text: str) -> None:
        """What follows cannot be told apart any more; what came before is answered first."""
        parsed, self._parsed = self._parsed, None
        self._in_head = False
        if parsed is not None and parsed is self._current:
            self._refuse(status, text)
        elif parsed is not None and parsed in self._queue:
            parsed.fault = status, text
        else:
            unknown = Message(UNKNOWN)
            unknown.fault = status, text
            self._enqueue(unknown)
        self._deaf = True

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Nobody has to follow an `Upgrade`, but llhttp takes what follows for another protocol.

        Another parser goes on in its place, told of the body that is still to come.
        """
        if self._deaf:
            return
        message, self._upgrades = self._parsed, False
        self._parser = httptools.HttpRequestParser(self)
        if message is not None:
            self._reframing = True
            framing = (
                b"transfer-encoding: chunked"
                if message.shape.chunked
                else b"content-length: %b" % (message.length or b"0")
            )
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        if rest:
            self._parse(rest)

    def _read_in_place(self, nbytes: int) -> None:
        collector = self._collector
        assert collector is not None  # noqa: S101 - where it reads to
        collector.filled(nbytes)
        room = collector.room
        if room:
            self._direct = room
            return
        self._direct = None
        # llhttp still waits for the body that went past it.
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_complete()

    def _schedule(self) -> None:
        """Set the deadline for what is awaited from the application now."""
        if self._deaf or self._lost:
            return
        current = self._current
        if current is None:
            return
        if self._waits:
            self.deadline = self._house.clock.now + self._house.limits.room_seconds
        elif current.complete or self._held:
            self.deadline = _NEVER
        else:
            self.deadline = self._house.clock.now + self._house.limits.body_seconds

    def _leave(self) -> None:
        """The application went away."""
        self._let_go()
        self._deaf = True
        self._queue.clear()
        carriage, self._carriage = self._carriage, None
        if carriage is not None:
            carriage.abandon()
        if self._deciding is not None:
            self._deciding.cancel()
            self._deciding = None

    def _linger(self) -> None:
        """Close, but read what still comes: a reset could take the answer away from the reader."""
        self._deaf = True
        self._direct = None
        self._queue.clear()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self.deadline = self._house.clock.now + self._house.limits.linger_seconds
