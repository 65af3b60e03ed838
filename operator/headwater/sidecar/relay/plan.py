"""What the relay and those who decide say to each other.

A request's head goes to `Desk.arrived`, which answers it (`Reply`), sends it on as it comes
(`Send` without parts), or asks for its body (`Collect`) and decides then. A `Watcher` sees the
answer pass.
"""

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

Bytes = bytes | bytearray | memoryview

Field = tuple[bytes, bytes, bytes]
"""A header: its name in lower case, its name as it came, its value."""


class Ending(enum.Enum):
    """How the carrying ended, beyond what the status says."""

    COMPLETE = enum.auto()
    CUT = enum.auto()
    """The provider gave no answer, or not all of it."""
    ABORTED = enum.auto()
    """The application went away, or sent a body that is none."""


class Head:
    """A request's line and headers, each value as it came.

    The next request of a connection often has the same head, and then gets the same object: what
    was made of it (`note`) need not be made again.

    Attributes:
        method: as `b"POST"`.
        target: path and query; of an absolute form no more than these.
        headers: in their order, repeated ones too, without Content-Length.
        fields: by lower-case name; the values of a repeated one are joined by a comma.
        note: for the desk.
    """

    __slots__ = ("fields", "headers", "method", "note", "target", "written")

    def __init__(self, method: bytes, target: bytes, flat: Sequence[bytes]) -> None:
        """`flat` are names and values in turn."""
        self.method = method
        self.target = target
        self.headers: list[Field] = []
        self.fields: dict[bytes, bytes] = {}
        self.note: object = None
        self.written: tuple[bytes, object, bytes] | None = None
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            lower = name.lower()
            self.headers.append((lower, name, value))
            known = self.fields.get(lower)
            self.fields[lower] = value if known is None else b"%b,%b" % (known, value)


@dataclass(slots=True, eq=False)
class Reply:
    """An answer that does not come from the provider."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Watcher(Protocol):
    """Sees one answer pass. What it raises is logged and changes nothing."""

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
        """The final head is here; returns headers to add to it."""

    def data(self, data: bytes) -> None:
        """A part of the body, its gzip or deflate coding undone."""

    def ended(self, ending: Ending) -> None:
        """Comes once for every `Send`, whatever happened."""


class RefusedError(Exception):
    """A body that is looked at as it passes may not be sent; has the answer."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.status)


class Filter(Protocol):
    """Changes a body as it passes. Both methods may raise a `RefusedError`."""

    def feed(self, data: bytes) -> Iterable[Bytes]:
        """Return what is to be sent for the next bytes of the body, uncompressed."""

    def end(self) -> None:
        """Take the end of the body."""


@dataclass(slots=True, eq=False)
class Send:
    """Send a request on.

    Attributes:
        target: path and query.
        parts: the body; None passes the application's own, as it comes, where it was not held.
        headers: lower-case names and values, in place of what came under these names; without a
            value, nothing takes its place. Best one object for many requests: a head that was
            written once is known by it.
        filter: changes the application's own body as it passes, without `parts`.
        limit: bytes of a body that is filtered, uncompressed.
    """

    target: bytes
    parts: Sequence[Bytes] | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    watcher: Watcher | None = None
    filter: Filter | None = None
    limit: int = 0


Decision = Send | Reply


@dataclass(slots=True, eq=False)
class Collect:
    """Hold the whole body, uncompressed, and then decide; an awaitable is waited for.

    `limit` is in bytes, in place of the listener's own.
    """

    decide: Callable[[Head, bytes | bytearray], Decision | Awaitable[Decision]]
    limit: int | None = None


class Desk(Protocol):
    """Who decides."""

    def arrived(self, head: Head) -> Decision | Collect:
        """A request's head is here."""

    def fault(self, status: int, message: str) -> Reply:
        """The words for what the relay itself refuses, or could not carry."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one application may cost. Sizes are in bytes, times in seconds; no total time."""

    connections: int = 8_192
    makes_room: bool = False
    """Whether one more connection ends an idle one, of the peer that has most, or is refused."""
    head: int = 64 << 10
    """All of a request's headers, or of its trailers."""
    body: int = 32 << 20
    """Of a body that is held: what the provider takes."""
    held: int = 128 << 20
    """Of all bodies that are held at a time; what finds no room waits."""
    room_seconds: float = 15.0
    """For room, until a request is refused that may be sent again."""
    head_seconds: float = 30.0
    """From a head's first byte to its last."""
    body_seconds: float = 60.0
    """Without a byte of a body that is not at its end."""
    idle_seconds: float = 300.0
    """Between two requests: longer than clients keep connections, so that they close first."""
    linger_seconds: float = 2.0
    """For a client to read a refusal before its connection is reset."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the provider is waited for, in seconds."""

    connect: float = 10.0
    silence: float = 600.0
    """What the provider's own SDKs wait."""
    idle: float = 30.0
    """How long a connection is kept that nobody uses."""


class Clock:
    """The loop's time as of the last tick: good enough for time-outs, and nearly free.

    Attributes:
        now: seconds.
    """

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now


PRIVATE: Final = b"x-headwater-"
"""Request headers that begin so are between the application and its sidecar."""
