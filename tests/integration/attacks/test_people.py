"""People with one of the chart's roles, and the controller's stolen token: what they try to reach.

Everything is decided by the API server, with no part of Headwater running.
"""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from headwater.cluster import CACHE_WARMER, CONFIG_MAP, CRON_JOB, NAMESPACE, PROMPT_PREFIX
from headwater.resources.warmer import CacheWarmer
from headwater.warmer.cronjob import NextRun, WarmedPrefix, cronjob
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError
from tests.integration.deployed import image
from tests.integration.test_ownership import (
    SHARED,
    body,
    borrowed,
    cluster,
    create,
    delete,
    patch,
    said,
)
from tests.integration.webhook.harness import as_account

__all__ = ["borrowed", "cluster"]  # fixtures

pytestmark = pytest.mark.xdist_group("policy")


# --- an approver, who wants a prefix gone that is in use ----------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "0"}]},
        {"finalizers": ["example.com/mine"]},
        {"annotations": {"headwater.dev/force-deletion": "true"}},
        {"annotations": {"headwater.dev/lint-ignore": "secret"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_who_may_not_delete_has_it_deleted_by_nobody_else(
    cluster: Cluster, change: dict[str, Any]
) -> None:
    """A reference to an owner that is gone has it collected: that is the publisher's to write."""
    for person in ("ari", "ed"):
        refusal = patch(cluster, person, {"metadata": change})
        assert "takes the verb 'publish'" in refusal
        assert "ai-platform (#ai-platform)" in refusal
    assert patch(cluster, "olga", {"metadata": change}, dry=True) == ""


# --- an owner, who wants to publish what nobody approved ----------------------------------------


def test_a_namespace_that_demands_approvals_gets_them(cluster: Cluster) -> None:
    """Replaced, or deleted and made anew, a prefix cannot leave the demand out."""
    whole = body()
    whole["metadata"]["name"] = "demanded"
    with Api(cluster) as admin:
        label = {"metadata": {"labels": {"headwater.dev/approval": "required"}}}
        admin.patch(NAMESPACE, None, SHARED, label)
        try:
            wait_until(
                lambda: "demands an approval" in create(cluster, "olga", whole),
                30,
                "the API server knows of the label",
            )
            whole["spec"]["rollout"] = {"approval": "Automatic"}
            assert "set spec.rollout.approval" in create(cluster, "olga", whole)
            whole["spec"]["rollout"] = {"approval": "Required"}
            assert create(cluster, "olga", whole) == ""
            loose = {"spec": {"rollout": {"approval": "Automatic"}}}
            with pytest.raises(ApiError, match="demands an approval"):
                admin.patch(PROMPT_PREFIX, SHARED, "demanded", loose)
            assert delete(cluster, "olga", "demanded") == ""
            del whole["spec"]["rollout"]
            assert "demands an approval" in create(cluster, "olga", whole)
            # What was there before goes on, and its next version needs one.
            assert patch(cluster, "ed", {"metadata": {"labels": {"cost-centre": "8"}}}) == ""
            assert "demands an approval" in patch(cluster, "olga", {"spec": {"version": "v2"}})
        finally:
            label["metadata"]["labels"]["headwater.dev/approval"] = None  # type: ignore[assignment]
            admin.patch(NAMESPACE, None, SHARED, label)


# --- an owner without any right to Secrets, who wants one used ----------------------------------


def declared(name: str, **spec: Any) -> dict[str, Any]:
    credential = {"name": "prod", "secretRef": {"name": "anthropic", "key": "key"}}
    return {
        "metadata": {"name": name, "namespace": SHARED},
        "spec": {"prefixRef": {"name": "org-core"}, "credentials": [credential], **spec},
    }


def declare(cluster: Cluster, person: str, whole: dict[str, Any]) -> str:
    with Api(cluster, person) as api:
        return said(lambda: api.create(CACHE_WARMER, whole))


def test_a_warmer_uses_only_what_its_author_may_have_used(cluster: Cluster) -> None:
    """The Secret's keeper gives the verb `warm`, which reads nothing, and for no other Secret.

    An edit of what is there asks for new ones alone.
    """
    refusal = declare(cluster, "olga", declared("deputy"))
    assert "here anthropic: olga needs the verb 'warm', or 'get', on each of them" in refusal
    give(cluster, "warm-anthropic", "secrets", "anthropic")
    wait_until(lambda: declare(cluster, "olga", declared("deputy")) == "", 30, "the role holds")
    other = {"name": "root", "secretRef": {"name": "database", "key": "password"}}
    both = [*declared("deputy")["spec"]["credentials"], other]
    with Api(cluster, "olga") as api:
        edit: Callable[[Any], str] = lambda spec: said(  # noqa: E731 - three calls of one shape
            lambda: api.patch(CACHE_WARMER, SHARED, "deputy", {"spec": spec})
        )
        assert "here database: olga needs the verb 'warm'" in edit({"credentials": both})
        assert "here deployer: olga needs the verb" in edit({"serviceAccountName": "deployer"})
        assert edit({"skipWhenTraffic": False}) == ""
        give(cluster, "warm-deployer", "serviceaccounts", "deployer")
        wait_until(lambda: edit({"serviceAccountName": "deployer"}) == "", 30, "the role holds")
    cannot = ("auth", "can-i", "get", "secrets/anthropic", "-n", SHARED, "--as=olga")
    assert cluster.kubectl(*cannot, check=False).stdout.strip() == "no"


def give(cluster: Cluster, role: str, resource: str, name: str) -> None:
    """Let olga have something of that name used by warmers."""
    rule = {"apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": ["warm"]}
    whole = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": role, "namespace": SHARED},
        "rules": [rule],
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(whole))
    bound = ("create", "rolebinding", role, f"--role={role}", "--user=olga", "-n", SHARED)
    cluster.kubectl(*bound)


# --- whoever has the controller's token ---------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def thief(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API as the controller's account has it."""
    kubeconfig = tmp_path_factory.mktemp("thief") / "kubeconfig"
    with Api(as_account(cluster, kubeconfig, "headwater-controller")) as api:
        yield api


def whole_cron_job() -> dict[str, Any]:
    """Return what the controller makes of a warmer with a key, an identity and an account."""
    identity = {
        "audience": "https://api.anthropic.com",
        "federationRuleId": "fdrl_1",
        "organizationId": "org",
    }
    spec = declared("keep", serviceAccountName="warming")["spec"]
    spec["credentials"].append({"name": "token", "workloadIdentity": identity})
    metadata = {"name": "keep", "namespace": SHARED, "uid": "9d1c7a9e"}
    warmer = CacheWarmer.model_validate({"metadata": metadata, "spec": spec})
    return cronjob(
        warmer,
        WarmedPrefix(ttl="5m", models=("claude-opus-4-8",)),
        NextRun(),
        image=image(),
        bundle_config_map=f"headwater.{SHARED}.org-core",
    )


def pod(whole: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = whole["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def container(whole: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(whole)["containers"][0]
    return found


def security(whole: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = container(whole)["securityContext"]
    return found


OTHERS: Final = {"name": "more", "image": "more:1"}
ATTEMPTS: Final[dict[str, Change]] = {
    "in the cluster's own namespace": lambda job: job["metadata"].update(namespace="kube-system"),
    "under another name": lambda job: job["metadata"].update(name="backup"),
    "without its label": lambda job: job["metadata"].pop("labels"),
    "of nobody": lambda job: job["metadata"].pop("ownerReferences"),
    "of somebody else": lambda job: job["metadata"]["ownerReferences"][0].update(kind="Pod"),
    "another image": lambda job: container(job).update(image="evil:1"),
    "another program": lambda job: container(job).update(command=["sh", "-c", "id"]),
    "another command": lambda job: container(job)["command"].__setitem__(1, "simulator"),
    "arguments": lambda job: container(job).update(args=["--base-url=http://evil"]),
    "another address": lambda job: container(job)["command"].append("--base-url=http://evil"),
    "another address in two words": lambda job: container(job)["command"].extend(
        ["--base-url", "http://evil"]
    ),
    "an environment": lambda job: container(job).update(
        env=[{"name": "ANTHROPIC_BASE_URL", "value": "http://evil"}]
    ),
    "an environment from elsewhere": lambda job: container(job).update(
        envFrom=[{"secretRef": {"name": "database"}}]
    ),
    "a hook": lambda job: container(job).update(
        lifecycle={"postStart": {"exec": {"command": ["sh"]}}}
    ),
    "a probe": lambda job: container(job).update(livenessProbe={"exec": {"command": ["sh"]}}),
    "a second container": lambda job: pod(job)["containers"].append(OTHERS),
    "a first container": lambda job: pod(job).update(initContainers=[OTHERS]),
    "a token": lambda job: pod(job).update(automountServiceAccountToken=True),
    "the node's network": lambda job: pod(job).update(hostNetwork=True),
    "the node's processes": lambda job: pod(job).update(hostPID=True),
    "root": lambda job: pod(job).update(securityContext={"runAsUser": 0}),
    "root in the container": lambda job: security(job).update(runAsNonRoot=False, runAsUser=0),
    "privileged": lambda job: security(job).update(privileged=True, allowPrivilegeEscalation=True),
    "a capability": lambda job: security(job)["capabilities"].update(add=["SYS_ADMIN"]),
    "the capabilities of old": lambda job: security(job).pop("capabilities"),
    "a disk to write on": lambda job: security(job).pop("readOnlyRootFilesystem"),
    "the node's disk": lambda job: pod(job)["volumes"].append(
        {"name": "host", "hostPath": {"path": "/"}}
    ),
    "somebody's ConfigMap": lambda job: pod(job)["volumes"].append(
        {"name": "more", "configMap": {"name": "settings"}}
    ),
    "another place": lambda job: container(job)["volumeMounts"][0].update(
        mountPath="/opt/headwater"
    ),
    "a file over another": lambda job: container(job)["volumeMounts"][0].update(subPath="x"),
    "a place to write": lambda job: container(job)["volumeMounts"][0].update(readOnly=False),
    "another name of the provider": lambda job: pod(job).update(
        hostAliases=[{"ip": "10.0.0.7", "hostnames": ["api.anthropic.com"]}]
    ),
    "a token for the API server": lambda job: pod(job)["volumes"].append(
        {"name": "more", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    ),
    "a Secret by another way": lambda job: pod(job)["volumes"].append(
        {"name": "more", "projected": {"sources": [{"secret": {"name": "database"}}]}}
    ),
}
CONFINED: Final = "of Headwater's controller (may|must)|Headwater's controller may write no CronJob"


def test_what_the_controller_makes_is_admitted(thief: Api) -> None:
    """Else the next test would prove nothing."""
    path = CRON_JOB.path(SHARED)
    thief.request("POST", path, whole_cron_job(), dryRun="All")


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_stolen_token_makes_no_other_cron_job(thief: Api, attempt: str) -> None:
    """Neither new nor by an edit of one that is there."""
    job = copy.deepcopy(whole_cron_job())
    ATTEMPTS[attempt](job)
    with pytest.raises(ApiError, match=CONFINED) as caught:
        thief.create(CRON_JOB, job)
    assert caught.value.status == 422


def test_a_stolen_token_edits_nobody_elses_cron_job(cluster: Cluster, thief: Api) -> None:
    """What somebody else made stays as it is."""
    with Api(cluster) as admin:
        job = whole_cron_job()
        job["metadata"] = {"name": "backup", "namespace": SHARED}
        admin.create(CRON_JOB, job)
    with pytest.raises(ApiError, match="no CronJob but those of CacheWarmers"):
        thief.patch(CRON_JOB, SHARED, "backup", {"spec": {"schedule": "* * * * *"}})


def test_a_stolen_token_writes_no_other_config_map(cluster: Cluster, thief: Api) -> None:
    """Neither CoreDNS' configuration nor a team's, nor what is only named like ours."""
    ours = {"headwater.dev/role": "bundle"}
    theirs: list[dict[str, Any]] = [
        {"name": "coredns", "namespace": "kube-system"},
        {"name": "settings", "namespace": SHARED},
        {"name": "settings2", "namespace": SHARED, "labels": ours},
        {"name": "headwater.mine", "namespace": SHARED},
    ]
    with Api(cluster) as admin:
        for metadata in theirs:
            whole = {"metadata": metadata, "data": {"a": "b"}}
            with pytest.raises(ApiError, match="may write no ConfigMap but revisions and bundles"):
                thief.create(CONFIG_MAP, whole)
            unlabelled = {key: metadata[key] for key in ("name", "namespace")}
            admin.create(CONFIG_MAP, {"metadata": unlabelled, "data": {"a": "b"}})
            name, namespace = metadata["name"], metadata["namespace"]
            with pytest.raises(ApiError, match="may write no ConfigMap"):
                thief.patch(CONFIG_MAP, namespace, name, {"data": {"a": "c"}})
            if not name.startswith("headwater."):
                with pytest.raises(ApiError, match="may write no ConfigMap"):
                    thief.delete(CONFIG_MAP, namespace, name)
            admin.delete(CONFIG_MAP, namespace, name)
