"""Who may change what of a prefix: decided by the API server, with no part of Headwater running.

Four people, each with one of the chart's roles and nothing else: the owner, an approver, a
team that consumes, and somebody who may patch prefixes but was given none of the three verbs.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headwater.cluster import PROMPT_PREFIX
from headwater.resources import PromptPrefix
from headwater.resources.generate import openapi_schema
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError
from tests.integration.controller.team import manifest
from tests.integration.deployed import ACCOUNTS, POLICIES, deploy, deployed
from tests.integration.lending import Audit, Lender, Lent

pytestmark = pytest.mark.xdist_group("policy")

SHARED = "ai-platform"
MERGE = "application/merge-patch+json"
OTHER = f"sha256:{'0' * 64}"
ROLES = {
    "olga": "headwater-owner",
    "ari": "headwater-approver",
    "tina": "headwater-consumer",
    "ed": "edit-prefixes",
}
EDIT = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edit-prefixes}
rules:
  - {apiGroups: [headwater.dev], resources: [promptprefixes],
     verbs: [get, create, update, patch, delete]}
  - {apiGroups: [""], resources: [configmaps], verbs: [get, create, update, patch, delete]}
"""


def body(**spec: Any) -> dict[str, Any]:
    whole = manifest(SHARED, name="org-core", **spec)
    whole["spec"]["owner"] = {"team": "ai-platform", "contact": "#ai-platform"}
    return {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **whole}


@pytest.fixture(scope="module")
def borrowed(lender: Lender) -> Iterator[Lent]:
    """A control plane for these tests."""
    with lender.lent() as lent:
        yield lent


@pytest.fixture(scope="module")
def audit(borrowed: Lent) -> Audit:
    """What the API server is asked."""
    return borrowed.audit


@pytest.fixture(scope="module")
def cluster(borrowed: Lent) -> Cluster:
    """A control plane with the chart on it, the four people, and a prefix of the owner's."""
    plane = borrowed.plane
    deploy(plane, *ACCOUNTS, *POLICIES)
    plane.kubectl("apply", "-f", "-", input=EDIT)
    # Another module's, of the same name, may be going away.
    wait_until(lambda: plane.kubectl("create", "namespace", SHARED), 60, "the namespace is free")
    for person, role in ROLES.items():
        binding = ("create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}")
        plane.kubectl(*binding, "-n", SHARED)
    # Roles are put together by a controller, and policies take a moment to hold.
    wait_until(lambda: may(plane, "olga", "publish"), 30, "the owner's role is complete")
    wait_until(lambda: create(plane, "olga", body()) == "", 30, "the owner publishes")
    trial = {"spec": {"version": "trial"}}
    wait_until(lambda: "publish" in patch(plane, "ed", trial, dry=True), 30, "the policy holds")
    return plane


def may(cluster: Cluster, person: str, verb: str) -> bool:
    what = {"group": "headwater.dev", "resource": "promptprefixes", "name": "org-core"}
    review = {"spec": {"resourceAttributes": {**what, "namespace": SHARED, "verb": verb}}}
    with Api(cluster, person) as api:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(json.loads(api.request("POST", path, review))["status"]["allowed"])


def create(cluster: Cluster, person: str, whole: dict[str, Any]) -> str:
    """What a person is told who creates a prefix; empty where it was made."""
    with Api(cluster, person) as api:
        return said(lambda: api.create(PROMPT_PREFIX, whole))


def said(attempt: Callable[[], object]) -> str:
    """Return the API server's refusal; empty where it refuses nothing."""
    try:
        attempt()
    except ApiError as error:
        return error.message
    return ""


def patch(cluster: Cluster, person: str, change: dict[str, Any], *, dry: bool = False) -> str:
    """What a person is told who patches the prefix; empty where it was done."""
    path = PROMPT_PREFIX.path(SHARED, "org-core")
    query = {"dryRun": "All"} if dry else {}
    with Api(cluster, person) as api:
        return said(lambda: api.request("PATCH", path, change, MERGE, **query))


