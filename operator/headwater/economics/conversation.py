"""A conversation that grows: what its turns are billed for.

Without a cache each turn pays for all turns before it, so that the whole grows with the square of
the turns; with one, each turn writes what was added and reads the rest at a fraction.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from headwater.contract.content import TTL
from headwater.economics.bill import PriceError
from headwater.providers.cost import Cost, cost
from headwater.providers.models import ModelFacts
from headwater.providers.usage import Usage


def turns(
    base: int, growth: int, fresh: Sequence[int], facts: ModelFacts, ttl: TTL = "5m"
) -> tuple[Usage, ...]:
    """The usage of each turn: the first writes the base, each other reads and adds to it.

    Args:
        base: tokens that every turn begins with.
        growth: tokens of history that each turn after the first adds.
        fresh: for each turn its tokens behind the last marker, which no other turn sends again.
        facts: what the model caches from on.
        ttl: of the entries; each turn is assumed to come within it after the one before.
    """
    usages, read = [], 0
    for turn, uncached in enumerate(fresh):
        history = base + turn * growth
        cached = facts.cached_tokens(history)
        usages.append(
            Usage(
                uncached=history - cached + uncached,
                cache_read=read,
                cache_write_5m=cached - read if ttl == "5m" else 0,
                cache_write_1h=cached - read if ttl == "1h" else 0,
            )
        )
        read = cached
    return tuple(usages)


def total(usages: Iterable[Usage], facts: ModelFacts) -> Cost:
    """What the turns cost together, and what they cost without a cache.

    Raises:
        PriceError: the model has no published price.
    """
    actual = uncached = Decimal(0)
    for usage in usages:
        found = cost(usage, facts)
        if found is None:
            raise PriceError(facts.id, usage.prompt)
        actual, uncached = actual + found.actual, uncached + found.uncached
    return Cost(actual, uncached)
