"""What of a request is cached, at which price, and what each change would throw away. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from headwater.contract.content import MARKER_KEY, TTL
from headwater.contract.errors import RequestError
from headwater.contract.markers import MARKER_LIMIT
from headwater.contract.placing import LOOK_BACK
from headwater.economics.bill import MILLION
from headwater.providers.models import ModelFacts, Prices, lookup
from headwater.providers.tokens import estimate_tokens


@dataclass(frozen=True, slots=True)
class Segment:
    """What lies between two markers; tokens are estimated, prices are US dollars a request.

    Attributes:
        first: its first block, as in `system[0]`.
        last: its last block, the marked one.
        ttl: of the marker; None behind the last one, where nothing is cached.
        prefix: tokens from the beginning of the prompt to its end.
        cached: whether the model caches that much.
        written: what it costs in a request that finds nothing in the cache.
        read: what it costs in one that finds it.
    """

    first: str
    last: str
    blocks: int
    tokens: int
    prefix: int
    ttl: TTL | None
    cached: bool
    written: Decimal | None
    read: Decimal | None


@dataclass(frozen=True, slots=True)
class Change:
    """What one kind of change leaves in the cache, and what writing the rest again costs."""

    what: str
    keeps: int
    costs: Decimal | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A request as the provider's cache sees it. `minimum` is None where nobody knows the model."""

    model: str
    minimum: int | None
    segments: tuple[Segment, ...]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


class _Part(NamedTuple):
    place: str
    tokens: int
    ttl: TTL | None


# The provider's table of what invalidates what, as of 2026-08-22
# (platform.claude.com/docs/en/build-with-claude/prompt-caching): the first part that is lost.
_CHANGES: Final = (
    ("a tool: one more, one less, another order or wording", "tools"),
    ("the model", "tools"),
    ("thinking or effort: how much is lost depends on the model", "tools"),
    ("a system text, citations, web search on or off, the speed", "system"),
    ("tool_choice, or the first or last image", "messages"),
    ("a message of the past", "messages"),
)


def explain(request: Mapping[str, Any]) -> Explanation:
    """How a request's prompt is cached.

    Raises:
        RequestError: it has not the form of a request.
    """
    model = request.get("model")
    if not isinstance(model, str):
        raise RequestError("model", "the request names none.")
    facts = lookup(model)
    try:
        parts = list(_parts(request, model))
    except (TypeError, AttributeError, KeyError, msgspec.MsgspecError) as error:
        raise RequestError("request", f"it is none of the Messages API ({error}).") from error
    prices = None if facts is None else facts.prices_for(sum(part.tokens for part in parts))
    segments = tuple(_segments(parts, facts, prices))
    changes = tuple(_changes(parts, segments))
    return Explanation(
        model=model,
        minimum=None if facts is None else facts.min_cacheable_tokens,
        segments=segments,
        changes=changes,
        warnings=tuple(_warnings(segments, facts)),
    )


def _parts(request: Mapping[str, Any], model: str) -> Iterator[_Part]:
    """The blocks in the provider's order; deferred tools are not in the prompt."""
    tools = [tool for tool in request.get("tools") or () if not tool.get("defer_loading")]
    yield from _blocks("tools", tools, model)
    yield from _blocks("system", request.get("system") or (), model)
    for index, message in enumerate(request.get("messages") or ()):
        yield from _blocks(f"messages[{index}].content", message["content"], model)


def _blocks(where: str, content: Any, model: str) -> Iterator[_Part]:
    if isinstance(content, str):
        yield _Part(where, estimate_tokens(content.encode(), model), None)
        return
    for index, block in enumerate(content):
        marker = block.get(MARKER_KEY)
        bare = {key: value for key, value in block.items() if key != MARKER_KEY}
        text = msgspec.json.encode(bare["text"] if set(bare) == {"type", "text"} else bare)
        ttl: TTL | None = marker.get("ttl", "5m") if marker else None
        yield _Part(f"{where}[{index}]", estimate_tokens(text, model), ttl)


def _segments(
    parts: Sequence[_Part], facts: ModelFacts | None, prices: Prices | None
) -> list[Segment]:
    """From the last to the first, because a marker that holds covers those that are too short."""
    ends = [at for at, part in enumerate(parts) if part.ttl is not None or at == len(parts) - 1]
    found: list[Segment] = []
    covered: TTL | None = None
    for start, end in reversed(list(pairwise([-1, *ends]))):
        held, last = parts[start + 1 : end + 1], parts[end]
        tokens = sum(part.tokens for part in held)
        prefix = sum(part.tokens for part in parts[: end + 1])
        cached = last.ttl is not None and (facts is None or facts.cached_tokens(prefix) > 0)
        covered = last.ttl if cached else covered
        written = read = None
        if prices is not None:
            written = tokens * (prices.write(covered) if covered else prices.input) / MILLION
            read = tokens * (prices.read if covered else prices.input) / MILLION
        found.append(
            Segment(
                held[0].place,
                last.place,
                len(held),
                tokens,
                prefix,
                last.ttl,
                cached,
                written,
                read,
            )
        )
    return found[::-1]


def _changes(parts: Sequence[_Part], segments: Sequence[Segment]) -> Iterator[Change]:
    order = ("tools", "system", "messages")
    before = {
        section: sum(part.tokens for part in parts if order.index(_section(part)) < at)
        for at, section in enumerate(order)
    }
    for what, section in _CHANGES:
        kept = [each.prefix for each in segments if each.cached and each.prefix <= before[section]]
        keeps = max(kept, default=0)
        costs = [
            each.written - each.read
            for each in segments
            if each.prefix > keeps and each.written is not None and each.read is not None
        ]
        yield Change(what, keeps, sum(costs, Decimal(0)) if costs else None)


def _section(part: _Part) -> str:
    return part.place.partition("[")[0]


def _warnings(segments: Sequence[Segment], facts: ModelFacts | None) -> Iterator[str]:
    marked = [segment for segment in segments if segment.ttl is not None]
    if not marked:
        yield "nothing is marked, so nothing is cached: mark the last block that requests share."
    if len(marked) > MARKER_LIMIT:
        yield f"{len(marked)} markers, and the provider takes {MARKER_LIMIT}: it will refuse this."
    ttls = [segment.ttl for segment in marked]
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        yield "a marker of 1h stands behind one of 5m: the provider will refuse this."
    for segment in marked:
        if not segment.cached and facts is not None:
            yield (
                f"{segment.last}: {segment.prefix:,} tokens, and {facts.id} caches from"
                f" {facts.min_cacheable_tokens:,} on: this marker does nothing."
            )
    for segment in marked[1:]:
        if segment.blocks > LOOK_BACK:
            yield (
                f"{segment.last}: {segment.blocks} blocks since the last marker, and the provider"
                f" looks {LOOK_BACK} back: mark one in between."
            )
