"""How exact the cost of surcharged answers is, beside sums of fractions worked out on their own."""

import json
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.rows import Row
from headwater.providers.cost import invoice
from headwater.providers.usage import statement_from_json
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics

_PRICES: Final[Mapping[str, tuple[str, str, str, str, str]]] = {
    "claude-fable-5-2": ("8", "0.2", "10", "16", "40"),
    "claude-opus-5-5": ("4", "0.2", "5", "8", "20"),
    "claude-opus-5": ("5", "0.5", "6.25", "10", "25"),
    "claude-opus-4-8": ("5", "0.5", "6.25", "10", "25"),
}
"""Input, read, write for 5m, write for 1h, output: the provider's page, typed in once more."""
_ADVISOR: Final = "claude-opus-5"
_SPEED: Final = {None: Fraction(1), "standard": Fraction(1), "fast": Fraction(2)}
_GEO: Final = {None: Fraction(1), "global": Fraction(1), "us": Fraction(11, 10)}
_TIER: Final = {None: Fraction(1), "standard": Fraction(1), "batch": Fraction(1, 2)}
_SEARCH: Final = Fraction(1, 100)
_KINDS: Final = ("message", "compaction", "advisor_message")


def measure() -> list[Row]:
    """The largest relative error of an answer's cost, and of the counter that sums them up."""
    worst, whole = Fraction(0), Fraction(0)
    with TemporaryDirectory() as nothing:
        metrics = Metrics(Identity(), BundleFollower(Path(nothing)), Lanes(), time.monotonic)
        for model, usage, exact in _answers():
            statement = statement_from_json(json.dumps({"usage": usage}).encode())
            found = invoice(statement, model)
            worst = max(worst, abs(Fraction(found.cost.actual) - exact) / exact)
            worst = max(worst, Fraction(len(found.unpriced)))
            metrics.of(None, model).used(model, statement)
            whole += exact
        counted = next(
            sample.value
            for family in metrics.families()
            for sample in family.samples
            if sample.name == "headwater_cost_usd_total"
        )
    worst = max(worst, abs(Fraction(counted) - whole) / whole)
    return [Row("cost.error_surcharges", float(worst), "relative", "<= 1e-9")]


def _answers() -> Iterator[tuple[str, dict[str, Any], Fraction]]:
    """Every model with every term, plain and with iterations and searches: usage and its cost."""
    draw = Random(16)  # noqa: S311 - a table
    for model, speed, geo, tier, kinds in product(
        _PRICES, _SPEED, _GEO, _TIER, ((), ("message",), _KINDS)
    ):
        first = _drawn(draw)
        steps = [_drawn(draw) for _ in kinds]
        included = [first, *(step for step, kind in zip(steps, kinds, strict=True)
                             if kind == "message")]  # fmt: skip
        usage: dict[str, Any] = _wire([sum(each) for each in zip(*included, strict=True)])
        usage |= {"speed": speed, "inference_geo": geo, "service_tier": tier}
        searches = draw.randrange(6) if kinds else 0
        cost = _cost(first, model)
        if kinds:
            usage["iterations"] = [{"type": "message", **_wire(first)}]
            usage["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 3}
        for step, kind in zip(steps, kinds, strict=True):
            advises = kind == "advisor_message"
            named = {"model": _ADVISOR} if advises else {}
            usage["iterations"].append({"type": kind, **named, **_wire(step)})
            cost += _cost(step, _ADVISOR if advises else model)
        yield model, usage, cost * _SPEED[speed] * _GEO[geo] * _TIER[tier] + searches * _SEARCH


def _drawn(draw: Random) -> list[int]:
    return [draw.randrange(1, 30_000) for _ in range(5)]


def _wire(tokens: list[int]) -> dict[str, Any]:
    uncached, read, write_5m, write_1h, output = tokens
    return {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": write_5m,
            "ephemeral_1h_input_tokens": write_1h,
        },
        "output_tokens": output,
    }


def _cost(tokens: list[int], model: str) -> Fraction:
    prices = map(Fraction, _PRICES[model])
    return (
        sum((count * price for count, price in zip(tokens, prices, strict=True)), Fraction(0))
        / 1_000_000
    )
