"""Puts a contract in front of a request: bytes in, bytes out.

The one place that decides what a team may add to a contract and what would break the prefix
that all consumers share. The contract's tools and system go out as the very bytes that were
hashed, and of the team's request every value but `tools` and `system` leaves as the bytes that
came. Nothing is re-serialised, because other writers space, escape and number JSON otherwise,
and one changed byte is a cache miss. It knows no HTTP, no clock and no state.
"""

import codecs
import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgspec

from headwater.contract.content import FORMAT, MARKER_KEY, TTL
from headwater.contract.copies import Copies
from headwater.contract.digest import Digest
from headwater.contract.divergence import Divergence, Published, in_tools
from headwater.contract.errors import BundleError
from headwater.contract.markers import (
    ABSENT,
    MARKER_LIMIT,
    Mark,
    Marker,
    Message,
    decode_messages,
    holds_marker_key,
    kind,
    marks_of,
    may_hold_marker,
    spells_letters,
    ttl_of,
    ttls_of_blocks,
    ttls_of_top_level,
)
from headwater.contract.placing import (
    MARKER,
    NOWHERE,
    Placing,
    decode_elements,
    markable,
    place,
)
from headwater.contract.reasons import Reason, RefusalError
from headwater.contract.shingles import sketch_of
from headwater.contract.toggles import cites, may_cite

TTL_SECONDS: Final[Mapping[TTL, float]] = {"5m": 300.0, "1h": 3600.0}
"""The provider counts a TTL from the start of a request."""

_NAMES_SHOWN: Final = 3
"""Tool names that a message lists: enough to find the place."""


_DECODED_AT_ONCE: Final = 64 << 10
"""Bytes, so that what is looked at costs no second copy of a large body."""


@dataclass(frozen=True, slots=True)
class PreparedContract:
    """A contract ready to be spliced: exact slices of its canonical bytes.

    `tools` and `system` are the elements of the canonical arrays without the brackets, so that
    a team's elements can follow. The TTLs are those of the markers, in the provider's order.
    `published` is what a client's own copy is compared with.
    """

    digest: Digest
    tools: bytes
    system: bytes
    tool_ttls: tuple[str, ...]
    system_ttls: tuple[str, ...]
    published: Published

    @property
    def system_share(self) -> float:
        """Return how much of the contract is system text and not tools, by length: 0 to 1."""
        return len(self.system) / (len(self.tools) + len(self.system) or 1)

    @property
    def markers(self) -> int:
        """Cache markers that the contract carries."""
        return len(self.tool_ttls) + len(self.system_ttls)

    @property
    def ttl(self) -> TTL:
        """How long the whole contract stays cached: the shortest of its markers."""
        return "1h" if set(self.tool_ttls + self.system_ttls) == {"1h"} else "5m"


@dataclass(slots=True, eq=False)
class Request:
    """A `/v1/messages` or `count_tokens` body, its top level parsed and nothing below it.

    `marked` is False where no cache marker can be anywhere in it, `may_cite` where no citations
    can be enabled.
    """

    fields: Mapping[str, msgspec.Raw]
    marked: bool = True
    may_cite: bool = True

    @classmethod
    def read(cls, body: bytes | bytearray) -> Self:
        """Parse the top level; of a repeated key the last one counts.

        Raises:
            RefusalError: `not_json`.
        """
        try:
            check_utf8(body)
            fields = _decode_top(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusalError(
                Reason.NOT_JSON,
                f"the request body is not a JSON object ({error}): send what the Messages API"
                " takes, as UTF-8 JSON.",
            ) from error
        marked, citing = holds_marker_key(body), may_cite(body)
        hidden = not (marked and citing) and spells_letters(body)
        return cls(fields, marked or hidden, citing or hidden)

    @property
    def cites(self) -> bool:
        """Return whether its messages enable citations."""
        return self.may_cite and cites(self.fields.get("messages", ABSENT))

    @property
    def frame_key(self) -> tuple[str | bytes, ...]:
        """What a `frame` and a lane are made of: two requests with one key have them in common."""
        return (
            *self.fields,
            *[bytes(value) for key, value in self.fields.items() if key not in _VARYING],
        )

    def text(self, key: str) -> str | None:
        """A top-level string; None where it is absent or something else."""
        value = self.fields.get(key)
        return None if value is None else _text(value)

    def conversation(self, session: str | None) -> str:
        """The key by which a conversation stays on its revision.

        The given session, else `metadata.user_id`, else a fingerprint of the first user
        message without its cache markers, which clients move from turn to turn.
        """
        if session:
            # Header bytes that are no UTF-8 arrive as surrogates, which cannot be hashed.
            return session.encode("utf-8", "replace").decode()
        metadata = self.fields.get("metadata")
        if metadata is not None:
            try:
                user = _decode_metadata(metadata).user_id
            except (msgspec.MsgspecError, UnicodeDecodeError):
                user = None
            if user:
                return user
        return _first_user_message(self.fields.get("messages"))


def check_utf8(body: bytes | bytearray) -> None:
    """Do nothing where a body is UTF-8: values that pass undecoded are looked at nowhere else.

    Raises:
        DecodeError: it is not.
    """
    if body.isascii():
        return
    view, start = memoryview(body), 0
    while start < len(view):
        end = start + _DECODED_AT_ONCE
        try:
            # The last bytes may be the beginning of a character that the next ones end.
            start += codecs.utf_8_decode(view[start:end], "strict", end >= len(view))[1]
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"byte {start + error.start:,} is no UTF-8") from None


