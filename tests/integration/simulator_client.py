"""What an application does with the `anthropic` SDK: run against the simulator by a test.

A program of its own, because it runs under several versions of the SDK: `python
simulator_client.py URL` prints what it saw as one JSON object. It asserts nothing.
"""

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import anthropic

MODEL = "claude-opus-4-8"
KEY = "sk-not-a-key"
QUESTION: Any = [{"role": "user", "content": "hi"}]


def system(name: str, ttl: str = "5m", words: int = 1000) -> Any:
    """A marked block above the model's minimum; each name is cold."""
    text = f"{name} " + "instructions " * words
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


def ask(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 100,
        "system": system(name),
        "messages": QUESTION,
    } | fields


def plan(url: str, *faults: str) -> None:
    """Let the next requests fail so; a rate limit asks for more patience than the SDK's own."""
    body = json.dumps({"faults": faults, "retry_after": 0.8}).encode()
    with urllib.request.urlopen(f"{url}/_simulator/faults", data=body) as answer:
        answer.read()


def failure(act: Callable[[], Any]) -> dict[str, Any]:
    """What the SDK raises, as an application sees it."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it raises is the observation
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "body": getattr(error, "body", None),
            "request_id": getattr(error, "request_id", None),
        }
    return {"class": None}


def streamed(client: anthropic.Anthropic, request: dict[str, Any]) -> dict[str, Any]:
    with client.messages.stream(**request) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    return {"text": text, "final": final.model_dump(mode="json")}


def synchronous(url: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    with anthropic.Anthropic(api_key=KEY, base_url=url) as client:
        create = client.messages.create
        once = client.with_options(max_retries=0)
        seen["messages"] = [create(**ask("sync")).model_dump(mode="json") for _ in range(2)]
        seen["hour"] = create(**ask("hour", system=system("hour", "1h"))).model_dump(mode="json")
        seen["streams"] = [streamed(client, ask("stream")) for _ in range(2)]
        seen["raw events"] = [event.type for event in create(**ask("events", stream=True))]
        seen["warmed"] = [
            create(**ask("warm", max_tokens=tokens)).model_dump(mode="json") for tokens in (0, 5)
        ]
        counted = {key: value for key, value in ask("count").items() if key != "max_tokens"}
        seen["counted"] = client.messages.count_tokens(**counted).input_tokens
        seen["count's prompt"] = create(**ask("count")).model_dump(mode="json")
        seen["models"] = [model.id for model in client.models.list(limit=5)]
        seen["model"] = client.models.retrieve("claude-opus-4-5").id
        seen["refusals"] = {
            fault: failure(
                lambda fault=fault: once.messages.create(  # type: ignore[misc]  # bound early
                    **ask("refused"), extra_headers={"x-simulator-fault": fault}
                )
            )
            for fault in ("400", "401", "403", "404", "409", "413", "429", "500", "529")
        }
        seen["five markers"] = failure(lambda: create(**ask("x", system=system("x") * 5)))
        seen["unknown model"] = failure(lambda: create(**ask("x", model="claude-none")))
        seen["warm and stream"] = failure(lambda: create(**ask("x", max_tokens=0, stream=True)))
        plan(url, "429")
        began = time.monotonic()
        seen["after a 429"] = create(**ask("sync")).stop_reason
        seen["waited"] = time.monotonic() - began
        plan(url, "disconnect")
        seen["after a disconnect"] = create(**ask("sync")).stop_reason
        plan(url, "truncate", "truncate", "error-event")
        seen["truncated"] = failure(lambda: once.messages.create(**ask("sync")))
        seen["truncated stream"] = failure(lambda: streamed(once, ask("sync")))
        seen["error in a stream"] = failure(lambda: streamed(once, ask("sync")))
    return seen


async def asynchronous(url: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url) as client:
        create = client.messages.create
        seen["messages"] = [(await create(**ask("async"))).model_dump(mode="json") for _ in "12"]
        async with client.messages.stream(**ask("async")) as stream:
            final = await stream.get_final_message()
        seen["stream"] = final.model_dump(mode="json")
        seen["models"] = [model.id async for model in client.models.list(limit=5)]
        await asyncio.to_thread(plan, url, "429")
        began = time.monotonic()
        seen["after a 429"] = (await create(**ask("async"))).stop_reason
        seen["waited"] = time.monotonic() - began
        # So long that the first cold answer begins (0.8 s) well after the last request came.
        together = ask("together", system=system("together", words=20_000))
        for group in ("cold", "warm"):
            answers = await asyncio.gather(*(create(**together) for _ in range(20)))
            seen[group] = [answer.model_dump(mode="json")["usage"] for answer in answers]
    return seen


if __name__ == "__main__":
    address = sys.argv[1]
    observed = {"version": anthropic.__version__, "sync": synchronous(address)}
    observed["async"] = asyncio.run(asynchronous(address))
    print(json.dumps(observed))
