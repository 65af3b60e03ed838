"""An abort reaches running pods at once: those that may still route to the candidate are told.

Without a node no pod runs: that a pod whose annotation changes is synced at once is the
kubelet's part.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import EVENT, NAMESPACE, POD
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller import nudge
from headwater.controller.consumers import withdrawn_annotation
from headwater.controller.events import Recorder
from headwater.controller.nudge import Nudger
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.rollout.state import Withdrawn
from tests.cluster.control_plane import Cluster, ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller import pods
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.servers import Gate
from tests.integration.controller.team import PATIENCE, Team, contracts, manifest, new_team

pytestmark = pytest.mark.xdist_group("controller")

ROLLOUT: dict[str, Any] = {"steps": [{"setWeight": 50}, {"pause": {}}]}


def told(api: Api, namespace: str, name: str, prefix: Key) -> str | None:
    """The epoch of the withdrawal that a pod was told of."""
    annotations = api.get(POD, namespace, name)["metadata"]["annotations"]
    assert annotations["example.com/owner"] == "billing"
    epoch: str | None = annotations.get(withdrawn_annotation(prefix))
    return epoch


class TestThroughTheController:
    def test_an_abort_tells_every_pod(self, team: Team, api: Api) -> None:
        """Reverting the commit is the abort: each pod with the bundle has its epoch at once."""
        first, second = team.consumer("a"), team.consumer("b")
        team.serve()
        for namespace, name in ((first, "web"), (first, "api"), (second, "web")):
            pods.start(api, namespace, name, team.bundle_name())
        pods.start(api, first, "stranger", "settings")
        begin_canary(team)
        key = Key(team.namespace, "house")
        assert told(api, first, "web", key) is None, "a canary that begins disturbs nobody"

        team.publish(rollout=ROLLOUT)

        def all_told() -> dict[str, Any]:
            withdrawn: dict[str, Any] = team.status().get("withdrawn", {})
            assert withdrawn
            for namespace, name in ((first, "web"), (first, "api"), (second, "web")):
                assert told(api, namespace, name, key) == str(withdrawn["epoch"])
            return withdrawn

        withdrawn = wait_until(all_told, PATIENCE, "every pod is told")
        assert "candidate" not in team.status()
        assert told(api, first, "stranger", key) is None
        assert withdrawn["epoch"] == team.status()["epoch"]

    def test_a_promotion_tells_nobody(self, team: Team, api: Api) -> None:
        """A bundle that follows a minute later is as good then."""
        consumer = team.consumer("a")
        team.serve()
        pods.start(api, consumer, "web", team.bundle_name())
        digest = team.publish(version="v2", rollout={"strategy": "Immediate"})
        team.await_stable(digest)
        assert told(api, consumer, "web", Key(team.namespace, "house")) is None
        assert "withdrawn" not in team.status()

    def test_a_controller_that_is_killed_before_goes_on(
        self, lent_control_plane: ControlPlane, tmp_path: Path
    ) -> None:
        """The abort stands in the status, and what was told stands on the pods."""
        gate = Gate(lent_control_plane)
        with (
            Api(lent_control_plane) as api,
            new_team(api) as team,
            gate.served(tmp_path) as kubeconfig,
            Controller(kubeconfig, tmp_path / "log") as controller,
            reporting(controller),
        ):
            consumer = team.consumer("a")
            team.serve()
            pods.start(api, consumer, "web", team.bundle_name())
            begin_canary(team)
            lane = gate.lane(team.namespace)
            lane.let_through = 2
            team.publish(rollout=ROLLOUT)
            wait_until(lambda: lane.holds, PATIENCE, "it stands between two writes")
            controller.kill()
            assert lane.writes == ["replace promptprefixes/status", "apply configmaps"]
            key = Key(team.namespace, "house")
            assert told(api, consumer, "web", key) is None
            gate.release()
            controller.start()
            epoch = str(team.status()["withdrawn"]["epoch"])
            wait_until(
                lambda: told(api, consumer, "web", key) == epoch, PATIENCE, "the pod is told"
            )


def begin_canary(team: Team) -> None:
    """Publish a second version, and wait until every bundle has it and its Events are told."""
    digest = team.publish(version="v2", rollout=ROLLOUT)

    def begun() -> bool:
        bundles = [team.bundle(namespace) for namespace in team.others]
        held = team.prefix()["metadata"].get("finalizers")  # written once a pod is seen
        return bool(held) and all(
            bundle is not None and digest in contracts(bundle) for bundle in bundles
        )

    wait_until(begun, PATIENCE, "the candidate has its share")
    team.await_event("WeightRaised", "the first step")


class Edge:
    """The edge alone: real pods, and a prefix that no controller knows."""

    def __init__(self, cluster: KubernetesCluster, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.key = Key(namespace, "house")
        self.store = Store()
        body = manifest(namespace)
        body["metadata"] |= {"uid": "0000", "resourceVersion": "1", "generation": 1}
        self.store.see_prefix(body)
        self.store.prefixes[self.key].published = {namespace: "uid"}
        recorder = Recorder(cluster, lambda: datetime.now(UTC), "test")
        self.nudger = Nudger(cluster, self.store, recorder)

    def start(self, name: str) -> None:
        body = pods.start(self.api, self.namespace, name, f"headwater.{self.namespace}.house")
        self.store.see_pod(body)

    def see_again(self, name: str) -> None:
        self.store.see_pod(self.api.get(POD, self.namespace, name))

    def told(self, name: str) -> str | None:
        return told(self.api, self.namespace, name, self.key)

    async def tell(self, epoch: int) -> timedelta | None:
        now = datetime.now(UTC)
        return await self.nudger.tell(self.key, Withdrawn(epoch, now), now)

    def events(self) -> list[str]:
        found = self.api.list(EVENT, self.namespace)
        return [event["note"] for event in found if event["reason"] == "PodsNotTold"]


@asynccontextmanager
async def edge_on(plane: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    cluster = await KubernetesCluster.connect()
    namespace = f"edge-{secrets.token_hex(3)}"
    with Api(plane) as api:
        api.create(NAMESPACE, {"metadata": {"name": namespace}})
        yield Edge(cluster, api, namespace)
        api.leave(namespace)
    await cluster.close()


class TestTheEdge:
    @pytest.fixture
    async def edge(
        self, control_plane: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Edge]:
        async with edge_on(control_plane, monkeypatch) as edge:
            yield edge

    async def test_each_pod_is_told_once(self, edge: Edge) -> None:
        """What was told is read from the pod itself, so nothing else has to be remembered."""
        edge.start("web")
        assert await edge.tell(3) is not None
        edge.start("late")
        edge.see_again("web")
        version = edge.api.get(POD, edge.namespace, "web")["metadata"]["resourceVersion"]
        assert await edge.tell(3) is not None
        assert (edge.told("web"), edge.told("late")) == ("3", "3")
        assert edge.api.get(POD, edge.namespace, "web")["metadata"]["resourceVersion"] == version
        edge.see_again("late")
        assert await edge.tell(3) is None
        await edge.tell(4)
        assert (edge.told("web"), edge.told("late")) == ("4", "4")

    async def test_only_once_the_bundle_is_right(self, edge: Edge) -> None:
        """A pod that is synced before its bundle is rewritten would wait for the minute."""
        edge.start("web")
        edge.store.prefixes[edge.key].published = {}
        assert await edge.tell(3) is None
        assert edge.told("web") is None

    async def test_a_pod_that_is_gone_is_no_problem(self, edge: Edge) -> None:
        """And is not made by being told."""
        edge.start("web")
        edge.api.delete(POD, edge.namespace, "web")
        await edge.tell(3)
        assert edge.api.find(POD, edge.namespace, "web") is None
        assert edge.events() == []

    async def test_it_can_be_turned_off(self, edge: Edge) -> None:
        """Then pods are left alone."""
        edge.start("web")
        edge.nudger.enabled = False
        assert await edge.tell(3) is None
        assert edge.told("web") is None

    async def test_a_reconcile_is_not_held_up(
        self, lent_control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An API server that hangs costs the bound, and the rest is done later."""
        async with edge_on(lent_control_plane, monkeypatch) as edge:
            edge.start("web")
            monkeypatch.setattr(nudge, "_BOUND", 0.2)
            lent_control_plane.pause()
            assert await edge.tell(3) is not None
            lent_control_plane.resume()
            monkeypatch.undo()
            await edge.tell(3)
            assert edge.told("web") == "3"
