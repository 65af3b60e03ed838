"""What an answer's usage does to the counters: iterations, surcharges, gateways, bad input."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headwater.sidecar.relay.plan import Ending
from tests.unit.providers.test_statement import SEARCHED, step, wire
from tests.unit.providers.test_usage import event
from tests.unit.sidecar import bundles
from tests.unit.sidecar.test_exchange import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, bundles.make())


async def answered(
    bench: Bench,
    usage: Any,
    *,
    headers: Mapping[bytes, bytes] | None = None,
    streamed: bool = False,
    **fields: Any,
) -> None:
    """One request, answered with a usage."""
    exchange = bench.open(**fields)
    await exchange.enter()
    kind = "text/event-stream" if streamed else "application/json"
    exchange.began(200, kind, headers or {})
    if streamed:
        exchange.chunk(event("message_start", message={"usage": usage}))
        exchange.chunk(event("message_delta", delta={}, usage=wire(output=5)))
    else:
        exchange.chunk(json.dumps({"type": "message", "usage": usage}).encode())
    exchange.end(Ending.COMPLETE)


def money(bench: Bench) -> tuple[float, float]:
    """Cost and savings, in millionths of a dollar."""
    costs = bench.samples("headwater_cost_usd_total")
    saved = bench.samples("headwater_savings_usd_total")
    return sum(v for _, v in costs) * 1e6, sum(v for _, v in saved) * 1e6


def unpriced(bench: Bench) -> dict[str, float]:
    return {
        labels["reason"]: value
        for labels, value in bench.samples("headwater_unpriced_answers_total")
    }


COLD_FIRST = wire(20, 3_000, 100, 0, 9) | {
    "iterations": [
        step("message", 10, 0, 1_500, 0, 4),
        step("message", 10, 1_500, 100, 0, 5),
    ]
}
"""Nothing was cached; the second iteration reads what the first wrote."""
WARM_FIRST = wire(20, 3_000, 200, 0, 9) | {
    "iterations": [
        step("message", 10, 100, 0, 0, 4),
        step("message", 10, 100, 2_000, 0, 5),
    ]
}
"""The contract was read; the team's own markers wrote more than ever before."""


async def test_the_first_iteration_decides_whether_it_was_a_hit(bench: Bench) -> None:
    """Sixty requests that found a warm lane are hits, sixty that did not are misses."""
    await answered(bench, wire(7, 0, 100, 0, 5))
    for _ in range(60):
        await answered(bench, WARM_FIRST)
    for _ in range(60):
        await answered(bench, COLD_FIRST)
    assert bench.outcomes() == {
        ("miss", "false"): 1,
        ("hit", "true"): 60,
        ("miss", "true"): 60,
    }


async def test_the_sum_over_iterations_says_nothing_of_the_lane(bench: Bench) -> None:
    """A warm request with searches reads the same each time: its sum must teach no size."""
    await answered(bench, wire(7, 0, 1_100, 0, 5))
    steps = [step("message", 0, 1_100), step("message", 70, 1_900, 200, 0, 90)]
    for _ in range(3):
        await answered(bench, SEARCHED | {"iterations": steps})
    assert bench.outcomes()["hit", "true"] == 3


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("more", "cost", "saved"),
    [
        ({}, 625, -125),
        ({"speed": "fast"}, 1_250, -250),
        ({"inference_geo": "us"}, 687.5, -137.5),
        ({"service_tier": "batch"}, 312.5, -62.5),
        ({"server_tool_use": {"web_search_requests": 5}}, 50_625, -125),
        (
            {"iterations": [step("compaction", 60_000), step("message", 0, 0, 100)]},
            300_625,
            -125,
        ),
    ],
    ids=["plain", "fast", "us", "batch", "searches", "compaction"],
)
async def test_cost_is_what_is_billed(
    bench: Bench, more: dict[str, Any], cost: float, saved: float, *, streamed: bool
) -> None:
    """A hundred written tokens of Opus 4.8, 5 dollars a million, and what comes on top."""
    usage = wire(0, 0, 100, 0, 0) | more
    exchange = bench.open()
    await exchange.enter()
    exchange.began(200, "text/event-stream" if streamed else "application/json")
    if streamed:
        exchange.chunk(event("message_start", message={"usage": usage}))
    else:
        exchange.chunk(json.dumps({"usage": usage}).encode())
    exchange.end(Ending.COMPLETE)
    assert money(bench) == pytest.approx((cost, saved))
    assert unpriced(bench) == {}


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({"service_tier": "priority"}, {"service_tier": 1}),
        ({"inference_geo": "moon"}, {"inference_geo": 1}),
        ({"speed": "warp"}, {"speed": 1}),
        ({"server_tool_use": {"moon_requests": 1}}, {"server_tool": 1}),
        (
            {"iterations": [step("advisor_message", 5, model="claude-of-tomorrow")]},
            {"model": 1},
        ),
    ],
)
async def test_what_has_no_price_is_counted_and_named(
    bench: Bench, more: dict[str, Any], reasons: dict[str, float]
) -> None:
    """It is not in the cost, and one sees that it is not."""
    await answered(bench, wire(0, 0, 100, 0, 0) | more)
    assert unpriced(bench) == reasons


