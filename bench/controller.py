"""What the controller costs the API server, the machine and the person who waits."""

import asyncio
import re
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench.cluster import (
    declare_prefixes,
    label_namespaces,
    on_fresh_cluster,
    prefix,
    served,
    until,
)
from bench.processes import headwater, resident_mb
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX
from headwater.cluster.kubernetes import KubernetesCluster
from tests.cluster.control_plane import Cluster, ControlPlane

_CRDS: Final = Path(__file__).parent.parent / "crds"
_OURS: Final = ("promptprefixes", "cachewarmers", "configmaps", "cronjobs", "events")
_WRITES: Final = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "CREATE", "UPDATE")
_PATIENCE: Final = 300.0


def measure() -> list[Row]:
    """All rows of the controller, each group on a control plane of its own."""
    return [*on_fresh_cluster(_hundred), *on_fresh_cluster(_thousand)]


async def _hundred(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """100 prefixes at rest, and one that fans out into 100 namespaces."""
    await label_namespaces(client, [f"one-{number}" for number in range(99)], "one")
    await label_namespaces(client, [f"wide-{number}" for number in range(100)], "wide")
    for number in range(99):
        await client.apply(PROMPT_PREFIX, prefix(f"one-{number}", 2_000, f"one-{number}"))
    await client.apply(PROMPT_PREFIX, prefix("wide", 8_000, None, round_=0))
    with headwater(
        "controller", environment=plane.environment, log=directory / "controller.log"
    ) as process:
        await served(client, 100)
        timed = []
        for round_ in range(1, 6):
            desired = prefix("wide", 8_000, None, round_=round_)
            started = time.perf_counter()
            await client.apply(PROMPT_PREFIX, desired)
            await until(partial(_rewritten, client, desired["spec"]["digest"], 100), 0.05)
            timed.append(time.perf_counter() - started)
        before = writes(plane)
        if before == 0:
            raise RuntimeError("the API server counts no writes of ours: the row would be empty")
        await asyncio.sleep(60)  # the row is about doing nothing for this long
        idle = writes(plane) - before
        resident = resident_mb(process.pid)
    return [
        Row("fanout.100_namespaces", round(statistics.median(timed), 2), "s", "<= 2"),
        Row("idle.api_writes", idle, "writes", "<= 0"),
        Row("rss.controller_100_prefixes", round(resident, 1), "MB", "<= 110"),
    ]


async def _thousand(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """1,000 prefixes of 2 KB with a bundle each, all new to the controller."""
    await declare_prefixes(client, 1_000)
    started = time.perf_counter()
    with headwater(
        "controller", environment=plane.environment, log=directory / "controller.log"
    ) as process:
        await served(client, 1_000)
        taken = time.perf_counter() - started
        resident = resident_mb(process.pid)
    return [
        Row("scale.first_start_1000", round(taken, 1), "s", "<= 15"),
        Row("scale.rss_1000", round(resident, 1), "MB", "<= 150"),
    ]


async def _rewritten(client: KubernetesCluster, digest: str, count: int) -> bool:
    rewritten = 0
    async for item in client.list(CONFIG_MAP, label_selector="headwater.dev/prefix=wide"):
        rewritten += digest in item.get("data", {}).get("route.json", "")
    return rewritten == count


def writes(plane: Cluster) -> int:
    """Writes of our kinds of object that the API server has counted."""
    text = plane.kubectl("get", "--raw", "/metrics").stdout
    total = 0.0
    for labels, value in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if found["resource"] in _OURS and found["verb"] in _WRITES:
            total += float(value)
    return int(total)
