"""A request as far as it was parsed, and how one is known whose head came before."""

import re
from collections.abc import Sequence
from typing import Final, Self

from headwater.sidecar.relay.plan import Field, Head

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_DIGITS: Final = 10
"""Of a Content-Length: more than any request that may be sent."""


class Shape:
    """What follows from a request's line and headers, but for its length."""

    __slots__ = ("chunked", "coding", "expects", "fault", "flat", "head", "keep", "method",
                 "modern", "url", "version")  # fmt: skip

    def __init__(
        self, method: bytes, url: bytes, version: str, flat: list[bytes], *, keep: bool
    ) -> None:
        """`flat` are header names and values in turn; `keep` is llhttp's opinion."""
        self.method, self.url, self.version, self.flat = method, url, version, flat
        target, self.fault = (url, None) if url.startswith(b"/") else _relative(url)
        self.head = Head(method, target, flat)
        fields = self.head.fields
        self.modern = version == "1.1"
        self.keep = keep and self.modern
        self.expects = self.modern and fields.get(b"expect", b"").lower() == b"100-continue"
        self.coding = fields.get(b"content-encoding", b"").lower()
        framing = fields.get(b"transfer-encoding")
        self.chunked = framing is not None
        if version not in ("1.1", "1.0"):
            self.fault = 505, "the request is of no version of HTTP/1."
        elif framing is not None and (framing.lower() != b"chunked" or not self.modern):
            self.fault = 501, "the request has a transfer-encoding other than chunked."
        elif b"," in fields.get(b"host", b"," if self.modern else b""):  # joined, or absent
            self.fault = 400, "the request has not one Host header."
        elif method == b"CONNECT":
            self.fault = 405, "this is no proxy to other places."


class Message:
    """A request as far as it was parsed."""

    __slots__ = ("complete", "fault", "flat", "length", "pieces", "shape", "trailers", "url")

    def __init__(self, shape: Shape, length: bytes | None = None) -> None:
        self.url = b""
        self.flat: list[bytes] = []
        self.length = length
        self.shape = shape
        self.complete = False
        self.fault = shape.fault
        self.pieces: list[bytes] = []
        self.trailers: list[Field] = []

    @property
    def bodiless(self) -> bool:
        """Whether no body follows the head."""
        return self.length in (None, b"0") and not self.shape.chunked


class Known:
    """A head that llhttp has read, as it came, but for the length of the body.

    A program sends one head again and again. The same bytes from the same place on mean the same,
    so that what was parsed once need not be parsed again.
    """

    __slots__ = ("_after", "_before", "shape")

    def __init__(self, shape: Shape, before: bytes, after: bytes) -> None:
        """`before` and `after` stand round the digits of the length."""
        self.shape = shape
        self._before = before
        self._after = after  # from the end of the line on

    @classmethod
    def learn(cls, shape: Shape, room: bytearray, filled: int) -> Self | None:
        """From the head that a buffer begins with; None where none is to be known again."""
        end = room.find(b"\r\n\r\n", 0, filled)
        length = _LENGTH.search(room, 0, end + 2)
        if length is None or shape.chunked or shape.expects or shape.fault or not shape.keep:
            return None
        return cls(shape, bytes(room[: length.start(1)]), bytes(room[length.end(1) : end + 4]))

    def whole(self, room: bytearray, filled: int) -> Message | None:
        """The request of this head that fills a buffer from end to end."""
        if not room.startswith(self._before):
            return None
        start = len(self._before)
        end = room.find(b"\r", start, start + _DIGITS)
        if end < 0 or not room.startswith(self._after, end):
            return None
        digits = bytes(room[start:end])
        body = end + len(self._after)
        # What is behind `filled` is of another read: then the length would have to be negative.
        if not digits.isdigit() or int(digits) != filled - body:
            return None
        message = Message(self.shape, digits)
        message.pieces.append(bytes(memoryview(room)[body:filled]))
        message.complete = True
        return message


UNKNOWN: Final = Shape(b"", b"/", "1.1", [b"host", b""], keep=False)
"""Of a request whose head is not here yet."""


def size(parts: Sequence[bytes | Field]) -> int:
    """Bytes of names and values, or of fields, about as they were on the wire."""
    return sum(
        len(part) + 2 if isinstance(part, bytes) else len(part[1]) + len(part[2]) + 4
        for part in parts
    )


def _relative(target: bytes) -> tuple[bytes, tuple[int, str] | None]:
    """The path and query of an absolute form; whose host it names does not matter."""
    for scheme in (b"http://", b"https://"):
        if target[: len(scheme)].lower() == scheme:
            rest = target[len(scheme) :]
            cuts = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
            found = rest[min(cuts) :] if cuts else b"/"
            return (found if found.startswith(b"/") else b"/" + found), None
    return target, (400, "the request's target is no path.")
