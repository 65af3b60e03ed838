"""Usage: how many tokens of an answer were read from cache, written to it, or neither.

Parses what the provider sends, whole (JSON) or as it streams (server-sent events). It
observes and never judges: whatever cannot be understood counts for nothing and raises
nothing, because an answer must reach its caller even if we cannot read the bill. What cannot
be true (a negative count, more tokens than any model takes) is not believed: the statement is
then `flawed` and says nothing else.

Source of the fields: the provider's API reference, platform.claude.com/docs/en/api/messages
and .../docs/en/build-with-claude/streaming, as of 2026-08-22; `iterations`, `server_tool_use`,
`speed`, `inference_geo`, `service_tier` and `fallback_credit`: types/usage.py and
types/beta/beta_usage.py of the anthropic package for Python, 2.11.0, as of 2026-11-30.
"""

import re
from typing import Annotated, Any, Final, Self

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

    def __add__(self, other: Self) -> "Usage":
        """Return both together."""
        return Usage(
            self.uncached + other.uncached,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.output + other.output,
        )


class Charge(msgspec.Struct, frozen=True):
    """Tokens that are billed together: those of one iteration, or of a whole answer.

    `model` is the one that used them; empty for the model that was asked.
    """

    usage: Usage
    model: str = ""


class Terms(msgspec.Struct, frozen=True):
    """All by which an answer's tokens are billed besides the model; empty is the list price."""

    speed: str = ""
    inference_geo: str = ""
    service_tier: str = ""


STANDARD: Final = Terms()


class Statement(msgspec.Struct, frozen=True):
    """All that one answer says of its bill.

    Attributes:
        charges: every token that is billed, once.
        first: usage of the first iteration: it alone tells whether the request found the cache
            warm, because later ones read what it wrote.
        web_searches: requests of the provider's web search, billed by number.
        unknown: names of what is billed in a way that is not known here: a server tool, a kind
            of iteration, a credit.
        flawed: the usage cannot be true, and nothing of it is believed.
    """

    charges: tuple[Charge, ...] = ()
    first: Usage = Usage()
    terms: Terms = STANDARD
    web_searches: int = 0
    unknown: frozenset[str] = frozenset()
    flawed: bool = False

    @property
    def usage(self) -> Usage:
        """All tokens that are billed, whichever model used them."""
        if len(self.charges) == 1:
            return self.charges[0].usage
        return sum((charge.usage for charge in self.charges), Usage())


FLAWED: Final = Statement(flawed=True)
"""The rest of a usage that cannot be true."""


_MOST_TOKENS: Final = 10**9
"""In one count: a thousand times the longest context that any model takes."""
_MOST_ITERATIONS: Final = 1_000
_MOST_TOOLS: Final = 64

_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: _Count | None = None
    ephemeral_1h_input_tokens: _Count | None = None


class _Tokens(msgspec.Struct):
    """Counts of tokens as the provider names them; every field may be missing or null."""

    input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: _Count | None = None


class _Iteration(_Tokens):
    """One of `usage.iterations`."""

    type: str = ""
    model: str | None = None


class _Typed(msgspec.Struct):
    type: str = ""


class _Credit(msgspec.Struct):
    status: _Typed | None = None


class _WireUsage(_Tokens):
    """The provider's `usage` object."""

    iterations: Annotated[list[_Iteration], msgspec.Meta(max_length=_MOST_ITERATIONS)] | None = None
    server_tool_use: (
        Annotated[dict[str, _Count | None], msgspec.Meta(max_length=_MOST_TOOLS)] | None
    ) = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    fallback_credit: _Credit | None = None


_FIELDS: Final = _WireUsage.__struct_fields__


class _Message(msgspec.Struct):
    usage: _WireUsage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _WireUsage | None = None


class _Diagnostics(msgspec.Struct):
    cache_miss_reason: _Typed | None = None


class _DiagnosedMessage(msgspec.Struct):
    diagnostics: _Diagnostics | None = None


class _DiagnosedEvent(msgspec.Struct):
    message: _DiagnosedMessage


class _ErrorEvent(msgspec.Struct):
    type: str
    error: _Typed


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_error: Final = msgspec.json.Decoder(_ErrorEvent).decode


_INCLUDED: Final = frozenset({"message", "fallback_message"})
"""Iterations whose tokens the answer's own counts include."""
_EXTRA: Final = frozenset({"compaction", "advisor_message"})
"""Those whose tokens come on top: the SDK says so of a compaction, the page on the advisor tool
(platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool, as of 2026-11-30) of an
advisor's, which are another model's."""
_SEARCHES: Final = "web_search_requests"
_FREE_TOOLS: Final = frozenset({"web_fetch_requests"})
"""Billed by their tokens alone (the provider's page on pricing, as of 2026-08-22)."""
_PLAIN_SPEEDS: Final = (None, "standard")
_PLAIN_GEOS: Final = (None, "global", "not_available")
"""Of `inference_geo`: the last is what models answer that cannot be bound to a place."""
_PLAIN_TIERS: Final = (None, "standard")
_RANGE: Final = re.compile(r"Expected `\w+` (>=|<=|of length <=)")
"""The beginning of msgspec's words for a number or a length that it is out of bounds."""


