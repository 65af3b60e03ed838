"""How long a hand edit of a bundle stands."""

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench.cluster import label_namespaces, on_fresh_cluster, prefix, served, until
from bench.processes import headwater
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX, Object
from headwater.cluster.kubernetes import KubernetesCluster
from tests.cluster.control_plane import ControlPlane
from tests.integration.controller.harness import Api

_EDITS: Final = 20
_BUNDLE: Final = "headwater.default.one"
_NAMESPACE: Final = "consumer"


def measure() -> list[Row]:
    """On a control plane of its own."""
    return on_fresh_cluster(_drift)


async def _drift(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """A byte of the contract is changed by hand, again and again."""
    await label_namespaces(client, [_NAMESPACE], "one")
    await client.apply(PROMPT_PREFIX, prefix("one", 20_000, _NAMESPACE))
    with (
        headwater("controller", environment=plane.environment, log=directory / "controller.log"),
        Api(plane) as person,
    ):
        await served(client, 1)
        right = await client.get(CONFIG_MAP, _NAMESPACE, _BUNDLE)
        (file,) = right["data"].keys() - {"route.json"}
        timed = []
        for _ in range(_EDITS):
            edit = {"data": {file: right["data"][file].replace("x", "y", 1)}}
            started = time.perf_counter()
            person.patch(CONFIG_MAP, _NAMESPACE, _BUNDLE, edit)
            await until(partial(_stands, client, right), 0.01)
            timed.append(time.perf_counter() - started)
    return [Row("drift.repair", round(statistics.median(timed), 3), "s", "<= 2")]


async def _stands(client: KubernetesCluster, right: Object) -> bool:
    found = await client.get(CONFIG_MAP, _NAMESPACE, _BUNDLE)
    return bool(found["data"] == right["data"])
