"""What takes time on a real node: to install, to start a sidecar, to take a version back."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from bench.rows import Row
from tests.cluster import assets
from tests.cluster.control_plane import Cluster
from tests.cluster.real_node import NodeCluster
from tests.e2e.node.installation import IMAGES, gateway, missing, open_node, values
from tests.e2e.node.world import (
    OWNER,
    Application,
    Helm,
    Prefix,
    Stopwatch,
    consumer_namespace,
    seconds_of_an_abort,
)

_PODS: Final = 20
_ABORTS: Final = 5
_STARTS: Final = 5
_SHOP: Final = "shop"


def measure() -> list[Row]:
    """On a node of this machine's own; nothing where none can run."""
    if lacking := missing():
        print(f"skipped: {lacking}", file=sys.stderr)
        return []
    stopwatch = Stopwatch(lambda line: print(line, file=sys.stderr, flush=True))
    with open_node(stopwatch) as node:
        helm = Helm(assets.require("helm") / "helm", node)
        began = time.monotonic()
        helm.install(values(IMAGES))
        installed = time.monotonic() - began
        gateway(node, IMAGES.operator)
        node.kubectl("create", "namespace", OWNER)
        consumer_namespace(node, _SHOP)
        prefix, chat = Prefix(node), Application(node, _SHOP)
        prefix.publish("v0")
        prefix.await_phase("Stable", "v0")
        rows = [Row("node.install_to_ready", round(installed, 1), "s", "<= 60")]
        if isinstance(node, NodeCluster):  # another's containerd is out of reach
            starts = [_sidecar_ready(node, chat) for _ in range(_STARTS)]
            ready = round(statistics.median(starts) * 1000)
            rows.append(Row("node.sidecar_ready", ready, "ms", "<= 1500"))
        with stopwatch.step(f"{_PODS} pods are Ready"):
            chat.deploy(IMAGES.application, replicas=_PODS, pause=1)
            chat.await_ready()
        aborts = []
        for number in range(1, _ABORTS + 1):
            with stopwatch.step("a canary is taken back"):
                aborts.append(seconds_of_an_abort(prefix, chat, "v0", f"v{number}"))
        last = round(statistics.median(aborts), 2)
        return [*rows, Row("node.abort_to_last_pod", last, "s", "<= 2")]


def _sidecar_ready(node: NodeCluster, application: Application) -> float:
    """Seconds from the start of a sidecar's process until its pod's status calls it started."""
    with _started_containers(node) as starts:
        application.deploy(IMAGES.application)
        ready_at = _first_ready(node, application)
        (pod,) = application.pods()
        (sidecar,) = pod["status"]["initContainerStatuses"]
        identity = sidecar["containerID"].removeprefix("containerd://")
        started_at = next(at for at, container in starts if container == identity)
    node.kubectl("delete", "deployment", application.name, "-n", application.namespace)
    node.kubectl("wait", "pods", "-n", application.namespace, "--all", "--for=delete")
    return ready_at - started_at


@contextmanager
def _started_containers(node: NodeCluster) -> Iterator[Iterator[tuple[float, str]]]:
    """When which container's process started, from now on; seconds since the epoch."""
    with subprocess.Popen(
        ["ctr", "--address", node.containerd, "--namespace", "k8s.io", "events"],
        stdout=subprocess.PIPE,
        text=True,
    ) as events:
        try:
            yield (_start(line) for line in events.stdout or () if " /tasks/start " in line)
        finally:
            events.kill()


def _start(line: str) -> tuple[float, str]:
    # 2026-01-31 12:00:00.123456789 +0000 UTC k8s.io /tasks/start {"container_id":"…","pid":1}
    day, clock, zone, *_, event = line.split(maxsplit=6)
    at = datetime.fromisoformat(f"{day}T{clock[:15]}{zone[:3]}:{zone[3:]}")
    return at.timestamp(), json.loads(event)["container_id"]


def _first_ready(cluster: Cluster, application: Application) -> float:
    """When a watcher first saw the sidecar started."""
    path = '{.status.initContainerStatuses[0].started}{"\\n"}'
    with subprocess.Popen(
        [
            *(cluster.kubectl_binary, "get", "pods", "-n", application.namespace, "--watch"),
            *("-l", f"app={application.name}", "-o", f"jsonpath={path}"),
        ],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as watch:
        try:
            for line in watch.stdout or ():
                if line.strip() == "true":
                    return time.time()
        finally:
            watch.kill()
    raise AssertionError("the watch ended before the sidecar had started")
