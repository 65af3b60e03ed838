"""From a request body to the prompt that caching sees: positions, lane, and the refusals.

Pure. Processing order is tools, system, messages; a block's digest covers its lane and all
that comes before it, so a changed tool loses everything and a changed message only its tail.
What invalidates from a section on, without being a block of it, is mixed in where that
section begins.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from headwater.providers.models import ModelFacts, lookup
from headwater.simulator import markers as marks
from headwater.simulator.cache import Position
from headwater.simulator.errors import ApiError, invalid
from headwater.simulator.tokens import block_tokens, canonical
from headwater.simulator.validation import (
    as_blocks,
    check_fields,
    check_messages,
    check_pre_warm,
    check_sampling,
    check_system,
    check_tools,
)

_DEFAULT_EFFORT: Final = "high"
_RUNS: Final = ("tool_use", "tool_result")
_SECTIONS: Final = ("tools", "system", "messages")


_COMPACT: Final = "compact_20260112"
_COMPACT_DEFAULT: Final = 150_000
_COMPACT_LEAST: Final = 50_000
"""Tokens (platform.claude.com/docs/en/build-with-claude/compaction, as quoted in October 2026)."""


class _Trigger(msgspec.Struct):
    value: int


class _Edit(msgspec.Struct):
    type: str
    trigger: _Trigger | None = None


class _ContextManagement(msgspec.Struct):
    edits: list[_Edit] = []


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request that the provider would accept.

    `max_tokens` is 0 for a pre-warm and for a count; `tokens` is the whole prompt. `shared` are the
    positions before the messages. `terms` are what else it is billed by, as its usage says;
    `searches` tells whether the provider may search the web for it, `compacts` whether its history
    is compacted before it is answered.
    """

    facts: ModelFacts
    positions: tuple[Position, ...]
    max_tokens: int
    stream: bool
    shared: int = 0
    terms: Mapping[str, str] = field(default_factory=dict)
    searches: bool = False
    compact_from: int | None = None

    @property
    def compacts(self) -> bool:
        """Whether it is as long as the trigger of a compaction."""
        return self.compact_from is not None and self.tokens >= self.compact_from

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.positions[-1].tokens if self.positions else 0


class _Block(NamedTuple):
    section: str
    role: str
    body: dict[str, Any]
    path: str


def read_prompt(
    body: Mapping[str, Any],
    *,
    workspace: str,
    version: str,
    betas: frozenset[str] = frozenset(),
    counting: bool = False,
) -> Prompt:
    """The prompt of a decoded body; ApiError where the provider would refuse it.

    `counting` reads a body of /v1/messages/count_tokens, which has no `max_tokens`.
    """
    facts = _model(body)
    check_fields(body, betas=betas)
    check_sampling(body, version=version)
    messages = check_messages(body, version=version)
    tools = check_tools(body)
    max_tokens = 0 if counting else _max_tokens(body)
    if not counting and max_tokens == 0:
        check_pre_warm(body)
    system = check_system(body)
    blocks = [
        *_tool_blocks(tools),
        *(_Block("system", "system", block, f"system.{i}.") for i, block in enumerate(system)),
        *_message_blocks(messages, keeps_thinking=facts.keeps_thinking),
    ]
    # Markers are checked in the order of the body; the prompt has its sections in order.
    marked = sorted(
        zip(blocks, _ttls(body, blocks), strict=True),
        key=lambda pair: _SECTIONS.index(pair[0].section),
    )
    lane = _lane(body, facts, workspace, betas)
    return Prompt(
        facts=facts,
        positions=tuple(_positions(marked, _section_keys(body, blocks), lane, facts)),
        max_tokens=max_tokens,
        stream=body.get("stream") is True,
        shared=sum(block.section != "messages" for block in blocks),
        terms={
            name: body[name]
            for name in ("speed", "inference_geo")
            if isinstance(body.get(name), str)
        },
        searches=any(str(tool.get("type", "")).startswith("web_search_") for tool in tools),
        compact_from=_compact_from(body),
    )


def _compact_from(body: Mapping[str, Any]) -> int | None:
    """From how many tokens on the history is compacted; None where that is not asked for."""
    try:
        asked = msgspec.convert(body.get("context_management") or {}, _ContextManagement)
    except msgspec.ValidationError as error:
        raise invalid(f"context_management: {error}") from error
    for edit in asked.edits:
        if edit.type == _COMPACT:
            value = edit.trigger.value if edit.trigger else _COMPACT_DEFAULT
            if value < _COMPACT_LEAST:
                raise invalid(
                    "context_management.edits.trigger.value: Input should be greater than or equal"
                    f" to {_COMPACT_LEAST}"
                )
            return value
    return None


def _model(body: Mapping[str, Any]) -> ModelFacts:
    model = body.get("model")
    if model is None:
        raise invalid("model: Field required")
    if not isinstance(model, str):
        raise invalid("model: Input should be a valid string")
    facts = lookup(model)
    if facts is None:
        raise ApiError(404, f"model: {model}")
    return facts


def _max_tokens(body: Mapping[str, Any]) -> int:
    value = body.get("max_tokens")
    if value is None:
        raise invalid("max_tokens: Field required")
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if value < 0:
        raise invalid("max_tokens: Input should be greater than or equal to 0")
    return value


