"""Pods that the API server makes of what was asked for, with the account's rights alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headwater.cluster import EVENT, NAMESPACE, POD, PROMPT_PREFIX, Kind
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError
from tests.integration.controller.team import LABEL, Team, manifest, new_team
from tests.integration.webhook.harness import PATIENCE, Replica, Site, until_asked

DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
JOB = Kind("batch", "v1", "jobs", "Job")

pytestmark = pytest.mark.xdist_group("webhook")


def body(name: str = "web", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }


class Place:
    """A namespace that takes part in a prefix `house` of a team's."""

    def __init__(self, api: Api, team: Team, namespace: str) -> None:
        self.api = api
        self.team = team
        self.namespace = namespace

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        metadata = {**pod["metadata"], "namespace": self.namespace}
        return self.api.create(POD, {**pod, "metadata": metadata})

    def annotate(self, **annotations: str | None) -> None:
        named = {f"headwater.dev/{key}": value for key, value in annotations.items()}
        self.api.patch(NAMESPACE, None, self.namespace, {"metadata": {"annotations": named}})

    def observe(self) -> None:
        """Let the prefix be observed, not enforced."""
        self.team.edit({"enforcement": "Observe"})


@pytest.fixture
def place(site: Site, replica: Replica) -> Iterator[Place]:
    with new_team(site.api) as team:
        team.publish()
        namespace = team.consumer("shop")
        labels = {"headwater.dev/inject": "enabled"}
        annotations = {"headwater.dev/prefixes": f"{team.namespace}/house"}
        metadata = {"metadata": {"labels": labels, "annotations": annotations}}
        site.api.patch(NAMESPACE, None, namespace, metadata)
        # A namespace has no service account yet.
        until_asked(site, namespace, body())
        yield Place(site.api, team, namespace)


def test_a_pod_needs_no_change(place: Place) -> None:
    """The API server takes what was put in, under the strictest standard that it knows."""
    strict = {"pod-security.kubernetes.io/enforce": "restricted"}
    place.api.patch(NAMESPACE, None, place.namespace, {"metadata": {"labels": strict}})
    safe = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = body()
    pod["spec"]["containers"][0]["securityContext"] = safe
    found = place.create(pod)
    (sidecar,) = found["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("headwater-sidecar", "Always")
    (app,) = found["spec"]["containers"]
    assert app["env"] == [{"name": "ANTHROPIC_BASE_URL", "value": "http://127.0.0.1:8484"}]
    assert found["metadata"]["labels"]["headwater.dev/role"] == "sidecar"
    bundle = f"headwater.{place.team.namespace}.house"
    assert bundle in [
        volume.get("configMap", {}).get("name") for volume in found["spec"]["volumes"]
    ]


def test_a_pod_of_a_job_and_of_a_deployment_gets_it_as_well(place: Place) -> None:
    """Their pods are made by others, without a name, and are named after their workload."""
    template = {"metadata": {"labels": {"app": "x"}}, "spec": body()["spec"]}
    job = {
        "metadata": {"name": "nightly-29384760", "namespace": place.namespace},
        "spec": {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}},
    }
    deployment = {
        "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
    }
    place.api.create(JOB, job)
    place.api.create(DEPLOYMENT, deployment)

    def workloads() -> bool:
        found = {
            variable["value"]
            for pod in place.api.list(POD, place.namespace)
            for sidecar in pod["spec"].get("initContainers", ())
            for variable in sidecar["env"]
            if variable["name"] == "HEADWATER_WORKLOAD"
        }
        return found == {"web", "nightly"}

    wait_until(workloads, PATIENCE, "both pods are there")


def test_a_dry_run_shows_it_and_leaves_nothing(place: Place) -> None:
    """The answers are those of the real thing."""
    text = place.api.request("POST", POD.path(place.namespace), body(), dryRun="All")
    assert json.loads(text)["spec"]["initContainers"]
    place.annotate(prefixes="nobody/nothing")
    with pytest.raises(ApiError, match="unknown_prefix"):
        place.api.request("POST", POD.path(place.namespace), body(), dryRun="All")
    assert place.api.list(POD, place.namespace) == []


def test_a_workload_is_told_why_it_has_no_pod(place: Place) -> None:
    """By the Event of Kubernetes' own that ReplicaSets get, with the reason in it."""
    place.annotate(prefixes="nobody/nothing")
    template = {"metadata": {"labels": {"app": "x"}}, "spec": body()["spec"]}
    deployment = {
        "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
    }
    place.api.create(DEPLOYMENT, deployment)

    def told() -> bool:
        events = place.api.list(EVENT, place.namespace)
        return any("unknown_prefix: there is no PromptPrefix" in one["note"] for one in events)

    wait_until(told, PATIENCE, "the Event is there")


def test_a_namespace_is_read_as_it_is_now(place: Place) -> None:
    """Who annotates it and then creates a pod gets what was annotated."""
    place.team.publish(name="second")
    for number in range(5):
        for name in ("house", "second"):
            prefix = f"{place.team.namespace}/{name}"
            place.annotate(prefixes=prefix)
            found = place.create(body(f"{name}-{number}"))
            assert found["metadata"]["annotations"]["headwater.dev/injected"] == prefix


