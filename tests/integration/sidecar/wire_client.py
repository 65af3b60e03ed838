"""What an application does with the `anthropic` SDK, once through sidecars and once without.

A program of its own, because it runs under several versions of the SDK. It reads the contract and
the addresses from standard input, prints what it saw as one JSON object, and asserts nothing. The
requests of a team are the same on every way; without a sidecar the program puts the contract in.
"""

import asyncio
import itertools
import json
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic

MODEL = "claude-opus-4-8"
KEY = "sk-wire"
MARKER = {"type": "ephemeral"}
SYSTEMS: dict[str, Any] = {
    "no system": None,
    "empty": "",
    "text": "a team's own \u00e9\U0001f30a \\ \" \u2028 / </x>",
    "blocks": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
    "marked": [{"type": "text", "text": "own " * 2_000, "cache_control": MARKER}],
}
TOOLS: dict[str, Any] = {
    "no tools": None,
    "deferred": [{"name": "mine", "defer_loading": True, "input_schema": {"type": "object"}}],
}
TOPS: dict[str, Any] = {"plain": {}, "automatic": {"cache_control": MARKER}}
STATUSES = ("400", "401", "403", "404", "409", "413", "429", "500", "504", "529")
BROKEN = ("truncate", "error-event", "hang")
ASK: Any = [
    {"role": "user", "content": "one and two?"},
    {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
    {"role": "user", "content": "and 1.0 \u00e4?"},
]


def as_blocks(system: Any) -> list[Any]:
    if isinstance(system, str):
        return [{"type": "text", "text": system}] if system else []
    return list(system or [])


class Way:
    """One way to the provider; `contract` is what the program itself has to send."""

    def __init__(self, url: str, contract: dict[str, Any] | None = None) -> None:
        self.options: dict[str, Any] = {"base_url": url, "api_key": KEY, "max_retries": 0}
        self.contract = contract

    def request(self, system: str, tools: str, top: str, **fields: Any) -> dict[str, Any]:
        own = {"system": SYSTEMS[system], "tools": TOOLS[tools]}
        if self.contract is not None:
            own = {
                "system": self.contract["system"] + as_blocks(own["system"]),
                "tools": self.contract["tools"] + (own["tools"] or []),
            }
        body = {key: value for key, value in own.items() if value is not None}
        found = {"model": MODEL, "messages": ASK, "extra_body": body | TOPS[top]} | fields
        return {key: value for key, value in found.items() if value is not None}


def message(answer: Any) -> Any:
    """An answer without what names it."""
    shown = answer.model_dump(mode="json")
    shown.pop("id", None)
    return shown


def failed(error: Exception) -> dict[str, Any]:
    """An error as an application sees it."""
    body = getattr(error, "body", None)
    response = getattr(error, "response", None)
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "error": body.get("error") if isinstance(body, dict) else None,
        "named": bool(getattr(error, "request_id", None)),
        "retry-after": None if response is None else response.headers.get("retry-after"),
    }


