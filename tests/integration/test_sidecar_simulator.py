"""The sidecar against a provider that caches as the real one does."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest

from headwater.contract.assembly import prepare
from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import eventually
from tests.integration.test_sidecar import HELLO, Running, running
from tests.unit.sidecar import bundles

SIZE = 3000
"""Words of the contract, so that it is over the model's minimum."""
CONTRACT = prepare(bundles.contract("v1", size=SIZE))


@dataclass
class Provider:
    url: str
    sidecar: Running
    ahead: float = 0.0

    def clock(self) -> float:
        return time.monotonic() + self.ahead

    async def requests(self) -> list[dict[str, Any]]:
        async with self.sidecar.client.get(f"{self.url}/_simulator/requests") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def fault(self, name: str) -> None:
        url = f"{self.url}/_simulator/faults"
        async with self.sidecar.client.post(url, json={"faults": [name]}) as answer:
            assert answer.status == 200


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    found = Provider("", None)  # type: ignore[arg-type]  # set below: each needs the other
    declared = bundles.make(size=SIZE)
    async with (
        serving(Settings(latency_base_ms=50), clock=found.clock) as found.url,
        running(tmp_path / "b", found.url, declared, found.clock) as found.sidecar,
    ):
        yield found


async def test_fifty_cold_requests_cost_one_write(provider: Provider) -> None:
    """And every one of them carried the contract's very bytes."""
    async with provider.sidecar.sdk() as sdk:
        await asyncio.gather(
            *(sdk.messages.create(model=bundles.MODEL, **HELLO) for _ in range(50))
        )
    usages = [request["usage"] for request in await provider.requests()]
    assert [usage["cache_write_5m"] > 0 for usage in usages].count(True) == 1
    assert [usage["cache_read"] > 0 for usage in usages].count(True) == 49
    for request in await provider.requests():
        for part, data in (("tools", CONTRACT.tools), ("system", CONTRACT.system)):
            assert request[f"{part}_sha256"] == hashlib.sha256(b"[" + data + b"]").hexdigest()
    assert provider.sidecar.counted('requests_total outcome="hit" eligible="true" 49.0')
    assert provider.sidecar.counted('requests_total outcome="miss" eligible="false" 1.0')


async def test_a_conversation_with_markers_of_its_own_reads_what_it_wrote(
    provider: Provider,
) -> None:
    """Turn after turn, streaming, as an agent does it: each reads the last one's history."""
    marker = {"type": "ephemeral"}
    messages: list[Any] = []
    read = []
    async with provider.sidecar.sdk() as sdk:
        for turn in range(4):
            text = {"type": "text", "text": f"turn {turn} " + "word " * 500}
            ask: Any = {"role": "user", "content": [{**text, "cache_control": marker}]}
            async with sdk.messages.stream(
                model=bundles.MODEL, max_tokens=5, system="a team's own", messages=[*messages, ask]
            ) as stream:
                answer = await stream.get_final_message()
            read.append(answer.usage.cache_read_input_tokens or 0)
            messages += [
                {"role": "user", "content": [text]},
                {"role": "assistant", "content": "ok"},
            ]
    assert read[0] == 0 < read[1] < read[2] < read[3]
    assert provider.sidecar.counted('requests_total outcome="hit" eligible="true" 3.0')


async def test_after_the_ttl_a_miss_is_no_evidence(provider: Provider) -> None:
    """The lane is cold through no fault of the revision."""
    async with provider.sidecar.sdk() as sdk:
        await sdk.messages.create(model=bundles.MODEL, **HELLO)
        provider.ahead = 301
        await sdk.messages.create(model=bundles.MODEL, **HELLO)
        await sdk.messages.create(model=bundles.MODEL, **HELLO)
    assert provider.sidecar.counted('requests_total outcome="miss" eligible="false" 2.0')
    assert provider.sidecar.counted('requests_total outcome="hit" eligible="true" 1.0')


async def test_a_contract_under_the_minimum_misses_although_hits_were_expected(
    tmp_path: Path,
) -> None:
    """The provider says nothing about it, so the counts have to."""
    async with (
        serving(Settings(latency_base_ms=0), clock=time.monotonic) as url,
        running(tmp_path / "b", url, bundles.make()) as sidecar,
        sidecar.sdk() as sdk,
    ):
        for _ in range(3):
            await sdk.messages.create(model=bundles.MODEL, **HELLO)
        assert sidecar.counted('requests_total outcome="miss" eligible="true" 2.0')


@pytest.mark.parametrize(
    ("fault", "outcome"), [("529", "error"), ("400", "error"), ("429", "rejected")]
)
async def test_the_providers_errors_reach_the_sdk(
    provider: Provider, fault: str, outcome: str
) -> None:
    """Status, type and words as the provider has them."""
    await provider.fault(fault)
    async with provider.sidecar.sdk(max_retries=0) as sdk:
        with pytest.raises(anthropic.APIStatusError, match="simulated") as error:
            await sdk.messages.create(model=bundles.MODEL, **HELLO)
    assert error.value.status_code == int(fault)
    assert provider.sidecar.counted(f'requests_total outcome="{outcome}" 1.0')


async def test_a_cut_stream_is_an_error_to_the_sdk(provider: Provider) -> None:
    """Half an answer does not pass for a whole one."""
    await provider.fault("truncate")
    cut = lambda: provider.sidecar.counted('requests_total outcome="error" 1.0')  # noqa: E731
    async with provider.sidecar.sdk(max_retries=0) as sdk:
        with pytest.raises(Exception, match=r"(?i)incomplete|peer closed|connection"):
            async with sdk.messages.stream(model=bundles.MODEL, **HELLO) as stream:
                await stream.get_final_message()
    await eventually(cut, 5, "counted")
    assert provider.sidecar.counted('headwater_input_tokens_total kind="cache_write_5m"')


async def test_an_error_after_a_200_is_an_error(provider: Provider) -> None:
    """To the SDK, which gets it as it came, and to whoever judges the revision."""
    await provider.fault("error-event")
    async with provider.sidecar.sdk(max_retries=0) as sdk:
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            async with sdk.messages.stream(model=bundles.MODEL, **HELLO) as stream:
                await stream.get_final_message()
    await eventually(
        lambda: provider.sidecar.counted('requests_total outcome="error" 1.0'), 5, "it is counted"
    )
    assert provider.sidecar.counted("input_tokens_total cache_write_5m")


async def test_an_answer_says_whether_its_conversation_goes_on(provider: Provider) -> None:
    """Where that is asked for: as the SDK writes a history, and as a program rewrites it."""
    headers = {"x-headwater-session": "s", "x-headwater-conversation": "tell"}
    asked: list[Any] = [{"role": "user", "content": "It is 10:01."}]
    told = []
    async with provider.sidecar.sdk() as sdk:
        for turn in range(3):
            if turn == 2:
                asked[0] = {"role": "user", "content": "It is 10:02."}
            got = await sdk.messages.with_raw_response.create(
                model=bundles.MODEL, max_tokens=5, messages=asked, extra_headers=headers
            )
            told.append(got.headers["headwater-conversation"])
            answer = await got.parse()
            asked += [
                {"role": "assistant", "content": answer.content},
                {"role": "user", "content": "Go on."},
            ]
    assert told == ["began", "extended", "history_rewritten"]
    assert provider.sidecar.counted('conversation_breaks_total reason="history_rewritten" 1.0')
