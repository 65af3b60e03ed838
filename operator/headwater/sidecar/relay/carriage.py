"""One request between an application and the provider: sent, perhaps sent again, answered, cut."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from headwater.sidecar.relay.body import Decoder, Unpacker, UnreadableError
from headwater.sidecar.relay.headers import answer_head, request_head, trailer
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import (
    Bytes,
    Ending,
    Field,
    Head,
    RefusedError,
    Reply,
    Send,
)
from headwater.sidecar.relay.upstream import PIECE, Answer, Upstream

_log: Final = logging.getLogger(__name__)

_STRAINED_AT_ONCE: Final = 8 << 10
"""Bytes of a body that are filtered in one turn of the loop: each small entry of a batch becomes
one of the contract's size."""


class Client(Protocol):
    """The connection to the application, as a carriage sees it."""

    modern: bool
    """Whether it speaks HTTP/1.1, and so knows chunks and informational answers."""
    persists: bool
    """Whether the connection is to be used for another request."""
    crowded: bool
    """Whether it takes no more bytes for now."""

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""

    def interim(self, data: bytes) -> None:
        """Send an informational answer, which is none yet."""

    def hold(self) -> None:
        """Read no more of the request for now."""

    def go_on(self) -> None:
        """Read again."""

    def lighter(self) -> None:
        """The body that was held is needed no more."""

    def finish(self) -> None:
        """The answer is whole."""

    def cut(self) -> None:
        """The answer stays without its end, visibly."""

    def fail(self, status: int, message: str) -> None:
        """Answer with an error of the relay's own."""

    def unreadable(self, status: int, message: str) -> None:
        """Answer with an error of the relay's own, and read no more: the body is none."""

    def refused(self, reply: Reply) -> None:
        """Answer so, and read no more: the body may not be sent."""


