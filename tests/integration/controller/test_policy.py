"""What the controller's own account may do: all that it does, and nothing else.

The account, its roles and the policies are those of the chart; its token is one that a pod's would
be. The API server's audit log tells what it was refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import CACHE_WARMER, CONFIG_MAP, CRON_JOB, POD, PROMPT_PREFIX
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.events import Recorder
from headwater.controller.nudge import Nudger
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.rollout.state import Withdrawn
from tests.cluster.control_plane import Cluster, ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller import pods
from tests.integration.controller.harness import (
    Api,
    ApiError,
    Controller,
    reporting,
)
from tests.integration.controller.team import PATIENCE, Team, new_team
from tests.integration.deployed import ACCOUNTS, POLICIES, deploy, image
from tests.integration.lending import Audit, Lender
from tests.integration.webhook.harness import as_account

TOLD = "headwater.dev/withdrawn.0123456789abcdef"

pytestmark = pytest.mark.xdist_group("policy")


@dataclass
class Site:
    """A control plane with the chart's roles and policies, and the controller's account on it.

    Attributes:
        plane: the control plane, as its administrator has it.
        account: the same as the controller's account has it.
        admin: the administrator's API.
        controller: the API as the controller's account has it.
        audit: what the API server was asked since then.
    """

    plane: ControlPlane
    account: Cluster
    admin: Api
    controller: Api
    audit: Audit

    def answers(self, account: str = "headwater-controller") -> list[tuple[int, str]]:
        """What was said to an account and to what, by the audit log."""
        events = self.audit.events()
        return [
            (event["responseStatus"]["code"], f"{event['verb']} {event['requestURI']}")
            for event in events
            if event["user"]["username"] == f"system:serviceaccount:headwater:{account}"
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, lender: Lender) -> Iterator[Site]:
    with lender.lent() as lent:
        plane, kubeconfig = lent.plane, tmp_path_factory.mktemp("site") / "kubeconfig"
        deploy(plane, *ACCOUNTS, *POLICIES)
        account = as_account(plane, kubeconfig, "headwater-controller")
        with Api(plane) as admin, Api(account) as controller:
            yield Site(plane, account, admin, controller, lent.audit)


@pytest.fixture
def team(site: Site) -> Iterator[Team]:
    with new_team(site.admin) as team:
        yield team


@pytest.fixture
def pod(site: Site, team: Team) -> str:
    """The namespace of a pod `app` that has something of everything, and policies that hold."""
    body = {
        "metadata": {
            "name": "app",
            "namespace": team.namespace,
            "labels": {"app": "billing"},
            "annotations": {"example.com/owner": "billing"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    # A namespace has no service account yet, and a new policy takes a moment to hold.
    wait_until(lambda: site.admin.create(POD, body), PATIENCE, "the pod is admitted")
    dry = {"metadata": {"labels": {"app": "other"}}}
    wait_until(
        lambda: _refusal(site, team.namespace, dry, dryRun="All"), PATIENCE, "the policy holds"
    )
    return team.namespace


def _refusal(site: Site, namespace: str, patch: dict[str, Any], **query: str) -> str:
    """What the account is told when it patches the pod; empty where it may."""
    kind = "application/strategic-merge-patch+json"
    try:
        site.controller.request("PATCH", POD.path(namespace, "app"), patch, kind, **query)
    except ApiError as error:
        return str(error)
    return ""


def test_a_pod_may_be_told(site: Site, pod: str) -> None:
    """The one thing that it is for: an annotation of ours comes, changes and goes."""
    for value in ("3", "4", None):
        patch = {"metadata": {"annotations": {TOLD: value}}}
        changed = site.controller.patch(POD, pod, "app", patch)
        assert changed["metadata"]["annotations"].get(TOLD) == value


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"containers": [{"name": "app", "image": "app:2"}]}}, "nothing of a pod but"),
        ({"spec": {"activeDeadlineSeconds": 5}}, "nothing of a pod but"),
        ({"metadata": {"labels": {"app": "other"}}}, "nothing of a pod but"),
        ({"metadata": {"labels": None}}, "nothing of a pod but"),
        ({"metadata": {"finalizers": ["example.com/mine"]}}, "nothing of a pod but"),
        (
            {
                "metadata": {
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Pod", "name": "app", "uid": "0"}
                    ]
                }
            },
            "nothing of a pod but",
        ),
        ({"metadata": {"annotations": {"example.com/owner": "me"}}}, "no annotation of a pod but"),
        ({"metadata": {"annotations": {"example.com/owner": None}}}, "no annotation of a pod but"),
        ({"metadata": {"annotations": {"example.com/more": "1"}}}, "no annotation of a pod but"),
        ({"metadata": {"annotations": {"headwater.development/x": "1"}}}, "no annotation of a pod"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:60],
)
def test_a_pod_may_not_be_changed(
    site: Site, pod: str, patch: dict[str, Any], message: str
) -> None:
    """Whatever else a patch wants is refused in our words, under a dry run already."""
    before = site.admin.get(POD, pod, "app")
    assert message in _refusal(site, pod, patch, dryRun="All")
    assert message in _refusal(site, pod, patch)
    assert site.admin.get(POD, pod, "app") == before


def test_others_are_not_confined(site: Site, pod: str) -> None:
    """The policy is about one account."""
    changed = site.admin.patch(POD, pod, "app", {"metadata": {"labels": {"app": "other"}}})
    assert changed["metadata"]["labels"] == {"app": "other"}


@pytest.mark.parametrize(
    "words",
    [
        "create pods",
        "delete pods",
        "create pods --subresource=exec",
        "create pods --subresource=eviction",
        "patch pods --subresource=status",
        "patch pods --subresource=ephemeralcontainers",
        "get secrets",
        "create jobs.batch",
        "update promptprefixes.headwater.dev",
        "delete promptprefixes.headwater.dev",
        "patch namespaces",
        "patch validatingadmissionpolicies.admissionregistration.k8s.io",
        "create leases.coordination.k8s.io",
    ],
)
def test_no_role_gives_it_more(site: Site, words: str) -> None:
    """Asked in a namespace that is not its own."""
    wanted = ("auth", "can-i", *words.split(), "-n", "default")
    assert site.account.kubectl(*wanted, check=False).stdout.strip() == "no"


@pytest.mark.parametrize("verb", ["get", "create", "update"])
def test_it_may_hold_its_lease(site: Site, verb: str) -> None:
    """In its own namespace, where several controllers agree on one."""
    lease = "leases.coordination.k8s.io/headwater-controller"
    wanted = ("auth", "can-i", verb, lease, "-n", "headwater")
    assert site.account.kubectl(*wanted).stdout.strip() == "yes"


def test_a_prefix_gets_its_finalizer_and_nothing_else(site: Site, team: Team) -> None:
    """The controller never writes a spec, and could not."""
    team.publish()

    def patch(body: dict[str, Any]) -> list[str]:
        changed = site.controller.patch(PROMPT_PREFIX, team.namespace, "house", body)
        finalizers: list[str] = changed["metadata"].get("finalizers", [])
        return finalizers

    def finalizers(*names: str) -> dict[str, Any]:
        return {"metadata": {"finalizers": list(names)}}

    site.admin.patch(PROMPT_PREFIX, team.namespace, "house", finalizers("example.com/theirs"))

    def policy_holds() -> bool:
        try:
            patch({"spec": {"suspend": True}})
        except ApiError:
            return True
        return False

    wait_until(policy_holds, PATIENCE, "the policy holds")
    ours = ("example.com/theirs", "headwater.dev/consumers")
    assert patch(finalizers(*ours)) == list(ours)
    for refused in (
        {"spec": {"suspend": True}},
        {"spec": {"version": "v9"}},
        {"metadata": {"annotations": {"headwater.dev/force-deletion": "true"}}},
        {"metadata": {"labels": {"team": "other"}}},
        finalizers("headwater.dev/consumers"),
        finalizers(*ours, "example.com/more"),
    ):
        either = "nothing of a PromptPrefix but its finalizer|takes the verb '(publish|steer)'"
        with pytest.raises(ApiError, match=either):
            patch(refused)
    assert patch(finalizers("example.com/theirs")) == ["example.com/theirs"]
    assert team.prefix()["spec"]["version"] == "v1"
    site.admin.patch(PROMPT_PREFIX, team.namespace, "house", finalizers())


def test_whoever_deletes_a_prefix_in_use_is_warned(site: Site, team: Team) -> None:
    """The deletion is held then, and `kubectl delete` would wait without a word."""
    team.publish()
    site.admin.patch(
        PROMPT_PREFIX,
        team.namespace,
        "house",
        {"status": {"consumers": {"namespaces": 1, "pods": 12}}},
        subresource="/status",
    )
    delete = ("delete", "promptprefix", "house", "-n", team.namespace, "--dry-run=server")
    wait_until(
        lambda: (
            "12 pods in 1 namespaces mount the bundle of house"
            in site.plane.kubectl(*delete).stderr
        ),
        PATIENCE,
        "the policy holds",
    )
    force = ("annotate", "promptprefix", "house", "-n", team.namespace)
    site.plane.kubectl(*force, "headwater.dev/force-deletion=true")
    assert site.plane.kubectl(*delete).stderr == ""


def test_it_may_do_all_that_it_does(site: Site, team: Team, tmp_path: Path) -> None:
    """A life from the first version to a held deletion, with the account's rights alone."""
    consumer = team.consumer("a")
    answered = len(site.answers())
    with (
        Controller(
            site.account.kubeconfig,
            tmp_path / "log",
            *("--leader-election", "--lease-namespace", "headwater", "--image", image()),
        ) as controller,
        reporting(controller),
    ):
        team.serve()
        pods.start(site.admin, consumer, "web", team.bundle_name())
        wait_until(lambda: team.prefix()["metadata"].get("finalizers"), PATIENCE, "it is protected")
        steps = {"steps": [{"setWeight": 50}, {"pause": {}}]}
        team.publish(version="v2", rollout=steps)
        wait_until(
            lambda: team.status().get("candidate", {}).get("weight") == 50,
            PATIENCE,
            "the canary has begun",
        )
        team.publish(rollout=steps)
        wait_until(
            lambda: [
                name
                for name in site.admin.get(POD, consumer, "web")["metadata"]["annotations"]
                if name.startswith("headwater.dev/withdrawn.")
            ],
            PATIENCE,
            "the pod is told of the abort",
        )
        site.admin.create(CACHE_WARMER, warmer(team.namespace))
        wait_until(
            lambda: site.admin.list(CRON_JOB, team.namespace), PATIENCE, "a warmer has its job"
        )
        bundle = team.bundle_name()
        # Nobody but the account may edit a bundle; its hand is told by the tool that it uses.
        site.controller.patch(CONFIG_MAP, consumer, bundle, {"data": {"mine": "x"}})
        team.await_event("Repaired", consumer)
        site.admin.delete(PROMPT_PREFIX, team.namespace, "house")
        team.await_condition("Ready", "False", "DeletionHeld")
        site.admin.delete(POD, consumer, "web")
        wait_until(lambda: team.bundle(consumer) is None, PATIENCE, "all of it is gone")
    answers = site.answers()[answered:]
    assert {code for code, _ in answers} >= {200, 201}
    # Other tests' namespaces are going away, which is a refusal of its own.
    mine = [(code, words) for code, words in answers if is_about(team, words)]
    assert [words for code, words in mine if code in (401, 403, 422)] == []


