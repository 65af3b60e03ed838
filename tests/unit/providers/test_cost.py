"""Cost: what was paid and what no cache would have cost, to the last digit."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.providers.cost import cost
from headwater.providers.models import lookup
from headwater.providers.usage import Usage

TOKENS = st.integers(0, 1_000_000)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
MILLION = 1_000_000


def paid(model: str, usage: Usage) -> tuple[Decimal, Decimal]:
    facts = lookup(model)
    assert facts is not None
    found = cost(usage, facts)
    assert found is not None
    assert found.savings == found.uncached - found.actual
    return found.actual, found.uncached


@pytest.mark.parametrize(
    ("model", "usage", "actual", "uncached"),
    [
        ("claude-opus-4-8", Usage(), "0", "0"),
        ("claude-opus-4-8", Usage(uncached=MILLION), "5", "5"),
        ("claude-opus-4-8", Usage(cache_read=MILLION), "0.5", "5"),
        ("claude-opus-4-8", Usage(cache_write_5m=MILLION), "6.25", "5"),
        ("claude-opus-4-8", Usage(cache_write_1h=MILLION), "10", "5"),
        ("claude-opus-4-8", Usage(output=MILLION), "25", "25"),
        ("claude-opus-4-8", Usage(1, 1, 1, 1, 1), "0.00004675", "0.000045"),
        ("claude-opus-5-5", Usage(cache_read=20_000, uncached=100, output=10), "0.0046", "0.0806"),
        ("claude-fable-5-1", Usage(cache_read=MILLION), "0.25", "10"),
        ("claude-sonnet-5-5", Usage(cache_read=MILLION), "0.1", "2"),
        # A tier by the whole prompt's length, cached tokens included.
        ("claude-haiku-5-5", Usage(cache_read=100_000), "0.001", "0.01"),
        ("claude-haiku-5-5", Usage(cache_read=100_000, uncached=1), "0.0050005", "0.0500005"),
        ("claude-haiku-5-5", Usage(cache_read=100_000, output=1), "0.0010005", "0.0100005"),
    ],
)
def test_cost(model: str, usage: Usage, actual: str, uncached: str) -> None:
    """Each kind at its own price; nothing is rounded."""
    assert paid(model, usage) == (Decimal(actual), Decimal(uncached))


def test_without_a_published_price_there_is_no_cost() -> None:
    """None, not zero: a sum of zeros would look like a bargain."""
    facts = lookup("claude-mythos-preview")
    assert facts is not None
    assert cost(Usage(uncached=5), facts) is None


def test_an_hours_write_pays_from_the_third_request_on() -> None:
    """The provider's prices: a write at twice the input, reads at a tenth."""
    request = Usage(cache_write_1h=10_000)
    reading = Usage(cache_read=10_000)
    savings = []
    for reads in range(3):
        costs = [paid("claude-opus-4-8", usage) for usage in (request, *[reading] * reads)]
        savings.append(sum(uncached - actual for actual, uncached in costs))
    assert savings[0] < savings[1] < 0 < savings[2]


@given(st.lists(USAGES, max_size=8))
def test_costs_add_up_exactly(usages: list[Usage]) -> None:
    """Where one price holds, a thousand small bills are one large one: no binary rounding."""
    total = Usage(*(sum(values) for values in zip(*map(astuple, usages), strict=True)))
    assert (
        sum((paid("claude-opus-4-8", usage)[0] for usage in usages), Decimal(0))
        == (paid("claude-opus-4-8", total)[0])
    )


def astuple(usage: Usage) -> tuple[int, ...]:
    return (
        usage.uncached,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
    )
