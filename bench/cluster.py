"""A control plane for a measurement, and what one waits for on it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.rows import Row
from headwater.cluster import NAMESPACE, PROMPT_PREFIX, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.content import content, digest_of
from tests.cluster.control_plane import ControlPlane
from tests.integration.controller.harness import install_crds

_PATIENCE: Final = 300.0


def on_fresh_cluster(
    work: Callable[[ControlPlane, KubernetesCluster, Path], Awaitable[list[Row]]],
) -> list[Row]:
    """Measure on a control plane of its own, with the custom resources installed."""
    with ControlPlane() as plane, TemporaryDirectory() as directory:
        install_crds(plane)
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


async def label_namespaces(client: KubernetesCluster, names: list[str], value: str) -> None:
    """Make namespaces that have the label `bench`."""
    gate = asyncio.Semaphore(20)

    async def make(name: str) -> None:
        async with gate:
            body = {"metadata": {"name": name, "labels": {"bench": value}}}
            await client.apply(NAMESPACE, body)

    await asyncio.gather(*(make(name) for name in names))


async def declare_prefixes(client: KubernetesCluster, count: int) -> None:
    """Prefixes of 2 KB, each in and for a namespace of its own, like `one-7`."""
    names = [f"one-{number}" for number in range(count)]
    await label_namespaces(client, names, "one")
    gate = asyncio.Semaphore(20)

    async def declare(name: str) -> None:
        async with gate:
            await client.apply(PROMPT_PREFIX, prefix(name, 2_000, name))

    await asyncio.gather(*(declare(name) for name in names))


async def served(client: KubernetesCluster, count: int) -> None:
    """Wait until all of `count` prefixes are stable."""

    async def all_stable() -> bool:
        stable = 0
        async for item in client.list(PROMPT_PREFIX):
            stable += item.get("status", {}).get("phase") == "Stable"
        return stable == count

    await until(all_stable, 0.5)


async def until(condition: Callable[[], Awaitable[bool]], pause: float) -> None:
    """Wait for a condition, and ask every `pause` seconds.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.monotonic() + _PATIENCE
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the controller did not get there")
        await asyncio.sleep(pause)
