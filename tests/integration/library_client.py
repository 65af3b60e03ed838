"""What an application does with a wrapped client: run against the simulator by a test.

A program of its own, because it runs under several versions of the SDK: `python
library_client.py URL BUNDLE` prints what it saw as one JSON object. It asserts nothing.
"""

import asyncio
import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import prometheus_client

import headwater

MODEL = "claude-opus-4-8"
ASK: Any = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
SESSION = {"x-headwater-session": "conversation"}


def plan(url: str, *faults: str) -> None:
    body = json.dumps({"faults": faults}).encode()
    with urllib.request.urlopen(f"{url}/_simulator/faults", data=body) as answer:
        answer.read()


def requests(url: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/_simulator/requests") as answer:
        found: list[Any] = json.load(answer)
        return found


def failure(act: Callable[[], Any]) -> dict[str, Any]:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it raises is the observation
        return {"class": type(error).__name__, "text": str(error)}
    return {"class": None}


def usage(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = message.usage.model_dump(mode="json")
    return found


def counted() -> dict[str, float]:
    """The program's own registry, each sample by its name, its outcome and its kind."""
    found: dict[str, float] = {}
    for family in prometheus_client.REGISTRY.collect():
        for sample in family.samples:
            told = [
                sample.labels[key]
                for key in ("outcome", "eligible", "kind", "reason")
                if key in sample.labels
            ]
            name = " ".join([sample.name, *told])
            found[name] = found.get(name, 0.0) + sample.value
    return {name: value for name, value in found.items() if name.startswith("headwater_")}


def synchronous(url: str, bundle: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    with anthropic.Anthropic(api_key="sk-not-a-key", base_url=url, max_retries=0) as plain:
        client = headwater.wrap(plain, headwater.load(bundle))
        seen["is one"] = isinstance(client, anthropic.Anthropic)
        seen["type"] = type(client).__name__
        create = client.messages.create
        seen["usages"] = [usage(create(**ASK, extra_headers=SESSION)) for _ in range(2)]
        with client.messages.stream(**ASK) as stream:
            seen["text"] = "".join(stream.text_stream)
            seen["usages"].append(usage(stream.get_final_message()))
        with client.messages.stream(**ASK) as stream:
            next(iter(stream))
        seen["events"] = [event.type for event in create(**ASK, stream=True)]
        raw = client.messages.with_raw_response.create(**ASK)
        seen["raw"] = [raw.headers["x-headwater-version"], usage(raw.parse())]
        asked = {key: value for key, value in ASK.items() if key != "max_tokens"}
        seen["tokens"] = [
            each.messages.count_tokens(**asked).input_tokens for each in (client, plain)
        ]
        other = client.with_options(timeout=30)
        seen["with options"] = usage(other.messages.create(**ASK))
        seen["models"] = len(client.models.list(limit=2).data)
        seen["plain"] = usage(plain.messages.create(**ASK))
        before = len(requests(url))
        own: Any = [{"name": "own", "input_schema": {"type": "object"}}]
        seen["refused"] = failure(lambda: create(**ASK, tools=own))
        seen["sent when refused"] = len(requests(url)) - before
        plan(url, "529", "disconnect", "401")
        seen["failures"] = [failure(lambda: create(**ASK))["class"] for _ in range(3)]
        plan(url, "disconnect")
        seen["retried"] = usage(client.with_options(max_retries=2).messages.create(**ASK))
        seen["requests"] = requests(url)
    return seen


def results(client: Any, batch: Any) -> dict[str, Any]:
    """What became of each request of a batch, once it has ended."""
    while client.messages.batches.retrieve(batch.id).processing_status != "ended":
        pass
    return {
        each.custom_id: usage(each.result.message)
        if each.result.type == "succeeded"
        else each.result.error.error.type
        for each in client.messages.batches.results(batch.id)
    }


def batched(url: str, bundle: Path) -> dict[str, Any]:
    """Batches by a wrapped client, and `Batch` by one that is not."""
    seen: dict[str, Any] = {}
    contract = headwater.load(bundle)
    with anthropic.Anthropic(api_key="sk-not-a-key", base_url=url) as plain:
        client = headwater.wrap(plain, contract)
        seen["alone"] = usage(client.messages.create(**ASK))
        before = len(requests(url))
        batch: Any = [{"custom_id": str(number), "params": ASK} for number in range(3)]
        seen["results"] = results(client, client.messages.batches.create(requests=batch))
        batch[1]["params"] = {**ASK, "model": "claude-none"}
        create = client.messages.batches.create
        seen["refused"] = failure(lambda: create(requests=batch))
        seen["requests"] = requests(url)[before:]
        records = headwater.Batch(contract, model=MODEL, instructions="A or B?", max_tokens=5)
        asked: Any = records.requests({"one": "First?", "two": "Second?"})
        asked.append({"custom_id": "warming", "params": {**asked[0]["params"], "max_tokens": 0}})
        seen["records"] = results(plain, plain.messages.batches.create(requests=asked))
        seen["again"] = results(plain, plain.messages.batches.create(requests=asked[:1]))
        seen["record alone"] = usage(plain.messages.create(**asked[0]["params"]))
    return seen


async def asynchronous(url: str, bundle: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with anthropic.AsyncAnthropic(api_key="sk-another", base_url=url) as plain:
        client = headwater.wrap(plain, headwater.load(bundle))
        create = client.messages.create
        seen["usages"] = [usage(await create(**ASK)) for _ in range(2)]
        async with client.messages.stream(**ASK) as stream:
            seen["usages"].append(usage(await stream.get_final_message()))
        seen["usages"].append(usage(await client.with_options(timeout=9).messages.create(**ASK)))
        try:
            await create(**{**ASK, "model": "claude-none"})
        except headwater.RefusalError as error:
            seen["refused"] = str(error)
    return seen


if __name__ == "__main__":
    address, directory = sys.argv[1], Path(sys.argv[2])
    observed = {
        "version": anthropic.__version__,
        "sync": synchronous(address, directory),
        "async": asyncio.run(asynchronous(address, directory)),
        "metrics": counted(),
        "exposition": prometheus_client.generate_latest().decode(),
        "batched": batched(address, directory),
    }
    print(json.dumps(observed))