class Carriage:
    """Carries one `Send`; the sink of its answer."""

    _upstream: Upstream | None = None
    _opening: asyncio.Task[None] | None = None
    _streamed = False
    _raw_ended = False
    _parts: Iterator[Bytes] | None = None
    _straining = False
    _ended_early: bytes | None = None
    _answer_begun = False
    _answer_chunked = False
    _pending = b""
    _decoder: Decoder | None = None

    def __init__(
        self,
        client: Client,
        head: Head,
        send: Send,
        origin: Origin,
        *,
        length: bytes | None,
        chunked: bool,
        coding: bytes = b"",
    ) -> None:
        """`length`, `chunked` and `coding` tell how the application frames what it streams.

        Raises:
            UnreadableError: it is to be filtered, and its coding is none that can be undone.
        """
        self._filter = send.filter
        try:
            self._raw = Unpacker(coding, send.limit) if send.filter is not None else None
        except UnreadableError:
            if send.watcher is not None:
                send.watcher.ended(Ending.ABORTED)
            raise
        chunked = chunked or send.filter is not None
        self._client = client
        self._origin = origin
        self._send: Send | None = send
        self._watcher = send.watcher
        self._head_only = head.method == b"HEAD"
        self._rechunk = send.parts is None and chunked
        if send.parts is not None:
            framing = b"content-length: %d\r\n\r\n" % sum(map(len, send.parts))
        elif chunked:
            framing = b"transfer-encoding: chunked\r\n\r\n"
        elif length is not None:
            framing = b"content-length: %b\r\n\r\n" % length
        else:
            framing = b"\r\n"
        self._request = (
            request_head(head, origin.base + send.target, origin.host, send.headers) + framing
        )
        self._streams = send.parts is None and (chunked or length not in (None, b"0"))
        self._early: list[bytes] = []

    def start(self) -> None:
        """Take a connection that is open, or open one."""
        found = self._origin.idle()
        if found is None:
            self._open()
        else:
            self._attach(found, reused=True)

    def body(self, data: bytes) -> None:
        """A part of the body that the application streams."""
        if self._raw is not None:
            self._raw.feed(data)
            self._client.hold()
            self._strain()
            return
        self._pass(data)

    def _pass(self, data: Bytes) -> None:
        if not data:
            return  # a chunk without bytes would be the last one
        if self._rechunk and len(data) <= PIECE:
            data = b"%x\r\n%b\r\n" % (len(data), bytes(data))
        elif self._rechunk:
            self._put(b"%x\r\n" % len(data))
            self._put(data)
            data = b"\r\n"
        self._put(data)

    def _put(self, data: Bytes) -> None:
        if self._upstream is None:
            self._early.append(bytes(data))
            self._client.hold()
            return
        self._streamed = True
        self._upstream.write(data)
        if self._upstream.paused:
            self._client.hold()

    def body_end(self, trailers: Sequence[Field]) -> None:
        """The application has sent all of it."""
        if not self._streams:
            return
        if self._raw is not None:
            self._raw_ended = True
            self._strain()
            return
        self._pass_end(trailers)

    def _pass_end(self, trailers: Sequence[Field]) -> None:
        # Kept, because what was not received is sent again.
        self._ended_early = last = trailer(trailers) if self._rechunk else b""
        if self._upstream is not None:
            self._upstream.end(last)

    def slower(self) -> None:
        """The application takes no more of the answer for now."""
        if self._upstream is not None:
            self._upstream.hold()

    def faster(self) -> None:
        """It does again."""
        if self._upstream is not None:
            self._upstream.go_on()

    def abandon(self) -> None:
        """The application went away, or its body is none."""
        if self._opening is not None:
            self._opening.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()
        self._over(Ending.ABORTED)

    def interim(self, status: int, reason: bytes, headers: Sequence[Field]) -> None:
        """An informational answer goes to whoever can read one."""
        if self._client.modern:
            self._client.interim(answer_head(status, reason, headers, {}, (), b""))

    def answered(self, answer: Answer) -> None:
        """The head is kept until the first bytes of the body, which mostly came with it."""
        self._answer_begun = True
        # Of the request nothing is needed any more, and an answer may take an hour.
        self._send = None
        self._client.lighter()
        if answer.fields.get(b"content-encoding", b"").lower() in (b"gzip", b"deflate"):
            self._decoder = Decoder()
        added: Iterable[tuple[bytes, bytes]] = ()
        if self._watcher is not None:
            try:
                added = self._watcher.began(answer.status, answer.fields)
            except Exception:  # noqa: BLE001 - an answer passes even if it cannot be watched
                _log.exception("an answer's head could not be watched")
        empty = self._head_only or answer.status in (204, 304)
        if answer.length is not None:
            framing = b"content-length: %b\r\n" % answer.length
        elif empty:
            framing = b""
        elif self._client.modern:
            self._answer_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b""
        if not self._client.persists:
            framing += b"connection: close\r\n"
        self._pending = answer_head(
            answer.status, answer.reason, answer.headers, answer.fields, added, framing
        )

    def passed(self, data: bytes, trailers: Sequence[Field], *, ended: bool) -> None:
        """One read of the provider's is one write to the application."""
        if ended:
            self._upstream = None
        if not self._answer_chunked:
            out = self._pending + data if self._pending else data
        else:
            out = self._pending
            if data:
                out += b"%x\r\n%b\r\n" % (len(data), data)
            if ended:
                out += trailer(trailers)
        self._pending = b""
        if out:
            self._client.write(out)
        if data and self._watcher is not None:
            try:
                self._watcher.data(self._decoder.decode(data) if self._decoder else data)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("an answer could not be watched")
        if ended:
            self._over(Ending.COMPLETE)
            self._client.finish()

    def lost(self, why: str, *, late: bool, unprocessed: bool) -> None:
        """Sent again where nothing of it was received, else told or shown to the application."""
        self._upstream = None
        if unprocessed and not self._streamed:
            self._open()
            return
        self._over(Ending.CUT)
        if self._answer_begun:
            if self._pending:
                self._client.write(self._pending)
            self._client.cut()
            return
        self._client.fail(504 if late else 502, f"the provider {why}; nothing was retried here.")

    def writable(self) -> None:
        """The provider takes more of a streamed body."""
        if self._raw is not None:
            self._strain()
        else:
            self._client.go_on()

    def _strain(self) -> None:
        """Have the body filtered in the loop's next turns, as far as the provider takes it."""
        if not self._straining and self._upstream is not None and not self._upstream.paused:
            self._straining = True
            asyncio.get_running_loop().call_soon(self._strain_some)

    def _strain_some(self) -> None:
        """Filter some of the body: a turn of the loop is others' as well."""
        self._straining = False
        raw, strained = self._raw, self._filter
        if raw is None or strained is None or self._upstream is None:
            return
        try:
            if self._parts is None and (data := raw.take(_STRAINED_AT_ONCE)):
                self._parts = iter(strained.feed(data))
            if self._parts is not None:
                self._pass_some(self._parts)
                self._strain()
                return
            if self._raw_ended:
                self._raw = None
                raw.end()
                strained.end()
                self._pass_end(())
            self._client.go_on()
        except UnreadableError as error:
            self._break_off()
            self._client.unreadable(error.status, str(error))
        except RefusedError as error:
            self._break_off()
            self._client.refused(error.reply)
        except Exception:  # noqa: BLE001 - logged; one request must not end the others
            _log.exception("a body could not be filtered")
            self._break_off()
            self._client.fail(500, "the sidecar failed; its log says how.")

    def _pass_some(self, parts: Iterator[Bytes]) -> None:
        """Send on as much as goes to a socket at once: what is filtered may become far more."""
        gathered: list[Bytes] = []
        size = 0
        for part in parts:
            if len(part) > PIECE:
                self._pass(b"".join(gathered))
                self._pass(part)
                return
            gathered.append(part)
            size += len(part)
            if size >= PIECE:
                break
        else:
            self._parts = None
        self._pass(b"".join(gathered))

    def _break_off(self) -> None:
        """Let the provider have no end of the request, so that it is none."""
        self._raw = None
        self.abandon()
        self._client.go_on()

    def _open(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._origin.connect()
        except TimeoutError:
            self.lost("could not be reached in time", late=True, unprocessed=False)
        except Exception as error:  # noqa: BLE001 - a request must get its answer
            if not isinstance(error, OSError):
                _log.exception("no connection could be made")
            why = f"could not be reached, so it gave no answer ({type(error).__name__})"
            self.lost(why, late=False, unprocessed=False)
        else:
            self._attach(upstream, reused=False)
        finally:
            self._opening = None

    def _attach(self, upstream: Upstream, *, reused: bool) -> None:
        assert self._send is not None  # noqa: S101 - kept until the answer begins
        self._upstream = upstream
        parts = () if not self._streams and self._send.parts is None else self._send.parts
        upstream.send(self._request, parts, self, head_only=self._head_only, reused=reused)
        if self._client.crowded:
            upstream.hold()
        if self._early or self._ended_early is not None:
            early, self._early = self._early, []
            for data in early:
                self._streamed = True
                upstream.write(data)
            if self._ended_early is not None:
                upstream.end(self._ended_early)
            if not upstream.paused:
                self._client.go_on()
        if self._raw is not None:
            self._strain()

    def _over(self, ending: Ending) -> None:
        watcher, self._watcher = self._watcher, None
        self._send = None
        if watcher is not None:
            try:
                watcher.ended(ending)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("an answer's end could not be counted")
