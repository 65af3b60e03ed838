"""Model facts: dated, sourced, exact, and never guessed."""

import datetime as dt
import importlib.resources
from decimal import Decimal

import msgspec
import pytest

from headwater.providers.models import ModelFacts, lookup, models, parse_models
from headwater.providers.tokens import estimate_tokens

DATA = importlib.resources.files("headwater.providers").joinpath("data/anthropic.toml")
EACH_MODEL = pytest.mark.parametrize("facts", models(), ids=lambda facts: facts.id)


def known(model: str) -> ModelFacts:
    facts = lookup(model)
    assert facts is not None
    return facts


@EACH_MODEL
def test_every_fact_says_where_it_comes_from_and_when(facts: ModelFacts) -> None:
    """A source names a page that a reader can open, and a day that has passed."""
    for source in (facts.min_cacheable_source, *(tier.source for tier in facts.prices)):
        assert source.kind
        assert source.page
        assert dt.date(2026, 1, 1) <= source.as_of <= dt.date(2026, 11, 30)
        assert str(source) == f"{source.kind}, {source.page}, as of {source.as_of}"


@EACH_MODEL
def test_prices_are_exact_and_their_writes_follow_the_providers_rule(facts: ModelFacts) -> None:
    """A five minutes' write costs 1.25 times the input, an hour's 2 times, a read at most 0.1."""
    for tier in facts.prices:
        for price in (tier.input, tier.write_5m, tier.write_1h, tier.read, tier.output):
            assert type(price) is Decimal
        assert tier.write_5m == tier.input * Decimal("1.25")
        assert tier.write_1h == tier.input * 2
        assert 0 < tier.read <= tier.input * Decimal("0.1")
        assert tier.output == tier.input * 5


def test_no_price_in_the_data_is_a_float() -> None:
    """TOML would read a bare number as binary floating point: prices are text."""
    data = msgspec.toml.decode(DATA.read_bytes())
    prices = [
        value
        for model in data["models"]
        for tier in model.get("prices", ())
        for value in tier.values()
    ]
    assert prices
    assert not any(isinstance(value, float) for value in prices)


@pytest.mark.parametrize(
    ("model", "minimum", "read"),
    [
        ("claude-fable-5-2", 512, "0.20"),
        ("claude-fable-5-1", 512, "0.25"),
        ("claude-mythos-5", 512, "1"),
        ("claude-opus-5-5", 512, "0.20"),
        ("claude-opus-4-8", 1024, "0.50"),
        ("claude-opus-4-7", 2048, "0.50"),
        ("claude-opus-4-6", 4096, "0.50"),
        ("claude-opus-4-5", 4096, "0.50"),
        ("claude-sonnet-5-5", 512, "0.10"),
        ("claude-sonnet-5", 1024, "0.20"),
        ("claude-sonnet-4-6", 1024, "0.30"),
        ("claude-haiku-5-5", 512, "0.01"),
        ("claude-haiku-4-5", 4096, "0.10"),
    ],
)
def test_minimums_and_reads(model: str, minimum: int, read: str) -> None:
    """Neither goes down steadily from one version to the next: both are data."""
    facts = known(model)
    assert facts.min_cacheable_tokens == minimum
    assert facts.prices[0].read == Decimal(read)


def test_a_dated_id_is_the_same_model() -> None:
    """`claude-opus-4-5` and `claude-opus-4-5-20251101` share their facts."""
    assert lookup("claude-opus-4-5-20251101") is known("claude-opus-4-5")


@pytest.mark.parametrize("name", ["", "claude", "claude-opus-4-5-20250229", "CLAUDE-OPUS-4-8"])
def test_an_unknown_model_has_no_facts(name: str) -> None:
    """None is guessed from a name that looks alike."""
    assert lookup(name) is None


def test_names_are_unique() -> None:
    """No name leads to two models."""
    names = [name for facts in models() for name in (facts.id, facts.dated_id) if name]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("tokens", "read"), [(0, "0.01"), (100_000, "0.01"), (100_001, "0.05")])
def test_a_tier_prices_the_whole_request(tokens: int, read: str) -> None:
    """The limit itself is still in the cheaper tier."""
    prices = known("claude-haiku-5-5").prices_for(tokens)
    assert prices is not None
    assert prices.read == Decimal(read)


def test_a_model_without_a_published_price_has_none() -> None:
    """Silence is no zero."""
    assert known("claude-mythos-preview").prices_for(1000) is None


def test_an_unknown_provider_is_named() -> None:
    """The error says which are known."""
    with pytest.raises(ValueError, match="'openai'; known are anthropic"):
        models("openai")


@pytest.mark.parametrize(
    "change",
    [
        ("min_cacheable_tokens = 512", "min_cachable_tokens = 512"),
        ("as_of = 2026-08-22", 'as_of = "summer"'),
    ],
    ids=["a misspelt field", "a date that is none"],
)
def test_a_slip_in_the_data_file_is_refused(change: tuple[str, str]) -> None:
    """It does not become a default."""
    with pytest.raises(msgspec.ValidationError):
        parse_models(DATA.read_text("utf-8").replace(*change))


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        (b"", "claude-opus-4-6", 0),
        (b"a", "claude-opus-4-6", 1),
        (b"a" * 400, "claude-opus-4-6", 100),
        (b"a" * 401, "claude-opus-4-6", 101),
        (b"a" * 400, "claude-opus-4-8", 130),
        (b"a" * 400, "a model of tomorrow", 100),
        ("ä".encode() * 200, "claude-opus-4-6", 100),
    ],
)
def test_the_token_estimate_is_a_stated_rule(text: bytes, model: str, tokens: int) -> None:
    """A quarter of the bytes, times the model's factor, rounded up."""
    assert estimate_tokens(text, model) == tokens
