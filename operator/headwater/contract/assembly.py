"""Puts a contract in front of a request: bytes in, bytes out.

The one place that decides what a team may add to a contract and what would break the prefix
that all consumers share. The contract's tools and system go out as the very bytes that were
hashed, and of the team's request every value but `tools` and `system` leaves as the bytes that
came. Nothing is re-serialised, because other writers space, escape and number JSON otherwise,
and one changed byte is a cache miss. It knows no HTTP, no clock and no state.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import msgspec

from headwater.contract.content import FORMAT, MARKER_KEY, TTL
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, HeadwaterError
from headwater.contract.markers import (
    ABSENT,
    MARKER_LIMIT,
    Marker,
    decode_messages,
    kind,
    ttl_of,
    ttls_of_blocks,
    ttls_of_messages,
    ttls_of_top_level,
)

TTL_SECONDS: Final[Mapping[TTL, float]] = {"5m": 300.0, "1h": 3600.0}
"""The provider counts a TTL from the start of a request."""

_NAMES_SHOWN: Final = 3
"""Tool names that a message lists: enough to find the place."""


class Reason(StrEnum):
    """Why a request is refused; the value is a metric's label and stands in the docs."""

    NOT_JSON = "not_json"
    MALFORMED = "malformed"
    OTHER_MODEL = "other_model"
    OWN_TOOLS = "own_tools"
    TOO_MANY_MARKERS = "too_many_markers"
    TTL_ORDER = "ttl_order"


class RefusalError(HeadwaterError):
    """A request that would break the shared prefix, or that cannot be read.

    Attributes:
        reason: which rule; the message says what to do.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the rule apart from the sentence: one is counted, the other is read."""
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class PreparedContract:
    """A contract ready to be spliced: exact slices of its canonical bytes.

    `tools` and `system` are the elements of the canonical arrays without the brackets, so that
    a team's elements can follow. The TTLs are those of the markers, in the provider's order.
    """

    digest: Digest
    tools: bytes
    system: bytes
    tool_ttls: tuple[str, ...]
    system_ttls: tuple[str, ...]

    @property
    def markers(self) -> int:
        """Cache markers that the contract carries."""
        return len(self.tool_ttls) + len(self.system_ttls)

    @property
    def ttl(self) -> TTL:
        """How long the whole contract stays cached: the shortest of its markers."""
        return "1h" if set(self.tool_ttls + self.system_ttls) == {"1h"} else "5m"


@dataclass(frozen=True, slots=True)
class Request:
    """A `/v1/messages` or `count_tokens` body, its top level parsed and nothing below it."""

    fields: Mapping[str, msgspec.Raw]

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Parse the top level; of a repeated key the last one counts.

        Raises:
            RefusalError: `not_json`.
        """
        try:
            return cls(_decode_top(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusalError(
                Reason.NOT_JSON,
                f"the request body is not a JSON object ({error}): send what the Messages API"
                " takes, as UTF-8 JSON.",
            ) from error

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
            except msgspec.MsgspecError:
                user = None
            if user:
                return user
        return _first_user_message(self.fields.get("messages"))


@dataclass(frozen=True, slots=True)
class Spliced:
    """What goes to the provider. `own_markers` counts those that the team placed."""

    body: bytes
    own_markers: int


@dataclass(frozen=True, slots=True)
class Lane:
    """What keys the provider's cache of a contract: caches never cross lanes.

    Source: the provider's pages on prompt caching (workspace, model, thinking, speed) and
    cache diagnostics (beta headers), as of 2026-08-22; effort rewrote the whole prefix on some
    models. `credential` is a fingerprint, `workspace` that of the workspace header.
    """

    credential: str
    model: str
    digest: Digest
    workspace: str = ""
    thinking: str = ""
    effort: str = ""
    speed: str = ""
    betas: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        request: Request,
        digest: Digest,
        *,
        credential: str,
        workspace: str = "",
        betas: Iterable[str] = (),
    ) -> Self:
        """The lane of a request; `betas` are values of `anthropic-beta` headers."""
        names = {name.strip() for value in betas for name in value.split(",")}
        return cls(
            credential=credential,
            model=request.text("model") or "",
            digest=digest,
            workspace=workspace,
            thinking=_fingerprint(request.fields.get("thinking")),
            effort=_effort(request.fields.get("output_config")),
            speed=request.text("speed") or "",
            betas=tuple(sorted(names - {""})),
        )

    @property
    def plain(self) -> bool:
        """Whether only credential, model and digest key it, as in a warmer's requests."""
        return not (self.workspace or self.thinking or self.effort or self.speed or self.betas)


