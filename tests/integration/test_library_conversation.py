"""Whole conversations against a provider that caches as the real one does, with the real SDK."""

import datetime as dt
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anthropic
import pytest

import headwater
from headwater.providers.usage import Usage
from headwater.simulator.server import Settings, serving
from tests.unit.client.test_request import blocks
from tests.unit.sidecar.bundles import MODEL

CONTRACT = headwater.declare(
    tools=headwater.tools({"name": "look", "input_schema": {"type": "object"}}),
    system="You help. " * 1000,
)


@dataclass
class Provider:
    sdk: anthropic.AsyncAnthropic
    ahead: float = 0.0

    def clock(self) -> float:
        return time.monotonic() + self.ahead

    async def turn(self, talk: headwater.Conversation, content: Any) -> Usage:
        """One turn, and what it used."""
        before = talk.usage
        talk.user(content)
        talk.add(await self.sdk.messages.create(**talk.request()))
        used = zip(vars_of(talk.usage), vars_of(before), strict=True)
        return Usage(*(after - earlier for after, earlier in used))


def vars_of(usage: Usage) -> list[int]:
    return [getattr(usage, name) for name in usage.__struct_fields__]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider(None)  # type: ignore[arg-type]  # set below: each needs the other
    async with (
        serving(Settings(), clock=found.clock) as url,
        anthropic.AsyncAnthropic(api_key="sk-x", base_url=url) as found.sdk,
    ):
        yield found


def begun(provider: Provider, **options: Any) -> headwater.Conversation:
    given = {"model": MODEL, "max_tokens": 40, "clock": provider.clock, **options}
    return headwater.Conversation(CONTRACT, **given)


@pytest.mark.parametrize("strategy", ["A", "C"])
@pytest.mark.parametrize("size", [1, 30])
async def test_every_turn_reads_all_that_was_sent_before(
    provider: Provider, strategy: str, size: int
) -> None:
    """However many tool results a turn has: what it writes is what it adds."""
    talk = begun(provider, strategy=strategy, system="Own. " * 200)
    cached = 0
    for turn in range(5):
        usage = await provider.turn(talk, blocks(size, f"turn {turn}"))
        assert usage.cache_read == cached
        cached += usage.cache_write_5m
        assert usage.uncached < 10
    assert talk.cost is not None
    assert talk.cost.savings > 0


async def test_a_conversation_goes_on_where_it_was_saved(provider: Provider) -> None:
    """In another process its cache is as warm as in the first."""
    talk = begun(provider)
    first = await provider.turn(talk, "a")
    other = headwater.Conversation.resume(CONTRACT, talk.save(), clock=provider.clock)
    usage = await provider.turn(other, "b")
    assert usage.cache_read == first.cache_write_5m


async def test_warming_at_the_start_makes_the_first_turn_a_read(provider: Provider) -> None:
    talk = begun(provider, strategy="C", system="Own. " * 200)
    warmed = await provider.sdk.messages.create(**talk.warming())
    assert warmed.content == []
    written = warmed.usage.cache_creation_input_tokens
    assert written
    assert (await provider.turn(talk, "a")).cache_read == written


async def test_a_ping_in_time_keeps_all_of_it_warm(provider: Provider) -> None:
    """Eight minutes of silence, and nothing is written twice."""
    talk = begun(provider)
    first = await provider.turn(talk, "a " * 50)
    provider.ahead += 240
    ping = talk.keep_alive(dt.timedelta(minutes=4))
    assert ping is not None
    await provider.sdk.messages.create(**ping)
    provider.ahead += 240
    assert talk.likely_warm
    assert (await provider.turn(talk, "b")).cache_read == first.cache_write_5m


async def test_without_a_ping_it_is_written_again(provider: Provider) -> None:
    """And the conversation knew."""
    talk = begun(provider)
    await provider.turn(talk, "a " * 50)
    provider.ahead += 480
    assert not talk.likely_warm
    assert (await provider.turn(talk, "b")).cache_read == 0


async def test_a_subagent_leaves_the_main_loop_warm(provider: Provider) -> None:
    """Another model in the same conversation would have thrown its cache away."""
    talk = begun(provider)
    first = await provider.turn(talk, "a")
    helper = talk.subagent(model="claude-haiku-4-5", max_tokens=9)
    assert (await provider.turn(helper, "look it up")).cache_read == 0
    assert (await provider.turn(talk, "b")).cache_read == first.cache_write_5m


async def test_through_a_wrapped_client_it_is_the_same(provider: Provider) -> None:
    """The copy of the contract in the request gives way to its bytes."""
    plain = provider.sdk
    provider.sdk = headwater.wrap(plain, CONTRACT)
    talk = begun(provider)
    first = await provider.turn(talk, "a")
    provider.sdk = plain
    assert (await provider.turn(talk, "b")).cache_read == first.cache_write_5m
