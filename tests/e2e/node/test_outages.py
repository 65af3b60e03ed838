"""What an installation goes through while applications talk: other charts, kills, outages.

The tests are one story, told in order on one installation, which begins with the chart before this
one: each begins where the one before ended.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.cluster.control_plane import Cluster
from tests.cluster.real_node import NodeCluster
from tests.cluster.waiting import wait_until
from tests.e2e.node.installation import CONTROLLER, IMAGES, PROVIDER, gateway, own, values
from tests.e2e.node.world import (
    CANARY,
    OWNER,
    PATIENCE,
    PATIENT,
    PREVIOUS,
    RELEASE,
    SHOP,
    SYSTEM,
    Application,
    Helm,
    Prefix,
    Stopwatch,
    delete_namespaces,
    pods_of,
)

pytestmark = pytest.mark.e2e

PAUSE_AT_MOST: Final = 15
"""Seconds between two questions of an application that is never held up, however busy its machine
is: half of what the control plane is away for, or less."""
PAUSED: Final[dict[str, Any]] = {
    **CANARY,
    "steps": [{"setWeight": 50}, {"pause": {"duration": "1h"}}],
    "analysis": {"minHitRate": 0.1, "minRequests": 2},
    "progressDeadline": "2h",
}
"""A canary that stays on its second step, and whose evidence goes on growing."""
MANY: Final = 10
"""Requests of a canary that are more than what a new controller sees in its first moment."""


@pytest.fixture(scope="module")
def installed(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> Iterator[None]:
    """The chart before this one; the node is the next file's afterwards."""
    before = {**values(IMAGES), "controller": {**CONTROLLER, "podAnnotations": {"chart": "before"}}}
    with stopwatch.step("helm install: the chart before this one"):
        helm.install(before, chart=PREVIOUS)
    gateway(node, IMAGES.operator)
    yield
    helm("uninstall", RELEASE, "--wait")
    delete_namespaces(node, SHOP, OWNER, SYSTEM, PROVIDER)


@pytest.fixture(scope="module")
def chat(chat: Application, prefix: Prefix, stopwatch: Stopwatch) -> Application:
    """Two pods of a team's application, on the first version."""
    with stopwatch.step("an application is Ready"):
        prefix.publish("v1")
        prefix.await_phase("Stable", "v1")
        chat.deploy(IMAGES.application, replicas=2)
        chat.await_ready()
    return chat


def test_an_upgrade_and_back(
    node: Cluster, helm: Helm, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """From the chart before this one and back, in a canary: weight, step and evidence stay."""
    with stopwatch.step("a canary has evidence"):
        prefix.publish("v2", rollout=PAUSED)
        at, requests = wait_until(partial(canary, prefix, MANY), PATIENCE, "much was counted", 1)
    changes: dict[str, Callable[[], object]] = {
        "helm upgrade": lambda: helm.install(values(IMAGES)),
        "helm rollback": lambda: helm("rollback", RELEASE, "--wait", PATIENT),
        "helm upgrade again": lambda: helm.install(values(IMAGES)),
    }
    for what, change in changes.items():
        pods = set(pods_of(node, "controller"))
        with stopwatch.step(f"{what}, in a canary"):
            change()
        assert not pods & set(pods_of(node, "controller"))
        then, counted = canary(prefix)
        assert then == at
        assert counted >= requests
        more = partial(canary, prefix, counted + MANY)
        _, requests = wait_until(more, PATIENCE, "more was counted", 1)
    prefix.publish("v1")
    prefix.await_phase("Stable", "v1")
    assert [line.error for line in chat.lines() if line.error] == []


def test_processes_are_killed(
    node: Cluster, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """Both controllers in each phase, the webhooks in turn: the version arrives all the same."""
    cluster = own(node)
    with stopwatch.step("a version arrives while controllers are killed"):
        digest = prefix.publish("v3", rollout=CANARY)
        kill(cluster, "controller")
        prefix.await_phase("Progressing", "v3")
        kill(cluster, "controller")
        chat.await_version("v3")
        prefix.await_phase("AwaitingApproval", "v3")
        kill(cluster, "controller")
        prefix.publish("v3", rollout={**CANARY, "approvedDigest": digest})
        kill(cluster, "controller")
        prefix.await_phase("Stable", "v3")
    with stopwatch.step("a pod starts while webhooks are killed in turn"):
        for pod in pods_of(cluster, "webhook"):
            cluster.kill_container(SYSTEM, pod, "webhook")
            cluster.kubectl("rollout", "restart", f"deployment/{chat.name}", "-n", SHOP)
            chat.await_ready()
    assert {len(pod["spec"]["initContainers"]) for pod in chat.pods()} == {1}
    assert [line.error for line in chat.lines() if line.error] == []


@pytest.mark.parametrize(("what", "seconds"), [("kube-apiserver", 60), ("etcd", 30)])
def test_the_control_plane_is_away(
    what: str, seconds: int, node: Cluster, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """Applications notice nothing, and what was published before and after arrives."""
    cluster, version = own(node), f"without-{what}"
    with stopwatch.step(f"a version arrives, with {what} away for {seconds} s of it"):
        digest = prefix.publish(version, rollout=CANARY)
        if what == "etcd":
            cluster.stop_etcd()
            time.sleep(seconds)  # that long, and no condition, is what is asked
            cluster.start_etcd()
        else:
            cluster.stop_api_server()
            time.sleep(seconds)
            cluster.start_api_server()
        chat.await_version(version)
        prefix.await_phase("AwaitingApproval", version)
        prefix.publish(version, rollout={**CANARY, "approvedDigest": digest})
        prefix.await_phase("Stable", version)
    lines = chat.lines()
    assert [line.error for line in lines if line.error] == []
    for pod in chat.pods():
        asked = [line.asked for line in lines if line.pod == pod["metadata"]["name"]]
        assert max(after - before for before, after in pairwise(asked)) < PAUSE_AT_MOST


def canary(prefix: Prefix, than: int = -1) -> tuple[tuple[str, int, int], int]:
    """Version, weight and step of what is canaried, and of how many requests, more `than` that.

    Raises:
        AssertionError: it is not on its second step, or not of so many.
    """
    candidate = prefix.status["candidate"]
    requests = sum(each["hits"] + each["misses"] for each in candidate.get("evidence", ()))
    assert (candidate["step"], requests > than) == (1, True), candidate
    return (candidate["version"], candidate["weight"], candidate["step"]), requests


def kill(node: NodeCluster, role: str) -> None:
    """End every process of a role at once, and wait until each is back."""
    with ThreadPoolExecutor() as threads:
        for done in [
            threads.submit(node.kill_container, SYSTEM, pod, role) for pod in pods_of(node, role)
        ]:
            done.result()
