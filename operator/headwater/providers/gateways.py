"""Gateways between a program and its provider that keep answers of their own.

An answer out of such a store never reached the provider: it read and wrote no prompt cache, it is
not billed, and the usage in it is that of another request. Each gateway says so in a header.

Sources, as of 2026-11-30: docs.litellm.ai/docs/proxy/caching (the key is sent on a cache hit
alone; some releases say `x-litellm-cache-hit` besides),
portkey.ai/docs/api-reference/response-schema, docs.helicone.ai/features/advanced-usage/caching,
developers.cloudflare.com/ai-gateway/features/caching.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Layer(StrEnum):
    """Whose store an answer came from."""

    LITELLM = "litellm"
    PORTKEY = "portkey"
    HELICONE = "helicone"
    CLOUDFLARE = "cloudflare"


_STATUS: Final = (
    (b"x-portkey-cache-status", Layer.PORTKEY),
    (b"helicone-cache", Layer.HELICONE),
    (b"cf-aig-cache-status", Layer.CLOUDFLARE),
)
_HITS: Final = (b"hit", b"semantic hit")


def layer_of(fields: Mapping[bytes, bytes]) -> Layer | None:
    """The gateway that answered without asking the provider; `fields` by lower-case name."""
    for name, layer in _STATUS:
        status = fields.get(name)
        if status is not None and status.strip().lower() in _HITS:
            return layer
    said = fields.get(b"x-litellm-cache-hit", b"").strip().lower()
    if said == b"true" or (fields.get(b"x-litellm-cache-key") and said != b"false"):
        return Layer.LITELLM
    return None
