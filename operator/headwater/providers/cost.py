"""Compute what an answer cost, and what its tokens would have cost without a cache.

Exact decimal arithmetic at the prices that the model facts give; nothing is rounded here. What
is billed on top of the list price stands in the answer's usage: speed, place, tier, iterations
of other models, web searches. What has no published price is named (`Unpriced`), so that it is
never taken for free.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from headwater.providers.models import ModelFacts, Prices, lookup
from headwater.providers.usage import STANDARD, Statement, Terms, Usage

_PER_MILLION: Final = Decimal("0.000001")
_LIST_PRICE: Final = Decimal(1)


class Unpriced(StrEnum):
    """The part of an answer that has no known price."""

    MODEL = "model"
    """A model that used tokens has no published price."""
    SPEED = "speed"
    """A speed that is not published for the model."""
    INFERENCE_GEO = "inference_geo"
    """A place of inference that is not published for the model."""
    SERVICE_TIER = "service_tier"
    """A tier that is not billed by the token: `priority` is paid for in advance."""
    SERVER_TOOL = "server_tool"
    """A server tool, a kind of iteration or a credit that this release does not know."""
    USAGE = "usage"
    """The usage is missing, cannot be read, or cannot be true."""


class Cost(msgspec.Struct, frozen=True):
    """US dollars: what was paid, and what the same tokens cost where nothing is cached."""

    actual: Decimal
    uncached: Decimal

    @property
    def savings(self) -> Decimal:
        """What caching saved; negative where writes cost more than reads brought back."""
        return self.uncached - self.actual


Line = tuple[Usage, Prices | None, Decimal]
"""Tokens, their prices (None where they have none), and what the prices are multiplied by."""


class Invoice(NamedTuple):
    """An answer's tokens with their prices, its fees in US dollars, and what has no price."""

    lines: Sequence[Line]
    fees: Decimal
    unpriced: frozenset[Unpriced]

    @property
    def cost(self) -> Cost:
        """What all that has a price cost; fees are the same with and without a cache."""
        actual = uncached = self.fees
        for usage, prices, by in self.lines:
            if prices is not None:
                found = cost_at(usage, prices)
                actual += found.actual * by
                uncached += found.uncached * by
        return Cost(actual, uncached)


def cost(usage: Usage, facts: ModelFacts) -> Cost | None:
    """The list price of some tokens; None where the model has no published price."""
    prices = facts.prices_for(usage.prompt)
    return None if prices is None else cost_at(usage, prices)


def cost_at(usage: Usage, prices: Prices) -> Cost:
    """The list price of one answer, or of several together that have the same prices."""
    actual = (
        usage.uncached * prices.input
        + usage.cache_read * prices.read
        + usage.cache_write_5m * prices.write_5m
        + usage.cache_write_1h * prices.write_1h
        + usage.output * prices.output
    )
    uncached = usage.prompt * prices.input + usage.output * prices.output
    return Cost(actual * _PER_MILLION, uncached * _PER_MILLION)


_NO_FEE: Final = Decimal(0)
_NOTHING: Final = frozenset[Unpriced]()
_UNREADABLE: Final = Invoice((), _NO_FEE, frozenset({Unpriced.USAGE}))


def invoice(statement: Statement | None, model: str) -> Invoice:
    """What an answer of `model` is billed for; None is an answer without a usage.

    The length of a prompt, by which some prices differ, is that of each iteration: each is a
    request to the model of its own.
    """
    if statement is None or statement.flawed:
        return _UNREADABLE
    asked = lookup(model)
    lines: list[Line] = []
    unpriced: set[Unpriced] = set()
    for charge in statement.charges:
        facts = lookup(charge.model) if charge.model else asked
        prices = None if facts is None else facts.prices_for(charge.usage.prompt)
        by = _LIST_PRICE
        if facts is None or prices is None:
            unpriced.add(Unpriced.MODEL)
        elif statement.terms is not STANDARD:
            by, missing = _multiplier(statement.terms, facts)
            if missing:
                unpriced |= missing
                prices = None
        lines.append((charge.usage, prices, by))
    fees = _NO_FEE
    if statement.web_searches:
        if asked is None:
            unpriced.add(Unpriced.MODEL)
        else:
            fees = statement.web_searches * asked.web_search_usd
    if statement.unknown:
        unpriced.add(Unpriced.SERVER_TOOL)
    return Invoice(lines, fees, frozenset(unpriced) if unpriced else _NOTHING)


def _multiplier(terms: Terms, facts: ModelFacts) -> tuple[Decimal, set[Unpriced]]:
    """The product of all surcharges and discounts, and those terms that have no price."""
    by, missing = _LIST_PRICE, set[Unpriced]()
    for value, known, factor, name in (
        (terms.speed, "fast", facts.fast_multiplier, Unpriced.SPEED),
        (terms.inference_geo, "us", facts.us_multiplier, Unpriced.INFERENCE_GEO),
        (terms.service_tier, "batch", facts.batch_multiplier, Unpriced.SERVICE_TIER),
    ):
        if not value:
            continue
        if value != known or factor is None:
            missing.add(name)
        else:
            by *= factor
    return by, missing
