"""The objects of `deploy/headwater.yaml`: the chart, rendered with its defaults.

Where there is no node its pods would never run, and its webhooks would hold everything up: a test
takes the kinds that it is about, and runs the processes itself.
"""

import copy
import functools
import json
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.cluster.control_plane import Cluster

MANIFEST: Final = Path(__file__).parents[2] / "deploy" / "headwater.yaml"
ACCOUNTS: Final = (
    *("Namespace", "ServiceAccount"),
    *("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
)
"""Who the parts of Headwater are, and what they may do."""
POLICIES: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
WEBHOOKS: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def deployed(*kinds: str) -> list[dict[str, Any]]:
    """The objects of these kinds, which are the caller's own."""
    return [copy.deepcopy(document) for document in _documents() if document["kind"] in kinds]


@functools.cache
def _documents() -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(MANIFEST.read_text("utf-8")))


def deploy(cluster: Cluster, *kinds: str) -> None:
    """Apply the objects of these kinds."""
    whole = {"apiVersion": "v1", "kind": "List", "items": deployed(*kinds)}
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(whole))


def image() -> str:
    """The image of warming jobs, which a policy compares."""
    return next(
        str(argument).removeprefix("--image=")
        for deployment in deployed("Deployment")
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for argument in container.get("args", ())
        if argument.startswith("--image=")
    )
