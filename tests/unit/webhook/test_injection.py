"""What a pod gets, what keeps it from getting it, and what becomes of it then."""

from collections.abc import Mapping
from typing import Any

import pytest

from headwater.controller.objects import Key
from headwater.resources.prefix import Consumers
from headwater.webhook.injection import Reason, Terms
from headwater.webhook.sidecar import Settings
from tests.unit.webhook.pods import CORE, SUPPORT, inject, injected, patched, pod, terms, variables


def sidecar_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The container that was put in, which stands before all others."""
    first: dict[str, Any] = body["spec"]["initContainers"][0]
    assert first["name"] == "headwater-sidecar"
    return first


def test_a_pod_gets_a_native_sidecar_first_in_line() -> None:
    """It starts before the other init containers, and a Job does not wait for it to end."""
    others = [{"name": "migrate", "image": "app:1"}]
    found = injected(pod(initContainers=others))
    sidecar = sidecar_of(found)
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "registry.example/headwater-sidecar:1"
    assert [item["name"] for item in found["spec"]["initContainers"]][1:] == ["migrate"]
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "headwater"}
    assert set(sidecar["resources"]) == {"requests", "limits"}


def test_the_sidecar_is_as_restricted_as_the_strictest_namespace_asks() -> None:
    """The Pod Security Standard `restricted`, and no root where the pod itself says root."""
    context = sidecar_of(injected(pod(securityContext={"runAsUser": 0})))["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_bundle_is_mounted_and_a_pod_does_not_start_without_it() -> None:
    """The volume is that of the bundle's ConfigMap and is not optional."""
    found = injected(pod(volumes=[{"name": "data", "emptyDir": {}}]))
    volume = found["spec"]["volumes"][1]
    assert volume["configMap"] == {"name": "headwater.ai-platform.org-core"}
    sidecar = sidecar_of(found)
    (mount,) = sidecar["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert mount["readOnly"] is True
    assert f"--bundle={mount['mountPath']}" in sidecar["args"]


def test_every_container_is_led_to_the_sidecar() -> None:
    """The init containers, too, for they come after it."""
    env = [{"name": "MODE", "value": "fast"}]
    found = injected(
        pod(
            initContainers=[{"name": "prepare"}],
            containers=[{"name": "app", "env": env}, {"name": "worker", "env": []}],
        )
    )
    led = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8484"}
    app, worker = found["spec"]["containers"]
    assert variables(app) == {"MODE": "fast", **led}
    assert variables(worker) == led
    assert variables(found["spec"]["initContainers"][1]) == led


@pytest.mark.parametrize(
    ("labels", "deploy_label"),
    [
        ({"pod-template-hash": "6d5f7", "app.kubernetes.io/version": "1.2"}, "pod-template-hash"),
        ({"controller-revision-hash": "web-6d5f7"}, "controller-revision-hash"),
        ({"app.kubernetes.io/version": "1.2"}, "app.kubernetes.io/version"),
        ({}, "app.kubernetes.io/version"),
    ],
)
def test_who_is_served_comes_from_the_pods_labels(
    labels: dict[str, str], deploy_label: str
) -> None:
    """By the downward API: what a person changes by hand later does not matter."""
    env = {item["name"]: item for item in sidecar_of(injected(pod(labels=labels)))["env"]}
    paths = {
        name: item["valueFrom"]["fieldRef"]["fieldPath"]
        for name, item in env.items()
        if "valueFrom" in item
    }
    assert paths == {
        "HEADWATER_NAMESPACE": "metadata.namespace",
        "HEADWATER_TEAM": "metadata.labels['headwater.dev/team']",
        "HEADWATER_SURFACE": "metadata.labels['headwater.dev/surface']",
        "HEADWATER_DEPLOY_REVISION": f"metadata.labels['{deploy_label}']",
    }


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        (None, {}, ""),
        (("ReplicaSet", "web-6d5f7"), {"pod-template-hash": "6d5f7"}, "web"),
        (("ReplicaSet", "web-6d5f7"), {}, "web-6d5f7"),
        (("StatefulSet", "web"), {}, "web"),
        (("Job", "nightly-29384760"), {}, "nightly"),
        (("Job", "import-7"), {}, "import-7"),
    ],
)
def test_the_workload_is_what_a_person_calls_it(
    owner: tuple[str, str] | None, labels: dict[str, str], workload: str
) -> None:
    """Without the hash of a roll-out or the time of a run: as a metric's label it would grow."""
    owners = [
        {"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "u", "controller": True}
        for kind, name in ([owner] if owner else ())
    ]
    body = pod(labels=labels, metadata={"ownerReferences": owners})
    assert variables(sidecar_of(injected(body)))["HEADWATER_WORKLOAD"] == workload


def test_the_controller_finds_the_pod() -> None:
    """By its role, beside the labels that the pod has."""
    found = injected(pod(labels={"app": "x" * 63}))
    assert found["metadata"]["labels"] == {"app": "x" * 63, "headwater.dev/role": "sidecar"}
    assert found["metadata"]["annotations"] == {"headwater.dev/injected": "ai-platform/org-core"}


def test_several_prefixes_share_one_sidecar() -> None:
    """The first is the default; each has a volume of its own."""
    found = injected(pod(), prefixes="support/answers, ai-platform/org-core,support/answers")
    sidecar = sidecar_of(found)
    mounts = {item["name"]: item["mountPath"] for item in sidecar["volumeMounts"]}
    bundles = [item["configMap"]["name"] for item in found["spec"]["volumes"]]
    assert bundles == ["headwater.support.answers", "headwater.ai-platform.org-core"]
    assert [item for item in sidecar["args"] if item.startswith("--bundle")] == [
        f"--bundle={mounts['headwater-bundle-1']}",
        f"--bundle={mounts['headwater-bundle-2']}",
    ]


def test_a_pods_own_annotation_goes_before_its_namespaces() -> None:
    """The namespace gives what is usual, the pod what is special."""
    body = pod(annotations={"headwater.dev/prefixes": "support/answers"})
    annotations = injected(body)["metadata"]["annotations"]
    assert annotations["headwater.dev/injected"] == "support/answers"


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8484", "http://localhost:8484/p/org-core", "http://127.0.0.1:8484/"]
)
def test_an_application_that_leads_to_the_sidecar_itself_needs_no_word(value: str) -> None:
    """It chose its prefix by the path, perhaps."""
    env = [{"name": "ANTHROPIC_BASE_URL", "value": value}]
    body = pod(containers=[{"name": "app", "env": env}])
    done = inject(body)
    assert done.warnings == ()
    assert patched(body, done)["spec"]["containers"][0]["env"] == env