def is_about(team: Team, words: str) -> bool:
    return team.namespace in words or "/namespaces/" not in words


def warmer(namespace: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "keep", "namespace": namespace},
        "spec": {
            "prefixRef": {"name": "house"},
            "credentials": [{"name": "prod", "secretRef": {"name": "anthropic", "key": "key"}}],
        },
    }


async def test_without_the_role_an_abort_is_tried_once(
    site: Site, team: Team, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever keeps `patch` of pods back gets one Event, and the pods follow in a minute."""
    kubectl = site.plane.kubectl
    kubectl("create", "serviceaccount", "mute", "-n", "headwater")
    kubectl("create", "clusterrole", "mute", "--verb=create", "--resource=events.events.k8s.io")
    bound = ("--clusterrole=mute", "--serviceaccount=headwater:mute")
    kubectl("create", "clusterrolebinding", "mute", *bound)
    mute = as_account(site.plane, tmp_path / "kubeconfig", "mute")
    may = ("auth", "can-i", "create", "events.events.k8s.io", "-A")
    wait_until(lambda: mute.kubectl(*may, check=False).returncode == 0, PATIENCE, "the role holds")
    team.publish()
    key = Key(team.namespace, "house")
    store = Store()
    store.see_prefix(team.prefix())
    store.prefixes[key].published = {team.namespace: "uid"}
    for name in ("web", "api"):
        store.see_pod(pods.start(site.admin, team.namespace, name, team.bundle_name()))

    monkeypatch.setenv("KUBECONFIG", str(mute.kubeconfig))
    cluster = await KubernetesCluster.connect()
    nudger = Nudger(cluster, store, Recorder(cluster, lambda: datetime.now(UTC), "test"))
    for _ in range(3):
        now = datetime.now(UTC)
        await nudger.tell(key, Withdrawn(7, now), now)
    await cluster.close()

    (note,) = team.events("PodsNotTold")
    assert f"2 pods, {team.namespace}/api for one" in note
    assert "forbidden" in note
    tried = [words for code, words in site.answers("mute") if code == 403]
    assert len(tried) == 2, "each pod is tried once"