def tried(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever it raises is the observation
        return failed(error)


async def atried(act: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await act()
    except Exception as error:  # noqa: BLE001 - as above
        return failed(error)


def streamed(client: anthropic.Anthropic, request: dict[str, Any]) -> Any:
    with client.messages.stream(**request) as stream:
        text = "".join(stream.text_stream)
        return [text, message(stream.get_final_message())]


async def astreamed(client: anthropic.AsyncAnthropic, request: dict[str, Any]) -> Any:
    async with client.messages.stream(**request) as stream:
        text = "".join([part async for part in stream.text_stream])
        return [text, message(await stream.get_final_message())]


def sync_ways(client: anthropic.Anthropic) -> dict[str, Callable[[dict[str, Any]], Any]]:
    create = client.messages.create
    return {
        "create": lambda request: message(create(**request)),
        "stream": lambda request: streamed(client, request),
        "events": lambda request: [event.type for event in create(stream=True, **request)],
    }


def async_ways(
    client: anthropic.AsyncAnthropic,
) -> dict[str, Callable[[dict[str, Any]], Awaitable[Any]]]:
    async def create(request: dict[str, Any]) -> Any:
        return message(await client.messages.create(**request))

    async def events(request: dict[str, Any]) -> Any:
        stream = await client.messages.create(stream=True, **request)
        return [event.type async for event in stream]

    return {
        "async create": create,
        "async stream": lambda request: astreamed(client, request),
        "async events": events,
    }


def shapes(way: Way) -> list[tuple[str, dict[str, Any]]]:
    return [
        (" / ".join(shape), way.request(*shape, max_tokens=12))
        for shape in itertools.product(SYSTEMS, TOOLS, TOPS)
    ]


def faults(way: Way) -> list[tuple[str, dict[str, Any]]]:
    plain = way.request("text", "no tools", "plain", max_tokens=12)
    return [
        (fault, {**plain, "extra_headers": {"x-simulator-fault": fault},
                 **({"timeout": 0.1} if fault == "hang" else {})})
        for fault in (*STATUSES, *BROKEN)
    ]  # fmt: skip


def cases(way: Way, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Raw events are what a stream is made of: a few shapes of them do."""
    return [*shapes(way)[:: 5 if "events" in name else 1], *faults(way)]


def plan(url: str, *planned: str) -> None:
    body = json.dumps({"faults": planned, "retry_after": 0.4}).encode()
    with urllib.request.urlopen(f"{url}/_simulator/faults", data=body) as answer:
        answer.read()


def others(client: anthropic.Anthropic, way: Way, simulator: str) -> dict[str, Any]:
    """Counting, batches, other paths, and what is tried again."""
    seen: dict[str, Any] = {}
    for shape in itertools.product(SYSTEMS, TOOLS, TOPS):
        request = way.request(*shape)
        counted = tried(lambda: client.messages.count_tokens(**request).input_tokens)  # noqa: B023 - at once
        seen[" / ".join(("count", *shape))] = counted
    seen["models"] = [model.id for model in client.models.list(limit=5)]
    seen["model"] = client.models.retrieve("claude-opus-4-5").id
    seen["no model"] = tried(lambda: client.models.retrieve("claude-none"))
    seen["no path"] = tried(lambda: client.get("/v1/none?a=%2F", cast_to=object))
    again = client.with_options(max_retries=1)
    plain = way.request("text", "no tools", "plain", max_tokens=12)
    for fault in ("429", "disconnect"):
        plan(simulator, fault)
        began = time.monotonic()
        seen[f"after {fault}"] = tried(lambda: again.messages.create(**plain).stop_reason)
        if fault == "429":
            seen["waited"] = time.monotonic() - began >= 0.4
    return seen


async def asynchronous(way: Way) -> dict[str, Any]:
    seen = {}
    async with anthropic.AsyncAnthropic(**way.options) as client:
        for name, act in async_ways(client).items():
            for case, request in cases(way, name):
                seen[f"{name}: {case}"] = await atried(lambda: act(request))  # noqa: B023 - at once
    return seen


def everything(way: Way, simulator: str) -> dict[str, Any]:
    cold = urllib.request.Request(f"{simulator}/_simulator/cache", method="DELETE")
    urllib.request.urlopen(cold).close()
    seen = {}
    with anthropic.Anthropic(**way.options) as client:
        for name, act in sync_ways(client).items():
            for case, request in cases(way, name):
                seen[f"{name}: {case}"] = tried(lambda: act(request))  # noqa: B023 - at once
        seen |= others(client, way, simulator)
    return seen | asyncio.run(asynchronous(way))


def nothing_there(way: Way) -> dict[str, Any]:
    plain = way.request("text", "no tools", "plain", max_tokens=12)
    with anthropic.Anthropic(**way.options) as client:
        return {name: tried(lambda: act(plain)) for name, act in sync_ways(client).items()}  # noqa: B023


if __name__ == "__main__":
    given = json.load(sys.stdin)
    ways = {
        "direct": Way(given["simulator"], given["contract"]),
        "sidecar": Way(given["sidecar"]),
        "packed": Way(given["packed"]),
    }
    observed = {name: everything(way, given["simulator"]) for name, way in ways.items()}
    away = nothing_there(Way(given["away"]))
    print(json.dumps({**observed, "away": away, "version": anthropic.__version__}))
