"""Recorded requests that should have shared a prefix and did not, why, and what that cost.

A request is taken apart into tools, system blocks and messages, without their cache markers. Two
that follow each other should agree in tools and system, and in all that was said before where they
belong to one conversation (the same first user message). Where they do not, and nobody else sent
the same beginning lately, the first part that differs is what lost the cache. No I/O.
"""

import datetime as dt
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headwater.contract.content import MARKER_KEY
from headwater.contract.errors import RequestError
from headwater.economics.bill import MILLION
from headwater.providers.models import lookup
from headwater.providers.tokens import estimate_tokens
from headwater.providers.usage import Usage, usage_from_json

UNSTABLE_BELOW: Final = 0.5
"""Share of tokens that were sent before: below it a program's prefix is called unstable."""
TTL_SECONDS: Final = 300.0
_SHOWN: Final = 60
_VOLATILE: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|0x[0-9a-fA-F]+|\b[0-9a-fA-F]{16,}\b|\d+"
    r"|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b"
    r"|\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_BLANKS: Final = re.compile(r"(?:\s|\\[nrt])+")
_MARKED: Final = MARKER_KEY.encode()
_HASHED: Final = b'{"hashed":'
"""How a part begins that is no more than hashes of one."""
_REFUSED: Final = 400

Privacy = Literal["text", "hash"]


class Cause(StrEnum):
    """What of the known cache-killers it is."""

    VOLATILE = "volatile"
    """A date, a time, an id, a counter in what should stay the same."""
    TOOLS_ORDER = "tools_order"
    TOOLS_CHANGED = "tools_changed"
    SYSTEM_CHANGED = "system_changed"
    WHITESPACE = "whitespace"
    KEY_ORDER = "key_order"
    HISTORY_REWRITTEN = "history_rewritten"
    MODEL_CHANGED = "model_changed"
    THINKING_CHANGED = "thinking_changed"


REMEDY: Final[Mapping[Cause, str]] = {
    Cause.VOLATILE: "move it to the end of the messages",
    Cause.TOOLS_ORDER: "send them in one order (headwater.tools does)",
    Cause.TOOLS_CHANGED: "keep one set of tools for all, and defer the others",
    Cause.SYSTEM_CHANGED: "keep the text, and put what differs after what is shared",
    Cause.WHITESPACE: "build it in one place, by one code",
    Cause.KEY_ORDER: "write its keys in one order",
    Cause.HISTORY_REWRITTEN: "append, and never change what was sent",
    Cause.MODEL_CHANGED: "keep the model of a conversation; ask another one in a subagent",
    Cause.THINKING_CHANGED: "keep thinking and effort of a conversation",
}


@dataclass(slots=True)
class Finding:
    """One place in which a group's requests part, over all of them; tokens are estimated.

    Attributes:
        example: the two lines of the file that show it first.
        before: what stood there, or its hash.
        after: what stands there instead.
        usd: what writing the tokens again cost, at list price; None where no price is known.
    """

    group: str
    model: str
    cause: Cause
    place: str
    example: tuple[int, int]
    before: str
    after: str
    times: int = 0
    tokens: int = 0
    usd: Decimal | None = None


@dataclass(slots=True)
class Group:
    """What one group's requests have in common.

    Attributes:
        tokens: of all requests, estimated; `reused` of them were sent before, in time.
        prompt: tokens that the provider counted, where usage was recorded; `read` of them came
            from its cache.
    """

    name: str
    requests: int = 0
    tokens: int = 0
    reused: int = 0
    prompt: int = 0
    read: int = 0

    @property
    def reuse(self) -> float:
        """The share of tokens that were sent before, in time to be found."""
        return self.reused / self.tokens if self.tokens else 0.0

    @property
    def unstable(self) -> bool:
        """Whether that is too little to speak of a prefix; one request alone is no sign."""
        return self.requests > 1 and self.reuse < UNSTABLE_BELOW


