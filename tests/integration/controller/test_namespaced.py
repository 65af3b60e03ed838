"""A controller that has Roles in a few namespaces, and nothing for all of the cluster."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from charts.generate import objects, rendered
from headwater.cluster import NAMESPACE, PROMPT_PREFIX
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.servers import Metrics
from tests.integration.controller.team import LABEL, MODEL, PATIENCE, Team, new_team
from tests.integration.deployed import POLICIES, deploy
from tests.integration.webhook.harness import as_account

ACCOUNT = "headwater-controller"


def allow(plane: ControlPlane, *namespaces: str) -> None:
    """What the chart gives the controller for some namespaces: Roles there, and no ClusterRole."""
    found = objects(
        rendered(
            "--set", f"watchNamespaces={{{','.join(namespaces)}}}", "--set=webhook.enabled=false"
        )
    ).values()
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    items = [body for body in found if body["kind"] in kinds]
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(whole))


@dataclass
class Namespaced:
    """A team whose namespace and first consumer's are watched; the second one's are not."""

    api: Api
    team: Team
    consumer: str
    outside: str
    controller: Controller
    metrics: Metrics


@pytest.fixture
def namespaced(lent_control_plane: ControlPlane, tmp_path: Path) -> Iterator[Namespaced]:
    plane, metrics = lent_control_plane, Metrics()
    deploy(plane, "Namespace", *POLICIES)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(Api(plane))
        team = stack.enter_context(new_team(api))
        consumer, outside = team.consumer("a"), team.consumer("outside")
        allow(plane, team.namespace, consumer)
        account = as_account(plane, tmp_path / "kubeconfig", ACCOUNT)
        controller = Controller(
            account.kubeconfig,
            tmp_path / "log",
            *("--leader-election", "--lease-namespace", "headwater"),
            *("--watch-namespace", team.namespace, "--watch-namespace", consumer),
            *("--scrape-target", stack.enter_context(metrics.served())),
        )
        stack.enter_context(controller)
        stack.enter_context(reporting(controller))
        yield Namespaced(api, team, consumer, outside, controller, metrics)


@pytest.mark.slow
def test_a_prefix_lives_in_the_namespaces_that_were_given(namespaced: Namespaced) -> None:
    """Published, rolled out, repaired and pruned with Roles alone; nothing happens elsewhere."""
    api, team, consumer = namespaced.api, namespaced.team, namespaced.consumer
    stable = team.serve()
    team.await_bundle(consumer, stable)
    elsewhere = team.namespace.replace("team", "other")
    api.create(NAMESPACE, {"metadata": {"name": elsewhere, "labels": {LABEL: team.namespace}}})
    team.others.append(elsewhere)
    foreign = Team(api, elsewhere)
    foreign.publish()

    steps = [{"setWeight": 10}]
    rollout = {"strategy": "Canary", "steps": steps, "analysis": {"minRequests": 50}}
    candidate = team.publish(version="v2", rollout=rollout)
    wait_until(lambda: team.status()["phase"] == "Progressing", PATIENCE, "a canary")
    for digest in (stable, candidate):
        namespaced.metrics.count("house", digest, model=MODEL, hits=100)
    team.await_bundle(consumer, candidate)
    assert team.bundle(namespaced.outside) is None
    assert foreign.status() == {}

    api.patch(NAMESPACE, None, consumer, {"metadata": {"labels": {LABEL: None}}})
    wait_until(lambda: team.bundle(consumer) is None, PATIENCE, "the bundle is taken away")
    api.patch(NAMESPACE, None, consumer, {"metadata": {"labels": {LABEL: team.namespace}}})
    team.await_bundle(consumer, candidate)
    api.delete(PROMPT_PREFIX, team.namespace, "house")
    wait_until(lambda: team.bundle(consumer) is None, PATIENCE, "it goes with its prefix")


@pytest.mark.slow
@pytest.mark.xdist_group("own-controller")
def test_a_namespace_that_is_taken_away_stops_nobody_else(namespaced: Namespaced) -> None:
    """Its Roles go with it; the others are served on by the same process."""
    team = namespaced.team
    stable = team.serve()
    team.await_bundle(namespaced.consumer, stable)
    pid = namespaced.controller.pid
    namespaced.api.delete(NAMESPACE, None, namespaced.consumer)
    team.others.remove(namespaced.consumer)
    wait_until(
        lambda: namespaced.api.find(NAMESPACE, None, namespaced.consumer) is None,
        2 * PATIENCE,
        "it is gone",
    )
    digest = team.publish(version="v2", rollout={"strategy": "Immediate"})
    team.await_stable(digest)
    assert namespaced.controller.running
    assert namespaced.controller.pid == pid