def version(cluster: Cluster) -> str:
    with Api(cluster) as api:
        found = api.get(PROMPT_PREFIX, SHARED, "org-core")
    return str(found["metadata"]["resourceVersion"])


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"version": "v2", "digest": OTHER}, "publish"),
    "the same version, other bytes": ({"content": {"system": [{"text": "mine"}]}}, "publish"),
    "its owner": ({"owner": {"team": "somebody-else"}}, "publish"),
    "its owner's address": ({"owner": {"contact": "#elsewhere"}}, "publish"),
    "the models": ({"models": ["claude-opus-5"]}, "publish"),
    "the ttl": ({"ttl": "1h"}, "publish"),
    "who consumes": ({"consumers": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, "publish"),
    "who consumes alone": (
        {"consumers": {"isolation": "Dedicated", "namespaces": ["a"], "namespaceSelector": None}},
        "publish",
    ),
    "what names a tenant": ({"tenantPattern": ["acme"]}, "publish"),
    "whether it is enforced": ({"enforcement": "Observe"}, "publish"),
    "the approval": ({"rollout": {"approvedDigest": OTHER}}, "approve"),
    "a pause": ({"suspend": True}, "steer"),
    "a retry": ({"retry": 7}, "steer"),
    "how many are kept": ({"revisionHistoryLimit": 3}, "steer"),
    "the strategy": ({"rollout": {"strategy": "Immediate"}}, "steer"),
    "the floor": ({"rollout": {"analysis": {"minHitRate": 0.1}}}, "steer"),
    "the need for an approval": ({"rollout": {"approval": "Required"}}, "steer"),
    "the deadline": ({"rollout": {"progressDeadline": "9h"}}, "steer"),
}
HAS = {"olga": {"publish", "steer"}, "ari": {"approve"}, "ed": set[str]()}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_takes_its_verb(cluster: Cluster, change: str) -> None:
    """Who has it may, who has not is told whose it is, what it takes, and what to do instead."""
    spec, verb = CHANGES[change]
    before = version(cluster)
    for person, verbs in HAS.items():
        refusal = patch(cluster, person, {"spec": spec}, dry=True)
        if verb in verbs:
            assert refusal == ""
            continue
        assert "denied" in refusal
        for word in (f"'{verb}'", "ai-platform (#ai-platform)", "org-core", person):
            assert word in refusal, refusal
        assert patch(cluster, person, {"spec": spec}) == refusal, "a dry run tells the truth"
    assert version(cluster) == before


def test_a_consumer_may_read_and_no_more(cluster: Cluster) -> None:
    """It does not get as far as the policy."""
    assert "cannot patch" in patch(cluster, "tina", {"spec": {"suspend": True}})
    asked = ("get", "pp", "org-core", "-n", SHARED, "-o", "name", "--as=tina")
    assert cluster.kubectl(*asked).stdout


def test_who_may(cluster: Cluster) -> None:
    """`kubectl auth can-i approve promptprefixes.headwater.dev/org-core` tells."""
    answers = {
        person: {verb for verb in ("publish", "approve", "steer") if may(cluster, person, verb)}
        for person in ROLES
    }
    assert answers == {**HAS, "tina": set()}


def test_taking_the_need_for_an_approval_away_is_an_approval(cluster: Cluster) -> None:
    """Else who steers could approve anything."""
    assert patch(cluster, "olga", {"spec": {"rollout": {"approval": "Required"}}}) == ""
    for change in ("Automatic", None):
        refusal = patch(cluster, "olga", {"spec": {"rollout": {"approval": change}}})
        assert "'approve'" in refusal, refusal
    cluster.kubectl(
        *("patch", "pp", "org-core", "-n", SHARED, "--type=merge"),
        *("-p", json.dumps({"spec": {"rollout": {"approval": "Automatic"}}})),
    )


def test_a_prefix_made_with_an_approval_is_approved(cluster: Cluster) -> None:
    """So deleting it and making it anew is no way around an approver."""
    whole = body()
    whole["metadata"]["name"] = "another"
    whole["spec"]["rollout"] = {"approval": "Required", "approvedDigest": whole["spec"]["digest"]}
    assert "'approve'" in create(cluster, "olga", whole)
    del whole["spec"]["rollout"]["approvedDigest"]
    assert "'publish'" in create(cluster, "ed", whole)
    assert create(cluster, "olga", whole) == ""
    assert "'publish'" in delete(cluster, "ed", "another")
    assert delete(cluster, "olga", "another") == ""


def delete(cluster: Cluster, person: str, name: str) -> str:
    with Api(cluster, person) as api:
        return said(lambda: api.request("DELETE", PROMPT_PREFIX.path(SHARED, name)))


def test_the_audit_log_has_who_changed_what(cluster: Cluster, audit: Audit) -> None:
    """The verb, the prefix, the version and the digest, of what was done and what was refused."""
    digest = manifest(SHARED)["spec"]["digest"]
    name = "audited"
    whole = body()
    whole["metadata"]["name"] = name
    assert create(cluster, "olga", whole) == ""
    for person, spec in (
        ("ari", {"rollout": {"approvedDigest": digest}}),
        ("olga", {"suspend": True}),
        ("ed", {"version": "v9"}),
    ):
        with Api(cluster, person) as api, contextlib.suppress(ApiError):
            api.patch(PROMPT_PREFIX, SHARED, name, {"spec": spec})
    assert delete(cluster, "olga", name) == ""
    what = f"{SHARED}/{name}"
    expected = [
        ("olga", 201, {"publish": f"{what} v1 {digest}"}),
        ("ari", 200, {"approve": f"{what} {digest}"}),
        ("olga", 200, {"steer": f"{what} v1 {digest}"}),
        ("ed", 403, {"publish": f"{what} v9 {digest}"}),
        ("olga", 200, {"publish": f"{what} deleted, was v1 {digest}"}),
    ]
    wait_until(lambda: changes(audit, what) == expected, 10, "the audit log is written")


