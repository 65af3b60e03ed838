"""Invoices: what stands in an answer's usage beside its tokens is billed, or named as unpriced.

The expected sums are worked out by hand from the provider's price list, in dollars per million.
"""

from decimal import Decimal

import pytest

from headwater.providers.cost import Unpriced, invoice
from headwater.providers.usage import FLAWED, Charge, Statement, Terms, Usage

MILLION = 1_000_000
SMALL = Usage(100, 20_000, 300, 400, 50)
"""Opus 4.8: 100*5 + 20,000*.5 + 300*6.25 + 400*10 + 50*25 = 17,625; uncached 105,250."""


def stated(usage: Usage, **more: object) -> Statement:
    return Statement((Charge(usage),), usage, **more)  # type: ignore[arg-type] # a test's words


@pytest.mark.parametrize(
    ("model", "statement", "actual", "uncached"),
    [
        ("claude-opus-4-8", stated(SMALL), "0.017625", "0.10525"),
        # Fast doubles every class.
        ("claude-opus-4-8", stated(SMALL, terms=Terms(speed="fast")), "0.03525", "0.2105"),
        (
            "claude-opus-5-5",
            stated(Usage(MILLION, 0, 0, 0, MILLION), terms=Terms(speed="fast")),
            "48",
            "48",
        ),
        (
            "claude-fable-5-2",
            stated(Usage(MILLION, 0, 0, 0, MILLION), terms=Terms(speed="fast")),
            "96",
            "96",
        ),
        (
            "claude-opus-4-8",
            stated(SMALL, terms=Terms(inference_geo="us")),
            "0.0193875",
            "0.115775",
        ),
        (
            "claude-opus-4-8",
            stated(SMALL, terms=Terms(service_tier="batch")),
            "0.0088125",
            "0.052625",
        ),
        # They multiply: 2 * 1.1 * 0.5.
        (
            "claude-opus-4-8",
            stated(SMALL, terms=Terms("fast", "us", "batch")),
            "0.0193875",
            "0.115775",
        ),
        # A search is billed by number, in no proportion to speed or place.
        ("claude-opus-4-8", stated(SMALL, web_searches=5), "0.067625", "0.15525"),
        (
            "claude-opus-4-8",
            stated(SMALL, web_searches=5, terms=Terms(speed="fast")),
            "0.08525",
            "0.2605",
        ),
        # A compaction that reads 180,000 tokens; the issue's $0.3355 of which $0.0355 were shown.
        (
            "claude-opus-4-8",
            Statement((Charge(Usage(60_000)), Charge(Usage(2_100, output=1_000)))),
            "0.3355",
            "0.3355",
        ),
        # Each model at its own price.
        (
            "claude-haiku-4-5",
            Statement((Charge(Usage(MILLION)), Charge(Usage(MILLION), "claude-opus-4-8"))),
            "6",
            "6",
        ),
        # By the length of each iteration's own prompt: not one of them is above 100,000.
        (
            "claude-haiku-5-5",
            Statement((Charge(Usage(80_000)), Charge(Usage(80_000)))),
            "0.016",
            "0.016",
        ),
    ],
)
def test_what_is_billed(model: str, statement: Statement, actual: str, uncached: str) -> None:
    """To the last digit, and nothing is unpriced."""
    found = invoice(statement, model)
    assert not found.unpriced
    assert (found.cost.actual, found.cost.uncached) == (Decimal(actual), Decimal(uncached))


@pytest.mark.parametrize(
    ("model", "statement", "reasons", "actual"),
    [
        ("claude-opus-4-8", None, {"usage"}, "0"),
        ("claude-opus-4-8", FLAWED, {"usage"}, "0"),
        ("claude-of-tomorrow", stated(SMALL), {"model"}, "0"),
        ("claude-of-tomorrow", stated(SMALL, web_searches=2), {"model"}, "0"),
        ("claude-mythos-preview", stated(SMALL), {"model"}, "0"),
        (
            "claude-opus-4-8",
            stated(SMALL, terms=Terms(service_tier="priority")),
            {"service_tier"},
            "0",
        ),
        (
            "claude-opus-4-8",
            stated(SMALL, terms=Terms(inference_geo="moon")),
            {"inference_geo"},
            "0",
        ),
        ("claude-opus-4-5", stated(SMALL, terms=Terms(inference_geo="us")), {"inference_geo"}, "0"),
        ("claude-sonnet-5", stated(SMALL, terms=Terms(speed="fast")), {"speed"}, "0"),
        (
            "claude-sonnet-5",
            stated(SMALL, terms=Terms("fast", "moon", "priority")),
            {"speed", "inference_geo", "service_tier"},
            "0",
        ),
        # The rest is billed all the same.
        (
            "claude-opus-4-8",
            Statement((Charge(SMALL), Charge(Usage(9), "a-model-of-tomorrow"))),
            {"model"},
            "0.017625",
        ),
        (
            "claude-opus-4-8",
            stated(SMALL, unknown=frozenset({"moon_requests"})),
            {"server_tool"},
            "0.017625",
        ),
    ],
)
def test_what_has_no_price_is_named(
    model: str, statement: Statement | None, reasons: set[str], actual: str
) -> None:
    """It is never taken for free in silence."""
    found = invoice(statement, model)
    assert found.unpriced == {Unpriced(reason) for reason in reasons}
    assert found.cost.actual == Decimal(actual)
