"""However many things clients name, the metrics stay as many as the docs say."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from headwater.contract.reasons import Reason
from headwater.providers.cost import Unpriced
from headwater.sidecar.continuity import Break
from headwater.sidecar.lanes import CAPACITY
from headwater.sidecar.metrics import Outcome
from headwater.sidecar.misses import MissReason
from tests.integration.test_sidecar import MESSAGE, listening, running
from tests.unit.sidecar import bundles

CLIENTS: Final = CAPACITY + 44
AT_ONCE: Final = 20
WORST: Final = {
    "headwater_requests": 2 * len(Outcome) * 2,
    "headwater_input_tokens": 2 * 4,
    "headwater_misses": 2 * len(MissReason),
    "headwater_conversation_breaks": 2 * len(Break),
    "headwater_output_tokens": 2,
    "headwater_contract_violations": 2 * len(Reason),
    "headwater_cost_usd": 2,
    "headwater_unpriced_answers": 2 * len(Unpriced),
    "headwater_savings_usd_total": 2,
    "headwater_uncached_system": 2,
    "headwater_time_to_first_byte_seconds": 2 * 13,
    "headwater_overhead_seconds": 2 * 12,
    "headwater_off_contract_timestamp_seconds": len(Reason),
    "headwater_lane_last_used_timestamp_seconds": CAPACITY,
}
"""Series of one prefix that had one version and is published for one model, as the docs count."""


def named(client: int) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Bodies and headers with everything that a client can make up."""
    own = f"own-{client}"
    plain = {"model": bundles.MODEL, "max_tokens": 5, "metadata": {"user_id": own},
             "messages": [{"role": "user", "content": own}]}  # fmt: skip
    key = {"x-api-key": f"sk-{client}"}
    yield plain, key
    yield plain, {**key, "anthropic-beta": own, "x-headwater-session": own}
    yield {**plain, "model": own}, key
    yield {**plain, "tools": [{"name": own}] * (client % 30 + 1)}, key
    yield {**plain, "thinking": {own: 1}, "speed": own}, {**key, "anthropic-workspace-id": own}


async def test_no_client_makes_more_series_than_are_documented(tmp_path: Path) -> None:
    """Models, keys, sessions, users, tools, betas, settings: hundreds of each.

    Models that the prefix is not published for are `other`, keys beyond the lanes that are
    remembered push out the oldest.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(MESSAGE)

    async with (
        listening(answer) as upstream,
        running(tmp_path / "bundle", upstream, bundles.make()) as sidecar,
    ):
        queue = iter([each for client in range(CLIENTS) for each in named(client)])

        async def work() -> None:
            for body, headers in queue:
                async with sidecar.post(json.dumps(body), headers=headers) as got:
                    await got.read()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        exposition = sidecar.sidecar.metrics.exposition().decode()
    samples = [
        (family.name, sample)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    ]
    series = Counter(name for name, _ in samples)
    assert {name: count for name, count in series.items() if count > WORST.get(name, 5)} == {}
    assert series["headwater_lane_last_used_timestamp_seconds"] > 1
    models: Counter[str] = Counter()
    for _, sample in samples:
        assert "own-" not in str(sample.labels)
        if sample.name == "headwater_requests_total":
            models[sample.labels["model"]] += int(sample.value)
    assert models == {bundles.MODEL: 4 * CLIENTS, "other": CLIENTS}
