"""How many tokens the simulator gives a block: a stated rule, so that tests can compute it.

A block has the tokens that `headwater.providers.tokens` estimates for its canonical text: a
quarter of the UTF-8 bytes, times the model's factor, rounded up. The canonical text is its
JSON without white space, keys in the order received, cache markers left out. Base64 images
and documents count a flat `MEDIA_TOKENS`, since their bytes are no text.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from headwater.providers.tokens import estimate_tokens
from headwater.simulator.errors import invalid

MEDIA_TOKENS: Final = 1600


def canonical(block: Any) -> bytes:
    """The text of a block that caching compares: compact JSON, markers left out at any depth."""
    try:
        return msgspec.json.encode(_unmarked(block))
    except RecursionError:
        raise invalid("The request body is nested too deeply.") from None


def count(blocks: Iterable[Mapping[str, Any]], model: str) -> int:
    """Tokens of tools, system blocks or content blocks, given as the API takes them."""
    return sum(block_tokens(block, model) for block in blocks)


def block_tokens(block: Mapping[str, Any], model: str, text: bytes | None = None) -> int:
    """Tokens of one block; `text` is its canonical text where the caller has it already."""
    source = block.get("source")
    if isinstance(source, dict) and source.get("type") == "base64":
        return MEDIA_TOKENS
    nested = block.get("content")
    if block.get("type") == "tool_result" and isinstance(nested, list):
        rest = {name: value for name, value in block.items() if name != "content"}
        blocks = [part for part in nested if isinstance(part, dict)]
        return estimate_tokens(canonical(rest), model) + count(blocks, model)
    return estimate_tokens(canonical(block) if text is None else text, model)


def _unmarked(value: Any) -> Any:
    # A tool's JSON schema and a tool call's input are the caller's own data, in which a
    # key of this name would be content.
    if isinstance(value, dict):
        return {
            name: inner if name in {"input", "input_schema"} else _unmarked(inner)
            for name, inner in value.items()
            if name != "cache_control"
        }
    if isinstance(value, list):
        return [_unmarked(inner) for inner in value]
    return value