@dataclass(slots=True)
class Report:
    """Findings, the dearest first."""

    groups: list[Group] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class _Body(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]
    tools: list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw(b"null")
    thinking: msgspec.Raw = msgspec.Raw(b"null")
    output_config: msgspec.Raw = msgspec.Raw(b"null")


class Part(NamedTuple):
    """A tool, a system block or a message, as JSON without cache markers."""

    place: str
    data: bytes
    key: bytes
    """A hash of it."""

    @property
    def section(self) -> str:
        """Where it stands: `tools`, `system` or `messages`."""
        return self.place.partition("[")[0]

    @property
    def hidden(self) -> bool:
        """Whether no more than hashes of it are known."""
        return self.data.startswith(_HASHED)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded request, taken apart."""

    line: int
    at: float
    group: str
    model: str
    settings: bytes
    parts: Sequence[Part]
    shared: int
    """Parts that are tools or system: what all requests of a group should have alike."""
    tokens: Sequence[int]
    """Of the parts up to each, included."""
    conversation: bytes
    usage: Usage | None = None


_decode_line: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_body: Final = msgspec.json.Decoder(_Body).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def audit(lines: Iterable[bytes], *, by: str = "team", privacy: Privacy = "text") -> Report:
    """Read recorded requests, in the order in which they were sent.

    A line is a request of the Messages API, or an object with one as `request` and, where known,
    its `time` (Unix seconds or ISO 8601), the field `by`, which groups them, the answer's `usage`
    and its HTTP `status`: what was refused is left out.

    Raises:
        RequestError: a line is neither; it is named.
    """
    auditor = _Auditor(privacy)
    for request in read_recording(lines, by):
        auditor.take(request)
    report = Report(list(auditor.groups.values()), list(auditor.findings.values()))
    report.groups.sort(key=lambda group: group.reuse)
    report.findings.sort(key=lambda found: (-(found.usd or Decimal(0)), -found.tokens))
    return report


def read_recording(lines: Iterable[bytes], by: str) -> Iterator[Recorded]:
    """The requests of a recording that the provider took; `by` names the field that groups them.

    Raises:
        RequestError: a line is no request; it is named.
    """
    for number, line in enumerate(lines, 1):
        if line.strip() and (request := recorded(line, number, by)):
            yield request


def recorded(line: bytes, number: int, by: str) -> Recorded | None:
    """What a line of a recording holds; None where the provider refused it.

    Raises:
        RequestError: it is no request.
    """
    try:
        outer = _decode_line(line)
        if int(msgspec.json.decode(outer.get("status", b"0"))) >= _REFUSED:
            return None
        body = _decode_body(outer.get("request", line))
        tools = [tool for tool in body.tools or () if not _is_deferred(tool)]
        system = _system(body.system)
        at = _time(outer.get("time"), number)
        group = _named(outer.get(by))
        usage = usage_from_json(b'{"usage":%b}' % bytes(outer.get("usage", b"null")))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"line {number}", f"it is no recorded request ({error}).") from error
    parts = [
        *(Part(f"tools[{at}]", *_known(bytes(tool))) for at, tool in enumerate(tools)),
        *(Part(f"system[{at}]", *_known(bytes(block))) for at, block in enumerate(system)),
    ]
    shared = len(parts)
    parts += [Part(f"messages[{at}]", *_bare(bytes(raw))) for at, raw in enumerate(body.messages)]
    tokens, total = [], 0
    for part in parts:
        total += _tokens(part.data, body.model)
        tokens.append(total)
    return Recorded(
        line=number,
        at=at,
        group=group,
        model=body.model,
        settings=bytes(body.thinking) + bytes(body.output_config),
        parts=parts,
        shared=shared,
        tokens=tokens,
        conversation=parts[shared].key if len(parts) > shared else b"",
        usage=usage,
    )


def hashed(body: bytes, salt: bytes) -> dict[str, Any]:
    """A request in whose place hashes can be kept: an audit finds in them what it finds in it.

    What requests have alike can be seen, and no text. `salt` has at most 64 bytes; without it, a
    short text cannot be guessed.

    Raises:
        RequestError: it is no request.
    """
    request = recorded(body, 1, "")
    assert request is not None  # noqa: S101 - for the type checker: it has no status
    sections: dict[str, list[Any]] = {"tools": [], "system": [], "messages": []}
    before = 0
    for part, tokens in zip(request.parts, request.tokens, strict=True):
        forms = [part.data, *(form.encode() for form in _forms(part.data))]
        hashes = [_hash(form, salt).hex() for form in forms]
        sections[part.section].append({"hashed": hashes, "tokens": tokens - before})
        before = tokens
    return {
        "model": request.model,
        **sections,
        "thinking": _hash(request.settings, salt).hex(),
    }


def _tokens(part: bytes, model: str) -> int:
    if part.startswith(_HASHED):
        return int(msgspec.json.decode(part)["tokens"])
    return estimate_tokens(part, model)


def _is_deferred(tool: msgspec.Raw) -> bool:
    """Whether it stays out of the prefix."""
    return b"defer_loading" in bytes(tool) and bool(
        msgspec.json.decode(tool, type=dict[str, Any]).get("defer_loading")
    )


def _system(raw: msgspec.Raw) -> list[msgspec.Raw]:
    if bytes(raw)[:1] == b"[":
        return _decode_list(raw)
    return [] if raw == b"null" else [raw]


def _time(raw: msgspec.Raw | None, number: int) -> float:
    """Without one, requests are taken to follow each other in time to find the cache."""
    value = None if raw is None else msgspec.json.decode(raw)
    if isinstance(value, str):
        return dt.datetime.fromisoformat(value).timestamp()
    return float(number if value is None else value)


def _named(raw: msgspec.Raw | None) -> str:
    return "" if raw is None else str(msgspec.json.decode(raw))


def _bare(raw: bytes) -> tuple[bytes, bytes]:
    """A part as the provider compares it, and its hash: without markers, however it was spaced.

    A text that stands alone is the same as one block of it.
    """
    value = msgspec.json.decode(raw)
    if _MARKED in raw:
        value = _unmarked(value)
    if isinstance(value, str):
        value = {"type": "text", "text": value}
    elif isinstance(value, dict) and "role" in value and isinstance(value.get("content"), str):
        value["content"] = [{"type": "text", "text": value["content"]}]
    data = msgspec.json.encode(value)
    return data, _hash(data)


_known: Final = functools.lru_cache(maxsize=512)(_bare)
"""What requests share need not be read again with each of them."""


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(each) for each in value]
    if isinstance(value, dict):
        return {key: _unmarked(each) for key, each in value.items() if key != MARKER_KEY}
    return value


def _hash(data: bytes, salt: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=salt).digest()


class _Auditor:
    """What was seen so far."""

    def __init__(self, privacy: Privacy) -> None:
        self.groups: dict[str, Group] = {}
        self.findings: dict[tuple[str, str, Cause, str], Finding] = {}
        self._privacy = privacy
        self._seen: dict[bytes, float] = {}
        """When each beginning was sent last, by a hash of its lane and all its parts."""
        self._last: dict[tuple[str, str], Recorded] = {}
        self._talks: dict[tuple[str, bytes], Recorded] = {}

    def take(self, request: Recorded) -> None:
        """Compare a request with those before it."""
        found = self._tokens_found(request)
        group = self.groups.setdefault(request.group, Group(request.group))
        group.requests += 1
        group.tokens += request.tokens[-1] if request.tokens else 0
        group.reused += found
        if request.usage is not None:
            group.prompt += request.usage.prompt
            group.read += request.usage.cache_read
        talk = self._talks.get((request.group, request.conversation))
        before = talk or self._last.get((request.group, request.model))
        if before is not None and request.at - before.at <= TTL_SECONDS:
            self._compare(before, request, found, same_talk=talk is not None)
        self._last[request.group, request.model] = request
        self._talks[request.group, request.conversation] = request

    def _tokens_found(self, request: Recorded) -> int:
        """Tokens of the longest beginning that was sent in time; remembers all of them."""
        chain, found = _hash(f"{request.group}\n{request.model}".encode() + request.settings), 0
        for part, tokens in zip(request.parts, request.tokens, strict=True):
            chain = _hash(chain + part.key)
            if request.at - self._seen.get(chain, -TTL_SECONDS * 2) <= TTL_SECONDS:
                found = tokens
            self._seen[chain] = request.at
        return found

    def _compare(self, before: Recorded, now: Recorded, found: int, *, same_talk: bool) -> None:
        expected = len(before.parts) if same_talk else before.shared
        if not expected:
            return
        lost = before.tokens[expected - 1] - found
        if lost <= 0:
            return
        cause, place, one, two = difference(before, now, expected)
        key = (now.group, now.model, cause, place)
        if key not in self.findings:
            shown = _hashes(one, two) if self._privacy == "hash" else excerpts(one, two)
            self.findings[key] = Finding(*key, (before.line, now.line), *shown)
        finding = self.findings[key]
        finding.times += 1
        finding.tokens += lost
        facts = lookup(now.model)
        prices = None if facts is None else facts.prices_for(now.tokens[-1])
        if prices is not None:
            again = lost * (prices.write_5m - prices.read) / MILLION
            finding.usd = (finding.usd or Decimal(0)) + again


def difference(before: Recorded, now: Recorded, expected: int) -> tuple[Cause, str, bytes, bytes]:
    """Why the first `expected` parts of two requests differ, where, and both parts there."""
    if before.model != now.model:
        return Cause.MODEL_CHANGED, "model", before.model.encode(), now.model.encode()
    if before.settings != now.settings:
        return Cause.THINKING_CHANGED, "thinking", before.settings, now.settings
    nothing = Part("", b"", b"")
    pairs = zip_longest(before.parts[:expected], now.parts, fillvalue=nothing)
    one, two = next(((a, b) for a, b in pairs if a.key != b.key), (nothing, nothing))
    place = min(filter(None, (one.place, two.place)), key=_section)
    ours, theirs = ([part.data for part in each.parts[: each.shared]] for each in (before, now))
    if place.startswith("messages"):
        cause = Cause.HISTORY_REWRITTEN
    elif sorted(ours) == sorted(theirs):
        cause = Cause.TOOLS_ORDER if place.startswith("tools") else Cause.SYSTEM_CHANGED
    else:
        alike = one.place.partition("[")[0] == two.place.partition("[")[0]
        cause = (_wording(one.data, two.data) if alike else None) or (
            Cause.TOOLS_CHANGED if place.startswith("tools") else Cause.SYSTEM_CHANGED
        )
    return cause, place, one.data, two.data


def _section(place: str) -> int:
    """In the provider's order."""
    return ("tools", "system", "messages").index(place.partition("[")[0])


def _wording(one: bytes, two: bytes) -> Cause | None:
    """What kind of rewriting it is; None where it is another text."""
    alike = [ours == theirs for ours, theirs in zip(_forms(one), _forms(two), strict=True)]
    causes = (Cause.KEY_ORDER, Cause.WHITESPACE, Cause.VOLATILE)
    return next((cause for cause, same in zip(causes, alike, strict=True) if same), None)


def _forms(part: bytes) -> list[str]:
    """A part with its keys in order, then without spaces, then without what is volatile."""
    if part.startswith(_HASHED):
        return list(msgspec.json.decode(part)["hashed"][1:])
    text = msgspec.json.encode(msgspec.json.decode(part), order="sorted").decode()
    return [text, _BLANKS.sub("", text), _VOLATILE.sub("#", text)]


def _hashes(one: bytes, two: bytes) -> tuple[str, str]:
    return _hash(one).hex()[:12], _hash(two).hex()[:12]


def excerpts(one: bytes, two: bytes) -> Iterator[str]:
    """Both from a little before the first difference on."""
    pairs = enumerate(zip(one, two, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(one), len(two)))
    start = max(0, at - 20)
    return (each[start : at + _SHOWN].decode("utf-8", "replace") for each in (one, two))