@pytest.mark.parametrize(
    "impossible",
    [
        {"input_tokens": 10**30},
        {"cache_read_input_tokens": -1},
        {"output_tokens": 10**18},
        {"iterations": [step("message", -7)]},
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_usage_that_cannot_be_is_no_evidence(
    bench: Bench, impossible: dict[str, Any], *, streamed: bool
) -> None:
    """It is named; no token, no cost, no hit and no miss comes of it, and the next one counts."""
    await answered(bench, wire(7, 0, 100, 0, 5))
    before = bench.samples("headwater_input_tokens_total"), money(bench)
    await answered(bench, wire(7, 100, 0, 0, 5) | impossible, streamed=streamed)
    assert (bench.samples("headwater_input_tokens_total"), money(bench)) == before
    assert unpriced(bench) == {"usage": 1}
    assert bench.outcomes() == {("miss", "false"): 1, ("unknown", "true"): 1}
    await answered(bench, wire(7, 100, 0, 0, 5))
    assert bench.outcomes()["hit", "true"] == 1


async def test_an_answer_without_usage_is_named(bench: Bench) -> None:
    """What it cost cannot be told."""
    await answered(bench, None)
    await answered(bench, {"input_tokens": "5"})
    assert unpriced(bench) == {"usage": 2}


LAYERS: Mapping[str, Mapping[bytes, bytes]] = {
    "litellm": {b"x-litellm-cache-key": b"0b6f"},
    "portkey": {b"x-portkey-cache-status": b"HIT"},
    "helicone": {b"helicone-cache": b"HIT"},
    "cloudflare": {b"cf-aig-cache-status": b"HIT"},
}


@pytest.mark.parametrize("layer", LAYERS)
async def test_an_answer_of_a_gateways_own_is_no_hit(bench: Bench, layer: str) -> None:
    """The provider was not asked: nothing read, billed, saved, timed or warmed."""
    await answered(bench, wire(7, 100, 0, 0, 5), headers=LAYERS[layer])
    (labels, count), = bench.samples("headwater_requests_total")  # fmt: skip
    assert (labels["outcome"], labels["eligible"], labels["layer"]) == ("gateway", "false", layer)
    assert count == 1
    assert money(bench) == (0, 0)
    assert bench.samples("headwater_input_tokens_total") == []
    assert unpriced(bench) == {}
    assert sum(v for _, v in bench.samples("headwater_time_to_first_byte_seconds_count")) == 0
    assert bench.samples("headwater_lane_last_used_timestamp_seconds") == []
    # The lane is as cold as it was: the next one is the first.
    await answered(bench, wire(7, 0, 100, 0, 5))
    assert bench.outcomes()["miss", "false"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-portkey-cache-status": b"MISS"},
        {b"x-portkey-cache-status": b"SEMANTIC MISS"},
        {b"x-portkey-cache-status": b"DISABLED"},
        {b"helicone-cache": b"MISS"},
        {b"cf-aig-cache-status": b"MISS"},
        {b"x-litellm-cache-hit": b"False", b"x-litellm-cache-key": b"0b6f"},
        {b"x-litellm-cache-key": b""},
        {b"cf-cache-status": b"DYNAMIC"},
    ],
)
async def test_a_gateway_that_asked_the_provider_changes_nothing(
    bench: Bench, headers: Mapping[bytes, bytes]
) -> None:
    """What it says of its own store is then a miss."""
    await answered(bench, wire(7, 0, 100, 0, 5), headers=headers)
    await answered(bench, wire(7, 100, 0, 0, 5), headers=headers)
    assert bench.outcomes() == {("miss", "false"): 1, ("hit", "true"): 1}


async def test_what_passes_untouched_saves_nothing(tmp_path: Path) -> None:
    """Under Observe the application's own caching is its own merit."""
    bench = Bench(tmp_path, bundles.observing(bundles.make()))
    await answered(bench, wire(7, 5_000, 0, 0, 5), tools=[{"name": "mine"}])
    assert bench.outcomes() == {("off_contract", "false"): 1}
    assert money(bench) == pytest.approx((7 * 5 + 5_000 * 0.5 + 5 * 25, 0))