def prepare(canonical: bytes) -> PreparedContract:
    """Cut a contract's canonical bytes into what `splice` needs; done once per bundle.

    Raises:
        BundleError: the bytes are no canonical contract of a format that this release knows.
    """
    digest = Digest.of(canonical)
    try:
        document = msgspec.json.decode(canonical, type=_Document)
        tools, system = bytes(document.tools)[1:-1], bytes(document.system)[1:-1]
        tool_ttls, system_ttls = (
            tuple(ttls_of_blocks(document.tools)),
            tuple(ttls_of_blocks(document.system)),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{digest} is no contract ({error}): publish it again.") from error
    if document.format != FORMAT:
        raise BundleError(
            f"{digest} has contract format {document.format}, and this release reads {FORMAT}:"
            " upgrade the reader."
        )
    return PreparedContract(digest, tools, system, tool_ttls, system_ttls)


def splice(request: Request, contract: PreparedContract, models: Collection[str]) -> Spliced:
    """Put the contract's tools and system before the team's.

    The team's slot: system text or blocks, messages, and tools with `defer_loading: true`,
    which stay out of the cached prefix.

    Raises:
        RefusalError: the request would break the shared prefix.
    """
    _check_model(request, models)
    tools, own_tool_ttls = _team_tools(request.fields.get("tools"))
    system, own_system_ttls = _team_system(request.fields.get("system"))
    ttls = [*contract.tool_ttls, *own_tool_ttls, *contract.system_ttls, *own_system_ttls]
    try:
        ttls += ttls_of_messages(request.fields.get("messages", ABSENT))
        ttls += ttls_of_top_level(request.fields.get(MARKER_KEY, _NULL))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RefusalError(
            Reason.MALFORMED,
            f"the cache markers in messages cannot be counted ({error}): send messages, blocks"
            " and cache_control as the Messages API takes them.",
        ) from error
    own = len(ttls) - contract.markers
    _check_markers(own, contract.markers)
    _check_order(ttls)
    replaced = {
        "tools": _array(contract.tools, tools),
        "system": _array(contract.system, system),
    }
    # A key keeps its place; one that the team did not send goes first.
    values: dict[str, bytes | msgspec.Raw] = {
        key: value
        for key, value in replaced.items()
        if key not in request.fields and value != b"[]"
    }
    values.update(request.fields)
    values.update({key: value for key, value in replaced.items() if key in values})
    parts: list[bytes] = []
    for key, value in values.items():
        # bytes.join takes any buffer, so a history of many megabytes is copied once.
        parts += (b",", msgspec.json.encode(key), b":", value)
    parts[0] = b"{"
    return Spliced(body=b"".join((*parts, b"}")), own_markers=own)


_NULL: Final = msgspec.Raw(b"null")


class _Tool(msgspec.Struct):
    name: str = ""
    defer_loading: bool = False
    cache_control: Marker | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _OutputConfig(msgspec.Struct):
    effort: str | None = None


class _Document(msgspec.Struct):
    format: int
    tools: msgspec.Raw
    system: msgspec.Raw


_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tools: Final = msgspec.json.Decoder(list[_Tool]).decode
_decode_metadata: Final = msgspec.json.Decoder(_Metadata).decode
_decode_output_config: Final = msgspec.json.Decoder(_OutputConfig).decode


def _array(contract: bytes, team: bytes) -> bytes:
    return b"[" + b",".join(part for part in (contract, team) if part) + b"]"


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
        )


def _team_tools(raw: msgspec.Raw | None) -> tuple[bytes, list[str]]:
    if raw is None or kind(raw) == b"n":
        return b"", []
    try:
        tools = _decode_tools(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(
            Reason.MALFORMED,
            f"tools cannot be read ({error}): send a list of tools, each an object.",
        ) from error
    own = [tool.name[:80] or "unnamed" for tool in tools if not tool.defer_loading]
    if own:
        more = f" and {len(own) - _NAMES_SHOWN} more" if len(own) > _NAMES_SHOWN else ""
        raise RefusalError(
            Reason.OWN_TOOLS,
            f"own tools ({', '.join(own[:_NAMES_SHOWN])}{more}) would change the prefix that all"
            " consumers share: give them defer_loading: true, or ask the prefix's owner to take"
            " them into the contract.",
        )
    return _elements(raw), [ttl for tool in tools for ttl in ttl_of(tool.cache_control)]


def _team_system(raw: msgspec.Raw | None) -> tuple[bytes, list[str]]:
    if raw is None or kind(raw) == b"n":
        return b"", []
    if kind(raw) == b'"':
        text = bytes(raw)
        # The provider takes an empty string, but refuses an empty block.
        return (b"", []) if text == b'""' else (b'{"type":"text","text":' + text + b"}", [])
    try:
        if kind(raw) != b"[":
            raise msgspec.ValidationError("neither a string nor a list")
        return _elements(raw), list(ttls_of_blocks(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(
            Reason.MALFORMED,
            f"system cannot be read ({error}): send a string or a list of text blocks.",
        ) from error


def _check_markers(own: int, contract: int) -> None:
    left = MARKER_LIMIT - contract
    if own > left:
        raise RefusalError(
            Reason.TOO_MANY_MARKERS,
            f"{own} cache markers of your own and {contract} of the contract, and the provider"
            f" takes {MARKER_LIMIT}: keep at most {left}, best the last ones of the messages (a"
            " top-level cache_control counts as one).",
        )


def _check_order(ttls: list[str]) -> None:
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        raise RefusalError(
            Reason.TTL_ORDER,
            f"the cache markers' ttls are {', '.join(ttls)} in the order tools, system,"
            " messages, and the provider takes no 1h after a 5m (the default): give your markers"
            " ttl 5m, or ask the prefix's owner for ttl 1h.",
        )


def _fingerprint(raw: msgspec.Raw | None) -> str:
    """A short name for a small value, however it is spaced and ordered."""
    if raw is None or kind(raw) == b"n":
        return ""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None  # the provider will refuse it
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]


def _effort(raw: msgspec.Raw | None) -> str:
    if raw is None or kind(raw) != b"{":
        return ""
    try:
        return _decode_output_config(raw).effort or ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _first_user_message(messages: msgspec.Raw | None) -> str:
    """A fingerprint of the first user message, the same whether its text is a string or a block.

    Empty where there is none: the provider will refuse the request.
    """
    if messages is None:
        return ""
    try:
        first = next((each for each in decode_messages(messages) if each.role == "user"), None)
        if first is None:
            return ""
        content = msgspec.json.decode(first.content)
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
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()[:32]
