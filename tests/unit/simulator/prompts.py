"""Request bodies of known size, and a cache asked as a server would ask it."""

from typing import Any

from headwater.providers.usage import Usage
from headwater.simulator.cache import Outcome, PromptCache
from headwater.simulator.prompt import Prompt, read_prompt

MODEL = "claude-sonnet-4-6"
"""A token is four bytes to the estimator, and 1,024 tokens are the least that is cached."""
_FRAME = len('{"type":"text","text":""}')


def text(tokens: int, name: str = "x", ttl: str | None = None) -> dict[str, Any]:
    """A text block of exactly so many tokens, unlike any of another name; marked with a TTL."""
    block = {"type": "text", "text": f"{name} ".ljust(4 * tokens - _FRAME, "x")}
    return block | ({"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {})


def tool(name: str, ttl: str | None = None, **fields: Any) -> dict[str, Any]:
    """A tool of over 1,024 tokens."""
    made = {"name": name, "description": name * 4200, "input_schema": {"type": "object"}} | fields
    return made | ({"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {})


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A request; without messages it asks a question of 10 tokens."""
    asked = list(messages) or [user(text(10, "hi"))]
    return {"model": MODEL, "max_tokens": 10, "messages": asked} | fields


def read(request: dict[str, Any], **given: Any) -> Prompt:
    """The prompt of a request, of one workspace under the older version unless given."""
    return read_prompt(request, **{"workspace": "w", "version": "2023-06-01"} | given)


class Provider:
    """A cache that is asked with whole requests."""

    def __init__(self) -> None:
        self.cache = PromptCache()

    def begin(self, request: dict[str, Any], now: float = 0, **given: Any) -> Outcome:
        """A request that starts; its answer has not begun."""
        prompt = read(request, **given)
        return self.cache.begin(prompt.positions, prompt.facts.min_cacheable_tokens, now)

    def ask(self, request: dict[str, Any], now: float = 0, **given: Any) -> Usage:
        """A request that is answered at once."""
        outcome = self.begin(request, now, **given)
        self.cache.commit(outcome)
        return outcome.usage