@dataclass(slots=True, eq=False)
class Spliced:
    """A request as it goes to the provider, in parts.

    `own_markers` counts those that are not the contract's, `marks` are those of them that stand in
    the messages, and `automatic` says that the provider places one there by itself. `messages` are
    there where they were decoded for their markers. What the team sent is seen through views of
    the request's body, so that a history of many megabytes is not copied. `uncached` is how many
    characters of system text of the team's own no marker caches.
    """

    parts: Sequence[bytes | memoryview]
    own_markers: int = 0
    marks: Sequence[Mark] = ()
    automatic: bool = False
    messages: Sequence[Message] = ()
    uncached: int = 0

    @property
    def body(self) -> bytes:
        """The parts as one."""
        return b"".join(self.parts)


def prepare(canonical: bytes) -> PreparedContract:
    """Cut a contract's canonical bytes into what `splice` needs; done once per bundle.

    Raises:
        BundleError: the bytes are no canonical contract of a format that this release knows.
    """
    digest = Digest.of(canonical)
    try:
        check_utf8(canonical)
        document = msgspec.json.decode(canonical, type=_Document)
        tools, system = bytes(document.tools)[1:-1], bytes(document.system)[1:-1]
        tool_ttls, system_ttls = (
            tuple(ttls_of_blocks(document.tools)),
            tuple(ttls_of_blocks(document.system)),
        )
        bare_tools = tuple(map(_bare, _decode_objects(document.tools)))
        texts = tuple(block.text for block in _decode_blocks(document.system))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{digest} is no contract ({error}): publish it again.") from error
    if document.format != FORMAT:
        raise BundleError(
            f"{digest} has contract format {document.format}, and this release reads {FORMAT}:"
            " upgrade the reader."
        )
    published = Published(digest, bare_tools, texts, sketch_of("\n".join(texts)))
    return PreparedContract(digest, tools, system, tool_ttls, system_ttls, published)


