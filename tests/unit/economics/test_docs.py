"""docs/economics.md: each example's arithmetic is right, and is what the code computes."""

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from headwater.cli._workload import schedules
from headwater.economics.bill import Layer, bill
from headwater.economics.conversation import total, turns
from headwater.economics.formulas import Multipliers, pings_beyond_which_an_hour_is_cheaper
from headwater.economics.traffic import Poisson
from headwater.economics.warming import Lane, daily_cost, pays_between, warmer_pays
from headwater.providers.models import ModelFacts, lookup, overlaid
from tests.unit.economics.articles import EVERY_4_MINUTES

DOCS: Final = Path(__file__).parents[3] / "docs"
TEXT: Final = (DOCS / "economics.md").read_text("utf-8")
EXAMPLES: Final = re.findall(r"^> (.+) = ([\d.]+)(?: .*)?$", TEXT, re.MULTILINE)
SIGNS: Final = {
    "\N{DIVISION SIGN}": "/",
    "\N{MULTIPLICATION SIGN}": "*",
    "\N{MINUS SIGN}": "-",
    "\N{LEFT FLOOR}": "floor(",
    "\N{RIGHT FLOOR}": ")",
}
D = Decimal


def opus() -> ModelFacts:
    facts = lookup("claude-opus-4-8")
    assert facts is not None
    return facts


PRICES: Final = opus().prices[0]
SHORT, LONG = Multipliers.of(PRICES, "5m"), Multipliers.of(PRICES, "1h")
LANE, HOUR = Lane(20_000, opus(), "5m"), Lane(20_000, opus(), "1h")
TENTH: Final = Poisson(D("0.1"))
VERDICT: Final = warmer_pays(TENTH, LANE, EVERY_4_MINUTES)
SCHEDULES: Final = schedules()
CONVERSATION: Final = total(turns(20_000, 600, (0,) * 8, opus()), opus())
COMPUTED: Final = (
    bill([Layer("all", 20_000, D("0.8"), "5m")], opus(), tail=500, output=300).total,
    SHORT.break_even_reads,
    LONG.break_even_reads,
    SHORT.profitable_hit_rate,
    LONG.profitable_hit_rate,
    TENTH.hit_rate(LANE.lifetime),
    TENTH.hit_rate(HOUR.lifetime),
    LANE.ping,
    D(LANE.pings_per_rewrite),
    pings_beyond_which_an_hour_is_cheaper(PRICES),
    VERDICT.cold_starts,
    VERDICT.saved,
    VERDICT.cost.usd,
    SHORT.hit_rate_to_beat(D(900) / 1_024),
    SHORT.hit_rate_to_beat(D(900) / 4_096),
    CONVERSATION.uncached,
    CONVERSATION.actual,
    Poisson(D(35)).split(500).hit_rate(LANE.lifetime),
)
"""In the order of the document."""


def arithmetic(expression: str) -> float:
    """What is written there, by Python's own rules."""
    python = re.sub(r"(?<=\d),(?=\d)", "", expression).replace("e^", "exp")
    for written, meant in SIGNS.items():
        python = python.replace(written, meant)
    return float(eval(python, {"exp": math.exp, "floor": math.floor}))


@pytest.mark.parametrize(
    ("example", "computed"), list(zip(EXAMPLES, COMPUTED, strict=True)), ids=range(len(COMPUTED))
)
def test_an_example(example: tuple[str, str], computed: Decimal) -> None:
    """Both ways the printed number comes out, rounded as it is printed."""
    expression, printed = example
    places = len(printed.partition(".")[2])
    assert f"{arithmetic(expression):.{places}f}" == printed
    assert f"{computed:.{places}f}" == printed


def test_the_facts_of_a_user_are_a_file_that_can_be_used() -> None:
    """The one that the page shows."""
    (file,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    by_id = {facts.id: facts for facts in overlaid(file)}
    assert by_id["claude-opus-4-8"].prices[0].read == D("0.40")
    assert by_id["claude-opus-4-8"].min_cacheable_tokens == opus().min_cacheable_tokens
    assert by_id["another-model"].cached_tokens(1_100) == 1_024
    assert len(by_id) > 2


def test_should_i() -> None:
    """docs/warming.md answers with the break-evens of the formulas, and for any length."""
    text = (DOCS / "warming.md").read_text("utf-8")
    rows = re.findall(r"^\| `(claude-\S+)` \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    for model, cells in rows:
        assert cells == _break_evens(model, 20_000)
    hours, minutes, _ = _break_evens("claude-opus-4-8", 200_000).split(" | ")
    assert f"| rarer than one in {hours} |" in text
    assert f"| up to one in {minutes} |" in text


def _break_evens(model: str, tokens: int) -> str:
    """Like the cells of a row; from where on caching with a warmer beats no cache, and so on."""
    facts = lookup(model)
    assert facts is not None
    lane, short = Lane(tokens, facts, "1h"), Lane(tokens, facts, "5m")
    saved = tokens * (lane.prices.input - lane.prices.read) / 1_000_000
    band, short_band = (pays_between(each, SCHEDULES[each.ttl]) for each in (lane, short))
    assert band is not None
    assert short_band is not None
    rate = D(0)
    for _ in range(50):  # of requests an hour that save as much as the pings cost that they leave
        rate = daily_cost(SCHEDULES["1h"], lane, Poisson(rate / 60)).usd / 24 / saved
    return (
        f"{1 / rate:.0f} hours | {1 / band[1]:.0f} minutes"
        f" | one in {1 / short_band[0]:.0f} to one in {1 / short_band[1]:.1f} minutes"
    )
