"""Facts about models: minimum cacheable tokens and prices, each dated and with its source.

The facts live in `data/*.toml` because they age; this module only reads them. It never
guesses: a model that the file does not name has no facts, and callers decide what then.
Whoever pays other prices, or asks about other models, lays a file of the same form over it.
"""

import datetime as dt
import functools
import importlib.resources
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError

PROVIDERS: Final = ("anthropic",)


class FactsError(HeadwaterError):
    """A file of model facts cannot be used."""


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

    def __post_init__(self) -> None:
        """Refuse what no formula makes sense of: caching would never, or always, be cheaper."""
        if not 0 < self.read < self.input <= self.write_5m <= self.write_1h:
            raise ValueError(
                "prices have to rise from read over input (the read is cheaper) and write_5m to"
                f" write_1h, and these are {self.read}, {self.input}, {self.write_5m},"
                f" {self.write_1h}"
            )

    def write(self, ttl: TTL) -> Decimal:
        """The price of writing an entry that lives so long."""
        return self.write_5m if ttl == "5m" else self.write_1h


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one model.

    `prices` is ordered by prompt length and empty where no price is published.
    `keeps_thinking` tells whether thinking blocks of earlier turns stay in the prompt.
    `tokens_per_4_bytes` belongs to our estimator, see `headwater.providers.tokens`.
    From `min_cacheable_tokens` on a prefix is cached in steps of `increment_tokens`. A warming
    request is billed for `warm_uncached_tokens` and `warm_output_tokens` besides the prefix.
    `fast_multiplier`, `us_multiplier` and `batch_multiplier` are what every price is multiplied
    by for answers with `speed: fast`, `inference_geo: us` and `service_tier: batch`; None where
    the model has none. `web_search_usd` is the price of one search.
    """

    provider: str
    id: str
    line: str
    min_cacheable_tokens: int
    min_cacheable_source: Source
    keeps_thinking: bool
    tokens_per_4_bytes: Decimal
    increment_tokens: int
    increment_source: Source
    warm_uncached_tokens: int
    warm_output_tokens: int
    warm_source: Source
    batch_multiplier: Decimal
    batch_source: Source
    web_search_usd: Decimal
    web_search_source: Source
    fast_source: Source
    us_source: Source
    fast_multiplier: Decimal | None = None
    us_multiplier: Decimal | None = None
    prices: tuple[Prices, ...] = ()
    dated_id: str | None = None
    retires_on: dt.date | None = None

    def prices_for(self, prompt_tokens: int) -> Prices | None:
        """The prices of a whole request whose prompt has so many tokens, cached ones included."""
        for tier in self.prices:
            if tier.max_prompt_tokens is None or prompt_tokens <= tier.max_prompt_tokens:
                return tier
        return None

    def cached_tokens(self, tokens: int) -> int:
        """How much of a prefix of so many tokens is cached; 0 below the minimum."""
        if tokens < self.min_cacheable_tokens:
            return 0
        return tokens - (tokens - self.min_cacheable_tokens) % self.increment_tokens


@functools.cache
def models(provider: str = "anthropic") -> tuple[ModelFacts, ...]:
    """All models of a provider, in the order of the data file; ValueError if it is unknown."""
    if provider not in PROVIDERS:
        raise ValueError(
            f"There are no facts about the provider {provider!r}; known are {', '.join(PROVIDERS)}."
        )
    return parse_models(_installed(provider))


def data_date(provider: str = "anthropic") -> dt.date:
    """The day on which the facts of this release were last looked over."""
    return msgspec.convert(tomllib.loads(_installed(provider))["as_of"], dt.date)


def overlaid(text: str, provider: str = "anthropic") -> tuple[ModelFacts, ...]:
    """The models of a provider, with a user's own file laid over them.

    The file has the form of ours. A model of the same id keeps the facts that the file does not
    give; prices are replaced together, all tiers of them. Another id is another model.

    Raises:
        FactsError: not TOML, not of the form, or a source that nobody describes.
    """
    try:
        return parse_models(_installed(provider), text)
    except tomllib.TOMLDecodeError as error:
        raise FactsError(f"not TOML: {error}.") from error
    except KeyError as error:
        raise FactsError(f"{error} is missing: a name, or a [sources] entry.") from error
    except (msgspec.ValidationError, TypeError, AttributeError) as error:
        raise FactsError(f"not of the form of model facts: {error}.") from error


def parse_models(text: str, over: str = "") -> tuple[ModelFacts, ...]:
    """Model facts from the text of a data file, and of one that is laid over it.

    Raises where they are not of the expected shape.
    """
    data, others = tomllib.loads(text), tomllib.loads(over)
    sources = msgspec.convert(
        {**data["sources"], **others.get("sources", {})}, dict[str, Source], strict=True
    )
    given = {model["id"]: model for model in data["models"]}
    for model in others.get("models", ()):
        given[model["id"]] = {**given.get(model["id"], {}), **model}
    common = {"provider": data["provider"], **data["defaults"], **others.get("defaults", {})}
    return tuple(_facts({**common, **model}, sources) for model in given.values())


def _facts(model: Mapping[str, Any], sources: Mapping[str, Source]) -> ModelFacts:
    named = {key: sources[value] for key, value in model.items() if key.endswith("_source")}
    prices = [{**tier, "source": sources[tier["source"]]} for tier in model.get("prices", ())]
    return msgspec.convert({**model, **named, "prices": prices}, ModelFacts)


def _installed(provider: str) -> str:
    file = importlib.resources.files("headwater.providers").joinpath(f"data/{provider}.toml")
    return file.read_text("utf-8")


@functools.cache
def _by_name(provider: str) -> dict[str, ModelFacts]:
    return {
        name: facts for facts in models(provider) for name in (facts.id, facts.dated_id) if name
    }


def lookup(model: str, provider: str = "anthropic") -> ModelFacts | None:
    """The facts of a model by its id or its dated id; None if the model is not known."""
    return _by_name(provider).get(model)


def one_name(model: str, provider: str = "anthropic") -> str:
    """Return the id of a model that has a dated id, too; any other name as it is."""
    facts = lookup(model, provider)
    return model if facts is None else facts.id