@dataclass(frozen=True, slots=True)
class Frame:
    """A request with the contract put in, but for the values that differ from turn to turn.

    `parts` are bytes to send, names of fields whose values stand there, and None where a marker
    may be placed. The TTLs are those of the team's own markers. `after_markers` is how many
    characters of the team's own system text stand after the last one of these.
    """

    contract: PreparedContract
    parts: tuple[bytes | str | None, ...]
    tool_ttls: Sequence[str]
    system_ttls: Sequence[str]
    top_ttls: Sequence[str]
    placing: Placing = NOWHERE
    after_markers: int = 0

    def filled(self, request: Request) -> Spliced:
        """The frame round another request's values; it has to have the same `frame_key`.

        Raises:
            RefusalError: its messages have markers that do not go with the contract's.
        """
        messages: Sequence[Message] = ()
        own: Sequence[_Placed] = ()
        if request.marked:
            messages, own = self._own_markers(request)
        if self.placing is not NOWHERE:
            return self._placed(request.fields, own)
        fields = request.fields
        parts = [
            part if isinstance(part, bytes) else memoryview(fields[part])  # type: ignore[index]
            for part in self.parts
        ]
        return self._spliced(parts, own, _marks(own), messages)

    def _placed(self, fields: Mapping[str, msgspec.Raw], own: Sequence["_Placed"]) -> Spliced:
        """With the markers that the prefix declares, for which there is room."""
        left = MARKER_LIMIT - self.contract.markers - len(own)
        if any(marker.ttl == "1h" for marker in own):
            left = 0  # a marker of 5m before it would be refused
        messages: list[bytes | memoryview] = []
        marks: Sequence[Mark] = ()
        if "messages" in fields:
            messages = [memoryview(fields["messages"])]
            # With a top-level marker, the provider places one in the messages by itself.
            if left and not self.top_ttls:
                # What is of another shape, the provider will refuse.
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    messages, marks = place(fields["messages"], self.placing, left)
        placed = len(marks)
        parts: list[bytes | memoryview] = []
        for part in self.parts:
            if part is None:
                if placed < left:
                    placed += 1
                    parts.append(MARKER)
            elif isinstance(part, bytes):
                parts.append(part)
            else:
                parts += messages if part == "messages" else (memoryview(fields[part]),)
        return self._spliced(parts, own, (*_marks(own), *marks), placed=placed)

    def _spliced(
        self,
        parts: Sequence[bytes | memoryview],
        own: Sequence["_Placed"],
        marks: Sequence[Mark],
        messages: Sequence[Message] = (),
        *,
        placed: int = 0,
    ) -> Spliced:
        automatic = bool(self.top_ttls)
        # A marker in the messages caches all that stands before it.
        uncached = 0 if marks or automatic or placed else self.after_markers
        return Spliced(parts, len(own) + placed, marks, automatic, messages, uncached)

    def _own_markers(self, request: Request) -> tuple[Sequence[Message], Sequence["_Placed"]]:
        try:
            raw = request.fields.get("messages", ABSENT)
            # Texts are not decoded, but a history may have many messages.
            messages = decode_messages(raw) if may_hold_marker(bytes(raw)) else []
            marked = [_Placed("messages", ttl, mark) for mark, ttl in marks_of(messages)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _uncountable(error) from error
        system = _placed("system", self.system_ttls)
        after = [*marked, *_placed(MARKER_KEY, self.top_ttls)]
        tools = _placed("tools", self.tool_ttls)
        own = [*tools, *system, *after]
        if own:
            contract = self.contract
            ours = _placed("", contract.tool_ttls), _placed("", contract.system_ttls)
            _check_markers(own, contract.markers)
            _check_order([*ours[0], *tools, *ours[1], *system, *after])
        return messages, own


def splice(
    request: Request,
    contract: PreparedContract,
    models: Collection[str],
    placing: Placing = NOWHERE,
    copies: Copies | None = None,
) -> Spliced:
    """Put the contract's tools and system before the team's.

    The team's slot: system text or blocks, messages, and tools with `defer_loading: true`,
    which stay out of the cached prefix. A right copy in the request, of this contract or another
    one of `copies`, gives way to the contract's own bytes. `placing` puts markers into the team's
    part.

    Raises:
        RefusalError: the request would break the shared prefix.
    """
    return frame(request, contract, models, placing, copies).filled(request)


def frame(
    request: Request,
    contract: PreparedContract,
    models: Collection[str],
    placing: Placing = NOWHERE,
    copies: Copies | None = None,
) -> Frame:
    """What `splice` makes of all but the messages; it fits every request of this `frame_key`.

    Raises:
        RefusalError: the request would break the shared prefix.
    """
    _check_model(request, models)
    copies = copies or Copies((contract.published,))
    tools, tool_ttls = _team_tools(request.fields.get("tools"), contract.published, copies)
    system, system_ttls = _team_system(request.fields.get("system"), contract.published, copies)
    blocks = _with_room(system, placing.in_system)
    try:
        top_ttls = ttls_of_top_level(request.fields.get(MARKER_KEY, _NULL))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _uncountable(error) from error
    parts: list[bytes | str | None] = []
    # A key keeps its place; one that the team did not send goes first.
    for key, ours, theirs in (
        ("tools", contract.tools, [tools]),
        ("system", contract.system, blocks),
    ):
        if key not in request.fields and (ours or any(theirs)):
            _put(parts, key, ours, theirs)
    for key, value in request.fields.items():
        if key == "tools":
            _put(parts, key, contract.tools, [tools])
        elif key == "system":
            _put(parts, key, contract.system, blocks)
        else:
            parts += (b",", msgspec.json.encode(key), b":")
            parts.append(key if key in _VARYING else bytes(value))
    parts[0] = b"{"
    parts.append(b"}")
    return Frame(
        contract,
        _joined(parts),
        tool_ttls,
        system_ttls,
        top_ttls,
        placing or NOWHERE,
        _after_markers(system),
    )


_VARYING: Final = frozenset({"messages", "metadata", "diagnostics"})
"""Fields that differ from one request of a program to the next."""


def _put(
    parts: list[bytes | str | None], key: str, ours: bytes, theirs: Sequence[bytes | None]
) -> None:
    """An array of the contract's elements and the team's."""
    between = b"," if ours and any(theirs) else b""
    parts += (b",", b'"%b":[' % key.encode(), ours, between, *theirs, b"]")


def _with_room(system: bytes, indexes: Collection[int]) -> list[bytes | None]:
    """The team's system blocks, with None where a marker may be placed."""
    if not system or not indexes:
        return [system]
    try:
        blocks = decode_elements(b"[" + system + b"]")
        named = {index % len(blocks) for index in indexes if -len(blocks) <= index < len(blocks)}
        wanted = {index for index in named if markable(blocks[index])}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [system]  # of another shape, so the provider will refuse it
    parts: list[bytes | None] = []
    for index, block in enumerate(blocks):
        parts.append(b"," if index else b"")
        if index in wanted:
            parts += (bytes(block)[:-1].rstrip(), None, b"}")
        else:
            parts.append(bytes(block))
    return parts


def _joined(parts: Sequence[bytes | str | None]) -> tuple[bytes | str | None, ...]:
    """Small parts in one; a large one may be the contract's, which is there once for all."""
    joined: list[bytes | str | None] = []
    small: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes) and len(part) < _SMALL:
            small.append(part)
        else:
            joined += (b"".join(small), part)
            small.clear()
    return (*joined, b"".join(small))


