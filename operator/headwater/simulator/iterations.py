"""Further iterations of one request: what a server tool found is read again, a history compacted.

No tool and no model runs: a request says how many searches to pretend, and each adds a result of
a fixed length. Each iteration asks the cache by itself, and finds what the one before wrote.

Sources, as of 2026-11-30: `iterations` in types/beta/beta_usage.py of the anthropic package for
Python, 2.11.0 (a compaction's tokens are not in the answer's own counts); the 5m marker that
server tools add: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22.
"""

import hashlib
from typing import Final, Literal, NamedTuple

import msgspec

from headwater.providers.usage import Usage
from headwater.simulator.cache import Outcome, Position, PromptCache
from headwater.simulator.prompt import Prompt

CALL_TOKENS: Final = 20
"""What the model says to have something searched."""
RESULT_TOKENS: Final = 400
SUMMARY_TOKENS: Final = 200
"""What a compaction makes of a history."""
MAX_SEARCHES: Final = 50


class Iteration(NamedTuple):
    """One sampling of the model, and its usage; the last one's lacks its output yet."""

    kind: Literal["message", "compaction"]
    usage: Usage


def run(
    prompt: Prompt, first: Outcome, cache: PromptCache, *, searches: int, now: float
) -> list[Iteration]:
    """Every iteration; `first` is what the request's own prompt read and wrote."""
    done: list[Iteration] = []
    positions, usage = prompt.positions, first.usage

    def ask() -> Usage:
        outcome = cache.begin(positions, prompt.facts.min_cacheable_tokens, now)
        cache.commit(outcome)
        return outcome.usage

    if prompt.compacts:
        done.append(Iteration("compaction", msgspec.structs.replace(usage, output=SUMMARY_TOKENS)))
        positions = _after(positions[: prompt.shared], SUMMARY_TOKENS, "summary", None)
        usage = ask()
    marked = any(position.ttl for position in prompt.positions)
    for search in range(searches):
        done.append(Iteration("message", msgspec.structs.replace(usage, output=CALL_TOKENS)))
        ttl = "5m" if marked else None
        positions = _after(positions, CALL_TOKENS + RESULT_TOKENS, f"search {search}", ttl)
        usage = ask()
    return [*done, Iteration("message", usage)]


def _after(
    positions: tuple[Position, ...], tokens: int, name: str, ttl: str | None
) -> tuple[Position, ...]:
    last = positions[-1] if positions else Position(b"", 0, 0)
    digest = hashlib.sha256(last.digest + name.encode()).digest()
    return (*positions, Position(digest, last.tokens + tokens, last.step + 1, ttl))
