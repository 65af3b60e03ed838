"""Somebody changes a published version: refused where it is written, with no operator running.

The API server, its authorizer, the roles and the policies are real, the people are impersonated.
The controller publishes v7 with the rights of its own account, and is gone before the first edit.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX
from headwater.contract.digest import Digest
from tests.cluster.control_plane import Cluster, ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError, Controller, reporting
from tests.integration.controller.team import (
    PATIENCE,
    REPAIR_SECONDS,
    Team,
    content_of,
    contracts,
    digest_in,
    manifest,
    new_team,
    prompt,
)
from tests.integration.deployed import ACCOUNTS, POLICIES, deploy
from tests.integration.lending import Lender
from tests.integration.webhook.harness import as_account

pytestmark = pytest.mark.xdist_group("policy")

TEAM = "system:serviceaccount:shop:deployer"
"""A team's account that may patch prefixes and ConfigMaps, as a generous Role has it."""
OWNER = "olga"
ADMIN = ""
"""In the group system:masters, by the kubeconfig."""
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
PEOPLE = (TEAM, OWNER, ADMIN, COLLECTOR)
MERGE = "application/merge-patch+json"
CONTROLLER = "headwater-controller"
EDIT = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edit-all}
rules:
  - {apiGroups: [headwater.dev], resources: [promptprefixes], verbs: [get, patch, delete]}
  - {apiGroups: [""], resources: [configmaps], verbs: [get, patch, delete]}
