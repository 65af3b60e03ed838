"""A platform team and its consumers on a real node, from `helm install` to `helm uninstall`.

The tests are one story, told in order on one installation: each begins where the one before ended.
"""

import json
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.e2e.node.gateway import PLACEHOLDER
from tests.e2e.node.installation import CONTROLLER, IMAGES, PROVIDER, values
from tests.e2e.node.world import (
    CANARY,
    OWNER,
    PATIENCE,
    PATIENT,
    PREFIX,
    RELEASE,
    SHOP,
    SYSTEM,
    Application,
    Helm,
    Prefix,
    Stopwatch,
    Warmer,
    apply,
    consumer_namespace,
    delete_namespaces,
    pods_of,
    run_program,
    seconds_of_an_abort,
)
from tests.integration.controller.team import manifest, prompt
from tests.integration.sidecar import mixed, traffic

pytestmark = pytest.mark.e2e

REPLAY: Final = "replay"
REQUESTS: Final = 10_000
PODS: Final = 20
ABORT_SECONDS: Final = 40
"""Twenty pods that wait for their kubelet's syncs are not done before; how fast it is, `make bench`
measures."""
SYNC_SECONDS: Final = 300
"""Of a kubelet, 60 to 90, with a machine in between that has much to do."""


@pytest.fixture(scope="module")
def warmer(node: Cluster, chat: Application) -> Warmer:
    """A warmer of one lane that nobody uses, and of the application's; `apply` starts it."""
    return Warmer(node, {"quiet": "sk-of-the-warmer", "busy": f"sk-{chat.namespace}"})


@pytest.mark.usefixtures("installed")
def test_install(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> None:
    """Two controllers and two webhooks are Ready, and nothing has restarted.

    One of the controllers works, as their metrics say, and `helm test` has no objection. How soon
    all is Ready, `make bench` measures.
    """
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
        helm("test", RELEASE, PATIENT)


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
        *(
            "wait",
            "promptprefix/mixed",
            "-n",
            OWNER,
            "--for=condition=Ready",
            PATIENT,
        )
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


def test_a_warmer_begins(
    prefix: Prefix, chat: Application, warmer: Warmer, stopwatch: Stopwatch
) -> None:
    """Its pods mount the keys: what it asks first, writes. Of its next run is told below."""
    chat.deploy(IMAGES.application, replicas=PODS, pause=1)  # they start while it is awaited
    with stopwatch.step("a warmer's lane is warm"):
        warmer.apply()
        digest = prefix.status["stable"]["digest"]
        warmer.first = warmer.await_lane("quiet", state="Warm", digest=digest)
    assert warmer.first["lastUsage"]["cacheWrite5m"] > 0


def test_an_abort(prefix: Prefix, chat: Application, stopwatch: Stopwatch) -> None:
    """The commit that takes a version back reaches 20 pods within seconds, by their annotation."""
    with stopwatch.step(f"{PODS} pods are Ready"):
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


def test_a_warmer_keeps_warm(
    node: Cluster, prefix: Prefix, warmer: Warmer, stopwatch: Stopwatch
) -> None:
    """The next run reads; what is warm is what is live, and what an application uses is left to it.

    A budget that is spent suspends the CronJob.
    """
    former = prefix.status["stable"]
    with stopwatch.step("its next run has read, and leaves out what an application keeps warm"):
        # Not before the lane would go cold before the run after that: some four minutes.
        lane = warmer.await_lane("quiet", after=warmer.first["lastWarmAt"], state="Warm")
        usage = lane["lastUsage"]
        assert (usage["cacheWrite5m"], usage["cacheRead"] > 0) == (0, True)
        warmer.await_lane("busy", state="Skipped", message="real requests keep it warm")
    with stopwatch.step("a new version is warm"):
        digest = prefix.publish("warmed", rollout={"strategy": "Immediate"})
        prefix.await_phase("Stable", "warmed")
        warmer.await_lane("quiet", state="Warm", digest=digest)
    assert former["version"] in {each["version"] for each in prefix.status["retained"]}
    with stopwatch.step("a budget that is spent suspends the CronJob"):
        warmer.apply(budget={"maxUsdPerDay": "0.0001"})
        wait_until(
            lambda: node.get("cronjob", "headwater-warm", "-n", OWNER)["spec"]["suspend"],
            PATIENCE,
            "the CronJob is suspended",
            1,
        )
    conditions = {each["type"]: each["status"] for each in warmer.status["conditions"]}
    assert conditions["WithinBudget"] == "False"
    jobs = node.get("jobs", "-n", OWNER)["items"]
    assert {owner["name"] for job in jobs for owner in job["metadata"]["ownerReferences"]} == {
        "headwater-warm"
    }
    node.kubectl("delete", "cachewarmer", "warm", "-n", OWNER)


def test_uninstalled(
    node: Cluster, helm: Helm, prefix: Prefix, chat: Application, stopwatch: Stopwatch
) -> None:
    """Applications go on from their last bundle, the prefix stays, and nothing is in the way."""
    version = prefix.status["stable"]["version"]
    chat.await_version(version)  # an immediate version comes with a kubelet's sync
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
        delete_namespaces(node, SHOP, OWNER, SYSTEM, PROVIDER)


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