_SMALL: Final = 1024
"""Bytes of a part that is rather copied than handled."""
_FIRST_BYTES: Final = 64 << 10
"""Of the messages, read for the first one."""
_OPENED: Final = re.compile(r"\[[ \t\n\r]*(?=\{)")
_PYTHON: Final = json.JSONDecoder()
"""It stops where a value ends, as msgspec does not."""
_NULL: Final = msgspec.Raw(b"null")


class _Placed(NamedTuple):
    """A marker's TTL, and the part of the request in which it stands; none for the contract's."""

    place: str
    ttl: str
    mark: Mark | None = None


class _Tool(msgspec.Struct):
    defer_loading: bool = False
    cache_control: Marker | None = None


class _Text(msgspec.Struct):
    text: str = ""
    cache_control: Marker | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Document(msgspec.Struct):
    format: int
    tools: msgspec.Raw
    system: msgspec.Raw


_decode_message: Final = msgspec.json.Decoder(Message).decode
_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tools: Final = msgspec.json.Decoder(list[_Tool]).decode
_decode_objects: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_blocks: Final = msgspec.json.Decoder(list[_Text]).decode
_decode_metadata: Final = msgspec.json.Decoder(_Metadata).decode


def _after_markers(system: bytes) -> int:
    """Characters of system blocks after the last one with a marker."""
    try:
        blocks = _decode_blocks(b"[%b]" % system)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0  # the provider will refuse it
    after = itertools.takewhile(lambda block: block.cache_control is None, reversed(blocks))
    return sum(len(block.text) for block in after)