@pytest.mark.parametrize(
    "variable",
    [
        {"value": "https://gateway.example"},
        {"value": "http://127.0.0.1:84840"},
        {"valueFrom": {"secretKeyRef": {"name": "gateway", "key": "url"}}},
        {"value": ""},
    ],
)
def test_an_application_that_decides_for_itself_is_left_alone_and_told(
    variable: dict[str, Any],
) -> None:
    """Its variable stays as it is; whoever creates it and whoever looks later reads of it."""
    env = [{"name": "ANTHROPIC_BASE_URL", **variable}]
    body = pod(containers=[{"name": "app", "env": env}, {"name": "other"}])
    done = inject(body)
    found = patched(body, done)
    assert found["spec"]["containers"][0]["env"] == env
    assert found["metadata"]["annotations"]["headwater.dev/left-alone"] == "app"
    assert "container app sets ANTHROPIC_BASE_URL itself" in done.warnings[0]
    assert "ANTHROPIC_BASE_URL" in variables(found["spec"]["containers"][1])


OPTED_OUT = pod(labels={"headwater.dev/inject": "disabled"})


@pytest.mark.parametrize(
    ("body", "where", "reason"),
    [
        (OPTED_OUT, {}, Reason.OPTED_OUT),
        (pod(hostNetwork=True), {}, Reason.HOST_NETWORK),
        (pod(labels={"headwater.dev/role": "warm"}), {}, Reason.HAS_ROLE),
        (pod(labels={"headwater.dev/role": "consumer"}), {}, Reason.HAS_ROLE),
        (pod(annotations={"kubernetes.io/config.mirror": "x"}), {}, Reason.MIRROR_POD),
        (pod(), {"namespace": "kube-system"}, Reason.SYSTEM_NAMESPACE),
        (pod(), {"prefixes": None}, Reason.NO_PREFIXES),
        (pod(), {"prefixes": " , "}, Reason.NO_PREFIXES),
        (pod(annotations={"headwater.dev/prefixes": ""}), {}, Reason.NO_PREFIXES),
    ],
)
def test_some_pods_are_skipped_and_say_why(
    body: dict[str, Any], where: dict[str, Any], reason: Reason
) -> None:
    """Nothing of them changes but one annotation, and it does not change again."""
    done = inject(body, **where)
    assert (done.outcome, done.reason) == ("skipped", reason)
    found = patched(body, done)
    assert found["spec"] == body["spec"]
    said = found["metadata"]["annotations"].pop("headwater.dev/skipped")
    assert said == f"{reason}: {done.message}"
    assert found["metadata"]["annotations"] == body["metadata"].get("annotations", {})
    found["metadata"]["annotations"]["headwater.dev/skipped"] = said
    assert inject(found, **where).patch == ()


