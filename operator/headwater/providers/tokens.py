"""An estimate of how many tokens a text has, where nobody may ask the provider.

No provider publishes its tokenizer, so this is a stated rule and not a measurement: a
quarter of the UTF-8 bytes, times the model's factor, rounded up. It is good to a fifth or
so on English prose and JSON. Whoever needs the truth asks the provider's own count.
"""

from typing import Final

from headwater.providers.models import lookup

ESTIMATE_MARGIN: Final = 0.25
"""How far off an estimate may be, as a share of it."""


def estimate_tokens(text: bytes, model: str) -> int:
    """Tokens that `text` (UTF-8) has for `model`; an unknown model counts with factor 1."""
    facts = lookup(model)
    # In integer hundredths, because this runs for every block of every request.
    factor = int(facts.tokens_per_4_bytes * 100) if facts else 100
    return -(-len(text) * factor // 400)
