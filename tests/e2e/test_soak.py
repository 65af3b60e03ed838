"""Hours of traffic in short: many conversations at once, and a new bundle every second.

HEADWATER_SOAK_MINUTES says for how long; ten before a release.
"""

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from bench.processes import headwater, resident_mb
from bench.sidecar import address
from headwater.contract.bundle import Bundle
from tests.cluster.waiting import eventually
from tests.unit.sidecar import bundles

MINUTES: Final = float(os.environ.get("HEADWATER_SOAK_MINUTES", "0.5"))
CONVERSATIONS: Final = 200
TURNS: Final = 20
"""After which a conversation ends and another one begins."""
SWAP_SECONDS: Final = 1.0
WARM_UP: Final = 0.3
"""The share of the time after which memory may not grow any more."""
GROWTH_MB: Final = 4.0
"""Some thousand conversations more are remembered by then, of 20,000 that may be."""


def turned(declared: Bundle) -> Bundle:
    """The candidate promoted, with the former stable revision retained."""
    route = declared.route
    assert route.candidate is not None
    promoted = replace(
        route, epoch=2, stable=route.candidate, candidate=None, retained=(route.stable,)
    )
    return replace(declared, route=promoted)


@dataclass
class Traffic:
    """What all conversations saw."""

    url: str
    turns: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def converse(self, client: aiohttp.ClientSession, number: int) -> None:
        """One conversation after another, each turn a stream."""
        for session in itertools.count():
            version = None
            messages: list[Any] = []
            for turn in range(TURNS):
                if self.over.is_set():
                    return
                messages += [{"role": "user", "content": f"{number} asks {session}.{turn}"}]
                got = await self.ask(client, f"{number}-{session}", messages)
                if got is None or version not in (None, got):
                    self.wrong.append(f"turn {turn}: from {version} to {got}")
                version = got
                messages += [{"role": "assistant", "content": "ok"}]

    async def ask(
        self, client: aiohttp.ClientSession, session: str, messages: Sequence[Any]
    ) -> str | None:
        """The revision that a turn was on; None where its stream was not whole."""
        body = {
            "model": bundles.MODEL, "max_tokens": 12, "stream": True, "messages": messages,
            "system": "A team's own.",
        }  # fmt: skip
        try:
            async with client.post(
                f"{self.url}/v1/messages",
                data=json.dumps(body),
                headers={"x-headwater-session": session},
            ) as answer:
                data = await answer.read()
                if answer.status != 200 or not data.endswith(b'{"type":"message_stop"}\n\n'):
                    self.wrong.append(f"{answer.status}: {data[-200:]!r}")
                    return None
                self.turns += 1
                version = answer.headers["x-headwater-version"]
                self.versions[version] += 1
                return version
        except (aiohttp.ClientError, TimeoutError) as error:
            self.wrong.append(repr(error))
            return None


async def told(client: aiohttp.ClientSession, url: str) -> dict[str, Counter[str]]:
    """Sums of the counters at `url`, by metric and by the label that tells most."""
    async with client.get(url) as answer:
        text = await answer.text()
    sums: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        pairs = dict(pair.split("=", 1) for pair in labels.split(",") if "=" in pair)
        key = (pairs.get("outcome") or pairs.get("kind") or '""').strip('"')
        if name.startswith("headwater_"):
            sums.setdefault(name, Counter())[key] += float(value)  # type: ignore[assignment]
    return sums


@pytest.mark.e2e
async def test_under_load_and_swaps_nothing_is_lost_and_memory_stays(tmp_path: Path) -> None:
    """200 conversations at once, a bundle swap every second, and all is well.

    No error, no stream that is not whole, no conversation on two revisions, every token counted,
    no more memory than at first.
    """
    canary = bundles.make("v1", "v2", weight=5_000, size=3_000)
    bundle, log = tmp_path / "bundle", tmp_path / "sidecar.log"
    bundles.mount(bundle, canary)
    ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
    # So long an answer that all are under way at once.
    provider = ("simulator", "--port", "0", "--latency-base-ms", "2000")
    with headwater(*provider, environment={}, log=tmp_path / "simulator.log"):
        upstream = address(tmp_path / "simulator.log", "listening on ")
        arguments = ("sidecar", "--bundle", str(bundle), "--upstream", upstream, *ports)
        with headwater(*arguments, environment={}, log=log) as process:
            metrics = f"{address(log, 'metrics on ')}/metrics"
            traffic = Traffic(address(log, "listening on "))
            headers = {"x-api-key": "sk-soak", "anthropic-version": "2023-06-01"}
            async with aiohttp.ClientSession(
                headers=headers, connector=aiohttp.TCPConnector(limit=0)
            ) as client:
                conversations = [
                    asyncio.create_task(traffic.converse(client, number))
                    for number in range(CONVERSATIONS)
                ]
                # A conversation keeps the revision that it began on: all would be on the candidate,
                # had the first swap promoted it before the sidecar could answer.
                await eventually(
                    lambda: set(traffic.versions) == {"v1", "v2"}, 300, "both revisions are in use"
                )
                began = time.monotonic()
                resident = []
                swaps = itertools.cycle((turned(canary), canary))
                while (spent := time.monotonic() - began) < 60 * MINUTES:
                    await asyncio.sleep(SWAP_SECONDS)
                    bundles.mount(bundle, next(swaps))
                    resident.append((spent, resident_mb(process.pid)))
                traffic.over.set()
                await asyncio.gather(*conversations)
                counted = await told(client, metrics)
                async with client.get(f"{upstream}/_simulator/stats") as answer:
                    (billed,) = (await answer.json())["totals"]
    settled = [mb for spent, mb in resident if spent > WARM_UP * 60 * MINUTES]
    print(f"{traffic.turns} turns, {len(resident)} swaps, {traffic.versions}, "
          f"{settled[0]:.1f} MB then, {settled[-1]:.1f} MB at the end")  # fmt: skip
    assert traffic.wrong == []
    assert set(traffic.versions) == {"v1", "v2"}
    outcomes = counted["headwater_requests_total"]
    assert set(outcomes) <= {"hit", "miss"}
    assert outcomes.total() == billed["requests"] == traffic.turns
    tokens = counted["headwater_input_tokens_total"]
    assert set(tokens) == {"uncached", "cache_read", "cache_write_5m", "cache_write_1h"}
    assert all(tokens[kind] == billed[kind] for kind in tokens)
    assert counted["headwater_output_tokens_total"][""] == billed["output"]
    assert counted["headwater_bundle_refusals"][""] == 0
    assert "Traceback" not in log.read_text()
    assert settled[-1] - settled[0] <= GROWTH_MB
