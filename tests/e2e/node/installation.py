"""A node with the images on it, and what the stories install there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster import images, machine
from tests.cluster.control_plane import Cluster, open_cluster
from tests.cluster.real_node import NodeCluster
from tests.e2e.node.world import PATIENT, Images, Stopwatch, apply

IMAGES: Final = Images(images.OPERATOR, images.SIDECAR, images.APPLICATION)
PROVIDER: Final = "provider"
CONTROLLER: Final = {"replicas": 2, "scrapeInterval": 1}


def missing() -> str | None:
    """Why there can be no node, in one sentence; None where there can."""
    if os.environ.get("HEADWATER_CLUSTER"):
        return None
    return machine.missing() or images.missing()


@contextmanager
def open_node(stopwatch: Stopwatch, number: int = 0) -> Iterator[Cluster]:
    """A cluster whose nodes have the images: the kubeconfig's own, or one of this machine's."""
    if os.environ.get("HEADWATER_CLUSTER"):
        with open_cluster(os.environ) as cluster:
            yield cluster
        return
    with stopwatch.step("images are built"):
        archives = images.archives()
    with stopwatch.step("a node is ready"):
        node = NodeCluster(number).__enter__()
    try:
        with stopwatch.step("the node has the images"):
            for archive in archives:
                node.load(archive)
        yield node
    finally:
        with stopwatch.step("the node is gone"):
            node.__exit__()


def own(node: Cluster) -> NodeCluster:
    """The node, where its processes are ours to stop."""
    if not isinstance(node, NodeCluster):
        pytest.skip("ends processes of the cluster, so it needs a node of its own")
    return node


def values(images: Images) -> dict[str, Any]:
    """For the chart: two of each, and the simulator behind a gateway."""
    return {
        **images.values,
        "controller": CONTROLLER,
        "webhook": {"replicas": 2},
        "simulator": {"enabled": True},
        "providerUrl": f"http://gateway.{PROVIDER}:8080",
    }


def gateway(cluster: Cluster, image: str) -> None:
    """A simulator, and before it what renders templates, as a company's own gateway might."""
    program = (Path(__file__).parent / "gateway.py").read_text()
    labels = {"app": "gateway"}
    metadata = {"name": "gateway", "namespace": PROVIDER}
    container = {
        "name": "gateway",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/headwater/bin/python", "/program/gateway.py"],
        "args": ["http://127.0.0.1:8585"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    # Not the chart's: a provider is neither upgraded nor uninstalled with it.
    provider = {
        "name": "provider",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["headwater", "simulator", "--port=8585"],
    }
    volume = {"name": "program", "configMap": {"name": "gateway"}}
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROVIDER}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"gateway.py": program},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container, provider], "volumes": [volume]},
                },
            },
        },
    )
    cluster.kubectl("rollout", "status", "deployment/gateway", "-n", PROVIDER, PATIENT)
