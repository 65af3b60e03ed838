"""A prefix that was applied is served: what stands in the cluster then, and what it follows."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, NAMESPACE, PROMPT_PREFIX
from headwater.contract.content import canonical_bytes, content, digest_of
from headwater.contract.digest import Digest
from headwater.rollout.upkeep import RETAINED_LIMIT
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, Controller
from tests.integration.controller.team import LABEL, MODEL, PATIENCE, Team, contracts, prompt, route

pytestmark = pytest.mark.xdist_group("controller")

IMMEDIATE = {"strategy": "Immediate"}


class TestPublishing:
    def test_stores_the_revision_and_bundles_it_for_each_consumer(self, team: Team) -> None:
        """An immutable ConfigMap owned by the prefix, and one bundle in each selected namespace."""
        consumers = [team.consumer("a"), team.consumer("b")]
        bystander = team.consumer("c", labelled=False)
        digest = team.serve()

        declared = content(tools=[], system=[{"text": prompt("v1")}], ttl="5m")
        revision = team.revisions()["v1"]
        assert revision["immutable"]
        assert contracts(revision) == {digest: canonical_bytes(declared)}
        (owner,) = revision["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == (
            "PromptPrefix",
            "house",
            True,
        )
        assert owner["uid"] == team.prefix()["metadata"]["uid"]
        for namespace in consumers:
            found = team.await_bundle(namespace, digest)
            assert contracts(found) == contracts(revision)
            assert route(found)["stable"] == {"version": "v1", "digest": digest}
            assert route(found)["candidate"] is None
            assert route(found)["models"] == [MODEL]
        assert team.bundle(bystander) is None
        assert team.bundle(team.namespace) is None
        assert team.status()["consumers"]["namespaces"] == 2

    def test_says_so_in_status_and_conditions(self, team: Team) -> None:
        """Status names what is served, and every condition is of the newest generation."""
        digest = team.serve()
        status = team.status()
        assert status["observedGeneration"] == team.prefix()["metadata"]["generation"]
        assert (status["phase"], status["message"]) == ("Stable", "v1 is served to everyone")
        assert status["stable"]["configMap"] == team.revisions()["v1"]["metadata"]["name"]
        assert status["published"] == [{"version": "v1", "digest": digest}]
        assert [entry["event"] for entry in status["history"]] == ["FirstVersion"]
        told = {kind["type"]: kind["status"] for kind in status["conditions"]}
        assert told == {
            "Ready": "True",
            "Reconciling": "False",
            "Stalled": "False",
            "DigestVerified": "True",
            "Cacheable": "True",
            "ConsumersServed": "True",
            "Linted": "True",
        }
        for kind in told:
            team.condition(kind)
        team.await_event("FirstVersion", "v1 is served to everyone")

    def test_is_what_kubectl_waits_for_and_shows(self, team: Team, control_plane: Cluster) -> None:
        """`kubectl wait` and the printer columns work as for any Kubernetes object."""
        team.publish()
        control_plane.kubectl(
            *("wait", "pp/house", "-n", team.namespace, "--for=condition=Ready", "--timeout=120s")
        )
        head, row = control_plane.kubectl("get", "pp", "-n", team.namespace).stdout.splitlines()
        columns = "NAME OWNER STABLE CANDIDATE WEIGHT PHASE HIT-RATE AGE"
        assert head.split() == columns.split()
        assert row.split()[:4] == ["house", "ai-platform", "v1", "Stable"]

    def test_a_suspended_prefix_is_not_published(self, team: Team) -> None:
        """Nothing is served while `suspend` is set, and everything once it is taken back."""
        consumer = team.consumer("a")
        digest = team.publish(suspend=True)
        team.await_condition("Ready", "False", "Paused")
        assert team.bundle(consumer) is None
        assert not team.revisions()
        team.edit({"suspend": False})
        team.await_bundle(consumer, digest)

    def test_content_lies_in_config_maps(self, team: Team, api: Api) -> None:
        """Text and tools by reference give the same digest as the same content inline."""
        tools = [{"name": "search", "input_schema": {"type": "object"}}]
        api.apply(
            CONFIG_MAP,
            {
                "metadata": {"name": "prompt", "namespace": team.namespace},
                "data": {"prompt.md": prompt("v1"), "tools.json": json.dumps(tools, indent=2)},
            },
        )
        digest = digest_of(content(tools=tools, system=[{"text": prompt("v1")}], ttl="5m"))
        consumer = team.consumer("a")
        team.serve(
            digest=digest,
            source={
                "toolsFrom": reference("prompt", "tools.json"),
                "system": [{"textFrom": reference("prompt", "prompt.md")}],
            },
        )
        team.await_bundle(consumer, digest)


def reference(name: str, key: str) -> dict[str, Any]:
    return {"configMapKeyRef": {"name": name, "key": key}}


class TestVersions:
    def test_immediate_replaces_the_stable_version_at_once(self, team: Team) -> None:
        """Everyone gets the new bytes; the former ones stay for those whose cache is warm."""
        consumer = team.consumer("a")
        first = team.serve()
        second = team.serve(version="v2", rollout=IMMEDIATE)
        found = team.await_bundle(consumer, second)
        assert [row["digest"] for row in route(found)["retained"]] == [first]
        assert set(team.revisions()) == {"v1", "v2"}
        assert [row["version"] for row in team.status()["published"]] == ["v1", "v2"]
        team.await_event("Promoted", "v2 is served to everyone")
        team.serve(version="v1", rollout=IMMEDIATE)
        assert route(team.await_bundle(consumer, first))["epoch"] == 3

    def test_only_so_many_former_revisions_are_kept(self, team: Team) -> None:
        """Beyond `revisionHistoryLimit` the oldest go, and those in the bundle never do."""
        used = RETAINED_LIMIT + 1
        for number in range(used + 2):
            team.serve(version=f"v{number}", rollout=IMMEDIATE, revisionHistoryLimit=1)
        kept = {f"v{number}" for number in range(1, used + 2)}
        wait_until(lambda: set(team.revisions()) == kept, PATIENCE, "v0's revision goes")


class TestNamespaces:
    def test_follows_namespaces_that_appear_and_change_labels(self, team: Team, api: Api) -> None:
        """The label gives the bundle and takes it; status counts who has it."""
        digest = team.serve()
        late = team.consumer("late")
        team.await_bundle(late, digest)
        other = team.consumer("other", labelled=False)
        api.patch(NAMESPACE, None, other, {"metadata": {"labels": {LABEL: team.namespace}}})
        team.await_bundle(other, digest)
        wait_until(
            lambda: team.status()["consumers"]["namespaces"] == 2, PATIENCE, "two are counted"
        )
        api.patch(NAMESPACE, None, late, {"metadata": {"labels": {LABEL: None}}})
        wait_until(lambda: team.bundle(late) is None, PATIENCE, "the bundle is taken away")
        wait_until(
            lambda: team.status()["consumers"]["namespaces"] == 1, PATIENCE, "one is counted"
        )
        assert team.bundle(other) is not None

    def test_a_deleted_namespace_is_forgotten(self, team: Team, api: Api) -> None:
        """A consumer's namespace that goes away takes its bundle along, and nobody minds."""
        kept, gone = team.consumer("kept"), team.consumer("gone")
        digest = team.serve()
        team.await_bundle(gone, digest)
        api.delete(NAMESPACE, None, gone)
        wait_until(
            lambda: team.status()["consumers"]["namespaces"] == 1, PATIENCE, "it is not counted"
        )
        assert team.condition("Ready")["status"] == "True"
        team.await_bundle(kept, digest)

    def test_an_edited_selector_moves_the_bundles(self, team: Team) -> None:
        """Who is selected no longer loses the bundle, who is selected now gets it."""
        labelled, named = team.consumer("a"), team.consumer("b", labelled=False)
        digest = team.serve()
        team.await_bundle(labelled, digest)
        by_name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [named]}
        selector = {"matchLabels": None, "matchExpressions": [by_name]}
        team.edit({"consumers": {"namespaceSelector": selector}})
        team.await_bundle(named, digest)
        wait_until(lambda: team.bundle(labelled) is None, PATIENCE, "the bundle is taken away")

    def test_a_dedicated_prefix_goes_to_those_it_names(self, team: Team) -> None:
        """Labels let nobody in; who is not named any more loses it, who is named now gets it."""
        labelled, named = team.consumer("a"), team.consumer("b", labelled=False)
        digest = team.serve()
        team.await_bundle(labelled, digest)
        alone = {"isolation": "Dedicated", "namespaceSelector": None}
        team.edit({"consumers": {**alone, "namespaces": [named]}})
        team.await_bundle(named, digest)
        wait_until(lambda: team.bundle(labelled) is None, PATIENCE, "the bundle is taken away")
        assert team.bundle(team.namespace) is None
        late = f"{team.namespace}-late"
        team.edit({"consumers": {"namespaces": [late]}})
        wait_until(lambda: team.bundle(named) is None, PATIENCE, "the bundle is taken away")
        assert team.consumer("late") == late
        team.await_bundle(late, digest)

    def test_others_are_named_beside_a_selector(self, team: Team) -> None:
        """Both get it: a list of names adds to a selector."""
        labelled, named = team.consumer("a"), team.consumer("b", labelled=False)
        digest = team.serve()
        team.edit({"consumers": {"namespaces": [named]}})
        team.await_bundle(named, digest)
        team.await_bundle(labelled, digest)


