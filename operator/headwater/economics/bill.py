"""What one request costs on average, layer by layer.

cost = Σ Tₗ·p·[hₗ·r + (1 - hₗ)·w(ttlₗ)] + T_tail·p + O·p_out, with what the provider does not
cache priced as tail: a prefix below the minimum, and tokens beyond the last whole increment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Final

from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError
from headwater.economics.formulas import Multipliers
from headwater.providers.models import ModelFacts, Prices

MILLION: Final = 1_000_000
"""Prices are for so many tokens."""


class PriceError(HeadwaterError):
    """A model without a published price."""

    def __init__(self, model: str, prompt_tokens: int) -> None:
        """Say where a price can be given."""
        super().__init__(
            f"no price of {model} for {prompt_tokens:,} tokens is known: give one in a file of"
            " model facts (docs/economics.md)."
        )


class LayerError(HeadwaterError):
    """Layers that no provider could cache so."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of the prompt that ends with a cache marker; most stable first.

    `hit_rate` is the share of requests that find the entry which ends here.
    """

    name: str
    tokens: int
    hit_rate: Decimal
    ttl: TTL

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise LayerError(f"the layer {self.name} has {self.tokens:,} tokens: give 0 or more.")
        if not 0 <= self.hit_rate <= 1:
            raise LayerError(
                f"the layer {self.name} has a hit rate of {self.hit_rate}: give 0 to 1."
            )


@dataclass(frozen=True, slots=True)
class Line:
    """A layer on the bill. `cached` are the tokens whose entry ends here.

    A layer that ends below the model's minimum has 0; its tokens are cached with the next one.
    """

    layer: Layer
    cached: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """US dollars for one request on average; `uncached_input` and `output` are parts of it."""

    lines: tuple[Line, ...]
    uncached_input: Decimal
    output: Decimal
    without_cache: Decimal

    @property
    def total(self) -> Decimal:
        """The whole request."""
        return sum((line.usd for line in self.lines), self.uncached_input + self.output)

    @property
    def saving(self) -> Decimal:
        """What caching saves; negative where it costs."""
        return self.without_cache - self.total


def price_list(facts: ModelFacts, prompt_tokens: int) -> Prices:
    """The prices of a request with so long a prompt.

    Raises:
        PriceError: none is published.
    """
    prices = facts.prices_for(prompt_tokens)
    if prices is None:
        raise PriceError(facts.id, prompt_tokens)
    return prices


def bill(layers: Sequence[Layer], facts: ModelFacts, *, tail: int = 0, output: int = 0) -> Bill:
    """What a request costs with these layers, `tail` uncached tokens and `output` tokens.

    Raises:
        PriceError: the model has no published price.
        LayerError: a layer of 1h after one of 5m, or one that hits more often than one before it.
    """
    if min(tail, output) < 0:
        raise LayerError(f"{min(tail, output):,} tokens are too few: give 0 or more.")
    for before, after in pairwise(layers):
        if (before.ttl, after.ttl) == ("5m", "1h"):
            raise LayerError(
                f"{after.name} (1h) stands behind {before.name} (5m): the provider refuses that;"
                " put the longer TTL first."
            )
        if after.hit_rate > before.hit_rate:
            raise LayerError(
                f"{after.name} hits more often than {before.name}, which it contains: give it"
                f" {before.hit_rate} at most."
            )
    ends = list(accumulate((layer.tokens for layer in layers), initial=0))
    prices = price_list(facts, ends[-1] + tail)
    lines, billed = [], 0
    for layer, end in zip(layers, ends[1:], strict=True):
        cached = max(facts.cached_tokens(end) - billed, 0)
        each = Multipliers.of(prices, layer.ttl).blend(layer.hit_rate) * prices.input / MILLION
        lines.append(Line(layer, cached, cached * each))
        billed += cached
    uncached = ends[-1] - billed + tail
    return Bill(
        tuple(lines),
        uncached_input=uncached * prices.input / MILLION,
        output=output * prices.output / MILLION,
        without_cache=((ends[-1] + tail) * prices.input + output * prices.output) / MILLION,
    )
