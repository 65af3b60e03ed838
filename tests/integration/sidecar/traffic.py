"""Requests of every kind, as a program beside a sidecar sends them: imported, or run in a pod.

Each way in which an answer can end has a model of its own, so that what was counted can be compared
for each: what was whole, what was cut, what nobody waited for.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import aiohttp

WHOLE: Final = "claude-opus-4-8"
ALSO_WHOLE: Final = "claude-haiku-4-5"
CUT: Final = "claude-opus-4-7"
"""Streams that end early, all after the one output token that their first event tells."""
LEFT: Final = "claude-opus-4-6"
"""Streams that the client leaves."""
HALF: Final = "claude-opus-4-5"
"""JSON answers that are cut before their usage."""
BATCHED: Final = "claude-sonnet-4-5"
"""Batches, whose tokens are told only with their results: no sidecar counts them."""
AT_ONCE: Final = 16
_PATIENCE: Final = 0.3

Act = Callable[["Traffic", int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Where requests go, and how."""

    url: str
    client: aiohttp.ClientSession

    async def send(
        self, number: int, model: str, fault: str = "", path: str = "", **fields: Any
    ) -> tuple[int, bytes]:
        """Status and body; an answer that is cut raises."""
        async with self.opened(number, model, fault, path, **fields) as answer:
            return answer.status, await answer.read()

    def opened(
        self, number: int, model: str, fault: str = "", path: str = "", **fields: Any
    ) -> Any:
        """The answer, as far as its head."""
        body = {"model": model, "max_tokens": 12, "messages": _asks(number), **fields}
        headers = {"x-simulator-fault": fault} if fault else {}
        return self.client.post(f"{self.url}/v1/messages{path}", json=body, headers=headers)


def _asks(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"{number} asks"}]


def _system(number: int, ttl: str) -> list[dict[str, Any]]:
    # A few are asked again, and read; each number is of its own length.
    text = f"team {number % 50} " + "own " * (number % 50)
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


def _answered(model: str, ttl: str = "", **fields: Any) -> Act:
    async def act(traffic: Traffic, number: int) -> None:
        own = {"system": _system(number, ttl)} if ttl else {}
        status, data = await traffic.send(number, model, **{**fields, **own})
        assert status == 200, data

    return act


def _failing(status: int, model: str = WHOLE, **fields: Any) -> Act:
    async def act(traffic: Traffic, number: int) -> None:
        got, data = await traffic.send(number, model, **fields)
        assert got == status, data

    return act


def _breaking(model: str, **fields: Any) -> Act:
    async def act(traffic: Traffic, number: int) -> None:
        try:
            _, data = await traffic.send(number, model, **fields)
        except aiohttp.ClientPayloadError:
            return
        assert b"event: error" in data

    return act


async def _leaves_a_stream(traffic: Traffic, number: int) -> None:
    async with traffic.opened(number, LEFT, stream=True) as answer:
        await answer.content.readuntil(b"\n\n")
        answer.close()


async def _leaves_before(traffic: Traffic, number: int) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await traffic.send(number, LEFT, "hang")
    except TimeoutError:
        return
    raise AssertionError("it hangs")


async def _batch(traffic: Traffic, number: int) -> None:
    params = {"model": BATCHED, "max_tokens": 5, "messages": _asks(number)}
    body = {"requests": [{"custom_id": str(each), "params": params} for each in range(3)]}
    async with traffic.client.post(f"{traffic.url}/v1/messages/batches", json=body) as answer:
        await answer.read()


ACTS: Final[Mapping[str, tuple[int, Act]]] = {
    "json": (20, _answered(WHOLE)),
    "json, 5m": (10, _answered(WHOLE, ttl="5m")),
    "json, 1h": (10, _answered(ALSO_WHOLE, ttl="1h")),
    "stream": (20, _answered(ALSO_WHOLE, stream=True)),
    "stream, 5m": (10, _answered(WHOLE, ttl="5m", stream=True)),
    "stream, 1h": (5, _answered(WHOLE, ttl="1h", stream=True)),
    "warm": (2, _answered(WHOLE, max_tokens=0)),
    "count": (3, _failing(200, path="/count_tokens")),
    "batch": (2, _batch),
    "refused": (3, _failing(400, tools=[{"name": "own"}])),
    "rejected": (3, _failing(429, fault="429")),
    "overloaded": (3, _failing(529, fault="529")),
    "bad": (2, _failing(400, fault="400")),
    "away": (2, _failing(502, fault="disconnect")),
    "cut stream": (2, _breaking(CUT, fault="truncate", stream=True)),
    "error in a stream": (2, _breaking(CUT, fault="error-event", stream=True)),
    "half": (2, _breaking(HALF, fault="truncate")),
    "left stream": (2, _leaves_a_stream),
    "left before": (1, _leaves_before),
}
"""How often each is drawn, and what it does."""


async def run(url: str, count: int) -> Counter[str]:
    """Send `count` requests, some at a time; how often each was drawn."""
    draw = Random(count)
    names, acts = list(ACTS), list(ACTS.values())
    drawn = draw.choices(names, [weight for weight, _ in acts], k=count)
    queue = iter(enumerate(drawn))
    headers = {"x-api-key": "sk-mixed", "anthropic-version": "2023-06-01"}
    async with aiohttp.ClientSession(
        headers=headers, connector=aiohttp.TCPConnector(limit=0)
    ) as client:
        traffic = Traffic(url, client)

        async def work() -> None:
            for number, name in queue:
                await ACTS[name][1](traffic, number)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    return Counter(drawn)


if __name__ == "__main__":
    print(
        json.dumps(asyncio.run(run(os.environ["ANTHROPIC_BASE_URL"], int(sys.argv[1])))), flush=True
    )
    signal.pause()  # a sidecar ends with the pod's program, and its metrics with it