def changes(audit: Audit, prefix: str) -> list[tuple[str, int, dict[str, str]]]:
    """Who asked for which change of a prefix, and what was answered, by the audit log."""
    found = []
    for event in audit.events():
        said = {
            key.removeprefix("headwater-ownership/"): text
            for key, text in event.get("annotations", {}).items()
            if key.startswith("headwater-ownership/") and text.startswith(f"{prefix} ")
        }
        if said:
            code = event["responseStatus"]["code"]
            found.append((event["impersonatedUser"]["username"], code, said))
    return found


def test_what_says_nothing_about_the_contract_is_free(cluster: Cluster) -> None:
    """Labels and annotations are for everyone who may patch."""
    assert patch(cluster, "ed", {"metadata": {"labels": {"cost-centre": "7"}}}) == ""


@pytest.mark.parametrize("role", ["revision", "bundle"])
def test_published_bytes_are_the_controllers(cluster: Cluster, role: str) -> None:
    """Nobody else makes, edits, unlabels or deletes them, however much they may."""
    labels = f"headwater.dev/role: {role}\n    headwater.dev/prefix: org-core"
    name = f"headwater.a.{role}"
    whole = f"""
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  namespace: {SHARED}
  labels:
    {labels}
    headwater.dev/prefix-namespace: {SHARED}
data: {{a: b}}
"""
    ed = ("-n", SHARED, "--as=ed")
    controller = "--as=system:serviceaccount:headwater:headwater-controller"
    told = cluster.kubectl("create", "-f", "-", *ed, input=whole, check=False)
    assert "only Headwater's controller writes it" in told.stderr
    assert f"publish a new version of the PromptPrefix {SHARED}/org-core" in told.stderr
    cluster.kubectl("create", "-f", "-", controller, input=whole)
    for attempt in (
        ("patch", "configmap", name, "-p", '{"data": {"a": "c"}}'),
        ("label", "configmap", name, "headwater.dev/role-"),
        ("delete", "configmap", name),
    ):
        told = cluster.kubectl(*attempt, *ed, check=False)
        assert "only Headwater's controller writes it" in told.stderr, told
    other = whole.replace(labels, "app: mine").replace(name, f"mine.{role}")
    cluster.kubectl("create", "-f", "-", *ed, input=other)
    taken = ("label", "configmap", f"mine.{role}", f"headwater.dev/role={role}")
    assert "only Headwater's" in cluster.kubectl(*taken, *ed, check=False).stderr


def test_a_namespace_goes_with_its_prefixes(cluster: Cluster) -> None:
    """Whoever may delete a namespace is not held up by what is in it."""
    whole = body()
    whole["metadata"]["namespace"] = "short-lived"
    cluster.kubectl("create", "namespace", "short-lived")
    cluster.kubectl("create", "-f", "-", input=json.dumps(whole))
    cluster.kubectl("delete", "namespace", "short-lived", "--timeout=120s")


def test_every_field_of_the_spec_belongs_to_a_verb() -> None:
    """A new field has to be given to one, or anybody who may patch decides about it."""
    policy = next(
        policy
        for policy in deployed("ValidatingAdmissionPolicy")
        if policy["metadata"]["name"] == "headwater-ownership"
    )
    variables = {item["name"]: item["expression"] for item in policy["spec"]["variables"]}
    schema = openapi_schema(PromptPrefix)["properties"]["spec"]["properties"]
    top = {
        name
        for verb in ("publishes", "steers")
        for name in re.findall(r"variables\.after\.\?(\w+)", variables[verb])
    }
    inner = {
        name
        for verb in ("approves", "steers")
        for name in re.findall(r"variables\.is\.\?(\w+)", variables[verb])
    }
    rollout = schema["rollout"]["properties"]
    assert top | {"rollout"} == set(schema)
    assert inner == set(rollout)
    defaults = dict(re.findall(r'is\.\?(\w+)\.orValue\("(\w+)"\)', variables["steers"]))
    assert defaults == {
        name: field["default"] for name, field in rollout.items() if "default" in field
    }
