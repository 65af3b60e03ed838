"""What a request asks the model to read: blocks in the provider's order, and its markers.

Pure. The order is tools, system, messages; a block's identity is its JSON without the marker.
Requests that the provider refuses are refused here, in its words where those are known.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from headwater.providers.models import ModelFacts, lookup
from headwater.providers.tokens import estimate_tokens
from headwater.simulator.errors import ProviderError

Tier = Literal["tools", "system", "messages"]

MARKER: Final = "cache_control"
MARKER_LIMIT: Final = 4
SAMPLING_REFUSED_FROM: Final = "2026-10-21"
"""The API version under which sampling parameters are refused, even at their defaults."""
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_UNMARKABLE: Final = ("thinking", "redacted_thinking")
_TTLS: Final = ("5m", "1h")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: where it stands, what it is, how long it is, and its marker's TTL, if any.

    `run` is set for blocks of which a row counts as one position of the look-back.
    """

    tier: Tier
    path: str
    identity: bytes
    tokens: int
    ttl: str | None = None
    run: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt. `lane` is what keys every block's cache, `keys` what keys a tier's."""

    facts: ModelFacts
    blocks: tuple[Block, ...]
    lane: bytes
    keys: Mapping[Tier, bytes]

    @property
    def tokens(self) -> int:
        """Tokens of all blocks."""
        return sum(block.tokens for block in self.blocks)


def read(body: Any, *, version: str, betas: str, workspace: str, generating: bool) -> Prompt:
    """The prompt of a parsed request body.

    `generating` is False for count_tokens, which takes no `max_tokens`.

    Raises:
        ProviderError: the provider would refuse it.
    """
    if not isinstance(body, dict):
        raise _invalid("the request body is not a JSON object")
    facts = _model(body.get("model"))
    if generating:
        _check_max_tokens(body)
    if version >= SAMPLING_REFUSED_FROM:
        for name in _SAMPLING:
            if name in body:
                raise _invalid(f"{name}: Extra inputs are not permitted")
    blocks = [
        *_tools(body.get("tools"), facts),
        *_system(body.get("system"), facts),
        *_messages(body.get("messages"), facts),
    ]
    blocks = _automatic(blocks, body.get(MARKER))
    _check_markers(blocks)
    return Prompt(
        facts=facts,
        blocks=tuple(blocks),
        lane=_encode(
            [
                workspace,
                facts.id,
                sorted({name.strip() for name in betas.split(",")} - {""}),
                body.get("thinking"),
                (body.get("output_config") or {}).get("effort"),
            ]
        ),
        keys={
            "tools": b"",
            "system": _encode([body.get("speed"), _server_tools(body.get("tools"))]),
            "messages": _encode([body.get("tool_choice"), _has_images(body.get("messages"))]),
        },
    )


def _model(name: Any) -> ModelFacts:
    if not isinstance(name, str):
        raise _invalid("model: Field required")
    facts = lookup(name)
    if facts is None:
        raise ProviderError(404, f"model: {name}")
    return facts


def _check_max_tokens(body: Mapping[str, Any]) -> None:
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise _invalid("max_tokens: Field required")
    if limit < 0:
        raise _invalid("max_tokens: Input should be greater than or equal to 0")
    if limit > 0:
        return
    # A pre-warming request generates nothing, so nothing may be asked of the generation.
    thinking = body.get("thinking")
    choice = body.get("tool_choice")
    conflicts = {
        "stream": bool(body.get("stream")),
        "thinking.type: enabled": isinstance(thinking, dict) and thinking.get("type") == "enabled",
        "output_config.format": "format" in (body.get("output_config") or {}),
        "tool_choice": isinstance(choice, dict) and choice.get("type") in ("any", "tool"),
    }
    for name, conflicting in conflicts.items():
        if conflicting:
            raise _invalid(f"max_tokens: 0 cannot be combined with {name}")


def _tools(tools: Any, facts: ModelFacts) -> Iterator[Block]:
    if tools is None:
        return
    names: set[str] = set()
    for index, tool in enumerate(_list(tools, "tools")):
        path = f"tools.{index}"
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise _invalid(f"{path}.name: Field required")
        if tool["name"] in names:
            raise _invalid("tools: Tool names must be unique.")
        names.add(tool["name"])
        if not tool.get("defer_loading"):
            yield _block("tools", path, tool, facts)


def _system(system: Any, facts: ModelFacts) -> Iterator[Block]:
    if isinstance(system, str):
        system = [{"type": "text", "text": system}] if system else []
    for index, block in enumerate(_list(system, "system") if system is not None else ()):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise _invalid(f"system.{index}: Input should be a text block")
        yield _block("system", f"system.{index}", block, facts)


def _messages(messages: Any, facts: ModelFacts) -> Iterator[Block]:
    listed = _list(messages, "messages")
    if not listed:
        raise _invalid("messages: at least one message is required")
    for index, message in enumerate(listed):
        path = f"messages.{index}"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise _invalid(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
        if index == 0 and role != "user":
            raise _invalid('messages: first message must use the "user" role')
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        for number, block in enumerate(_list(content, f"{path}.content")):
            where = f"{path}.content.{number}"
            if not isinstance(block, dict) or not isinstance(block.get("type"), str):
                raise _invalid(f"{where}.type: Field required")
            yield _block("messages", where, {"role": role, **block}, facts)


def _block(tier: Tier, path: str, block: Mapping[str, Any], facts: ModelFacts) -> Block:
    kind = block.get("type")
    ttl = _ttl(block.get(MARKER), path)
    if kind == "text":
        text = block.get("text")
        if not isinstance(text, str):
            raise _invalid(f"{path}.text: Field required")
        if not text:
            if ttl is not None:
                raise _invalid(f"{path}: cache_control cannot be set for empty text blocks")
            raise _invalid(f"{tier}: text content blocks must be non-empty")
    if ttl is not None and kind in _UNMARKABLE:
        raise _invalid(f"{path}.cache_control: Extra inputs are not permitted")
    nested = block.get("content") if kind == "tool_result" else None
    if isinstance(nested, list):
        block, ttl = _lifted(block, nested, path, ttl)
    identity = _encode({key: value for key, value in block.items() if key != MARKER})
    return Block(
        tier=tier,
        path=path,
        identity=identity,
        tokens=estimate_tokens(identity, facts.id),
        ttl=ttl,
        run=kind if kind in ("tool_use", "tool_result") else "",
    )


def _lifted(
    block: Mapping[str, Any], nested: list[Any], path: str, ttl: str | None
) -> tuple[Mapping[str, Any], str | None]:
    """A marker inside a tool result, allowed on its last block alone, counts for the result."""
    for index, part in enumerate(nested):
        inner = _ttl(part.get(MARKER), path) if isinstance(part, dict) else None
        if inner is None:
            continue
        if index != len(nested) - 1:
            raise _invalid(f"{path}.content.{index}.cache_control: Extra inputs are not permitted")
        ttl = ttl or inner
    bare = [
        {key: value for key, value in part.items() if key != MARKER}
        if isinstance(part, dict)
        else part
        for part in nested
    ]
    return {**block, "content": bare}, ttl


def _ttl(marker: Any, path: str) -> str | None:
    if marker is None:
        return None
    if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
        raise _invalid(f"{path}.cache_control.type: Input should be 'ephemeral'")
    ttl = marker.get("ttl", "5m")
    if ttl not in _TTLS:
        raise _invalid(f"{path}.cache_control.ttl: Input should be '5m' or '1h'")
    return str(ttl)


def _automatic(blocks: list[Block], marker: Any) -> list[Block]:
    """A top-level marker stands on the last block that can carry one."""
    ttl = _ttl(marker, "top level")
    if ttl is None:
        return blocks
    explicit = sum(block.ttl is not None for block in blocks)
    for index in range(len(blocks) - 1, -1, -1):
        block = blocks[index]
        if b'"thinking"' in block.identity[:80]:
            continue
        if block.ttl == ttl:
            return blocks
        if block.ttl is not None:
            raise _invalid(f"cache_control.ttl: conflicts with the marker of {block.path}")
        if explicit >= MARKER_LIMIT:
            raise _too_many(explicit + 1)
        return [*blocks[:index], replace(block, ttl=ttl), *blocks[index + 1 :]]
    return blocks


def _check_markers(blocks: Iterable[Block]) -> None:
    marked = [block for block in blocks if block.ttl is not None]
    if len(marked) > MARKER_LIMIT:
        raise _too_many(len(marked))
    short = False
    for block in marked:
        if block.ttl == "1h" and short:
            raise _invalid(
                f"{block.path}.cache_control.ttl: a ttl='1h' cache_control block must not come"
                " after a ttl='5m' cache_control block. Note that blocks are processed in the"
                " following order: `tools`, `system`, `messages`."
            )
        short = short or block.ttl == "5m"


def _server_tools(tools: Any) -> list[str]:
    """Server tools that change the system prompt when they are switched on or off."""
    return sorted(
        str(tool.get("type"))
        for tool in tools or ()
        if str(tool.get("type", "")).startswith(("web_search", "web_fetch"))
    )


def _has_images(messages: Any) -> bool:
    return any(
        isinstance(block, dict) and block.get("type") == "image"
        for message in messages
        for block in (message["content"] if isinstance(message["content"], list) else ())
    )


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(f"{path}: Input should be a valid list")
    return value


def _too_many(count: int) -> ProviderError:
    return _invalid(
        f"A maximum of {MARKER_LIMIT} blocks with cache_control may be provided. Found {count}."
    )


def _invalid(message: str) -> ProviderError:
    return ProviderError(400, message)


def _encode(value: Any) -> bytes:
    # In the order that came: to the provider, other key order is another prompt.
    return msgspec.json.encode(value)
