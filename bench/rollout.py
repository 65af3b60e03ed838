"""How fast a rollout is decided, what it costs, and how fast it reaches those it concerns."""

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench import canary
from bench.cluster import label_namespaces, on_fresh_cluster, prefix, served, until
from bench.processes import headwater
from bench.rows import Row
from headwater.cluster import CONFIG_MAP, POD, PROMPT_PREFIX, Object, RefusedError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.cluster.labels import ROLE_LABEL
from headwater.controller.consumers import withdrawn_annotation
from headwater.controller.objects import Key, bundle_name
from tests.cluster.control_plane import ControlPlane

_WIDE: Final = Key("default", "wide")
_NAMESPACES: Final = 100
_ROUNDS: Final = 5


def measure() -> list[Row]:
    """All rows of rollouts."""
    return [canary.decision(), canary.excess_writes(), *on_fresh_cluster(_abort)]


async def _abort(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """A canary in 100 namespaces with a pod each is aborted by reverting its commit."""
    names = [f"wide-{number}" for number in range(_NAMESPACES)]
    await label_namespaces(client, names, "wide")
    for name in names:
        await until(partial(_started, client, name), 0.05)
    stable = _canary(0)
    await client.apply(PROMPT_PREFIX, stable)
    bundles, pods = [], []
    log = directory / "controller.log"
    with headwater("controller", environment=plane.environment, log=log):
        await served(client, 1)
        for round_ in range(1, _ROUNDS + 1):
            candidate = _canary(round_)
            digest = candidate["spec"]["digest"]
            await client.apply(PROMPT_PREFIX, candidate)
            await until(partial(_routed, client, digest, _NAMESPACES), 0.05)
            started = time.perf_counter()
            await client.apply(PROMPT_PREFIX, stable)
            await until(partial(_routed, client, digest, 0), 0.05)
            bundles.append(time.perf_counter() - started)
            await until(partial(_told, client), 0.05)
            pods.append(time.perf_counter() - started)
    return [
        Row("rollout.abort_to_bundles_100", round(statistics.median(bundles), 2), "s", "<= 2"),
        Row("rollout.abort_to_pods_100", round(statistics.median(pods), 2), "s", "<= 2"),
    ]


def _canary(round_: int) -> Object:
    """Another version of the same prefix in every round."""
    body = prefix(_WIDE.name, 8_000, None, round_=round_)
    body["spec"]["rollout"] = {"steps": [{"setWeight": 50}, {"pause": {}}]}
    return body


async def _started(client: KubernetesCluster, namespace: str) -> bool:
    """Start a pod that mounts the bundle, once its namespace has the account that it needs."""
    volume = {"name": "contract", "configMap": {"name": bundle_name(_WIDE)}}
    body = {
        "metadata": {"name": "app", "namespace": namespace, "labels": {ROLE_LABEL: "consumer"}},
        "spec": {"containers": [{"name": "app", "image": "app"}], "volumes": [volume]},
    }
    try:
        await client.create(POD, body)
    except RefusedError:
        return False
    return True


async def _routed(client: KubernetesCluster, digest: str, count: int) -> bool:
    """Whether so many bundles name these bytes."""
    naming = 0
    async for item in client.list(CONFIG_MAP, label_selector=f"{ROLE_LABEL}=bundle"):
        naming += digest in item.get("data", {}).get("route.json", "")
    return naming == count


async def _told(client: KubernetesCluster) -> bool:
    """Whether every pod knows of the last withdrawal."""
    status = (await client.get(PROMPT_PREFIX, *_WIDE))["status"]
    epoch, annotation = str(status["withdrawn"]["epoch"]), withdrawn_annotation(_WIDE)
    told = 0
    async for pod in client.list(POD, label_selector=ROLE_LABEL):
        told += (pod["metadata"].get("annotations") or {}).get(annotation) == epoch
    return told == _NAMESPACES