class TestLint:
    def test_its_findings_are_a_condition(self, team: Team, api: Api) -> None:
        """Of what is served: it is no part of Ready, and follows an author's annotation."""
        team.serve(source={"system": [{"text": f"Today is Friday.\n{prompt('v1')}\n"}]})
        found = team.await_condition("Linted", "False", "ErrorsFound")
        assert "[today] spec.content.system[0].text: it says what day" in found["message"]
        assert team.condition("Ready")["status"] == "True"
        annotations = {"headwater.dev/lint-ignore": "today"}
        api.patch(
            PROMPT_PREFIX, team.namespace, "house", {"metadata": {"annotations": annotations}}
        )
        team.await_condition("Linted", "True", "NothingFound")

    def test_what_names_a_tenant_is_not_served(self, team: Team) -> None:
        """Declared with no webhook in the way: what is stable stays, until the tenant is gone."""
        consumer = team.consumer("a")
        first = team.serve()
        source = {"system": [{"text": f"tenant_id: 7\n{prompt('v2')}"}]}
        team.publish(version="v2", source=source, tenantPattern=["tenant_id"])
        found = team.await_condition("Ready", "False", "TenantNamed")
        assert 'spec.content.system[0].text: it names a tenant: "tenant_id"' in found["message"]
        assert team.condition("Stalled")["status"] == "True"
        team.await_event("TenantNamed", "tenant_id")
        team.await_bundle(consumer, first)
        assert set(team.revisions()) == {"v1"}
        assert team.status()["stable"]["digest"] == first
        third = team.serve(version="v3", tenantPattern=["tenant_id"], rollout=IMMEDIATE)
        team.await_bundle(consumer, third)


