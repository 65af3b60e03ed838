"""Three tenants: two share a prefix and keep their own words apart, one shares nothing at all."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import ApiError, Controller
from tests.integration.controller.team import PATIENCE, manifest, new_team, prompt
from tests.integration.deployed import ACCOUNTS, WEBHOOKS, deploy, deployed
from tests.integration.scenarios.provider import Provider
from tests.integration.scenarios.world import Site, World
from tests.integration.webhook.authority import Authority
from tests.integration.webhook.harness import Site as WebhookSite
from tests.integration.webhook.harness import as_account

pytestmark = pytest.mark.xdist_group("scenarios")

POOL_KEY, BANK_KEY = "sk-of-the-pool", "sk-of-the-bank"
TENANTS: Final = ["tenant_id", r"(?i)\b(acme|umbrella)\b"]


def context(tenant: str) -> list[dict[str, Any]]:
    """What a hybrid tenant sends after the shared contract, with a marker of its own."""
    # In words of its own: half of the contract's would be taken for a copy of it.
    text = f"This is the handbook of {tenant}: its own terms, prices, places and people.\n" * 80
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]


@pytest.fixture
def bank(site: Site, provider: Provider, tmp_path: Path) -> Iterator[World]:
    """The team of the tenant that shares nothing; its prefix lies in a namespace of its own."""
    with new_team(site.api) as team, World(site, team, provider, tmp_path / "bank") as world:
        yield world


def test_hybrids_share_the_contract_and_nothing_else(
    world: World, bank: World, controller: Controller
) -> None:
    """One write of the contract for both, none of their words for each other, none for the bank."""
    acme, umbrella = world.team.consumer("acme"), world.team.consumer("umbrella")
    vault = bank.team.consumer("vault", labelled=False)
    source = world.source("v1")
    shared = world.team.serve(source=source, tenantPattern=TENANTS)
    # The very same bytes: only the workspace keeps their caches apart.
    alone = {"isolation": "Dedicated", "namespaces": [vault]}
    assert bank.team.serve(source=source, consumers=alone) == shared
    assert bank.team.bundle(acme) is None
    assert world.team.bundle(vault) is None

    applications = {
        "Acme": world.pod(acme, "acme", key=POOL_KEY),
        "Umbrella": world.pod(umbrella, "umbrella", key=POOL_KEY),
        "Bank": bank.pod(vault, "vault", key=BANK_KEY),
    }
    for _ in range(2):
        for tenant, application in applications.items():
            application.ask(f"somebody at {tenant}", context(tenant))

    received = world.provider.received()
    (block,) = source["system"]
    assert all(json.dumps(block["text"]) in each.body for each in received)
    by_tenant = {
        tenant: [each for each in received if f"the handbook of {tenant}" in each.body]
        for tenant in applications
    }
    assert sum(map(len, by_tenant.values())) == len(received), "no request has two tenants' words"
    (acme_1, acme_2), (umbrella_1, umbrella_2), (bank_1, bank_2) = by_tenant.values()

    # The first to come wrote the contract and its own words, the next read the contract alone.
    assert acme_1.read == 0
    contract = umbrella_1.read
    assert 0 < contract < acme_1.wrote
    assert umbrella_1.wrote > 0
    assert (acme_2.read, acme_2.wrote) == (acme_1.wrote, 0)
    assert (umbrella_2.read, umbrella_2.wrote) == (contract + umbrella_1.wrote, 0)
    # The bank paid for the same bytes in a workspace of its own.
    assert {each.workspace for each in by_tenant["Bank"]}.isdisjoint(
        each.workspace for each in (*by_tenant["Acme"], *by_tenant["Umbrella"])
    )
    assert bank_1.read == 0
    assert (bank_2.read, bank_2.wrote) == (bank_1.wrote, 0)


class People:
    """Users with the chart's role for consumers, and what they are answered."""

    def __init__(self, site: Site) -> None:
        self._plane = site.plane
        deploy(site.plane, *ACCOUNTS)

    def bind(self, person: str, role: str, namespace: str) -> None:
        binding = ("create", "rolebinding", f"{person}-{role}", f"--clusterrole={role}")
        self._plane.kubectl(*binding, f"--user={person}", "-n", namespace)

    def read(self, person: str, *what: str) -> subprocess.CompletedProcess[str]:
        return self._plane.kubectl("get", *what, "-o", "name", f"--as={person}", check=False)


