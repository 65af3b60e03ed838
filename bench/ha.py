"""How long it takes until somebody is at work again: after a restart, and after a leader's end."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.cluster import declare_prefixes, on_fresh_cluster, prefix, served, until
from bench.controller import writes
from bench.processes import headwater
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from tests.cluster.control_plane import ControlPlane

_PREFIXES: Final = 1_000
_DONE: Final = "all that was known at the start has been looked at"
_FAILOVERS: Final = 3


def measure() -> list[Row]:
    """All rows, on one control plane."""
    return on_fresh_cluster(_measure)


async def _measure(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    await declare_prefixes(client, _PREFIXES)
    log = directory / "log"
    with headwater("controller", environment=plane.environment, log=log):
        await served(client, _PREFIXES)
    before = writes(plane)
    started = time.perf_counter()
    with headwater("controller", environment=plane.environment, log=log) as process:
        await until(_said(log, _DONE), 0.02)
        restarted, busy = time.perf_counter() - started, _cpu_seconds(process.pid)
    written = writes(plane) - before
    failovers = [await _failover(plane, client, directory, n) for n in range(_FAILOVERS)]
    return [
        Row("controller.restart_1000_prefixes", round(restarted, 2), "s", "<= 4"),
        Row("controller.restart_1000_prefixes_cpu", round(busy, 2), "s"),
        Row("controller.restart_1000_prefixes_writes", written, "writes", "<= 0"),
        Row("ha.failover", round(max(failovers), 1), "s", "<= 20"),
    ]


async def _failover(
    plane: ControlPlane, client: KubernetesCluster, directory: Path, turn: int
) -> float:
    """Seconds from a leader's SIGKILL until the other one has written."""
    logs = [directory / f"{name}-{turn}" for name in ("leader", "waiting")]
    desired = prefix("wanted", 2_000, f"one-{turn}", round_=turn)
    with headwater("controller", environment=plane.environment, log=logs[0]) as leader:
        await until(_said(logs[0], _DONE), 0.1)
        with headwater("controller", environment=plane.environment, log=logs[1]):
            await until(_said(logs[1], "waits, because"), 0.1)
            await asyncio.sleep(turn)  # at another moment between two renewals each time
            leader.kill()
            killed = time.perf_counter()
            await client.apply(PROMPT_PREFIX, desired)
            await until(_published(client, desired, f"one-{turn}"), 0.1)
            return time.perf_counter() - killed


def _said(log: Path, words: str) -> Callable[[], Awaitable[bool]]:
    async def said() -> bool:
        return words in log.read_text()  # noqa: ASYNC240 - a local file of a few lines

    return said


def _published(
    client: KubernetesCluster, desired: Object, namespace: str
) -> Callable[[], Awaitable[bool]]:
    name = f"headwater.default.{desired['metadata']['name']}"

    async def published() -> bool:
        try:
            found = await client.get(CONFIG_MAP, namespace, name)
        except NotFoundError:
            return False
        return desired["spec"]["digest"] in found["data"]["route.json"]

    return published


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
