"""What a contract says: tools, system blocks and their cache markers.

Text is never normalised here. A CRLF, a trailing blank or a decomposed accent that an author
wrote is what the provider gets: changing it silently would make the declared bytes a lie.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import rfc8785

from headwater.contract.digest import Digest
from headwater.contract.errors import ContentError

TTL = Literal["5m", "1h"]

FORMAT: Final = 1
"""Version of the canonical form; it stands in the bytes, so another form is another digest."""

MARKER_BUDGET: Final = 2
"""Markers that a contract may carry; the provider takes 4, the other 2 are the team's."""

MARKER_KEY: Final = "cache_control"


@dataclass(frozen=True, slots=True)
class Content:
    """Tools and system blocks in the provider's own JSON, markers included.

    Build it with `content`, which checks it; the digest is that of `canonical_bytes`.
    """

    provider: str
    tools: tuple[Mapping[str, Any], ...]
    system: tuple[Mapping[str, Any], ...]


def content(
    *,
    tools: Sequence[Mapping[str, Any]],
    system: Sequence[Mapping[str, Any]],
    ttl: TTL,
    provider: str = "anthropic",
) -> Content:
    """Check what an author declared and place the markers.

    An author who writes no marker gets one at the end of the tools and one at the end of the
    system blocks, both with `ttl`. One who writes markers keeps exactly those.

    Raises:
        ContentError: the content is empty, not the provider's form, or over the marker budget.
    """
    checked_tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    checked_system = [_block(block, f"system[{index}]") for index, block in enumerate(system)]
    if not checked_tools and not checked_system:
        raise ContentError("content", "tools and system are both empty: declare at least one.")
    _refuse_repeated_names(checked_tools)
    markers = list(_markers([*checked_tools, *checked_system]))
    if not markers:
        for part in (checked_tools, checked_system):
            if part:
                part[-1] = {**part[-1], MARKER_KEY: {"type": "ephemeral", "ttl": ttl}}
    elif len(markers) > MARKER_BUDGET:
        raise ContentError(
            "content",
            f"{len(markers)} cache markers, and a contract has at most {MARKER_BUDGET}: keep the"
            " one on the last tool and the one on the last system block; the provider's other"
            " two belong to the teams.",
        )
    elif markers == ["5m", "1h"]:
        raise ContentError(
            "content",
            "a 1h marker stands after a 5m marker, which the provider refuses: give the earlier"
            " marker the longer ttl.",
        )
    elif ttl == "1h" and "5m" in markers:
        raise ContentError(
            "content",
            "ttl is 1h and a marker says 5m, which is what a marker without a ttl means: what is"
            " taken for warm for an hour would be cold; give both the same ttl.",
        )
    return Content(provider=provider, tools=tuple(checked_tools), system=tuple(checked_system))


def canonical_bytes(declared: Content) -> bytes:
    """The bytes that are hashed, published and sent: RFC 8785 JSON, UTF-8.

    Raises:
        ContentError: a number or a string that JSON cannot carry exactly between languages.
    """
    document: Any = {
        "format": FORMAT,
        "provider": declared.provider,
        "system": list(declared.system),
        "tools": list(declared.tools),
    }
    try:
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ContentError(
            "content",
            f"{error}; use integers up to 2^53 - 1, finite numbers and whole Unicode characters.",
        ) from error


def content_of(canonical: bytes) -> Content:
    """The content whose canonical bytes these are: what is sent, to the letter."""
    sent = json.loads(canonical)
    return Content(sent["provider"], tuple(sent["tools"]), tuple(sent["system"]))


def digest_of(declared: Content) -> Digest:
    """The digest of the content's canonical bytes."""
    return Digest.of(canonical_bytes(declared))


def _tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        raise ContentError(where, "a tool is an object as the provider takes it.")
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise ContentError(where, "a tool needs a name.")
    if tool.get("defer_loading"):
        raise ContentError(
            where,
            f"tool {name!r} has defer_loading, which keeps it out of the shared prefix:"
            " deferred tools belong to the teams' requests.",
        )
    return _with_marker(tool, where)


def _block(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(block, Mapping):
        raise ContentError(where, "a system block is an object with a text.")
    unknown = set(block) - {"type", "text", MARKER_KEY}
    if unknown or block.get("type", "text") != "text":
        named = ", ".join(sorted(unknown)) or f"type {block['type']!r}"
        raise ContentError(where, f"a system block holds only text and a cache marker, not {named}")
    text = block.get("text")
    if not isinstance(text, str):
        raise ContentError(f"{where}.text", "the text is missing.")
    if not text:
        raise ContentError(f"{where}.text", "the text is empty, which the provider refuses.")
    return _with_marker({"type": "text", **block}, where)


def _with_marker(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy in which a marker, if any, spells out its ttl: the default may change, bytes not."""
    marker = part.get(MARKER_KEY)
    copy = {key: value for key, value in part.items() if key != MARKER_KEY}
    if marker is None:
        return copy
    if not isinstance(marker, Mapping) or marker.get("type", "ephemeral") != "ephemeral":
        raise ContentError(f"{where}.{MARKER_KEY}", "a marker is {type: ephemeral, ttl: 5m or 1h}.")
    ttl = marker.get("ttl", "5m")
    if ttl not in ("5m", "1h") or set(marker) - {"type", "ttl"}:
        raise ContentError(f"{where}.{MARKER_KEY}", "a marker's ttl is 5m or 1h, nothing else.")
    return {**copy, MARKER_KEY: {"type": "ephemeral", "ttl": ttl}}


def _markers(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (part[MARKER_KEY]["ttl"] for part in parts if MARKER_KEY in part)


def _refuse_repeated_names(tools: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for index, tool in enumerate(tools):
        first = seen.setdefault(tool["name"], index)
        if first != index:
            raise ContentError(
                f"tools[{index}]",
                f"the name {tool['name']!r} was used by tools[{first}] already: rename one.",
            )