def _usage(wire: _Tokens) -> Usage:
    written, write_1h = wire.cache_creation_input_tokens, 0
    if wire.cache_creation is not None:
        write_1h = wire.cache_creation.ephemeral_1h_input_tokens or 0
        # The total is authoritative (it alone is cumulative while streaming), and what the split
        # does not give to the hour is billed as five minutes, the provider's default.
        if written is None:
            written = write_1h + (wire.cache_creation.ephemeral_5m_input_tokens or 0)
    written = written or 0
    write_1h = min(write_1h, written)
    return Usage(
        uncached=wire.input_tokens or 0,
        cache_read=wire.cache_read_input_tokens or 0,
        cache_write_5m=written - write_1h,
        cache_write_1h=write_1h,
        output=wire.output_tokens or 0,
    )


def _statement(wire: _WireUsage) -> Statement:
    usage = _usage(wire)
    terms = STANDARD
    if (
        wire.speed not in _PLAIN_SPEEDS
        or wire.inference_geo not in _PLAIN_GEOS
        or wire.service_tier not in _PLAIN_TIERS
    ):
        terms = Terms(
            speed="" if wire.speed in _PLAIN_SPEEDS else wire.speed or "",
            inference_geo="" if wire.inference_geo in _PLAIN_GEOS else wire.inference_geo or "",
            service_tier="" if wire.service_tier in _PLAIN_TIERS else wire.service_tier or "",
        )
    if not (wire.iterations or wire.server_tool_use or wire.fallback_credit):
        return Statement((Charge(usage),), usage, terms)
    tools = wire.server_tool_use or {}
    unknown = {name for name, count in tools.items() if count} - _FREE_TOOLS - {_SEARCHES}
    credit = wire.fallback_credit and wire.fallback_credit.status
    if credit and credit.type == "redeemed":
        unknown.add("fallback_credit")  # it is billed as if another model had cached the history
    charges: tuple[Charge, ...] = (Charge(usage),)
    first = usage
    if wire.iterations:
        charges, first = _itemized(usage, wire.iterations)
        unknown |= {each.type for each in wire.iterations} - _INCLUDED - _EXTRA
    return Statement(charges, first, terms, tools.get(_SEARCHES) or 0, frozenset(unknown))


def _is_out_of_range(error: Exception) -> bool:
    """Return whether a usage has the right form, and a number in it that cannot be true."""
    return isinstance(error, msgspec.ValidationError) and bool(_RANGE.match(str(error)))


def _itemized(whole: Usage, iterations: list[_Iteration]) -> tuple[tuple[Charge, ...], Usage]:
    """Every token once, and the usage of the first iteration.

    What the answer's own counts have beyond its iterations is billed besides: neither account
    shrinks the other.
    """
    charges = [
        Charge(_usage(each), each.model or "")
        for each in iterations
        if each.type in _INCLUDED or each.type in _EXTRA
    ]
    own = [_usage(each) for each in iterations if each.type in _INCLUDED]
    counted = sum(own, Usage())
    written = counted.cache_write_5m + counted.cache_write_1h
    beyond = max(0, whole.cache_write_5m + whole.cache_write_1h - written)
    hour = min(beyond, max(0, whole.cache_write_1h - counted.cache_write_1h))
    rest = Usage(
        uncached=max(0, whole.uncached - counted.uncached),
        cache_read=max(0, whole.cache_read - counted.cache_read),
        cache_write_5m=beyond - hour,
        cache_write_1h=hour,
        output=max(0, whole.output - counted.output),
    )
    if rest != Usage():
        charges.append(Charge(rest))
    asked = (_usage(each) for each in iterations if each.type != "advisor_message")
    return tuple(charges), next(asked, whole)


def statement_from_json(body: bytes) -> Statement | None:
    """The statement in a whole JSON answer; None where it has no usage, or is not JSON."""
    try:
        message = _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return FLAWED if _is_out_of_range(error) else None
    return None if message.usage is None else _statement(message.usage)


def usage_from_json(body: bytes) -> Usage | None:
    """The tokens in a whole JSON answer; None where it has no usage (an error), or is not JSON."""
    statement = statement_from_json(body)
    return None if statement is None else statement.usage


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

    `message_start` carries the input figures, the split by TTL and the terms; `message_delta`
    repeats cumulative figures without these. Cumulative figures never shrink: gateways send
    zeros there. Memory is bounded by one line; lines above 1 MiB are skipped.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._skipping = False
        self._wire: _WireUsage | None = None
        self._flawed = False
        self._start = b""
        self._last = b""

    @property
    def usage(self) -> Usage | None:
        """The tokens that are known so far; None until an event carried usage."""
        statement = self.statement
        return None if statement is None else statement.usage

    @property
    def statement(self) -> Statement | None:
        """What is known so far; None until an event carried usage."""
        if self._flawed:
            return FLAWED
        return None if self._wire is None else _statement(self._wire)

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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._flawed |= _is_out_of_range(error)
            return
        if event.type == "message_start" and event.message is not None:
            self._start = line[5:]
            self._merge(event.message.usage)
        elif event.type == "message_delta":
            self._merge(event.usage)

    def _merge(self, newer: _WireUsage | None) -> None:
        if newer is None:
            return
        known = self._wire
        if known is None:
            self._wire = newer
            return
        for name in _FIELDS:
            now = getattr(newer, name)
            if now is not None:
                setattr(known, name, _most(getattr(known, name), now))


def _most(before: Any, now: Any) -> Any:
    """The further of two cumulative figures; what is no figure is replaced by what is newer."""
    if before is None or now is None:
        return before if now is None else now
    if isinstance(now, int):
        return max(before, now)
    if isinstance(now, dict):
        names = {**before, **now}
        return {name: _most(before.get(name), now.get(name)) for name in names}
    if isinstance(now, list):
        return now if len(now) >= len(before) else before
    return now