def test_a_pod_on_its_nodes_network_is_told() -> None:
    """It asked for a prefix, and runs without it."""
    assert "no sidecar" in inject(pod(hostNetwork=True)).warnings[0]
    assert inject(OPTED_OUT).warnings == ()


TAKEN = [
    (pod(containers=[{"name": "app", "ports": [{"containerPort": 8484}]}]), Reason.PORT_TAKEN),
    (pod(initContainers=[{"name": "a", "ports": [{"containerPort": 9484}]}]), Reason.PORT_TAKEN),
    (pod(annotations={"headwater.dev/metrics-port": "8484"}), Reason.PORT_TAKEN),
    (pod(annotations={"headwater.dev/metrics-port": "high"}), Reason.BAD_ANNOTATION),
    (pod(annotations={"headwater.dev/metrics-port": "0"}), Reason.BAD_ANNOTATION),
    (pod(annotations={"headwater.dev/metrics-port": "65536"}), Reason.BAD_ANNOTATION),
    (pod(annotations={"headwater.dev/metrics-port": "²"}), Reason.BAD_ANNOTATION),
    (pod(volumes=[{"name": "headwater-bundle-1", "emptyDir": {}}]), Reason.VOLUME_TAKEN),
    (pod(containers=[{"name": "headwater-sidecar"}]), Reason.CONTAINER_TAKEN),
    (pod(initContainers=[{"name": "headwater-sidecar"}]), Reason.CONTAINER_TAKEN),
]


@pytest.mark.parametrize(("body", "reason"), TAKEN)
def test_what_is_taken_is_never_overwritten(body: dict[str, Any], reason: Reason) -> None:
    """Refused where the prefix is enforced, skipped and told where it is observed."""
    enforced = inject(body)
    assert (enforced.outcome, enforced.reason, enforced.patch) == ("refused", reason, ())
    observed = inject(body, known={CORE: terms("Observe")})
    assert (observed.outcome, observed.reason) == ("skipped", reason)
    assert patched(body, observed)["spec"] == body["spec"]
    assert observed.warnings == (f"no sidecar: {observed.message}",)


def test_the_metrics_can_stand_elsewhere() -> None:
    """The controller reads the same annotation."""
    ports = [{"containerPort": 9484}]
    body = pod(
        containers=[{"name": "app", "ports": ports}],
        annotations={"headwater.dev/metrics-port": "9999"},
    )
    sidecar = sidecar_of(injected(body))
    assert "--metrics-address=0.0.0.0:9999" in sidecar["args"]
    assert sidecar["ports"] == [{"name": "headwater", "containerPort": 9999}]


STRANGER = terms(team="b")
FRIEND = terms("Observe", team="a")


