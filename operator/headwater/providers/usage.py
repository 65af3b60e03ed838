"""Usage: how many tokens of an answer were read from cache, written to it, or neither.

Parses what the provider sends, whole (JSON) or as it streams (server-sent events). It
observes and never judges: whatever cannot be understood counts for nothing and raises
nothing, because an answer must reach its caller even if we cannot read the bill.

Source of the fields: the provider's API reference, platform.claude.com/docs/en/api/messages
and .../docs/en/build-with-claude/streaming, as of 2026-08-22.
"""

from typing import Final

import msgspec

_USAGE: Final = b'"usage"'
_ERROR: Final = b'"error"'
_LAST: Final = 1024
"""Bytes of a stream's end that are kept: an error is its last event."""
_BLANKS: Final = len(b"\r\n\r\n")
"""Line breaks after an event, which may come apart from it."""
_MAX_LINE_BYTES: Final = 1 << 20  # usage events are small; a longer line holds none of interest


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer by what they cost; the kinds are disjoint, so sums are safe."""

    uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt, however they were billed."""
        return self.uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    """The provider's `usage` object; every field may be missing or null."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _WireUsage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _WireUsage | None = None


class _Diagnosed(msgspec.Struct):
    type: str = ""


class _Diagnostics(msgspec.Struct):
    cache_miss_reason: _Diagnosed | None = None


class _DiagnosedMessage(msgspec.Struct):
    diagnostics: _Diagnostics | None = None


class _DiagnosedEvent(msgspec.Struct):
    message: _DiagnosedMessage


class _Error(msgspec.Struct):
    type: str = ""


class _ErrorEvent(msgspec.Struct):
    type: str
    error: _Error


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_error: Final = msgspec.json.Decoder(_ErrorEvent).decode


def _usage(wire: _WireUsage) -> Usage:
    written, write_1h = wire.cache_creation_input_tokens, 0
    if wire.cache_creation is not None:
        write_1h = max(0, wire.cache_creation.ephemeral_1h_input_tokens or 0)
        # The total is authoritative (it alone is cumulative while streaming), and what the split
        # does not give to the hour is billed as five minutes, the provider's default.
        if written is None:
            written = write_1h + max(0, wire.cache_creation.ephemeral_5m_input_tokens or 0)
    written = max(0, written or 0)
    write_1h = min(write_1h, written)
    return Usage(
        uncached=max(0, wire.input_tokens or 0),
        cache_read=max(0, wire.cache_read_input_tokens or 0),
        cache_write_5m=written - write_1h,
        cache_write_1h=write_1h,
        output=max(0, wire.output_tokens or 0),
    )


def usage_from_json(body: bytes) -> Usage | None:
    """The usage in a whole JSON answer; None where it has none (an error) or is not JSON."""
    try:
        message = _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if message.usage is None else _usage(message.usage)


def diagnosis_from_json(body: bytes) -> str:
    """The type of a whole JSON answer's `cache_miss_reason`; empty where it has none."""
    try:
        return _diagnosis(msgspec.json.decode(body, type=_DiagnosedMessage))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _diagnosis(message: _DiagnosedMessage) -> str:
    found = message.diagnostics and message.diagnostics.cache_miss_reason
    return found.type if found else ""


class SseUsageParser:
    """Reads usage from a stream of server-sent events, fed in chunks cut anywhere.

    `message_start` carries the input figures and the split by TTL; `message_delta` repeats
    cumulative figures without the split, and newer figures win. Memory is bounded by one
    line; lines above 1 MiB are skipped.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._skipping = False
        self._wire: _WireUsage | None = None
        self._start = b""
        self._last = b""

    @property
    def usage(self) -> Usage | None:
        """What is known so far; None until an event carried usage."""
        return None if self._wire is None else _usage(self._wire)

    @property
    def diagnosis(self) -> str:
        """The type of the answer's `cache_miss_reason`; empty where it has none."""
        try:
            return _diagnosis(msgspec.json.decode(self._start, type=_DiagnosedEvent).message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""

    @property
    def failure(self) -> str:
        """The type of the error with which the stream ended after all; empty where it has none."""
        last = self._last + self._line
        if _ERROR not in last:
            return ""
        line = last.rstrip().rpartition(b"\n")[2]
        if not line.startswith(b"data:"):
            return ""
        try:
            event = _decode_error(line[5:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        return (event.error.type or "api_error") if event.type == "error" else ""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream; never raises."""
        if self._line or self._skipping or chunk[-1:] != b"\n" or b"\r" in chunk:
            chunk = self._lines(chunk)
        if len(chunk) > _BLANKS:
            self._last = chunk[-_LAST:]
        # Deltas of text are nearly all lines; only those that can carry usage are looked at.
        at = chunk.find(_USAGE)
        while at >= 0:
            end = chunk.index(b"\n", at)
            self._take(chunk[chunk.rfind(b"\n", 0, at) + 1 : end])
            at = chunk.find(_USAGE, end)

    def _lines(self, chunk: bytes) -> bytes:
        """Those that are whole with this chunk; what follows them is kept."""
        chunk = chunk.replace(b"\r", b"\n")
        end = chunk.rfind(b"\n") + 1
        if end == 0:
            self._append(chunk)
            return b""
        lines = chunk[chunk.index(b"\n") : end] if self._skipping else self._line + chunk[:end]
        self._line.clear()
        self._skipping = False
        self._append(chunk[end:])
        return bytes(lines)

    def _append(self, part: bytes) -> None:
        if len(self._line) + len(part) > _MAX_LINE_BYTES:
            self._line.clear()
            self._skipping = True
        elif not self._skipping:
            self._line += part

    def _take(self, line: bytes) -> None:
        if not line.startswith(b"data:") or len(line) > _MAX_LINE_BYTES:
            return
        try:
            event = _decode_event(line[5:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if event.type == "message_start" and event.message is not None:
            self._start = line[5:]
            self._merge(event.message.usage)
        elif event.type == "message_delta":
            self._merge(event.usage)

    def _merge(self, newer: _WireUsage | None) -> None:
        if newer is None:
            return
        if self._wire is not None:
            for name in _WireUsage.__struct_fields__:
                if getattr(newer, name) is None:
                    setattr(newer, name, getattr(self._wire, name))
        self._wire = newer
