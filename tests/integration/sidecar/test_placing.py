"""Markers that a prefix declares for consumers: on every path, and read by the provider."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from headwater.contract.bundle import Bundle
from headwater.contract.placing import Placing, Point
from headwater.simulator.server import Settings, serving
from tests.integration.test_sidecar import MESSAGE, listening, running
from tests.unit.sidecar import bundles

FIVE: Final = {"type": "ephemeral", "ttl": "5m"}


def declaring(placing: Placing, size: int = 0) -> Bundle:
    declared = bundles.make(size=size)
    return replace(declared, route=replace(declared.route, placing=placing))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_every_path_has_them(tmp_path: Path, path: str) -> None:
    """And each request of a batch: no route is left out."""
    bodies: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.read()))
        return web.json_response(MESSAGE)

    asked = {
        "model": bundles.MODEL,
        "system": "Mine.",
        "messages": [{"role": "user", "content": "hello"}],
    }
    points = (Point("user", -1), Point("system", 0))
    declared = declaring(Placing(points=points))
    async with (
        listening(answer) as upstream,
        running(tmp_path / "bundle", upstream, declared) as sidecar,
    ):
        async with sidecar.client.post(f"{sidecar.url}{path}", json=asked) as got:
            assert got.status == 200
        batch = {"requests": [{"custom_id": str(n), "params": asked} for n in range(2)]}
        async with sidecar.client.post(f"{sidecar.url}/v1/messages/batches", json=batch) as got:
            assert got.status == 200
    alone, batched = bodies
    for body in (alone, *(each["params"] for each in batched["requests"])):
        marked = {"type": "text", "text": "Mine.", "cache_control": FIVE}
        assert body["system"][-1] == marked
        said = {"type": "text", "text": "hello", "cache_control": FIVE}
        assert body["messages"] == [{"role": "user", "content": [said]}]


async def test_a_conversation_reads_its_own_history(tmp_path: Path) -> None:
    """With strategy A and a client that sets no marker, and which is not told of any."""
    async with (
        serving(Settings()) as provider,
        running(tmp_path / "b", provider, declaring(Placing("A"), size=3000)) as sidecar,
        sidecar.sdk() as sdk,
    ):
        messages: list[Any] = []
        reads = []
        for turn in range(3):
            messages.append({"role": "user", "content": f"turn {turn} " + "word " * 200})
            answer = await sdk.messages.create(model=bundles.MODEL, max_tokens=5, messages=messages)
            messages.append({"role": "assistant", "content": answer.content})
            reads.append(answer.usage.cache_read_input_tokens or 0)
    first, second, third = reads
    assert first == 0
    assert second > 200
    assert third > second + 200
    # What the program's part adds is no token of the contract's.
    assert sidecar.counted('requests_total outcome="hit" eligible="true" 2.0')
