"""The provider's answers: one JSON message, or the same as server-sent events.

Deterministic: the same prompt gets the same text. Shapes from
platform.claude.com/docs/en/api/messages and .../docs/en/build-with-claude/streaming, as of
2026-08-22.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from headwater.providers.models import ModelFacts
from headwater.providers.usage import Usage
from headwater.simulator.prompt import Prompt

# Four bytes each with the blank that follows: one token in the estimator's currency.
_WORDS: Final = (
    *("all", "and", "are", "big", "but", "can", "day", "for", "get", "has", "how", "its", "may"),
    *("new", "not", "now", "old", "one", "our", "out", "own", "say", "see", "the", "two", "way"),
)
_WORDS_PER_DELTA: Final = 8


def wire_usage(usage: Usage, tier: str = "standard") -> dict[str, Any]:
    """The `usage` object of an answer."""
    return {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "service_tier": tier,
    }


class Answer:
    """What a prompt is answered with, and at what usage."""

    def __init__(
        self,
        prompt: Prompt,
        usage: Usage,
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
        self._tier = tier
        self._model = prompt.facts.dated_id or prompt.facts.id
        self.usage = msgspec.structs.replace(usage, output=length)

    def _message(self, content: list[Any], stop_reason: str | None, usage: Usage) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": None,
            "usage": wire_usage(usage, self._tier),
        }

    def json(self) -> bytes:
        """The whole answer as one message; a pre-warm's has no content."""
        content = [{"type": "text", "text": " ".join(self._words)}] if self._words else []
        return msgspec.json.encode(self._message(content, self._stop_reason, self.usage))

    def events(self) -> Iterator[bytes]:
        """The answer as server-sent events, in order."""
        opening = msgspec.structs.replace(self.usage, output=min(1, self.usage.output))
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
            usage={"output_tokens": self.usage.output},
        )
        yield _event("message_stop")


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
