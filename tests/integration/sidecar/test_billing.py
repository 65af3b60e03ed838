"""What the sidecar counts is what the simulator billed, for answers that are billed by more.

The ledger here is worked out on its own: from the usage objects that the simulator sent, at the
provider's price list typed in once more, in fractions.
"""

import json
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from headwater.simulator.server import Settings, serving
from tests.integration.sidecar import mixed
from tests.integration.sidecar.traffic import WHOLE
from tests.integration.test_sidecar import running
from tests.integration.test_sidecar_simulator import Provider

MODEL = WHOLE
PRICES = {
    "input_tokens": Fraction(5),
    "cache_read_input_tokens": Fraction(1, 2),
    "ephemeral_5m_input_tokens": Fraction(25, 4),
    "ephemeral_1h_input_tokens": Fraction(10),
    "output_tokens": Fraction(25),
}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "defer_loading": True}
EDITS = {
    "edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]
}
BETAS = {"anthropic-beta": "compact-2026-01-12"}
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    found = Provider("", None)  # type: ignore[arg-type]  # set below: each needs the other
    async with (
        serving(Settings(latency_base_ms=1), clock=found.clock) as found.url,
        running(tmp_path / "b", found.url, mixed.declared(), found.clock) as found.sidecar,
    ):
        yield found


def dollars(bill: dict[str, Any]) -> Fraction:
    """What one answer's usage object comes to."""
    parts = bill.get("iterations") or [bill]
    millionths = Fraction(0)
    for part in parts:
        counts = {**part, **part["cache_creation"]}
        millionths += sum(counts[name] * price for name, price in PRICES.items())
    if bill.get("speed") == "fast":
        millionths *= 2
    if bill.get("inference_geo") == "us":
        millionths *= Fraction(11, 10)
    searches = bill.get("server_tool_use", {}).get("web_search_requests", 0)
    return millionths / 1_000_000 + Fraction(searches, 100)


async def test_cost_equals_an_independent_ledger(provider: Provider) -> None:
    """Speed, place, searches and compactions, streamed and not."""
    kinds: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({}, {}),
        ({}, {"speed": "fast"}),
        ({}, {"inference_geo": "us"}),
        ({}, {"speed": "fast", "inference_geo": "us"}),
        ({"x-simulator-searches": "3"}, {"tools": [SEARCH]}),
        (BETAS, {"context_management": EDITS}),
    ]
    for number, (headers, fields) in enumerate(kinds * 2):
        content = f"{number} asks " + "long " * (60_000 if "context_management" in fields else 5)
        body = {
            "model": MODEL, "max_tokens": 9, "stream": number >= len(kinds),
            "messages": [{"role": "user", "content": content}], **fields,
        }  # fmt: skip
        async with provider.sidecar.post(
            json.dumps(body), headers={"x-api-key": "k", **VERSION, **headers}
        ) as got:
            assert got.status == 200, await got.text()
            await got.read()
    records = await provider.requests()
    exact = sum((dollars(record["bill"]) for record in records), Fraction(0))
    exposition = provider.sidecar.sidecar.metrics.exposition().decode()
    counted = mixed.told(exposition, "headwater_cost_usd_total", "")[MODEL][""]
    assert abs(Fraction(counted) - exact) <= exact * Fraction(1, 10**9)
    assert not mixed.told(exposition, "headwater_unpriced_answers_total", "reason")
    tokens = mixed.told(exposition, "headwater_input_tokens_total", "kind")[MODEL]
    for kind in mixed.KINDS:
        assert tokens[kind] == sum(record["usage"][kind] for record in records), kind


async def test_sixty_warm_requests_with_searches_are_hits(provider: Provider) -> None:
    """And what was cold in its first iteration is a miss, whatever later ones read."""

    async def ask(key: str, number: int) -> None:
        body = {
            "model": MODEL, "max_tokens": 9, "tools": [SEARCH],
            "messages": [{"role": "user", "content": f"{number} asks"}],
        }  # fmt: skip
        headers = {"x-api-key": key, "x-simulator-searches": "2", **VERSION}
        async with provider.sidecar.post(json.dumps(body), headers=headers) as got:
            assert got.status == 200, await got.text()
            await got.read()

    for number in range(61):
        await ask("warm", number)
    for number in range(60):
        await ask(f"cold-{number}", number)
    assert provider.sidecar.counted('requests_total outcome="hit" eligible="true" 60.0')
    assert provider.sidecar.counted('requests_total outcome="miss" eligible="false" 61.0')
