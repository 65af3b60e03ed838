"""Usage: how many tokens of an answer were read from cache, written to it, or neither.

Parses what the provider sends, whole (JSON) or as it streams (server-sent events). It
observes and never judges: whatever cannot be understood counts for nothing and raises
nothing, because an answer must reach its caller even if we cannot read the bill.

Source of the fields: the provider's API reference, platform.claude.com/docs/en/api/messages
and .../docs/en/build-with-claude/streaming, as of 2026-08-22.
"""

from typing import Any, Final

import msgspec

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


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode


def _usage(wire: _WireUsage) -> Usage:
    written = max(0, wire.cache_creation_input_tokens or 0)
    split = wire.cache_creation or _CacheCreation()
    write_1h = max(0, split.ephemeral_1h_input_tokens or 0)
    # The total is authoritative (it alone is cumulative while streaming), and what the split
    # does not give to the hour is billed as five minutes, the provider's default.
    if wire.cache_creation_input_tokens is None:
        written = write_1h + max(0, split.ephemeral_5m_input_tokens or 0)
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

    @property
    def usage(self) -> Usage | None:
        """What is known so far; None until an event carried usage."""
        return None if self._wire is None else _usage(self._wire)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream; never raises."""
        if not (self._line or self._skipping or b'"usage"' in chunk) and chunk.endswith(b"\n"):
            return  # nearly all: whole lines, and nothing of interest in them
        *ends, rest = chunk.replace(b"\r", b"\n").split(b"\n")
        for end in ends:
            self._append(end)
            if not self._skipping:
                self._take(bytes(self._line))
            self._line.clear()
            self._skipping = False
        self._append(rest)

    def _append(self, part: bytes) -> None:
        if len(self._line) + len(part) > _MAX_LINE_BYTES:
            self._line.clear()
            self._skipping = True
        elif not self._skipping:
            self._line += part

    def _take(self, line: bytes) -> None:
        # Deltas of text are nearly all lines; only those that can carry usage are decoded.
        if not line.startswith(b"data:") or b'"usage"' not in line:
            return
        try:
            event = _decode_event(line[5:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if event.type == "message_start" and event.message is not None:
            self._merge(event.message.usage)
        elif event.type == "message_delta":
            self._merge(event.usage)

    def _merge(self, newer: _WireUsage | None) -> None:
        if newer is None:
            return
        older = self._wire or _WireUsage()
        self._wire = _WireUsage(**_known(older) | _known(newer))


def _known(wire: _WireUsage) -> dict[str, Any]:
    return {
        name: value for name, value in msgspec.structs.asdict(wire).items() if value is not None
    }