def _tool_blocks(tools: list[dict[str, Any]]) -> Iterator[_Block]:
    for i, tool in enumerate(tools):
        # A deferred tool is not in the prompt until a search finds it.
        if tool.get("defer_loading") is True:
            continue
        # Switching a web tool on or off changes the system prompt and leaves the tools' prefix.
        web = str(tool.get("type", "")).startswith(("web_search_", "web_fetch_"))
        yield _Block("system" if web else "tools", "tools", tool, f"tools.{i}.")


def _message_blocks(messages: list[dict[str, Any]], *, keeps_thinking: bool) -> Iterator[_Block]:
    contents = [
        as_blocks(message["content"], f"messages.{m}.content") for m, message in enumerate(messages)
    ]
    last_question = max(
        (
            m
            for m, message in enumerate(messages)
            if message["role"] == "user"
            and any(block["type"] != "tool_result" for block in contents[m])
        ),
        default=0,
    )
    for m, (message, content) in enumerate(zip(messages, contents, strict=True)):
        for b, block in enumerate(content):
            thinking = block["type"] in ("thinking", "redacted_thinking")
            if thinking and not keeps_thinking and m < last_question:
                continue
            yield _Block("messages", message["role"], block, f"messages.{m}.content.{b}.")


def _ttls(body: Mapping[str, Any], blocks: list[_Block]) -> list[str | None]:
    """The TTL by which each block is marked, the top-level marker placed; None: not marked."""
    by_block = [marks.block_markers(block.body, block.path) for block in blocks]
    explicit = [marker for markers in by_block for marker in markers]
    ttls = [markers[-1].ttl if markers else None for markers in by_block]
    automatic = marks.read_marker(dict(body), "")
    marks.check_number([*explicit, automatic] if automatic else explicit)
    if automatic is not None:
        last = max((i for i, block in enumerate(blocks) if marks.markable(block.body)), default=-1)
        if last >= 0:
            if ttls[last] not in (None, automatic.ttl):
                raise invalid(
                    f"cache_control.ttl: the last cacheable block already has cache_control with"
                    f" ttl='{ttls[last]}'; automatic caching with ttl='{automatic.ttl}' conflicts",
                )
            if ttls[last] is None:
                ttls[last] = automatic.ttl
                before = [marker for markers in by_block[:last] for marker in markers]
                explicit = [*before, automatic]
    marks.check_order(explicit)
    return ttls


def _section_keys(body: Mapping[str, Any], blocks: list[_Block]) -> dict[str, Any]:
    """What a section depends on beyond its own blocks (the provider's invalidation table)."""
    choice = body.get("tool_choice") or {"type": "auto"}
    if isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is False:
        choice = {k: v for k, v in choice.items() if k != "disable_parallel_tool_use"}
    in_messages = [
        part for block in blocks if block.section == "messages" for part in _parts(block.body)
    ]
    return {
        "system": any(_cites(block) for block in in_messages),
        "messages": [choice, any(block.get("type") == "image" for block in in_messages)],
    }


def _parts(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A block, and what a tool's result or a document is made of."""
    yield block
    source = block.get("source")
    for content in (block.get("content"), source.get("content") if isinstance(source, dict) else 0):
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield from _parts(part)


def _cites(block: Mapping[str, Any]) -> bool:
    citations = block.get("citations")
    return isinstance(citations, dict) and citations.get("enabled") is True


def _lane(
    body: Mapping[str, Any], facts: ModelFacts, workspace: str, betas: frozenset[str]
) -> bytes:
    """Which cache a request uses: caches never cross lanes."""
    thinking = body.get("thinking")
    if isinstance(thinking, dict):
        thinking = None if thinking.get("type") == "disabled" else sorted(thinking.items())
    output = body.get("output_config")
    set_ = output if isinstance(output, dict) else {}
    effort = set_.get("effort") or _DEFAULT_EFFORT
    others = {name: value for name, value in set_.items() if name != "effort" and value is not None}
    speed = body.get("speed") or "standard"
    key = [workspace, facts.id, thinking, effort, others, speed, sorted(betas)]
    return hashlib.sha256(msgspec.json.encode(key)).digest()


def _positions(
    marked: list[tuple[_Block, str | None]],
    keys: Mapping[str, Any],
    lane: bytes,
    facts: ModelFacts,
) -> Iterator[Position]:
    digest, tokens, step = lane, 0, 0
    section, previous = "", None
    for block, ttl in marked:
        for passed in _sections_entered(section, block.section):
            digest = _chain(digest, passed.encode(), msgspec.json.encode(keys.get(passed)))
        section = block.section
        text = canonical(block.body)
        digest = _chain(digest, block.role.encode(), text)
        tokens += block_tokens(block.body, facts.id, text)
        kind = block.body.get("type") if block.section == "messages" else None
        if kind not in _RUNS or kind != previous:
            step += 1
        previous = kind
        yield Position(digest, tokens, step, ttl)


def _sections_entered(before: str, now: str) -> tuple[str, ...]:
    order = ("", *_SECTIONS)
    return order[order.index(before) + 1 : order.index(now) + 1]


def _chain(digest: bytes, *parts: bytes) -> bytes:
    chain = hashlib.sha256(digest)
    for part in parts:
        chain.update(len(part).to_bytes(8))
        chain.update(part)
    return chain.digest()
