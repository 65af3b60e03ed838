"""The provider's answers: one JSON message, or the same as server-sent events.

Deterministic: the same prompt gets the same text. Shapes from
platform.claude.com/docs/en/api/messages and .../docs/en/build-with-claude/streaming, as of
2026-08-22.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from headwater.providers.models import ModelFacts
from headwater.providers.usage import Usage
from headwater.simulator.iterations import Iteration
from headwater.simulator.prompt import Prompt

# Four bytes each with the blank that follows: one token in the estimator's currency.
_WORDS: Final = (
    *("all", "and", "are", "big", "but", "can", "day", "for", "get", "has", "how", "its", "may"),
    *("new", "not", "now", "old", "one", "our", "out", "own", "say", "see", "the", "two", "way"),
)
_WORDS_PER_DELTA: Final = 8


def wire_usage(usage: Usage) -> dict[str, Any]:
    """The counts of an answer's `usage` object, or of one of its iterations."""
    return {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    }


class Answer:
    """What a prompt is answered with, and at what usage."""

    def __init__(
        self,
        prompt: Prompt,
        iterations: Sequence[Iteration],
        message_id: str,
        answer_tokens: int,
        tier: str = "standard",
    ) -> None:
        length = min(answer_tokens, prompt.max_tokens)
        seed = prompt.positions[-1].digest
        self._words = [
            _WORDS[byte % len(_WORDS)] for byte in itertools.islice(itertools.cycle(seed), length)
        ]
        self._stop_reason = "max_tokens" if prompt.max_tokens <= answer_tokens else "end_turn"
        self._id = message_id
        self._model = prompt.facts.dated_id or prompt.facts.id
        *before, last = iterations
        spoken = msgspec.structs.replace(last.usage, output=length)
        self._iterations = [*before, Iteration(last.kind, spoken)]
        self._whole = _sum(each.usage for each in self._iterations if each.kind == "message")
        self._terms = {"service_tier": tier, **prompt.terms}
        searches = sum(each.kind == "message" for each in before)
        self._more: dict[str, Any] = {}
        if before:
            self._more["iterations"] = [
                {"type": each.kind, **wire_usage(each.usage)} for each in self._iterations
            ]
        if searches:
            uses = {"web_search_requests": searches, "web_fetch_requests": 0}
            self._more["server_tool_use"] = uses
        self.usage = _sum(each.usage for each in self._iterations)
        """All that is billed."""

    @property
    def bill(self) -> dict[str, Any]:
        """The answer's whole `usage` object."""
        return {**wire_usage(self._whole), **self._terms, **self._more}

    def _message(
        self, content: list[Any], stop_reason: str | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": None,
            "usage": usage,
        }

    def json(self) -> bytes:
        """The whole answer as one message; a pre-warm's has no content."""
        content = [{"type": "text", "text": " ".join(self._words)}] if self._words else []
        return msgspec.json.encode(self._message(content, self._stop_reason, self.bill))

    def events(self) -> Iterator[bytes]:
        """The answer as server-sent events, in order."""
        first = next(each.usage for each in self._iterations if each.kind == "message")
        begun = msgspec.structs.replace(first, output=min(1, first.output))
        opening = {**wire_usage(begun), **self._terms}
        yield _event("message_start", message=self._message([], None, opening))
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")
        for start in range(0, len(self._words), _WORDS_PER_DELTA):
            words = self._words[start : start + _WORDS_PER_DELTA]
            text = (" " if start else "") + " ".join(words)
            delta = {"type": "text_delta", "text": text}
            yield _event("content_block_delta", index=0, delta=delta)
        yield _event("content_block_stop", index=0)
        yield _event(
            "message_delta",
            delta={"stop_reason": self._stop_reason, "stop_sequence": None},
            usage=self._closing(),
        )
        yield _event("message_stop")

    def _closing(self) -> dict[str, Any]:
        """What the end of a stream says: cumulative counts, without the split by TTL."""
        if not self._more:
            return {"output_tokens": self._whole.output}
        counts = wire_usage(self._whole)
        del counts["cache_creation"]
        return {**counts, **self._more}


def _sum(usages: Iterator[Usage]) -> Usage:
    return sum(usages, Usage())


def error_event(kind: str, message: str) -> bytes:
    """An error after the answer has begun."""
    return _event("error", error={"type": kind, "message": message})


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        msgspec.json.encode({"type": kind, **fields}),
    )


def model_info(facts: ModelFacts) -> dict[str, Any]:
    """A model as /v1/models shows it; what is not known of it is null or the epoch."""
    name, version = facts.id.split("-")[1], facts.id.split("-")[2:]
    return {
        "type": "model",
        "id": facts.dated_id or facts.id,
        "display_name": f"Claude {name.title()} {'.'.join(version).title()}",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "deprecated" if facts.retires_on else "active",
        "line": facts.line,
        "max_input_tokens": None,
        "max_tokens": None,
        "capabilities": None,
        "deprecated_at": None,
        "retires_at": f"{facts.retires_on}T00:00:00Z" if facts.retires_on else None,
    }