class TestDeleting:
    def test_a_deleted_prefix_takes_its_bundles_along(self, team: Team, api: Api) -> None:
        """Bundles go (revisions do by their owner); another prefix's and other people's stay."""
        consumer = team.consumer("a")
        team.serve()
        kept = team.serve(name="kept", version="k1")
        foreign = {"metadata": {"name": "foreign", "namespace": consumer}}
        api.create(CONFIG_MAP, foreign)
        api.delete(PROMPT_PREFIX, team.namespace, "house")
        wait_until(lambda: team.bundle(consumer) is None, PATIENCE, "the bundle goes")
        team.await_bundle(consumer, kept, "kept")
        assert set(team.revisions("kept")) == {"k1"}
        assert api.find(CONFIG_MAP, consumer, "foreign")

    def test_a_prefix_of_the_same_name_starts_afresh(self, team: Team, api: Api) -> None:
        """A version of a deleted prefix binds nothing: it was another object."""
        consumer = team.consumer("a")
        team.serve()
        api.delete(PROMPT_PREFIX, team.namespace, "house")
        digest: Digest = team.serve(source={"system": [{"text": prompt("anew")}]})
        team.await_bundle(consumer, digest)
        assert team.status()["epoch"] == 1


def test_says_that_it_is_alive(controller: Controller, liveness: str) -> None:
    """The kubelet's probe gets a 200 at once: the event loop comes round."""

    def alive() -> bool:
        try:
            with urllib.request.urlopen(liveness, timeout=scaled(30)) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    wait_until(alive, PATIENCE, "the probe is answered")
