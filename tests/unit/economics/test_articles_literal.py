"""What the articles print, taken literally: their own formulas, slips included.

Each claim by its name; `test_articles_corrected.py` has what it really costs. These rows show that
a printed figure was understood, so that the corrected one answers the same question.
"""

import math
from decimal import Decimal

import pytest

from headwater.economics.conversation import total
from headwater.economics.warming import daily_cost
from headwater.providers.cost import cost
from headwater.providers.usage import Usage
from tests.unit.economics.articles import (
    EVERY_4_MINUTES,
    FIVE_MINUTES,
    MONTH,
    NO_PREMIUM,
    OPUS,
    OUTPUT_AS_INPUT,
    PLAIN,
    REQUESTS,
    SONNET,
    TENANT_REQUESTS,
    D,
    Golden,
    application,
    rounded,
    tenants,
    warmed_lane,
)
from tests.unit.economics.test_articles_corrected import (
    CORRECTED,
    months_of,
    of_tenants,
    saved_by_padding,
)

GROWTH_UNCHARGED = (
    Usage(uncached=500, cache_write_5m=2_500),
    *(Usage(uncached=800, cache_read=read) for read in (2_500, 3_100, 3_700, 4_300)),
)
"""What a turn adds is sent as input and read by the next, but never billed as a write."""


def _paid(usage: Usage) -> Decimal:
    found = cost(usage, SONNET)
    assert found is not None
    return found.actual


PER_REQUEST = D("0.00375")
"""What one request of pattern 1 costs, as printed; how it is made up is not told."""

