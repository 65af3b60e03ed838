"""Iterations: what a request with server tools or a compaction is billed by the simulator."""

from typing import Any

import pytest

from headwater.providers.usage import Usage
from headwater.simulator.cache import PromptCache
from headwater.simulator.errors import ApiError
from headwater.simulator.iterations import (
    CALL_TOKENS,
    RESULT_TOKENS,
    SUMMARY_TOKENS,
    Iteration,
    run,
)
from tests.unit.simulator.prompts import body, read, text, user

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
SHARED = text(2_000, "contract", ttl="5m")


def ask(cache: PromptCache, request: dict[str, Any], searches: int = 0) -> list[Iteration]:
    prompt = read(request, betas=frozenset({"compact-2026-01-12"}))
    first = cache.begin(prompt.positions, prompt.facts.min_cacheable_tokens, 0)
    cache.commit(first)
    return run(prompt, first, cache, searches=searches, now=0)


def test_each_search_reads_what_the_iteration_before_wrote() -> None:
    """And adds a five minutes' marker of its own, which is written."""
    request = body(user(text(10, "q")), tools=[SEARCH], system=[SHARED])
    first, second, third = ask(PromptCache(), request, searches=2)
    step = CALL_TOKENS + RESULT_TOKENS
    begun = first.usage.cache_write_5m
    asked = first.usage.uncached
    assert begun > 2_000
    assert first.usage.output == CALL_TOKENS
    assert second.usage == Usage(0, begun, asked + step, 0, CALL_TOKENS)
    assert third.usage == Usage(0, begun + asked + step, step, 0, 0)


def test_without_a_marker_nothing_is_written() -> None:
    """The provider adds its own only where there is one."""
    request = body(user(text(10, "q")), tools=[SEARCH], system=[text(2_000, "contract")])
    iterations = ask(PromptCache(), request, searches=1)
    assert [each.usage.cache_write_5m for each in iterations] == [0, 0]


def test_a_compaction_reads_the_whole_and_leaves_the_contract() -> None:
    """It is an iteration before the answer's, whose prompt is the contract and a summary."""
    cache = PromptCache()
    edits = {
        "edits": [
            {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}
        ]
    }
    short = body(user(text(10, "q")), system=[SHARED], context_management=edits)
    assert [each.kind for each in ask(cache, short)] == ["message"]
    long = body(user(text(60_000, "q")), system=[SHARED], context_management=edits)
    compaction, message = ask(cache, long)
    assert compaction == Iteration("compaction", Usage(60_000, 2_000, 0, 0, SUMMARY_TOKENS))
    assert message == Iteration("message", Usage(SUMMARY_TOKENS, 2_000))


def test_a_trigger_has_a_least_value() -> None:
    """As the provider's."""
    edits = {
        "edits": [
            {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 49_999}}
        ]
    }
    with pytest.raises(ApiError, match="50000"):
        read(body(context_management=edits), betas=frozenset({"compact-2026-01-12"}))
