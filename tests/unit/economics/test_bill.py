"""One request's bill: what is cached with what, and what no provider would take."""

from decimal import Decimal

import pytest

from headwater.economics.bill import Layer, LayerError, PriceError, bill
from headwater.economics.traffic import Measured, Poisson, TrafficError
from headwater.providers.models import ModelFacts, lookup
from tests.unit.economics.articles import MODELS

D = Decimal


def facts(model: str) -> ModelFacts:
    found = lookup(model)
    assert found is not None
    return found


def layer(tokens: int, hits: str = "0.5", ttl: str = "5m") -> Layer:
    return Layer("some", tokens, D(hits), "1h" if ttl == "1h" else "5m")


@pytest.mark.parametrize(
    ("model", "sizes", "cached"),
    [
        ("claude-opus-4-8", (1_024,), [1_024]),
        ("claude-opus-4-8", (1_023,), [0]),
        ("claude-opus-4-8", (600, 600), [0, 1_200]),
        ("claude-opus-4-8", (600, 300, 124, 1), [0, 0, 1_024, 1]),
        ("claude-opus-4-6", (3_000, 900), [0, 0]),
        ("no-premium", (1_100,), [1_024]),
        ("no-premium", (1_100, 100), [1_024, 128]),
    ],
)
def test_what_is_cached_with_what(model: str, sizes: tuple[int, ...], cached: list[int]) -> None:
    """A short layer is cached with the next; beyond the last increment nothing is."""
    request = bill([layer(size) for size in sizes], MODELS[model])
    assert [line.cached for line in request.lines] == cached


def test_what_is_not_cached_costs_what_input_costs() -> None:
    """No token is forgotten, none paid for twice."""
    request = bill([layer(1_100, "1")], MODELS["no-premium"], tail=24)
    assert request.total == (1_024 * D("0.3") + 100 * 3) / 1_000_000
    assert request.without_cache == D(1_124 * 3) / 1_000_000


def test_the_whole_prompt_decides_on_the_tier() -> None:
    """Cached tokens and the tail count."""
    short, long = (
        bill([layer(90_000, "1")], facts("claude-haiku-5-5"), tail=tail).lines[0].usd
        for tail in (10_000, 10_001)
    )
    assert long == 5 * short


def test_a_longer_ttl_first() -> None:
    """Each layer is written at the price of its own."""
    request = bill([layer(2_000, "0", "1h"), layer(2_000, "0")], facts("claude-opus-4-8"))
    assert [line.usd for line in request.lines] == [D("0.02"), D("0.0125")]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([layer(2_000), layer(2_000, "0.5", "1h")], "put the longer TTL first"),
        ([layer(2_000, "0.5"), layer(2_000, "0.6")], "give it 0.5 at most"),
    ],
)
def test_what_no_provider_would_do(layers: list[Layer], message: str) -> None:
    """The message says which layer, and what to do."""
    with pytest.raises(LayerError, match=message):
        bill(layers, facts("claude-opus-4-8"))


def test_numbers_that_cannot_be() -> None:
    """None of them is taken for another."""
    with pytest.raises(LayerError, match="-1 tokens: give 0 or more"):
        layer(-1)
    with pytest.raises(LayerError, match="give 0 to 1"):
        layer(1, "1.1")
    with pytest.raises(LayerError, match="give 0 or more"):
        bill([], facts("claude-opus-4-8"), tail=-1)
    with pytest.raises(PriceError, match="no price of claude-mythos-preview"):
        bill([], facts("claude-mythos-preview"))
    with pytest.raises(TrafficError, match="0 or more, and not -1"):
        Poisson(D(-1))
    with pytest.raises(TrafficError, match="two requests at different times"):
        Measured(())