LITERAL: Golden = {
    "no cache, cold, hit": [
        (application("0").without_cache, "0.0350"),
        (application("0").total, "0.038125"),
        (application("1").total, "0.02375"),
    ],
    "break-even": [
        (FIVE_MINUTES.break_even_reads, "0.28"),
        (1 + FIVE_MINUTES.break_even_reads, "1.28"),
    ],
    "a month": [
        (months_of(application("0").without_cache, REQUESTS), "10500"),
        (REQUESTS * D("0.3") * application("0").total, "114.38"),
        (REQUESTS * D("0.7") * application("1").total, "166.25"),
        (D("114.38") + D("166.25"), "280.63"),
        (months_of(application("0.7").total, REQUESTS), "8418.75"),
        (months_of(application("0.7").saving, REQUESTS), "2081.25"),
        (100 * application("0.7").saving / application("0").without_cache, "19.8"),
    ],
    # "30-40% on input" is printed without inputs; its own month has more than that.
    "saving on input": [(100 * (1 - D("2418.75") / 4_500), "46.25")],
    "net of the warmer": [(2_100 - D("10.80").to_integral(), "2089")],
    "multi-turn input total": [(total(GROWTH_UNCHARGED, OPUS).actual, "0.04093")],
    "multi-turn per turn": [
        (D("0.10400") - D("0.04093"), "0.06307"),
        (100 * (1 - D("0.04093") / D("0.10400")), "60.6"),
        # The saving on these many read tokens is what it prints for turns 2, 4 and 5.
        *(
            (tokens * (OPUS.prices[0].input - OPUS.prices[0].read) / 1_000_000, delta)
            for tokens, delta in ((2_800, "0.01260"), (5_000, "0.02250"), (6_100, "0.02745"))
        ),
    ],
    # The cold request in full, though a warming request sends neither question nor answer.
    "warm login": [
        (application("0").total, "0.038"),
        (math.ceil(D("0.038") / (application("0").without_cache - application("1").total)), "4"),
    ],
    "keep-alive": [
        (15 * D("0.016"), "0.24"),
        (D("0.24") / (application("0").without_cache - application("1").total) + 1, "22"),
    ],
    "cron warmer": [
        (warmed_lane(PLAIN).ping, "0.001"),
        (MONTH * daily_cost(EVERY_4_MINUTES, warmed_lane(PLAIN)).pings, "10800"),
        (MONTH * daily_cost(EVERY_4_MINUTES, warmed_lane(PLAIN)).usd, "10.80"),
    ],
    # No figure is printed for "a handful"; five would save this much of the $10.80.
    "a handful of penalties": [(5 * warmed_lane(PLAIN).penalty, "0.06")],
    "words": [(1_024 * D("0.75"), "768")],
    "padding": [
        (saved_by_padding("0.5", "no-premium-to-the-token"), "32.8"),
        (saved_by_padding("0.7", "no-premium-to-the-token"), "54.8"),
        (100 * NO_PREMIUM.hit_rate_to_beat(D(900) / 1_100), "20.2"),
    ],
    "5.8 times": [(D(4_200) / 726, "5.8")],
    "just-in-time saves 95%": [(100 * (1 - D(226) / 4_200), "95")],
    # Nothing that it prints leads to 4: by its own prices the second request pays.
    "4+ turns": [(FIVE_MINUTES.pays_from_request, "2")],
    # The sums fit 100 and 10,000 tenants in a year of 300 days.
    "a tenant's day": [
        (D("1.50") * 100 * 300, "45000"),
        (D("45000") * 100, "4500000"),
    ],
    "500 tenants": [
        (TENANT_REQUESTS * 4_500, "225000000"),
        (TENANT_REQUESTS * tenants("1").without_cache, "675"),
        (of_tenants(tenants("1").without_cache), "20250"),
        (TENANT_REQUESTS * tenants("1").total, "472.50"),
        (of_tenants(tenants("1")), "14175"),
        (of_tenants(tenants("1").saving), "6075"),
        (100 * tenants("1").saving / tenants("1").without_cache, "30"),
    ],
    "10,000 tenants": [
        (20 * of_tenants(tenants("1").without_cache), "405000"),
        (20 * of_tenants(tenants("1")), "283500"),
        (12 * D(121_000), "1452000"),
    ],
    # 36,000 tokens at $0.30 for a thousand, not for a million.
    "a cache for each tenant": [
        (100 * tenants("1").without_cache + 36 * D("0.30"), "12.15"),
        (500 * D("12.15"), "6075"),
        (MONTH * 500 * D("12.15"), "182250"),
        (D(math.floor(10 * 182_250 / of_tenants(tenants("1")))) / 10, "12.8"),  # cut, not rounded
    ],
    "the shared formula": [
        (TENANT_REQUESTS * (tenants("1").total + OUTPUT_AS_INPUT), "502.50"),
        (of_tenants(tenants("1").total + OUTPUT_AS_INPUT), "15075"),
    ],
    # Half of the requests read the shared tokens; the other half gets them for nothing.
    "the per-tenant formula": [
        (
            TENANT_REQUESTS
            * (_paid(Usage(uncached=3_000)) + _paid(Usage(cache_read=1_500)) / 2 + OUTPUT_AS_INPUT),
            "491.25",
        ),
        (MONTH * D("491.25"), "14738"),
    ],
    "pattern 1": [
        (of_tenants(PER_REQUEST), "5625"),
        (100 * of_tenants(PER_REQUEST) / D(15_075), "37"),
    ],
    "time to first token": [(100 * D(1_500) / 4_500, "33")],
    "throughput": [
        (1 / D("4.5"), "0.22"),
        (1 / D(3), "0.33"),
        (100 * (D("0.33") / D("0.22") - 1), "50"),
    ],
    "three companies": [
        (12 * (D(18_000) - 8_000), "120000"),
        (12 * (D(24_000) - 22_000), "24000"),
        (12 * (D(120_000) - 45_000), "900000"),
    ],
}


@pytest.mark.parametrize("claim", LITERAL)
def test_literal(claim: str) -> None:
    """As printed."""
    for value, expected in LITERAL[claim]:
        assert rounded(value, expected) == D(expected)


def test_every_claim_has_both() -> None:
    """One set is worth nothing without the other."""
    assert list(LITERAL) == list(CORRECTED)