def test_a_tenant_cannot_read_what_another_has(
    site: Site, world: World, bank: World, controller: Controller
) -> None:
    """403 for another namespace's bundle; a Dedicated prefix not even by its declaration."""
    people = People(site)
    acme, umbrella = world.team.consumer("acme"), world.team.consumer("umbrella")
    vault = bank.team.consumer("vault", labelled=False)
    digest = world.team.serve()
    bank.team.serve(consumers={"isolation": "Dedicated", "namespaces": [vault]})
    people.bind("anna", "headwater-consumer", world.team.namespace)
    people.bind("anna", "headwater-consumer", acme)
    people.bind("anna", "view", acme)
    world.team.await_bundle(umbrella, digest)
    bundles = (world.team.bundle_name(), bank.team.bundle_name())

    def may_read_its_own() -> bool:
        return people.read("anna", "configmap", bundles[0], "-n", acme).returncode == 0

    wait_until(may_read_its_own, PATIENCE, "the roles are complete")
    assert people.read("anna", "pp", "house", "-n", world.team.namespace).returncode == 0
    for what in (
        ("configmap", bundles[0], "-n", umbrella),
        ("configmap", bundles[1], "-n", vault),
        ("configmaps", "-A", "-l", "headwater.dev/role=bundle"),
        ("configmaps", "-n", world.team.namespace),
        ("pp", "house", "-n", bank.team.namespace),
    ):
        refused = people.read("anna", *what)
        assert refused.returncode != 0
        assert "(Forbidden)" in refused.stderr, what


@pytest.fixture
def webhooks(site: Site, tmp_path: Path) -> Iterator[WebhookSite]:
    """The webhooks on this control plane, for one test."""
    deploy(site.plane, *ACCOUNTS)
    account = as_account(site.plane, tmp_path / "kubeconfig")
    authority = Authority(tmp_path / "authority")
    yield WebhookSite(site.plane, site.api, account, authority, tmp_path)
    for body in deployed(*WEBHOOKS):
        site.plane.kubectl("delete", body["kind"], body["metadata"]["name"], "--ignore-not-found")


def test_a_tenant_in_a_shared_layer_reaches_nobody(
    world: World, webhooks: WebhookSite, controller: Controller
) -> None:
    """Refused where the webhook answers; not served where it does not."""
    team = world.team
    acme = team.consumer("acme")
    first = team.serve(tenantPattern=TENANTS)
    layer = {"system": [{"text": f"tenant_id: acme-7\n{prompt('v2')}"}]}
    body = manifest(team.namespace, version="v2", source=layer, tenantPattern=TENANTS)

    def declared() -> str:
        """What is said about it; empty where it is admitted."""
        whole = {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body}
        asked = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        done = world.site.plane.kubectl(*asked, input=json.dumps(whole), check=False)
        return done.stderr if done.returncode else ""

    with webhooks.replica("--drain-seconds", "0") as replica:
        webhooks.ask(replica.port)
        published = team.prefix()

        def asked() -> bool:
            try:
                team.publish(version="v2", source=layer, tenantPattern=TENANTS, digest=first)
            except ApiError:
                return True
            return False

        wait_until(asked, PATIENCE, "the webhook is asked")
        said = declared()
        assert "tenant-name: spec.content.system[0].text: it names a tenant" in said
        assert team.prefix()["spec"] == published["spec"]

    assert declared() == "", "the webhook is away, and the way back must not wait for it"
    told = team.await_condition("Ready", "False", "TenantNamed")
    assert "it names a tenant" in told["message"]
    found = team.bundle(acme)
    assert found is not None
    assert team.await_bundle(acme, first) == found
    assert team.status()["stable"]["digest"] == first
    assert set(team.revisions()) == {"v1"}


class TestAudit:
    def test_who_published_what_for_whom_stands_in_the_logs(
        self, world: World, bank: World, webhooks: WebhookSite, controller: Controller
    ) -> None:
        """The webhook knows who asked, also where it refused; the controller what came of it."""
        vault = bank.team.consumer("vault", labelled=False)
        alone = {"isolation": "Dedicated", "namespaces": [vault]}
        with webhooks.replica("--drain-seconds", "0") as replica:
            webhooks.ask(replica.port)

            def asked() -> list[dict[str, Any]]:
                world.team.publish(tenantPattern=TENANTS, models=[f"m-{len(replica.said())}"])
                return of(world)

            def of(tenant: World) -> list[dict[str, Any]]:
                lines = [json.loads(line) for line in replica.said().splitlines()]
                prefix = f"{tenant.team.namespace}/house"
                return [line for line in lines if line.get("prefix") == prefix]

            wait_until(asked, PATIENCE, "the webhook is asked")
            digest = bank.team.serve(consumers=alone)
            layer = {"system": [{"text": "Be kind to Acme.\n"}]}
            with pytest.raises(ApiError, match="tenant-name"):
                world.team.publish(version="v2", source=layer, tenantPattern=TENANTS)

            (admitted,) = of(bank)
            assert admitted["event"] == "a prefix was admitted"
            assert (admitted["verbs"], admitted["digest"]) == (["publish"], digest)
            refused = of(world)[-1]
            assert refused["event"] == "a prefix was refused"
            assert refused["why"].startswith("tenant-name: spec.content.system[0].text")
            assert admitted["user"] == refused["user"] != ""

        said = [line for line in controller.said().splitlines() if '"event"' in line]
        recorded = [json.loads(line[line.index("{") :]) for line in said]
        (published,) = [
            line
            for line in recorded
            if line["event"] == "Published" and line["object"] == f"{bank.team.namespace}/house"
        ]
        assert (published["version"], published["digest"]) == ("v1", digest)
