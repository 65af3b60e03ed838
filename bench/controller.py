"""What the controller costs the API server, the machine and the person who waits."""

import asyncio
import os
import re
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.processes import headwater, resident_mb
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, NAMESPACE, PROMPT_PREFIX, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.content import content, digest_of
from tests.cluster.control_plane import Cluster, ControlPlane

_CRDS: Final = Path(__file__).parent.parent / "crds"
_OURS: Final = ("promptprefixes", "cachewarmers", "configmaps", "cronjobs", "events")
_WRITES: Final = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "CREATE", "UPDATE")
_PATIENCE: Final = 300.0


def measure() -> list[Row]:
    """All rows of the controller, each group on a control plane of its own."""
    return [*_on_fresh_cluster(_hundred), *_on_fresh_cluster(_thousand)]


def _on_fresh_cluster(
    work: Callable[[ControlPlane, KubernetesCluster, Path], Awaitable[list[Row]]],
) -> list[Row]:
    with ControlPlane() as plane, TemporaryDirectory() as directory:
        plane.kubectl("apply", "--server-side", "-f", str(_CRDS))
        os.environ.update(plane.environment)

        async def run() -> list[Row]:
            async with _client() as client:
                return await work(plane, client, Path(directory))

        return asyncio.run(run())


@asynccontextmanager
async def _client() -> AsyncIterator[KubernetesCluster]:
    client = await KubernetesCluster.connect()
    try:
        yield client
    finally:
        await client.close()


async def _hundred(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """100 prefixes at rest, and one that fans out into 100 namespaces."""
    await _namespaces(client, [f"one-{number}" for number in range(99)], "one")
    await _namespaces(client, [f"wide-{number}" for number in range(100)], "wide")
    for number in range(99):
        await client.apply(PROMPT_PREFIX, prefix(f"one-{number}", 2_000, f"one-{number}"))
    await client.apply(PROMPT_PREFIX, prefix("wide", 8_000, None, round_=0))
    with headwater(
        "controller", environment=plane.environment, log=directory / "controller.log"
    ) as process:
        await _served(client, 100)
        timed = []
        for round_ in range(1, 6):
            desired = prefix("wide", 8_000, None, round_=round_)
            started = time.perf_counter()
            await client.apply(PROMPT_PREFIX, desired)
            await _until(partial(_rewritten, client, desired["spec"]["digest"], 100), 0.05)
            timed.append(time.perf_counter() - started)
        before = _writes(plane)
        if before == 0:
            raise RuntimeError("the API server counts no writes of ours: the row would be empty")
        await asyncio.sleep(60)  # the row is about doing nothing for this long
        idle = _writes(plane) - before
        resident = resident_mb(process.pid)
    return [
        Row("fanout.100_namespaces", round(statistics.median(timed), 2), "s", "<= 2"),
        Row("idle.api_writes", idle, "writes", "<= 0"),
        Row("rss.controller_100_prefixes", round(resident, 1), "MB", "<= 110"),
    ]


async def _thousand(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """1,000 prefixes of 2 KB with a bundle each, all new to the controller."""
    names = [f"one-{number}" for number in range(1_000)]
    await _namespaces(client, names, "one")
    gate = asyncio.Semaphore(20)

    async def declare(name: str) -> None:
        async with gate:
            await client.apply(PROMPT_PREFIX, prefix(name, 2_000, name))

    await asyncio.gather(*(declare(name) for name in names))
    started = time.perf_counter()
    with headwater(
        "controller", environment=plane.environment, log=directory / "controller.log"
    ) as process:
        await _served(client, len(names))
        taken = time.perf_counter() - started
        resident = resident_mb(process.pid)
    return [
        Row("scale.first_start_1000", round(taken, 1), "s", "<= 15"),
        Row("scale.rss_1000", round(resident, 1), "MB", "<= 150"),
    ]


def prefix(name: str, size: int, namespace: str | None, *, round_: int = 0) -> Object:
    """A prefix with `size` bytes of text for one namespace, or for all those labelled `wide`."""
    text = f"Round {round_} of {name}. ".ljust(size, "x")
    digest = digest_of(content(tools=[], system=[{"text": text}], ttl="5m"))
    labels = {"bench": "wide"} if namespace is None else {"kubernetes.io/metadata.name": namespace}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "owner": {"team": "bench"},
            "version": f"v{round_}",
            "digest": str(digest),
            "models": ["claude-opus-4-8"],
            "content": {"system": [{"text": text}]},
            "consumers": {"namespaceSelector": {"matchLabels": labels}},
            "rollout": {"strategy": "Immediate"},
        },
    }


async def _namespaces(client: KubernetesCluster, names: list[str], value: str) -> None:
    gate = asyncio.Semaphore(20)

    async def make(name: str) -> None:
        async with gate:
            body = {"metadata": {"name": name, "labels": {"bench": value}}}
            await client.apply(NAMESPACE, body)

    await asyncio.gather(*(make(name) for name in names))


async def _served(client: KubernetesCluster, count: int) -> None:
    async def all_stable() -> bool:
        stable = 0
        async for item in client.list(PROMPT_PREFIX):
            stable += item.get("status", {}).get("phase") == "Stable"
        return stable == count

    await _until(all_stable, 0.5)


async def _rewritten(client: KubernetesCluster, digest: str, count: int) -> bool:
    rewritten = 0
    async for item in client.list(CONFIG_MAP, label_selector="headwater.dev/prefix=wide"):
        rewritten += digest in item.get("data", {}).get("route.json", "")
    return rewritten == count


async def _until(condition: Callable[[], Awaitable[bool]], pause: float) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the controller did not get there")
        await asyncio.sleep(pause)


def _writes(plane: Cluster) -> int:
    """Writes of our kinds of object that the API server has counted."""
    text = plane.kubectl("get", "--raw", "/metrics").stdout
    total = 0.0
    for labels, value in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if found["resource"] in _OURS and found["verb"] in _WRITES:
            total += float(value)
    return int(total)