@pytest.mark.parametrize(
    ("known", "outcome", "reason"),
    [
        ({CORE: terms(team="a"), SUPPORT: FRIEND}, "injected", None),
        ({CORE: STRANGER, SUPPORT: FRIEND}, "refused", Reason.NOT_SELECTED),
        ({CORE: None, SUPPORT: FRIEND}, "refused", Reason.UNKNOWN_PREFIX),
        (
            {CORE: terms("Observe", team="b"), SUPPORT: FRIEND},
            "skipped",
            Reason.NOT_SELECTED,
        ),
        (
            {CORE: terms("Observe", team="b"), SUPPORT: terms()},
            "refused",
            Reason.NOT_SELECTED,
        ),
    ],
)
def test_a_prefix_is_for_whom_its_owner_says(
    known: dict[Key, Terms | None], outcome: str, reason: Reason | None
) -> None:
    """One enforced prefix, or one that nobody knows, is enough to refuse the pod."""
    done = inject(pod(), prefixes="ai-platform/org-core,support/answers", known=known)
    assert (done.outcome, done.reason) == (outcome, reason)


@pytest.mark.parametrize(("namespace", "outcome"), [("team-a", "injected"), ("team-b", "refused")])
def test_a_dedicated_prefix_is_for_those_it_names(namespace: str, outcome: str) -> None:
    """Whatever the labels of others: only its owner can let them in."""
    consumers = Consumers(isolation="Dedicated", namespaces=("team-a",))
    done = inject(pod(), known={CORE: Terms(consumers, "Enforce")}, namespace=namespace)
    assert done.outcome == outcome
    if outcome == "refused":
        assert done.reason is Reason.NOT_SELECTED
        assert "it is Dedicated to the namespaces in spec.consumers.namespaces" in done.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("org-core", "'org-core', which is no namespace/name"),
        ("a/b/c", "no namespace/name"),
        ("ai-platform/", "no namespace/name"),
        ("AI/org", "no namespace/name"),
        ("ai-platform/../x", "no namespace/name"),
        (f"ai-platform/{'x' * 64}", "no namespace/name"),
        ("ai-platform/org-core;support/answers", "no namespace/name"),
        ("a/core,b/core", "two prefixes core"),
        (",".join(f"a/p{number}" for number in range(9)), "names 9 prefixes"),
    ],
)
def test_an_annotation_that_cannot_be_read_stops_the_pod(text: str, says: str) -> None:
    """What it asks for is unknown, so it is unknown whether that is enforced."""
    done = inject(pod(), prefixes=text)
    assert (done.outcome, done.reason) == ("refused", Reason.BAD_ANNOTATION)
    assert says in done.message


def test_names_may_be_as_long_as_the_api_server_lets_them() -> None:
    """63 characters each, dots in the prefix's."""
    key = Key("n" * 63, f"{'p' * 31}.{'q' * 31}")
    found = injected(pod(), prefixes=str(key), known={key: terms()})
    assert found["metadata"]["annotations"]["headwater.dev/injected"] == str(key)


def test_a_pod_with_sixty_containers_is_a_pod() -> None:
    """Each gets its variable, in one patch."""
    found = injected(pod(containers=[{"name": f"c{number}"} for number in range(60)]))
    assert all("ANTHROPIC_BASE_URL" in variables(item) for item in found["spec"]["containers"])


def test_a_manifest_copied_from_a_skipped_pod_starts_anew() -> None:
    """What was said of the other pod is taken away."""
    body = pod(annotations={"headwater.dev/skipped": "no_prefixes: …"})
    assert set(injected(body)["metadata"]["annotations"]) == {"headwater.dev/injected"}


def test_null_is_nothing() -> None:
    """As some clients write it."""
    body = pod(
        metadata={"labels": None, "annotations": None, "ownerReferences": None},
        initContainers=None,
        volumes=None,
        containers=[{"name": "app", "env": None, "ports": None}],
    )
    assert sidecar_of(injected(body))


def test_sidecars_are_led_to_another_provider_where_the_installation_says_so() -> None:
    """A simulator, or a gateway."""
    settings = Settings(image="x", provider_url="http://simulator:8080")
    sidecar = sidecar_of(injected(pod(), settings=settings))
    assert "--upstream=http://simulator:8080" in sidecar["args"]