def test_a_prefix_that_is_for_others_refuses_the_pod(place: Place) -> None:
    """Until its namespace is selected, which holds at once."""
    api, namespace = place.api, place.namespace
    api.patch(NAMESPACE, None, namespace, {"metadata": {"labels": {LABEL: None}}})
    with pytest.raises(ApiError, match=r"not_selected.* is not for the namespace") as caught:
        place.create(body())
    assert caught.value.status == 403
    place.team.edit({"consumers": {"namespaceSelector": {"matchLabels": {LABEL: None}}}})
    assert place.create(body())["spec"]["initContainers"]


def test_a_dedicated_prefix_is_for_those_it_names(place: Place) -> None:
    """A label that the namespace gave itself does not let its pods in."""
    consumers = {"isolation": "Dedicated", "namespaces": ["somebody-else"]}
    place.team.publish(name="alone", consumers=consumers)
    place.annotate(prefixes=f"{place.team.namespace}/alone")
    with pytest.raises(ApiError, match=r"not_selected.* it is Dedicated to the names") as caught:
        place.create(body())
    assert caught.value.status == 403
    place.team.edit({"consumers": {"namespaces": [place.namespace]}}, "alone")
    assert place.create(body())["spec"]["initContainers"]


def test_what_is_observed_is_skipped_and_told(place: Place) -> None:
    """The pod runs; its annotation and a warning say that it is on its own."""
    place.observe()
    pod = body()
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": 8484}]
    found = place.create(pod)
    assert "initContainers" not in found["spec"]
    assert found["metadata"]["annotations"]["headwater.dev/skipped"].startswith("port_taken: ")


def test_a_warning_reaches_whoever_types(site: Site, place: Place) -> None:
    """`kubectl` prints it."""
    pod = body()
    variable = {"name": "ANTHROPIC_BASE_URL", "value": "https://gateway.example"}
    pod["spec"]["containers"][0]["env"] = [variable]
    done = site.cluster.kubectl(
        *("create", "-n", place.namespace, "-f", "-"),
        input=json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}),
    )
    assert "Warning: container app sets ANTHROPIC_BASE_URL itself" in done.stderr


def test_a_skip_is_counted(place: Place, replica: Replica) -> None:
    """By its reason."""
    name, reason = "headwater_webhook_pods_without_sidecar_total", {"reason": "opted_out"}
    before = replica.counted(name, **reason)
    found = place.create(body(labels={"headwater.dev/inject": "disabled"}))
    assert found["metadata"]["annotations"]["headwater.dev/skipped"].startswith("opted_out: ")
    assert replica.counted(name, **reason) == before + 1


def test_a_pod_may_be_large(place: Place) -> None:
    """60 containers, and labels as long as they may be."""
    pod = body(labels={"a" * 63: "x" * 63, "headwater.dev/team": "t" * 63})
    pod["spec"]["containers"] = [{"name": f"c{n}", "image": "app:1"} for n in range(60)]
    found = place.create(pod)
    assert len(found["spec"]["containers"]) == 60
    assert all("env" in container for container in found["spec"]["containers"])


def test_what_came_from_a_pod_can_be_created_again(place: Place) -> None:
    """As with `kubectl get -o yaml`, and by a webhook that is asked twice."""
    first = place.create(body())
    again = {
        "metadata": {
            "name": "copy",
            "labels": first["metadata"]["labels"],
            "annotations": first["metadata"]["annotations"],
        },
        "spec": {
            key: value
            for key, value in first["spec"].items()
            if key in ("containers", "initContainers", "volumes")
        },
    }
    second = place.create(again)
    for key in ("containers", "initContainers"):
        assert len(second["spec"][key]) == len(first["spec"][key]) == 1
    assert second["spec"]["volumes"] == first["spec"]["volumes"]


def test_two_hundred_at_once(site: Site, place: Place) -> None:
    """Each gets its sidecar, and none waits for longer than the API server does."""
    path = POD.path(place.namespace)

    def create(number: int) -> bool:
        text = site.api.request(
            "POST", path, {"apiVersion": "v1", "kind": "Pod"} | body(f"p{number}")
        )
        return bool(json.loads(text)["spec"]["initContainers"])

    with ThreadPoolExecutor(50) as executor:
        assert all(executor.map(create, range(200)))


def test_other_namespaces_know_nothing_of_it(site: Site, place: Place, replica: Replica) -> None:
    """Only those with the label are asked about."""
    other = place.team.consumer("other")

    def unasked() -> bool:
        before = replica.counted("headwater_webhook_reviews_total", webhook="inject")
        text = site.api.request("POST", POD.path(other), body(namespace=other), dryRun="All")
        assert "initContainers" not in json.loads(text)["spec"]
        return replica.counted("headwater_webhook_reviews_total", webhook="inject") == before

    # A Deployment of another test may make its pods anew meanwhile.
    wait_until(unasked, PATIENCE, "a pod is admitted, and the webhook was not asked")


def test_a_prefix_that_appears_admits_at_once(place: Place) -> None:
    """That it was not there is not remembered."""
    place.annotate(prefixes=f"{place.team.namespace}/later")
    with pytest.raises(ApiError, match="there is no PromptPrefix"):
        place.create(body())
    place.api.apply(PROMPT_PREFIX, manifest(place.team.namespace, name="later"))
    assert place.create(body())["spec"]["initContainers"]
