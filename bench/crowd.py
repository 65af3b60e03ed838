"""What one tenant's crowd costs the others: the wait for an abort, and the leader's lease."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bench.cluster import (
    declare_prefixes,
    label_namespaces,
    on_fresh_cluster,
    prefix,
    served,
    until,
)
from bench.processes import headwater
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract import bundle
from headwater.controller.objects import Key, bundle_name, files_of
from tests.cluster.control_plane import ControlPlane

_WIDE: Final = 200
_LOUD: Final = 20
"""Prefixes, each for all of the wide namespaces: 4,000 bundles to write."""
_ABORTS: Final = 3
_QUIET: Final = Key("quiet", "house")
_CANARY: Final = {"strategy": "Canary", "steps": [{"setWeight": 10}, {"pause": {}}]}
_LOST: Final = "the lease was not renewed"


def measure() -> list[Row]:
    """All rows, each group on a control plane of its own."""
    return [*on_fresh_cluster(_abort), *on_fresh_cluster(_lease)]


def _house(version: int, **spec: Any) -> Object:
    body = prefix(_QUIET.name, 2_000, _QUIET.namespace, round_=version)
    body["metadata"]["namespace"] = _QUIET.namespace
    body["spec"] |= spec
    return body


async def _abort(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """The quiet tenant takes a candidate back while the loud one publishes to 200 namespaces."""
    await label_namespaces(client, [f"wide-{number}" for number in range(_WIDE)], "wide")
    await label_namespaces(client, [_QUIET.namespace], "one")
    for number in range(_LOUD):
        await client.apply(PROMPT_PREFIX, prefix(f"loud-{number}", 8_000, None))
    await client.apply(PROMPT_PREFIX, _house(1))
    taken = []
    with headwater("controller", environment=plane.environment, log=directory / "log"):
        await served(client, _LOUD + 1)
        for turn in range(1, _ABORTS + 1):
            await client.apply(PROMPT_PREFIX, _house(1 + turn, rollout=_CANARY))
            await until(_has_candidate(client, wanted=True), 0.02)
            for number in range(_LOUD):
                await client.apply(
                    PROMPT_PREFIX, prefix(f"loud-{number}", 8_000, None, round_=turn)
                )
            began = time.perf_counter()
            await client.apply(PROMPT_PREFIX, _house(1, rollout=_CANARY))
            await until(_has_candidate(client, wanted=False), 0.02)
            taken.append(time.perf_counter() - began)
            await served(client, _LOUD + 1)
    return [Row("fair.abort_beside_200", round(max(taken), 2), "s", "<= 1")]


def _has_candidate(client: KubernetesCluster, *, wanted: bool) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        there = await client.get(CONFIG_MAP, _QUIET.namespace, bundle_name(_QUIET))
        route = bundle.decode_route(files_of(there)[bundle.ROUTE_FILE])
        return (route.candidate is not None) is wanted

    return found


async def _lease(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """A thousand prefixes come at once to a leader at work."""
    log = directory / "log"
    with headwater("controller", environment=plane.environment, log=log) as process:

        async def leads() -> bool:
            return "leads as" in log.read_text()

        await until(leads, 0.1)
        await declare_prefixes(client, 1_000)
        await served(client, 1_000)
        lost = log.read_text().count(_LOST) + (process.poll() is not None)
    return [Row("ha.lease_under_load", lost, "renewals missed", "<= 0")]
