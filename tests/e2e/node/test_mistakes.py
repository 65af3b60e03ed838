"""What somebody sees who installs it wrongly, or lets it down: told in order, on one node."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from headwater.controller import certificates
from headwater.controller.objects import Key
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.e2e.node.installation import IMAGES
from tests.e2e.node.world import (
    PATIENCE,
    RELEASE,
    SHOP,
    SYSTEM,
    Helm,
    Stopwatch,
    delete_namespaces,
)

pytestmark = pytest.mark.e2e

WEBHOOK: Final = Key(SYSTEM, "headwater-webhook")
TLS: Final = ("secret", "headwater-webhook-tls", "-n", SYSTEM)
STATES: Final = ("state", "lastState")
EXPIRED: Final = "certificate has expired"
IMPATIENT: Final = "--timeout=20s"


@pytest.fixture(scope="module", autouse=True)
def _removed(node: Cluster, helm: Helm) -> Iterator[None]:
    """The node is the next file's."""
    yield
    helm("uninstall", RELEASE, "--wait", "--ignore-not-found")
    delete_namespaces(node, SHOP, SYSTEM)


def test_the_definitions_are_missing(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> None:
    """The controller does not become ready, and its pods' state says what to apply."""
    without = {**IMAGES.values, "crds": {"enabled": False}}
    with stopwatch.step("helm install without the definitions"):
        assert helm.install(without, IMPATIENT, check=False).returncode != 0
    said = wait_until(lambda: ended(node, "controller"), PATIENCE, "a controller has ended", 1)
    assert "the custom resources are not installed: apply crds/ first" in said
    with stopwatch.step("helm uninstall of that"):
        helm("uninstall", RELEASE, "--wait")


def test_the_image_is_not_there(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> None:
    """Helm gives up; each pod's state names the image, and the right one mends all of it."""
    image = IMAGES.values["image"]
    wrong = {**IMAGES.values, "image": {**image, "tag": "misspelt"}}
    with stopwatch.step("helm install with a wrong image"):
        assert helm.install(wrong, IMPATIENT, check=False).returncode != 0
    for role in ("controller", "webhook"):
        state = waiting(node, role)
        assert state["reason"] in {"ErrImagePull", "ImagePullBackOff"}
        assert f"{image['repository']}:misspelt" in state["message"]
    with stopwatch.step("helm upgrade with the right one"):
        helm.install(IMAGES.values)


def test_the_certificate_has_expired(node: Cluster, stopwatch: Stopwatch) -> None:
    """With no controller to renew it: who makes a pod is told why not, and so is who asks the pods.

    The webhook serves on; when a controller is back, the next pod is made as if nothing had been.
    """
    node.kubectl("create", "namespace", SHOP)
    node.kubectl("label", "namespace", SHOP, "headwater.dev/inject=enabled")
    replicas("controller", 0, node)
    material = certificates.read(node.get(*TLS)["data"])
    assert material is not None
    past = datetime.now(UTC) - timedelta(days=30)
    expired = certificates.issue(material, WEBHOOK, timedelta(days=1), past)
    node.kubectl("patch", *TLS, "--type=merge", "-p", json.dumps({"data": expired.data()}))
    node.kubectl("rollout", "restart", "deployment/headwater-webhook", "-n", SYSTEM)
    with stopwatch.step("webhooks serve a certificate that has expired"):
        node.kubectl(*("rollout", "status", "deployment/headwater-webhook", "-n", SYSTEM))
        said = wait_until(lambda: refusal(node, EXPIRED), PATIENCE, "a pod is refused for it", 1)
    assert 'failed calling webhook "inject.headwater.dev"' in said
    role = ("-n", SYSTEM, "-l", "app.kubernetes.io/component=webhook")
    log = node.kubectl("logs", *role, "--tail=-1").stdout
    assert "the certificate expired" in log
    assert "until the files hold a new one" in log
    with stopwatch.step("a controller is back, and pods are made again"):
        replicas("controller", 1, node)

        def made() -> bool:
            # A kubelet brings the new certificate with its next sync, within a minute or so; an
            # annotation makes that now.
            touched = f"example.com/touched={time.time()}"
            node.kubectl("annotate", "pods", *role, "--overwrite", touched)
            return not refusal(node)

        wait_until(made, 2 * PATIENCE, "a pod is made", 2)


def states(node: Cluster, role: str) -> list[dict[str, Any]]:
    """Of the containers of a role."""
    label = f"app.kubernetes.io/component={role}"
    pods = node.get("pods", "-n", SYSTEM, "-l", label)["items"]
    return [state for pod in pods for state in pod["status"].get("containerStatuses", ())]


def ended(node: Cluster, role: str) -> str:
    """What a role's containers that have ended said last; `kubectl describe` shows it."""
    ends = [state[at].get("terminated", {}) for state in states(node, role) for at in STATES]
    return "\n".join(end.get("message", "") for end in ends).strip()


def waiting(node: Cluster, role: str) -> dict[str, str]:
    """What a role's first container waits for; `kubectl describe` shows it, too."""

    def found() -> dict[str, str]:
        state: dict[str, str] = states(node, role)[0]["state"]["waiting"]
        assert state["reason"] != "ContainerCreating"
        return state

    return wait_until(found, PATIENCE, f"{role} waits for its image", 1)


def replicas(role: str, number: int, node: Cluster) -> None:
    """Scale a role, and wait until no more and no fewer pods are there."""
    name = f"deployment/headwater-{role}"
    node.kubectl("scale", name, "-n", SYSTEM, f"--replicas={number}")
    wait_until(lambda: len(states(node, role)) == number, PATIENCE, f"{role}: {number}", 1)


def refusal(node: Cluster, words: str = "") -> str:
    """What kubectl says to who makes a pod in a namespace that takes part; empty if it is made.

    Raises:
        AssertionError: these words are not in it.
    """
    done = node.kubectl(
        *("run", f"pod-{time.monotonic_ns()}", "-n", SHOP, f"--image={IMAGES.application}"),
        *("--dry-run=server", "--image-pull-policy=IfNotPresent"),
        check=False,
    )
    said = done.stderr if done.returncode else ""
    assert words in said, said
    return said
