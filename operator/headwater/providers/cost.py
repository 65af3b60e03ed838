"""What a usage cost, and what the same tokens would have cost without a cache.

Exact decimal arithmetic at the prices that the model facts give; nothing is rounded here.
Batch discounts and surcharges by region are not known from a usage and are not applied.
"""

from decimal import Decimal
from typing import Final

import msgspec

from headwater.providers.models import ModelFacts, Prices
from headwater.providers.usage import Usage

_PER_MILLION: Final = Decimal("0.000001")


class Cost(msgspec.Struct, frozen=True):
    """US dollars: what was paid, and what the same tokens cost where nothing is cached."""

    actual: Decimal
    uncached: Decimal

    @property
    def savings(self) -> Decimal:
        """What caching saved; negative where writes cost more than reads brought back."""
        return self.uncached - self.actual


def cost(usage: Usage, facts: ModelFacts) -> Cost | None:
    """The cost of one answer; None where the model has no published price."""
    prices = facts.prices_for(usage.prompt)
    return None if prices is None else cost_at(usage, prices)


def cost_at(usage: Usage, prices: Prices) -> Cost:
    """The cost of one answer, or of several together that have the same prices."""
    actual = (
        usage.uncached * prices.input
        + usage.cache_read * prices.read
        + usage.cache_write_5m * prices.write_5m
        + usage.cache_write_1h * prices.write_1h
        + usage.output * prices.output
    )
    uncached = usage.prompt * prices.input + usage.output * prices.output
    return Cost(actual * _PER_MILLION, uncached * _PER_MILLION)
