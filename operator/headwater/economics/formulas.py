"""The closed formulas: what follows from the multipliers of a price list alone."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from headwater.contract.content import TTL
from headwater.providers.models import Prices


@dataclass(frozen=True, slots=True)
class Multipliers:
    """What a token costs that is written to or read from a cache; an uncached one costs 1.

    `read` is less than 1, `write` at least 1: price lists that say otherwise are refused.
    """

    write: Decimal
    read: Decimal

    @classmethod
    def of(cls, prices: Prices, ttl: TTL) -> Self:
        """Those of a price list, for entries that live so long."""
        return cls(prices.write(ttl) / prices.input, prices.read / prices.input)

    def blend(self, hit_rate: Decimal) -> Decimal:
        """What a cached token costs on average."""
        return hit_rate * self.read + (1 - hit_rate) * self.write

    @property
    def break_even_reads(self) -> Decimal:
        """Reads that bring back what a write costs more: (w - 1) ÷ (1 - r)."""
        return (self.write - 1) / (1 - self.read)

    @property
    def pays_from_request(self) -> int:
        """The first request, the writing one counted, with which caching has been cheaper."""
        return int(self.break_even_reads) + 2

    @property
    def profitable_hit_rate(self) -> Decimal:
        """The hit rate above which caching is cheaper than none: (w - 1) ÷ (w - r)."""
        return self.hit_rate_to_beat(Decimal(1))

    @property
    def pings_per_rewrite(self) -> int:
        """Reads that cost no more than what one avoided rewrite saves: ⌊(w - r) ÷ r⌋."""
        return int((self.write - self.read) / self.read)

    def hit_rate_to_beat(self, ratio: Decimal) -> Decimal:
        """The hit rate above which a cached prompt is cheaper than a shorter uncached one.

        (w - T₀ ÷ T₁) ÷ (w - r), where `ratio` is T₀ ÷ T₁: the uncached tokens over the cached.
        Below 0 caching always is cheaper, above 1 it never is.
        """
        return (self.write - ratio) / (self.write - self.read)


def pings_beyond_which_an_hour_is_cheaper(prices: Prices) -> Decimal:
    """Pings of a 5m entry that cost as much as its write for an hour: (w₁ₕ - w₅ₘ) ÷ r."""
    return (prices.write_1h - prices.write_5m) / prices.read
