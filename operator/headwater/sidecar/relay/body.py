"""A request's body while it is held, and the readable copy of an answer's."""

import zlib
from typing import Final

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_DECODED_AT_ONCE: Final = 4 << 20
"""Bytes of one part of an answer, decoded; more is no text of a model."""


class UnreadableError(Exception):
    """A body that cannot be held; has the status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Collector:
    """Holds one body: in one buffer of the right size where its length is known.

    Attributes:
        room: what is still to come of a body of known length; a reader may fill it in place
            and call `filled`. None where the bytes have to be fed.
    """

    def __init__(self, length: int | None, coding: bytes, limit: int) -> None:
        """`coding` is the value of Content-Encoding, `limit` in bytes, after decoding.

        Raises:
            UnreadableError: 413 or 415.
        """
        self._limit = limit
        if length is not None and length > limit:
            raise _too_large(limit)
        self._inflate = _inflating(coding)
        self._length = length if self._inflate is None else None
        self._body: bytes | bytearray = b""
        self.room: memoryview | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            UnreadableError: they are too many, or no gzip.
        """
        if self._length is not None:
            if len(data) == self._length:
                # All of it at once, as of most requests: nothing has to be copied.
                self._body = data
                return
            if self.room is None:
                self._body = bytearray(self._length)
                self.room = memoryview(self._body)
            self.room[: len(data)] = data
            self.filled(len(data))
            return
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, self._limit + 1 - len(self._body))
            except zlib.error as error:
                raise _no_gzip(error) from error
            _refuse_more(self._inflate)
        if not isinstance(self._body, bytearray):
            self._body = bytearray()
        self._body += data
        if len(self._body) > self._limit:
            raise _too_large(self._limit)

    def filled(self, count: int) -> None:
        """So many bytes were written into `room`."""
        assert self.room is not None  # noqa: S101 - the caller has it from there
        self.room = self.room[count:]

    def end(self) -> bytes | bytearray:
        """The body.

        Raises:
            UnreadableError: the gzip stream is not at its end.
        """
        self.room = None
        if self._inflate is not None and not self._inflate.eof:
            raise UnreadableError(400, "the request body is no whole gzip stream.")
        return self._body


class Unpacker:
    """Undoes the coding of a body that is not held, a piece at a time."""

    def __init__(self, coding: bytes, limit: int) -> None:
        """`coding` is the value of Content-Encoding, `limit` in bytes, after decoding.

        Raises:
            UnreadableError: 415.
        """
        self._inflate = _inflating(coding)
        self._left = limit
        self._limit = limit
        self._packed = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; `take` gives what they stand for."""
        self._packed += data

    def take(self, most: int) -> bytes:
        """Return at most so many bytes; none where more have to be fed first.

        Raises:
            UnreadableError: they are too many, or no gzip.
        """
        if self._inflate is None:
            data, self._packed = self._packed[:most], self._packed[most:]
        else:
            try:
                data = self._inflate.decompress(self._packed, most)
            except zlib.error as error:
                raise _no_gzip(error) from error
            self._packed = self._inflate.unconsumed_tail
            _refuse_more(self._inflate)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._limit)
        return data

    def end(self) -> None:
        """Do nothing where the body is whole.

        Raises:
            UnreadableError: the gzip stream is not at its end.
        """
        if self._inflate is not None and not self._inflate.eof:
            raise UnreadableError(400, "the request body is no whole gzip stream.")


class Decoder:
    """Undoes an answer's coding as far as this Python can; then it gives nothing more."""

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = zlib.decompressobj(_GZIP_OR_ZLIB)

    def decode(self, data: bytes) -> bytes:
        """What these bytes stand for; never raises."""
        if self._inflate is None:
            return b""
        try:
            decoded = self._inflate.decompress(data, _DECODED_AT_ONCE)
        except zlib.error:
            self._inflate = None
            return b""
        if self._inflate.unconsumed_tail:
            self._inflate = None
        return decoded


def _inflating(coding: bytes) -> "zlib._Decompress | None":
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return zlib.decompressobj(_GZIP_OR_ZLIB)
    if coding in (b"", b"identity"):
        return None
    raise UnreadableError(
        415, "a request body in this content-encoding cannot be read: send it as gzip."
    )


def _refuse_more(inflate: "zlib._Decompress") -> None:
    if inflate.unused_data:
        raise UnreadableError(
            400, "the request body has bytes behind its gzip stream: send it as one stream."
        )


def _no_gzip(error: zlib.error) -> UnreadableError:
    return UnreadableError(400, f"the request body is no gzip ({error}).")


def _too_large(limit: int) -> UnreadableError:
    return UnreadableError(413, f"the request is larger than {limit:,} bytes: shorten the history.")
