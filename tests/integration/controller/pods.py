"""Pods that mount bundles. Without a node none runs: only the API server knows them."""

from typing import Any

from headwater.cluster import POD
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api
from tests.integration.controller.team import PATIENCE


def mounting(namespace: str, name: str, bundle: str) -> dict[str, Any]:
    """A pod of a consumer."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"headwater.dev/role": "consumer", "app": "billing"},
            "annotations": {"example.com/owner": "billing"},
        },
        "spec": {
            "containers": [{"name": "app", "image": "app:1"}],
            "volumes": [{"name": "contract", "configMap": {"name": bundle}}],
        },
    }


def start(api: Api, namespace: str, name: str, bundle: str) -> dict[str, Any]:
    """Create the pod as soon as its namespace admits one; the pod."""
    body = mounting(namespace, name, bundle)
    return wait_until(lambda: api.create(POD, body), PATIENCE, f"{namespace} admits pods")


def end_warming(api: Api, namespace: str, name: str, message: str) -> None:
    """A warming pod ends well, and leaves this termination message."""
    ended = {
        "name": "warm",
        "image": "x",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": message}},
    }
    status = {"phase": "Succeeded", "containerStatuses": [ended]}
    api.patch(POD, namespace, name, {"status": status}, subresource="/status")
