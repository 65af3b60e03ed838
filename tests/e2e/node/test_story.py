"""A platform team and its consumers on a real node, from `helm install` on.

The tests are one story, told in order on one installation: each begins where the one before ended.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.control_plane import Cluster
from tests.cluster.real_node import NodeCluster
from tests.cluster.waiting import wait_until
from tests.e2e.node.gateway import PLACEHOLDER
from tests.e2e.node.installation import CONTROLLER, IMAGES, PROVIDER, gateway, own, values
from tests.e2e.node.world import (
    OWNER,
    PATIENCE,
    PREFIX,
    PREVIOUS,
    RELEASE,
    SYSTEM,
    Application,
    Helm,
    Prefix,
    Stopwatch,
    apply,
    consumer_namespace,
    run_program,
    seconds_of_an_abort,
)
from tests.integration.controller.team import manifest, prompt
from tests.integration.sidecar import mixed, traffic

pytestmark = pytest.mark.e2e

INSTALL_SECONDS: Final = 60
SHOP: Final = "shop"
REPLAY: Final = "replay"
REQUESTS: Final = 10_000
PODS: Final = 20
ABORT_SECONDS: Final = 15
"""Far from a kubelet's sync, on a machine of any kind; how fast it is, `make bench` measures."""
PAUSE_AT_MOST: Final = 5
"""Seconds between two questions of an application that is never held up."""
SYNC_SECONDS: Final = 120
"""Of a kubelet, and its jitter, with a machine in between that has much to do."""
CANARY: Final[dict[str, Any]] = {
    "steps": [{"setWeight": 50}],
    "analysis": {"minHitRate": 0.8, "minRequests": 20},
    "approval": "Required",
    "progressDeadline": "10m",
}


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
def installed(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> float:
    """Everything of the chart, with the simulator behind a gateway; the seconds until ready."""
    began = time.monotonic()
    with stopwatch.step("helm install: all is ready"):
        helm.install(values(IMAGES))
    seconds = time.monotonic() - began
    gateway(node, IMAGES.operator)
    return seconds


@pytest.fixture(scope="module")
def prefix(node: Cluster, installed: float) -> Prefix:
    """The team's namespace, with nothing published yet."""
    del installed
    node.kubectl("create", "namespace", OWNER)
    consumer_namespace(node, SHOP)
    return Prefix(node)


@pytest.fixture(scope="module")
def chat(node: Cluster, prefix: Prefix) -> Application:
    """A team's application; `deploy` starts it."""
    del prefix
    return Application(node, SHOP)


def test_install(installed: float, node: Cluster, helm: Helm, stopwatch: Stopwatch) -> None:
    """Two controllers and two webhooks are Ready within a minute, and nothing has restarted.

    One of the controllers works, as their metrics say, and `helm test` has no objection.
    """
    assert installed < INSTALL_SECONDS
    pods = node.get("pods", "-n", SYSTEM)["items"]
    roles = [pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods]
    assert sorted(roles) == ["controller", "controller", "simulator", "webhook", "webhook"]
    states = [state for pod in pods for state in pod["status"]["containerStatuses"]]
    assert {state["restartCount"] for state in states} == {0}
    leads = "headwater_controller_leads "
    exposed = [metrics(node, pod) for pod in pods_of(node, "controller")]
    assert sorted(
        line.removeprefix(leads)
        for text in exposed
        for line in text.splitlines()
        if line.startswith(leads)
    ) == ["0.0", "1.0"]
    with stopwatch.step("helm test"):
        helm("test", RELEASE, "--timeout", "90s")


def test_every_token_is_counted(
    node: Cluster, helm: Helm, prefix: Prefix, stopwatch: Stopwatch
) -> None:
    """A sidecar's metrics equal the provider's ledger, after 10,000 requests of every kind."""
    del prefix
    provider_is(node, helm, "")  # no gateway changes a byte or a token
    consumer_namespace(node, REPLAY, "mixed")
    body = manifest(
        OWNER,
        name="mixed",
        source=mixed.CONTENT,
        models=mixed.MODELS,
        ttl=mixed.TTL,
    )
    apply(node, {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body})
    node.kubectl(
        *("wait", "promptprefix/mixed", "-n", OWNER, "--for=condition=Ready", "--timeout=55s")
    )
    with stopwatch.step(f"{REQUESTS} requests are answered"):
        run_program(node, REPLAY, Path(traffic.__file__), IMAGES.operator, str(REQUESTS))
        logs = partial(node.kubectl, "logs", "traffic", "-n", REPLAY, "-c", "traffic")
        said = wait_until(lambda: logs().stdout, 4 * PATIENCE, "all are answered", 1)
        assert said.startswith("{"), said
    drawn = Counter[str](json.loads(said))
    ledger = raw(node, f"services/{RELEASE}-simulator:8585/proxy/_simulator/stats")

    def counted() -> bool:
        mixed.check(metrics(node, "traffic", 9484, REPLAY), mixed.billed(ledger), drawn)
        return True

    wait_until(counted, PATIENCE, "the metrics equal the ledger", 1)
    node.kubectl("delete", "namespace", REPLAY, "--wait=false")
    node.kubectl("delete", "promptprefix", "mixed", "-n", OWNER)
    provider_is(node, helm, values(IMAGES)["providerUrl"])


def test_an_unmodified_application(prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """It is injected by its namespace's label; its first answer writes, the next reads."""
    with stopwatch.step("the first version is Stable"):
        prefix.publish("v1")
        prefix.await_phase("Stable", "v1")
    with stopwatch.step("an application is answered through its sidecar"):
        chat.deploy(IMAGES.application)
        chat.await_ready()
        lines = wait_until(
            lambda: (found := chat.lines())[1:] and found, PATIENCE, "there are two answers"
        )
    (pod,) = chat.pods()
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["headwater-sidecar"]
    first, second, *_ = lines
    assert (first.version, first.error, first.wrote > 0, first.read) == ("v1", None, True, 0)
    assert (second.version, second.wrote, second.read) == ("v1", 0, first.wrote)


def test_a_good_version(prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """It is canaried on live traffic, waits for its approval, and everybody gets it."""
    with stopwatch.step("a canary gets its share"):
        digest = prefix.publish("v2", rollout=CANARY)
        prefix.await_phase("Progressing", "v2")
        chat.await_version("v2")
    with stopwatch.step("a canary has shown its hits"):
        prefix.await_phase("AwaitingApproval", "v2")
    with stopwatch.step("an approved version is Stable"):
        prefix.publish("v2", rollout={**CANARY, "approvedDigest": digest})
        prefix.await_phase("Stable", "v2")
    assert [line.error for line in chat.lines() if line.error] == []


def test_a_bad_version(prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """What can be seen to miss the cache is refused; what only shows it in traffic goes back."""
    with pytest.raises(AssertionError, match="placeholder"):
        prefix.publish("v3", f"It is ${{request.time}}. {prompt('v3')}", rollout=CANARY)
    text = f"{PLACEHOLDER} {prompt('v3')}"
    with stopwatch.step("a bad canary gets its share"):
        prefix.publish("v3", text, rollout=CANARY)
        prefix.await_phase("Progressing", "v3")
        chat.await_version("v3")
    with stopwatch.step("a bad canary has gone back"):
        status = prefix.await_phase("RolledBack", "v3")
    assert status["stable"]["version"] == "v2"
    assert "HitRateBelowFloor" in {event["event"] for event in status["history"]}
    back = time.time()
    wait_until(
        lambda: any(line.asked > back + 5 for line in chat.lines()), PATIENCE, "the talk goes on"
    )
    late = [line for line in chat.lines() if line.asked > back + 5]
    assert {line.version for line in late} == {"v2"}
    assert [line.error for line in chat.lines() if line.error] == []


def test_an_abort(prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """The commit that takes a version back reaches 20 pods within seconds, by their annotation."""
    with stopwatch.step(f"{PODS} pods are Ready"):
        chat.deploy(IMAGES.application, replicas=PODS, pause=1)
        chat.await_ready()
    with stopwatch.step("a canary is taken back in all of them"):
        seconds = seconds_of_an_abort(prefix, chat, "v2", "v4")
    stopwatch.say(f"{seconds:7.2f} s  from the edit to the last request with the candidate")
    assert seconds < ABORT_SECONDS
    assert [line.error for line in chat.lines() if line.error] == []


def test_an_abort_without_annotations(
    prefix: Prefix, chat: Application, helm: Helm, stopwatch: Stopwatch
) -> None:
    """Where the controller may not patch pods, each learns of it with its kubelet's next sync."""
    with stopwatch.step("the chart is changed"):
        helm.install({**values(IMAGES), "controller": {**CONTROLLER, "tellPods": False}})
    with stopwatch.step("a canary is taken back in all of them"):
        seconds = seconds_of_an_abort(prefix, chat, "v2", "v5")
    stopwatch.say(f"{seconds:7.2f} s  from the edit to the last request with the candidate")
    helm.install(values(IMAGES))
    assert seconds < SYNC_SECONDS
    assert [line.error for line in chat.lines() if line.error] == []


def test_a_warmer(node: Cluster, prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """Its pods mount the keys: one write, then reads; what is warm is what is live.

    A lane that an application uses is left to it, and a budget that is spent suspends the CronJob.
    """
    former = prefix.status["stable"]
    keys = {"quiet": "sk-of-the-warmer", "busy": f"sk-{chat.namespace}"}
    about = {"name": "warm", "namespace": OWNER}
    spec = {
        "prefixRef": {"name": PREFIX},
        "credentials": [
            {"name": name, "secretRef": {"name": "anthropic", "key": name}} for name in keys
        ],
        "schedule": "* * * * *",
    }
    kind = {"apiVersion": "headwater.dev/v1alpha1", "kind": "CacheWarmer", "metadata": about}
    secret = {**about, "name": "anthropic"}

    def lane_of(credential: str, **expected: Any) -> dict[str, Any]:
        """Wait until a lane is so, over some minutes of the schedule."""

        def is_so() -> dict[str, Any]:
            lanes: list[dict[str, Any]] = warmer().get("lanes", [])
            found = [each for each in lanes if each["credential"] == credential]
            assert [lane | expected for lane in found] == found != [], lanes
            return found[0]

        return wait_until(is_so, 2 * PATIENCE, f"the lane of {credential} is {expected}", 1)

    def warmer() -> dict[str, Any]:
        status: dict[str, Any] = node.get("cachewarmer", "warm", "-n", OWNER).get("status", {})
        return status

    with stopwatch.step("a warmer's lane is warm"):
        apply(node, {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": keys})
        apply(node, {**kind, "spec": spec})
        first = lane_of("quiet", state="Warm", digest=former["digest"])
    with stopwatch.step("its next run reads, and leaves out what an application keeps warm"):
        # Not before the lane would go cold before the run after that: some four minutes.
        wait_until(
            lambda: lane_of("quiet")["lastWarmAt"] > first["lastWarmAt"], 4 * PATIENCE, "it ran", 1
        )
        usage = lane_of("quiet", state="Warm")["lastUsage"]
        assert (usage["cacheWrite5m"], usage["cacheRead"] > 0) == (0, True)
        lane_of("busy", state="Skipped", message="real requests keep it warm")
    with stopwatch.step("a new version is warm"):
        digest = prefix.publish("warmed", rollout={"strategy": "Immediate"})
        prefix.await_phase("Stable", "warmed")
        lane_of("quiet", state="Warm", digest=digest)
    assert former["version"] in {each["version"] for each in prefix.status["retained"]}
    with stopwatch.step("a budget that is spent suspends the CronJob"):
        apply(node, {**kind, "spec": {**spec, "budget": {"maxUsdPerDay": "0.0001"}}})
        wait_until(
            lambda: node.get("cronjob", "headwater-warm", "-n", OWNER)["spec"]["suspend"],
            PATIENCE,
            "the CronJob is suspended",
            1,
        )
    conditions = {each["type"]: each["status"] for each in warmer()["conditions"]}
    assert conditions["WithinBudget"] == "False"
    jobs = node.get("jobs", "-n", OWNER)["items"]
    assert {owner["name"] for job in jobs for owner in job["metadata"]["ownerReferences"]} == {
        "headwater-warm"
    }
    node.kubectl("delete", "cachewarmer", "warm", "-n", OWNER)


def test_processes_are_killed(
    node: Cluster, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """Both controllers in each phase, the webhooks in turn: the version arrives all the same."""
    cluster = own(node)
    chat.deploy(IMAGES.application, replicas=2)
    chat.await_ready()
    with stopwatch.step("a version arrives while controllers are killed"):
        digest = prefix.publish("v6", rollout=CANARY)
        kill(cluster, "controller")
        prefix.await_phase("Progressing", "v6")
        kill(cluster, "controller")
        chat.await_version("v6")
        prefix.await_phase("AwaitingApproval", "v6")
        kill(cluster, "controller")
        prefix.publish("v6", rollout={**CANARY, "approvedDigest": digest})
        kill(cluster, "controller")
        prefix.await_phase("Stable", "v6")
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
    chat.deploy(IMAGES.application, replicas=2)
    chat.await_ready()
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


def test_an_upgrade_and_back(
    node: Cluster, helm: Helm, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """From the chart before this one and back, in a canary: weight, step and evidence stay."""
    stable = prefix.status["stable"]["version"]
    before = {**values(IMAGES), "controller": {**CONTROLLER, "podAnnotations": {"chart": "before"}}}
    with stopwatch.step("the chart before this one"):
        helm.install(before, chart=PREVIOUS)
    chat.deploy(IMAGES.application, replicas=2)
    chat.await_ready()
    with stopwatch.step("a canary has evidence"):
        prefix.publish("v7", rollout=PAUSED)
        at, requests = wait_until(partial(canary, prefix, MANY), PATIENCE, "much was counted", 1)
    changes: dict[str, Callable[[], object]] = {
        "helm upgrade": lambda: helm.install(values(IMAGES)),
        "helm rollback": lambda: helm("rollback", RELEASE, "--wait", "--timeout", "120s"),
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
    prefix.publish(stable)
    prefix.await_phase("Stable", stable)
    assert [line.error for line in chat.lines() if line.error] == []


def canary(prefix: Prefix, than: int = -1) -> tuple[tuple[str, int, int], int]:
    """Version, weight and step of what is canaried, and of how many requests, more `than` that.

    Raises:
        AssertionError: it is not on its second step, or not of so many.
    """
    candidate = prefix.status["candidate"]
    requests = sum(each["hits"] + each["misses"] for each in candidate.get("evidence", ()))
    assert (candidate["step"], requests > than) == (1, True), candidate
    return (candidate["version"], candidate["weight"], candidate["step"]), requests


def test_uninstalled(
    node: Cluster, helm: Helm, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """Applications go on from their last bundle, the prefix stays, and nothing is in the way."""
    version = prefix.status["stable"]["version"]
    with stopwatch.step("helm uninstall"):
        helm("uninstall", "headwater", "--wait")
    gone = time.time()
    wait_until(
        lambda: any(line.asked > gone + 5 for line in chat.lines(5)),
        PATIENCE,
        "the talk goes on",
        1,
    )
    assert {line.version for line in chat.lines() if line.asked > gone} == {version}
    assert node.get("promptprefix", PREFIX, "-n", OWNER)["spec"]["version"] == version
    node.kubectl(
        *("run", "bare", "-n", SHOP, f"--image={IMAGES.application}", "--restart=Never"),
        *("--image-pull-policy=IfNotPresent", "--command", "--", "true"),
    )
    with stopwatch.step("all namespaces are deleted"):
        names = {SHOP, OWNER, SYSTEM, PROVIDER}
        node.kubectl("delete", "namespace", *names, "--wait=false")
        wait_until(
            lambda: not names & {each["metadata"]["name"] for each in node.get("ns")["items"]},
            2 * PATIENCE,
            "no namespace is left",
            1,
        )


def provider_is(node: Cluster, helm: Helm, url: str) -> None:
    """From now on, sidecars that are injected send there; empty for the chart's simulator."""
    former = set(pods_of(node, "webhook"))
    helm.install({**values(IMAGES), "providerUrl": url})
    # Until a webhook has drained it may inject, and a pod keeps the provider that it was given.
    wait_until(
        lambda: former.isdisjoint(
            pod["metadata"]["name"] for pod in node.get("pods", "-n", SYSTEM)["items"]
        ),
        PATIENCE,
        "the webhooks before are gone",
        1,
    )


def metrics(node: Cluster, pod: str, port: int = 8080, namespace: str = SYSTEM) -> str:
    """What a Prometheus reads of a pod."""
    return raw(node, f"pods/{pod}:{port}/proxy/metrics", namespace)


def raw(node: Cluster, path: str, namespace: str = SYSTEM) -> str:
    """What something in a namespace answers, asked through the API server."""
    return node.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/{path}").stdout


def pods_of(node: Cluster, role: str) -> list[str]:
    """The names of a role's pods that are not on their way out."""
    label = f"app.kubernetes.io/component={role}"
    pods = [pod["metadata"] for pod in node.get("pods", "-n", SYSTEM, "-l", label)["items"]]
    return [pod["name"] for pod in pods if "deletionTimestamp" not in pod]


def kill(node: NodeCluster, role: str) -> None:
    """End every process of a role at once, and wait until each is back."""
    with ThreadPoolExecutor() as threads:
        for done in [
            threads.submit(node.kill_container, SYSTEM, pod, role) for pod in pods_of(node, role)
        ]:
            done.result()
