"""What a request's path leads to: the contract, a model by another way, or neither. Pure.

Whoever answers may read a path more liberally than the provider does: gateways fold case, decode
twice, drop parameters and fragments. So it is read as liberally here, and what may lead to a model
past the contract is told apart from what cannot.

The provider's own paths: resources of the anthropic package for Python, 2.11.0, as of 2026-11-30;
those of others: their API references, the names alone.
"""

import posixpath
import re
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
BATCHES: Final = "/v1/messages/batches"

_DECODED_AT_MOST: Final = 4
"""Times that a path may be percent-encoded; more is nothing that a client does."""
_SEPARATORS: Final = re.compile(r"[/\\]+")
_READS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE"})
"""They carry no prompt."""


class Way(StrEnum):
    """What becomes of a request by its path."""

    CONTRACT = "contract"
    """It gets the contract."""
    MODEL = "model"
    """It reaches a model by another path, without the contract."""
    UNKNOWN = "unknown"
    """It may: nobody here knows the path."""
    BESIDE = "beside"
    """It reaches no model."""


class Place(NamedTuple):
    """Where a request goes.

    `path` is its path as the most liberal reader may take it. `kind` is one of a few words, by
    which requests are counted that do not get the contract.
    """

    way: Way
    path: str
    kind: str


_BESIDE: Final = frozenset(
    {
        *("files", "memory_stores", "models", "oauth", "organizations", "skills", "tunnels"),
        *("user_profiles", "vaults"),
    }
)
"""First segments below /v1 that run no model, whatever is sent there."""
_MODEL: Final = frozenset(
    {
        # Anthropic: the API before Messages, and agents that the provider runs.
        *("messages", "complete", "agents", "environments", "sessions"),
        # OpenAI, and whoever speaks as it does.
        *("completions", "responses", "chat", "embeddings", "moderations", "realtime", "threads"),
        # Bedrock.
        *("invoke", "invoke-with-response-stream", "converse", "converse-stream"),
        # Ollama.
        *("generate", "api"),
    }
)
"""Segments of paths that lead to a model."""
_VERB: Final = re.compile(r":(stream)?(rawpredict|generatecontent|predict)$")
"""Of Vertex and Gemini, behind a model's name."""


def place_of(method: bytes, target: bytes) -> Place:
    """Return where a request goes, by its method and its target as they stand in its first line."""
    path = _liberal(target)
    if method == b"POST" and path in (MESSAGES, COUNT_TOKENS, BATCHES):
        return Place(Way.CONTRACT, path, "contract")
    # A gateway may take the method from a header.
    if method in _READS and path not in (MESSAGES, COUNT_TOKENS):
        return Place(Way.BESIDE, path, "read")
    version, *rest = [segment for segment in path.split("/") if segment] or [""]
    if version == "v1" and rest and rest[0] in _BESIDE:
        return Place(Way.BESIDE, path, rest[0])
    if path.startswith(f"{BATCHES}/"):  # cancels one that was made
        return Place(Way.BESIDE, path, "batches")
    if _VERB.search(path) or _MODEL.intersection((version, *rest)):
        return Place(Way.MODEL, path, "model")
    return Place(Way.UNKNOWN, path, "unknown")


def _liberal(target: bytes) -> str:
    """Return the path as whoever folds the most may read it, in lower case."""
    for _ in range(_DECODED_AT_MOST):
        target = re.split(rb"[?#]", target, maxsplit=1)[0]
        decoded = unquote_to_bytes(target)
        if decoded == target:
            break
        target = decoded
    text = re.split(r"[?#]", target.decode("utf-8", "replace"), maxsplit=1)[0]
    if "://" in text:  # as a proxy is asked: what follows the host is the path
        text = "/" + text.partition("://")[2].partition("/")[2]
    segments = (segment.partition(";")[0].strip(" \t\0.") or segment[:2].strip(" \t\0;")
                for segment in _SEPARATORS.split(text))  # fmt: skip
    plain = posixpath.normpath("/" + "/".join(segment for segment in segments if segment))
    return ("/" + plain.lstrip("/")).casefold()
