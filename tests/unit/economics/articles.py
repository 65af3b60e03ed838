"""The articles' worked examples as workloads: their tokens, at the prices that they use."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Final

from headwater.contract.content import TTL
from headwater.economics.bill import Bill, Layer, bill
from headwater.economics.formulas import Multipliers
from headwater.economics.warming import Lane, Schedule
from headwater.providers.models import ModelFacts, overlaid

D = Decimal
MODELS: Final = {
    facts.id: facts for facts in overlaid((Path(__file__).parent / "articles.toml").read_text())
}
OPUS: Final = MODELS["claude-opus-4-5"]
PLAIN: Final = MODELS["opus-without-overhead"]
SONNET: Final = MODELS["claude-sonnet-4-6"]
MONTH: Final = 30
"""Days, as all articles count."""
REQUESTS: Final = 10_000
"""A day, in the article on one application."""
EVERY_4_MINUTES: Final = Schedule(timedelta(minutes=4))
FIVE_MINUTES: Final = Multipliers(D("1.25"), D("0.1"))
AN_HOUR: Final = Multipliers(D(2), D("0.1"))
NO_PREMIUM: Final = Multipliers(D(1), D("0.1"))

Golden = Mapping[str, Sequence[tuple[Decimal | int, str]]]
"""By the name of the claim: what is computed, and what it has to be once it is rounded so far."""


def rounded(value: Decimal | int, like: str) -> Decimal:
    """Rounded to as many places as the text has."""
    return D(value).quantize(D(like), ROUND_HALF_UP)


def application(hit_rate: str) -> Bill:
    """One request: 2,500 cached tokens, 500 of a question, 800 of an answer."""
    return bill([Layer("all", 2_500, D(hit_rate), "5m")], OPUS, tail=500, output=800)


def warmed_lane(facts: ModelFacts = OPUS, ttl: TTL = "5m", tokens: int = 2_000) -> Lane:
    return Lane(tokens, facts, ttl)


def tenants(hit_rate: str, ttl: TTL = "5m", *, context_hits: str | None = None) -> Bill:
    """One request of 500 tenants: 1,500 shared tokens, 3,000 of the tenant's, no output."""
    layers = [Layer("shared", 1_500, D(hit_rate), ttl)]
    if context_hits is None:
        return bill(layers, SONNET, tail=3_000)
    return bill([*layers, Layer("tenant", 3_000, D(context_hits), ttl)], SONNET)


TENANT_REQUESTS: Final = 500 * 100
"""A day, of all tenants."""
OUTPUT: Final = bill((), SONNET, output=200).output
"""Of one answer at the price of output, which one article prices as input."""
OUTPUT_AS_INPUT: Final = bill((), SONNET, tail=200).uncached_input
