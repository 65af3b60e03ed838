"""Facts about models: minimum cacheable tokens and prices, each dated and with its source.

The facts live in `data/*.toml` because they age; this module only reads them. It never
guesses: a model that the file does not name has no facts, and callers decide what then.
"""

import datetime as dt
import functools
import importlib.resources
import tomllib
from decimal import Decimal
from typing import Final

import msgspec

PROVIDERS: Final = ("anthropic",)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a fact comes from: what kind of source, its public name, the day it was read."""

    kind: str
    page: str
    as_of: dt.date

    def __str__(self) -> str:
        return f"{self.kind}, {self.page}, as of {self.as_of.isoformat()}"


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens, for prompts of up to `max_prompt_tokens` (None: any)."""

    input: Decimal
    write_5m: Decimal
    write_1h: Decimal
    read: Decimal
    output: Decimal
    source: Source
    max_prompt_tokens: int | None = None


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one model.

    `prices` is ordered by prompt length and empty where no price is published.
    `keeps_thinking` tells whether thinking blocks of earlier turns stay in the prompt.
    `tokens_per_4_bytes` belongs to our estimator, see `headwater.providers.tokens`.
    """

    provider: str
    id: str
    line: str
    min_cacheable_tokens: int
    min_cacheable_source: Source
    keeps_thinking: bool
    tokens_per_4_bytes: Decimal
    prices: tuple[Prices, ...] = ()
    dated_id: str | None = None
    retires_on: dt.date | None = None

    def prices_for(self, prompt_tokens: int) -> Prices | None:
        """The prices of a whole request whose prompt has so many tokens, cached ones included."""
        for tier in self.prices:
            if tier.max_prompt_tokens is None or prompt_tokens <= tier.max_prompt_tokens:
                return tier
        return None


@functools.cache
def models(provider: str = "anthropic") -> tuple[ModelFacts, ...]:
    """All models of a provider, in the order of the data file; ValueError if it is unknown."""
    if provider not in PROVIDERS:
        raise ValueError(
            f"There are no facts about the provider {provider!r}; known are {', '.join(PROVIDERS)}."
        )
    text = importlib.resources.files("headwater.providers").joinpath(f"data/{provider}.toml")
    return parse_models(text.read_text("utf-8"))


def parse_models(text: str) -> tuple[ModelFacts, ...]:
    """Model facts from the text of a data file; raises where it is not of the expected shape."""
    data = tomllib.loads(text)
    sources = msgspec.convert(data["sources"], dict[str, Source])
    return tuple(
        msgspec.convert(
            {
                **model,
                "provider": data["provider"],
                "min_cacheable_source": sources[model["min_cacheable_source"]],
                "prices": [
                    {**tier, "source": sources[tier["source"]]} for tier in model.get("prices", ())
                ],
            },
            ModelFacts,
        )
        for model in data["models"]
    )


@functools.cache
def _by_name(provider: str) -> dict[str, ModelFacts]:
    return {
        name: facts for facts in models(provider) for name in (facts.id, facts.dated_id) if name
    }


def lookup(model: str, provider: str = "anthropic") -> ModelFacts | None:
    """The facts of a model by its id or its dated id; None if the model is not known."""
    return _by_name(provider).get(model)