"""
OTHER = f"sha256:{'0' * 64}"
EDITED = {"system": [{"text": prompt("v7").replace("Answer", "answer")}]}


@dataclass
class Site:
    """A control plane with roles and policies on it, on which v7 was published.

    Attributes:
        team: those who own the prefix, as an administrator.
        account: the cluster as the controller's account has it.
        people: the API as each of them has it.
    """

    plane: ControlPlane
    team: Team
    account: Cluster
    directory: Path
    digest: Digest
    consumer: str
    people: Mapping[str, Api]

    def controller(self, name: str) -> Controller:
        """A controller with the rights of its account and no others."""
        lease = ("--leader-election", "--lease-namespace", "headwater")
        return Controller(self.account.kubeconfig, self.directory / name, *lease)

    def published(self, role: str) -> dict[str, Any]:
        """The ConfigMap that holds v7 in a role."""
        namespace = self.team.namespace if role == "revision" else self.consumer
        found = self.team.api.list(CONFIG_MAP, namespace, f"headwater.dev/role={role}")
        (published,) = (each for each in found if self.digest in contracts(each))
        return published

    def patch(self, person: str, change: dict[str, Any], *, dry: bool = False) -> str:
        """What a person is told who patches the prefix; empty where it was done."""
        path = PROMPT_PREFIX.path(self.team.namespace, "house")
        return self.told(person, "PATCH", path, change, dry=dry)

    def told(
        self, person: str, method: str, path: str, change: object = None, *, dry: bool = False
    ) -> str:
        """What a person is told by the API server; empty where it was done."""
        api = self.people[person]
        try:
            api.request(method, path, change, MERGE, **({"dryRun": "All"} if dry else {}))
        except ApiError as error:
            return error.message
        return ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, lender: Lender) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("uncoordinated")
    with ExitStack() as stack:
        lent = stack.enter_context(lender.lent())
        plane = lent.plane
        people = {person: stack.enter_context(Api(plane, person)) for person in PEOPLE}
        team = stack.enter_context(new_team(people[ADMIN]))
        deploy(plane, *ACCOUNTS, *POLICIES)
        plane.kubectl("apply", "-f", "-", input=EDIT)
        account = as_account(plane, directory / "kubeconfig", CONTROLLER)
        digest = digest_in(manifest(team.namespace, version="v7"))
        consumer = team.consumer("shop")
        site = Site(plane, team, account, directory, digest, consumer, people)
        for namespace in (team.namespace, site.consumer):
            everyone = (f"--user={TEAM}", f"--user={OWNER}", "-n", namespace)
            plane.kubectl("create", "rolebinding", "edit", "--clusterrole=edit-all", *everyone)
        owner = ("--clusterrole=headwater-owner", f"--user={OWNER}", "-n", team.namespace)
        plane.kubectl("create", "rolebinding", "owner", *owner)
        with site.controller("first.log") as controller, reporting(controller):
            team.serve(version="v6", source={"system": [{"text": prompt("v6")}]})
            team.serve(version="v7", rollout={"strategy": "Immediate"})
            team.await_bundle(site.consumer, digest)
        trial = {"spec": {"version": "trial"}}
        wait_until(lambda: site.patch(TEAM, trial, dry=True), PATIENCE, "the policy holds")
        wait_until(lambda: not site.patch(OWNER, trial, dry=True), PATIENCE, "the owner's role")
        yield site


TEAM_EDITS: dict[str, dict[str, Any]] = {
    "the bytes": {"content": EDITED},
    "the owner": {"owner": {"team": "shop"}},
    "the hash": {"digest": OTHER},
    "the version": {"version": "v8"},
    "all of it": {"version": "v8", "digest": OTHER, "content": EDITED, "owner": {"team": "shop"}},
}


@pytest.mark.parametrize("edit", TEAM_EDITS.values(), ids=TEAM_EDITS)
def test_a_team_is_refused(site: Site, edit: dict[str, Any]) -> None:
    """It is told whose the prefix is and what to do; a dry run says the same."""
    before = site.team.prefix()
    told = site.patch(TEAM, {"spec": edit})
    # Of an edit in place the schema speaks first, and of anything else the policy.
    assert ("is invalid" in told) or ("is forbidden" in told and TEAM in told), told
    for words in ("belongs to ai-platform", "publish a new version"):
        assert words in told, told
    assert site.patch(TEAM, {"spec": edit}, dry=True) == told
    assert site.team.prefix() == before


OWNER_EDITS: dict[str, dict[str, Any]] = {
    "the bytes": {"content": EDITED},
    "the hash": {"digest": OTHER},
    "both": {"content": EDITED, "digest": OTHER},
    "what makes other bytes of them": {"ttl": "1h"},
    "a former version's hash": {"version": "v6", "digest": OTHER},
}


@pytest.mark.parametrize("edit", OWNER_EDITS.values(), ids=OWNER_EDITS)
def test_its_owner_is_refused_as_well(site: Site, edit: dict[str, Any]) -> None:
    """A published version is not edited in place, by nobody: the schema itself has that."""
    before = site.team.prefix()
    told = site.patch(OWNER, {"spec": edit})
    assert "is invalid" in told
    for words in ("It belongs to ai-platform", "publish a new version"):
        assert words in told, told
    assert site.patch(OWNER, {"spec": edit}, dry=True) == told
    assert site.team.prefix() == before


def test_its_owner_may_do_all_else(site: Site) -> None:
    """Publish a new version, go back to one that was published, hand it over."""
    new = manifest(site.team.namespace, version="v8")["spec"]
    back = manifest(site.team.namespace, version="v6")["spec"]
    for edit in (new, {**back, "rollout": None}, {"owner": {"team": "other"}}, {"suspend": True}):
        assert site.patch(OWNER, {"spec": edit}, dry=True) == ""


@pytest.mark.parametrize("person", [TEAM, OWNER, ADMIN], ids=["team", "owner", "admin"])
@pytest.mark.parametrize("role", ["revision", "bundle"])
def test_nobody_edits_what_was_published(site: Site, role: str, person: str) -> None:
    """Neither the bytes nor the label, and nobody deletes it."""
    found = site.published(role)
    path = CONFIG_MAP.path(found["metadata"]["namespace"], found["metadata"]["name"])
    data = {"data": dict.fromkeys(found["data"], "{}")}
    prefix = f"publish a new version of the PromptPrefix {site.team.namespace}/house"
    unlabelled = {"metadata": {"labels": {"headwater.dev/role": None}}}
    for method, change, words in (
        ("PATCH", data, "field is immutable" if role == "revision" else prefix),
        ("PATCH", unlabelled, prefix),
        ("DELETE", None, prefix),
    ):
        told = site.told(person, method, path, change)
        assert words in told, told
        assert site.told(person, method, path, change, dry=True) == told
    assert site.published(role) == found


def test_what_slips_in_while_nobody_looks_is_not_served(site: Site) -> None:
    """Where even the status was lost, the bytes that are kept bind their version."""
    team = site.team
    before = team.prefix()
    lost = {"status": {"published": None}}
    team.api.patch(PROMPT_PREFIX, team.namespace, "house", lost, subresource="/status")
    edit = manifest(team.namespace, version="v6", source=EDITED)["spec"]
    assert site.patch(OWNER, {"spec": edit}) == "", "nothing but the status told of v6"
    with site.controller("second.log") as controller, reporting(controller):
        told = team.await_condition("DigestVerified", "False", "VersionRebound")
        served = digest_in(manifest(team.namespace, version="v6"))
        for words in ("version v6 was published as", served, "as a new version"):
            assert words in told["message"]
        assert team.status()["stable"]["digest"] == site.digest
        assert set(team.revisions()) == {"v6", "v7"}
        assert set(contracts(team.bundle(site.consumer) or {})) >= {site.digest}
        assert site.patch(OWNER, {"spec": before["spec"]}) == ""
        team.await_stable(site.digest)
    bound = {row["version"]: row["digest"] for row in team.status()["published"]}
    assert bound["v7"] == site.digest


@pytest.mark.parametrize("role", ["revision", "bundle"])
def test_what_is_deleted_all_the_same_stands_again(site: Site, role: str) -> None:
    """By whom no policy holds up, such as the garbage collector; within ten seconds, and told."""
    team = site.team
    with site.controller(f"{role}.log") as controller, reporting(controller):
        team.edit({"retry": team.prefix()["spec"]["retry"] + 1})
        team.await_stable(site.digest)  # of the newest generation: the controller is at work
        before = site.published(role)
        name, namespace = before["metadata"]["name"], before["metadata"]["namespace"]
        told = len(team.events("Repaired"))
        assert site.told(COLLECTOR, "DELETE", CONFIG_MAP.path(namespace, name)) == ""

        def restored() -> bool:
            found = team.api.find(CONFIG_MAP, namespace, name)
            assert found is not None
            assert found["metadata"]["uid"] != before["metadata"]["uid"]
            assert content_of(found) == content_of(before)
            return True

        wait_until(restored, REPAIR_SECONDS, f"the {role} stands as it did", promised=True)
        wait_until(lambda: len(team.events("Repaired")) > told, PATIENCE, "an Event tells of it")