def _bare(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a tool is compared: not where it is marked, nor that it is not deferred."""
    return {key: value for key, value in tool.items() if key not in (MARKER_KEY, "defer_loading")}


def _placed(place: str, ttls: Iterable[str]) -> list[_Placed]:
    return [_Placed(place, ttl) for ttl in ttls]


def _marks(own: Iterable[_Placed]) -> tuple[Mark, ...]:
    return tuple(placed.mark for placed in own if placed.mark is not None)


def _elements(raw: msgspec.Raw) -> bytes:
    return bytes(raw)[1:-1].strip()


def _text(raw: msgspec.Raw) -> str | None:
    if kind(raw) != b'"':
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _check_model(request: Request, models: Collection[str]) -> None:
    model = request.text("model")
    if model not in models:
        given = "the request names no model" if model is None else f"the model is {model[:80]!r}"
        raise RefusalError(
            Reason.OTHER_MODEL,
            f"{given}, and this prefix is published for {' and '.join(sorted(models))}: use one"
            " of these, or ask the prefix's owner to add the model.",
            "model",
        )


def _team_tools(
    raw: msgspec.Raw | None, contract: Published, copies: Copies
) -> tuple[bytes, list[str]]:
    """The team's tools, as they came, and the TTLs of their markers."""
    if raw is None or kind(raw) == b"n":
        return b"", []
    try:
        tools = _decode_tools(raw)
        deferred = [tool for tool in tools if tool.defer_loading]
        objects = _decode_objects(raw) if len(deferred) < len(tools) else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(
            Reason.MALFORMED,
            f"tools cannot be read ({error}): send a list of tools, each an object.",
            "tools",
        ) from error
    ttls = [ttl for tool in deferred for ttl in ttl_of(tool.cache_control)]
    if not objects:
        return _elements(raw), ttls
    _check_tools(objects, contract, copies)
    every = zip(tools, decode_elements(raw), strict=True)
    return b",".join(bytes(element) for tool, element in every if tool.defer_loading), ttls


def _check_tools(tools: Sequence[Mapping[str, Any]], contract: Published, copies: Copies) -> None:
    """Tools for the shared prefix have to be the contract's own, or those of another version."""
    where = [index for index, tool in enumerate(tools) if not tool.get("defer_loading")]
    shared = [_bare(tools[index]) for index in where]
    found = in_tools(contract.tools, shared)
    if found is None or any(in_tools(each.tools, shared) is None for each in copies.known):
        return
    place = where[found.at] if found.at < len(where) else where[-1] + 1
    if found.reason is Reason.OWN_TOOLS:
        published = {tool["name"] for tool in contract.tools}
        names = [str(tools[index].get("name") or "unnamed")[:80] for index in where]
        own = [name for name in names if name not in published] or names[found.at :]
        more = f" and {len(own) - _NAMES_SHOWN} more" if len(own) > _NAMES_SHOWN else ""
        message = (
            f"own tools ({', '.join(own[:_NAMES_SHOWN])}{more}) would change the prefix that all"
            " consumers share: give them defer_loading: true, or ask the prefix's owner to take"
            " them into the contract."
        )
    else:
        named = repr(contract.tools[found.at]["name"])[:80]
        message = f"{_COPIES[found.reason].format(named)}: {_LEAVE_OUT}"
    raise RefusalError(found.reason, message, f"tools[{place}]")


def _team_system(
    raw: msgspec.Raw | None, contract: Published, copies: Copies
) -> tuple[bytes, list[str]]:
    """The team's system blocks, as they came, and the TTLs of their markers."""
    if raw is None or kind(raw) == b"n":
        return b"", []
    if kind(raw) == b'"':
        text = bytes(raw)
        # The provider takes an empty string, but refuses an empty block.
        own = text != b'""' and not _copied(raw, contract, copies)
        return (b'{"type":"text","text":' + text + b"}" if own else b""), []
    try:
        if kind(raw) != b"[":
            raise msgspec.ValidationError("neither a string nor a list")
        if copied := _copied(raw, contract, copies):
            rest = decode_elements(raw)[copied:]
            raw = msgspec.Raw(b"[" + b",".join(map(bytes, rest)) + b"]")
        return _elements(raw), ttls_of_blocks(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(
            Reason.MALFORMED,
            f"system cannot be read ({error}): send a string or a list of text blocks.",
            "system",
        ) from error


def _copied(raw: msgspec.Raw, contract: Published, copies: Copies) -> int:
    """Return how many of a request's system blocks are a right copy of a published version's."""
    found = copies.look(contract, raw)
    if not isinstance(found, Divergence):
        return found
    place = f"system[{found.at}]"
    message = f"{_COPIES[found.reason].format(place)}: {_LEAVE_OUT}"
    raise RefusalError(found.reason, message, place)


_LEAVE_OUT: Final = (
    "leave the contract out of the request (it is put in here, before your own), or send it exactly"
    " as it is published."
)
_COPIES: Final = {
    Reason.TOOLS_ORDER: "the contract's tools stand in another order, in which {} comes here",
    Reason.TOOLS_CHANGED: "the request's copy of the tool {} is not what is published",
    Reason.TOOLS_MISSING: "the request has some of the contract's tools, and {} is missing here",
    Reason.SYSTEM_BEFORE: "{} stands before the contract's own text",
    Reason.SYSTEM_ORDER: "{} is a block of the contract, but not the one that comes here",
    Reason.SYSTEM_CHANGED: "the request's copy of the contract differs from {} on",
    Reason.SYSTEM_MISSING: "the request's copy of the contract ends or skips a block at {}",
}


def _uncountable(error: Exception) -> RefusalError:
    return RefusalError(
        Reason.MALFORMED,
        f"the cache markers in messages cannot be counted ({error}): send messages, blocks"
        " and cache_control as the Messages API takes them.",
        "messages",
    )


def _check_markers(own: Sequence[_Placed], contract: int) -> None:
    left = MARKER_LIMIT - contract
    if len(own) > left:
        raise RefusalError(
            Reason.TOO_MANY_MARKERS,
            f"{len(own)} cache markers of your own and {contract} of the contract, and the"
            f" provider takes {MARKER_LIMIT}: keep at most {left}, best the last ones of the"
            " messages (a top-level cache_control counts as one).",
            own[left].place,
        )


def _check_order(markers: Sequence[_Placed]) -> None:
    ttls = [marker.ttl for marker in markers]
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        raise RefusalError(
            Reason.TTL_ORDER,
            f"the cache markers' ttls are {', '.join(ttls)} in the order tools, system,"
            " messages, and the provider takes no 1h after a 5m (the default): give your markers"
            " ttl 5m, or ask the prefix's owner for ttl 1h.",
            markers[ttls.index("1h", ttls.index("5m"))].place,
        )


def _first_user_message(messages: msgspec.Raw | None) -> str:
    """A fingerprint of the first user message, the same whether its text is a string or a block.

    Empty where there is none: the provider will refuse the request.
    """
    if messages is None:
        return ""
    try:
        raw = _first_content(messages)
        if raw is None:
            return ""
        if kind(raw) == b'"' and b"\\" not in (text := bytes(raw)):
            # As below, without a decoding: what has no escapes is encoded as it came.
            return _fingerprint(b'[{"text":%b,"type":"text"}]' % text)
        content = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    blocks: list[Any] = (
        content if isinstance(content, list) else [{"type": "text", "text": content}]
    )
    bare = [
        {key: value for key, value in block.items() if key != MARKER_KEY}
        if isinstance(block, dict)
        else block
        for block in blocks
    ]
    return _fingerprint(msgspec.json.encode(bare, order="sorted"))


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _first_content(messages: msgspec.Raw) -> msgspec.Raw | None:
    """The first user message's content; None where there is none.

    Of a long history mostly its first message alone is read.

    Raises:
        msgspec.MsgspecError: it is not of the provider's shape.
    """
    if len(memoryview(messages)) > _FIRST_BYTES:
        start = bytes(memoryview(messages)[:_FIRST_BYTES]).decode("utf-8", "ignore")
        if opened := _OPENED.match(start):
            try:
                _, end = _PYTHON.raw_decode(start, opened.end())
            except (ValueError, RecursionError):
                pass  # longer than what was looked at
            else:
                first = _decode_message(start[opened.end() : end])
                if first.role == "user":
                    return first.content
    for message in decode_messages(messages):
        if message.role == "user":
            return message.content
    return None
