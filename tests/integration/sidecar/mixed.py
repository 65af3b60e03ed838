"""What the metrics of a sidecar and the simulator's ledger say of mixed traffic (`traffic`)."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision
from headwater.providers.cost import cost
from headwater.providers.models import lookup
from headwater.providers.usage import Usage
from tests.integration.sidecar.traffic import (
    ALSO_WHOLE,
    BATCHED,
    CUT,
    HALF,
    LEFT,
    WHOLE,
)
from tests.unit.sidecar import bundles

KINDS: Final = ("uncached", "cache_read", "cache_write_5m", "cache_write_1h")
MODELS: Final = (WHOLE, ALSO_WHOLE, CUT, LEFT, HALF, BATCHED)
CONTENT: Final[Mapping[str, Any]] = {
    "tools": [{"name": "search", "input_schema": {"type": "object"}}],
    "system": [{"text": f"{bundles.TEXT} v1 {'steady ' * 5_000}"}],
}
"""A contract over the minimum of every model here."""
TTL: Final = "1h"
"""The contract's, so that a team may mark for an hour and for five minutes."""


def declared() -> Bundle:
    """The contract, published to everyone."""
    data = canonical_bytes(content(**CONTENT, ttl=TTL))
    route = replace(
        bundles.make().route,
        stable=Revision("v1", Digest.of(data)),
        models=MODELS,
        ttl=TTL,
    )
    return Bundle(route, {Digest.of(data): data})


OUTCOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "error": ("overloaded", "bad", "away", "cut stream", "error in a stream", "half"),
    "rejected": ("rejected",),
    "refused": ("refused",),
}
"""Outcomes that follow from what is drawn."""


def told(exposition: str, metric: str, label: str) -> dict[str, Counter[str]]:
    """A metric by model and `label` (empty where the metric has it not)."""
    found: dict[str, Counter[str]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == metric:
                labels = sample.labels
                key = labels.get(label, "")
                found.setdefault(labels["model"], Counter())[key] += sample.value  # type: ignore[assignment]
    return found


async def ledger(simulator_url: str) -> dict[str, Usage]:
    """What the simulator billed, by model."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{simulator_url}/_simulator/stats") as answer,
    ):
        return billed(await answer.text())


def billed(stats: str) -> dict[str, Usage]:
    """The same, of what the simulator's `/_simulator/stats` told."""
    return {
        row["model"]: Usage(**{name: row[name] for name in (*KINDS, "output")})
        for row in json.loads(stats)["totals"]
    }


def check(exposition: str, ledger: Mapping[str, Usage], drawn: Counter[str]) -> None:
    """Metrics equal the ledger: every token once, under its model, at its price."""
    tokens = told(exposition, "headwater_input_tokens_total", "kind")
    outputs = told(exposition, "headwater_output_tokens_total", "")
    costs = told(exposition, "headwater_cost_usd_total", "")
    saved = told(exposition, "headwater_savings_usd_total", "")
    assert set(tokens) == {WHOLE, ALSO_WHOLE, CUT, LEFT}
    for model, counted in tokens.items():
        assert dict(counted) == {kind: getattr(ledger[model], kind) for kind in KINDS}, model
    for kind in KINDS:
        assert tokens[WHOLE][kind] > 0
    assert outputs[WHOLE][""] == ledger[WHOLE].output
    assert outputs[ALSO_WHOLE][""] == ledger[ALSO_WHOLE].output
    assert outputs[CUT][""] == drawn["cut stream"] + drawn["error in a stream"]
    assert drawn["left stream"] <= outputs[LEFT][""] <= ledger[LEFT].output
    for model in tokens:
        facts = lookup(model)
        assert facts is not None
        usage = Usage(**{kind: int(tokens[model][kind]) for kind in KINDS},
                      output=int(outputs[model][""]))  # fmt: skip
        price = cost(usage, facts)
        assert price is not None
        assert _close(costs[model][""], price.actual)
        assert _close(saved[model][""], price.savings)
    outcomes: Counter[str] = sum(
        told(exposition, "headwater_requests_total", "outcome").values(), Counter()
    )
    uncounted = drawn["count"] + drawn["batch"]
    assert outcomes.total() == drawn.total() - uncounted
    for outcome, acts in OUTCOMES.items():
        assert outcomes[outcome] == sum(drawn[act] for act in acts), outcome


def _close(counted: float, exact: Decimal) -> bool:
    """Counters are binary fractions: a millionth of a cent may be lost."""
    return abs(Decimal(counted) - exact) < Decimal("0.000000001")
