"""The provider's answers on the wire: a JSON message, or the same message as an event stream."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from headwater.providers.models import ModelFacts
from headwater.providers.usage import Usage

_WORDS: Final = ("This", "answer", "comes", "from", "the", "simulator", "every", "time")


def identifier(kind: str) -> str:
    """An identifier as the provider's: `msg_…`, `req_…`."""
    return f"{kind}_{secrets.token_hex(12)}"


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """An error, as every endpoint sends it."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": request_id,
        }
    )


def usage_body(usage: Usage, output: int) -> dict[str, Any]:
    """The `usage` of an answer."""
    return {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def text_of(tokens: int) -> list[str]:
    """So many words, one a token; every answer is the same."""
    return [_WORDS[index % len(_WORDS)] for index in range(tokens)]


def message(model: str, usage: Usage, words: list[str], limit: int) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": identifier("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": " ".join(words)}] if words else [],
        "stop_reason": "max_tokens" if len(words) >= limit else "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage_body(usage, len(words)),
    }


def events(whole: dict[str, Any]) -> Iterator[bytes]:
    """The same message as server-sent events, one chunk each."""
    usage = whole["usage"]
    start = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", {"message": start})
    text = "".join(block["text"] for block in whole["content"])
    yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    yield _event("ping", {})
    for index, word in enumerate(text.split(" ")):
        delta = {"type": "text_delta", "text": f" {word}" if index else word}
        yield _event("content_block_delta", {"index": 0, "delta": delta})
    yield _event("content_block_stop", {"index": 0})
    ending: dict[str, Any] = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    output = {"output_tokens": usage["output_tokens"]}
    yield _event("message_delta", {"delta": ending, "usage": output})
    yield _event("message_stop", {})


def _event(name: str, data: dict[str, Any]) -> bytes:
    body = msgspec.json.encode({"type": name, **data})
    return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def model_body(facts: ModelFacts) -> dict[str, Any]:
    """One model of `/v1/models`."""
    retires = facts.retires_on
    return {
        "type": "model",
        "id": facts.id,
        "display_name": facts.id.replace("-", " ").title(),
        "created_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "deprecated" if retires else "active",
        "line": facts.line,
        "max_input_tokens": 1_000_000,
        "max_tokens": 64_000,
        "deprecated_at": None,
        "retires_at": None if retires is None else f"{retires.isoformat()}T00:00:00Z",
    }
