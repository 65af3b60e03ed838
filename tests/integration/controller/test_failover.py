"""Real controllers that are killed, stopped or held up in the middle of their work."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX, ConflictError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller import app
from headwater.controller.app import Pulse, alive
from headwater.controller.objects import Key
from headwater.controller.queue import WorkQueue
from headwater.controller.watch import Work
from tests.cluster.control_plane import ControlPlane
from tests.cluster.ports import free_port
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.team import Team, manifest, new_team, route

PATIENCE = 60.0
FAILOVER_SECONDS = 20.0
"""From a leader's sudden end until the next one writes: a promise to users."""
TERMINATION_SECONDS = 10.0
PREFIXES = 60
"""Three times what a controller reconciles at once: there is always some of it left to do."""
OURS = "headwater.dev/role=bundle"
CANARY = {"strategy": "Canary", "steps": [{"setWeight": 10}, {"pause": {}}]}


@pytest.mark.slow
def test_who_waits_takes_over_from_a_leader_that_was_killed(
    lent_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Within the time that was promised, and with what was declared meanwhile."""
    arguments = (lent_control_plane.kubeconfig, tmp_path / "log", "--leader-election")
    leader, waiting = (
        Controller(*arguments),
        Controller(arguments[0], tmp_path / "2", "--leader-election"),
    )
    with Api(lent_control_plane) as api, new_team(api) as team, leader:
        consumer = team.consumer("a")
        team.await_bundle(consumer, team.serve())
        with waiting, reporting(waiting):
            wait_until(lambda: "waits, because" in waiting.said(), PATIENCE, "one waits")
            killed = time.monotonic()
            leader.kill()
            digest = team.publish(version="v2", rollout={"strategy": "Immediate"})
            team.await_bundle(consumer, digest)
            taken = time.monotonic() - killed
    print(f"after {taken:.1f} s")
    assert taken < scaled(FAILOVER_SECONDS)


@pytest.mark.slow
def test_a_controller_that_is_stopped_leaves_nothing_half_done(
    lent_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """It ends in time while many canaries begin; the next one finds all of them as declared."""
    names = [f"p{number}" for number in range(PREFIXES)]
    with Api(lent_control_plane) as api, new_team(api) as team:
        consumer = team.consumer("a")

        def routed(version: str) -> int:
            """In how many bundles a version is stable or the candidate."""
            found = [route(bundle) for bundle in api.list(CONFIG_MAP, consumer, OURS)]
            routes = [row for row in found for row in (row["stable"], row.get("candidate") or {})]
            return sum(row.get("version") == version for row in routes)

        controller = Controller(
            lent_control_plane.kubeconfig, tmp_path / "log", "--leader-election"
        )
        with controller, reporting(controller):
            _publish(api, team, names, "v1")
            wait_until(lambda: routed("v1") == PREFIXES, PATIENCE, "all are served")
            _publish(api, team, names, "v2")
            wait_until(lambda: routed("v2"), PATIENCE, "canaries begin")
            stopped = time.monotonic()
            assert controller.stop() == 0
            taken = time.monotonic() - stopped
            before = routed("v2")
            controller.start()
            wait_until(lambda: routed("v2") == PREFIXES, PATIENCE, "all canaries have begun")
            for prefix in api.list(PROMPT_PREFIX, team.namespace):
                candidate = prefix["status"]["candidate"]
                assert (candidate["version"], candidate["weight"]) == ("v2", 10)
    print(f"ended after {taken:.1f} s, with {before} of {PREFIXES} canaries begun")
    assert taken < scaled(TERMINATION_SECONDS)


def _publish(api: Api, team: Team, names: list[str], version: str) -> None:
    def apply(name: str) -> None:
        body = manifest(team.namespace, name=name, version=version, rollout=CANARY)
        api.apply(PROMPT_PREFIX, body)

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(apply, names))


@pytest.mark.xdist_group("own-controller")
async def test_a_write_that_was_held_up_is_refused(
    lent_control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply and a deletion that name a version do nothing to a newer one, with a uid to none."""
    monkeypatch.setenv("KUBECONFIG", str(lent_control_plane.kubeconfig))
    cluster = await KubernetesCluster.connect()
    try:
        body: dict[str, Any] = {"metadata": {"namespace": "default", "name": "a"}}
        first = await cluster.apply(CONFIG_MAP, {**body, "data": {"by": "leader"}})
        second = await cluster.apply(CONFIG_MAP, {**body, "data": {"by": "successor"}})
        version = first["metadata"]["resourceVersion"]
        late = {"metadata": {**body["metadata"], "resourceVersion": version}}
        with pytest.raises(ConflictError):
            await cluster.apply(CONFIG_MAP, {**late, "data": {"by": "leader"}})
        with pytest.raises(ConflictError):
            await cluster.delete(CONFIG_MAP, "default", "a", resource_version=int(version))
        assert await cluster.get(CONFIG_MAP, "default", "a") == second
        newest = int(second["metadata"]["resourceVersion"])
        await cluster.delete(CONFIG_MAP, "default", "a", resource_version=newest)
        late["metadata"]["uid"] = second["metadata"]["uid"]
        with pytest.raises(ConflictError):
            await cluster.apply(CONFIG_MAP, {**late, "data": {"by": "leader"}})
        await cluster.delete(CONFIG_MAP, "default", "a", resource_version=newest)
    finally:
        await cluster.close()


async def test_liveness_notices_work_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconcile that does not end is told of; a loop that is blocked does not answer at all."""
    liveness = f"http://127.0.0.1:{free_port()}/healthz"
    monkeypatch.setattr(app, "_STUCK", 0.2)
    held = asyncio.Event()

    async def reconcile(_: Work) -> timedelta | None:
        await held.wait()
        return None

    pulse = Pulse(lambda: None)
    async with alive(liveness, pulse), aiohttp.ClientSession() as client:

        async def probe() -> tuple[int, str]:
            async with client.get(liveness) as answer:
                return answer.status, await answer.text()

        assert await probe() == (200, "alive\n")
        pulse.queue = WorkQueue(reconcile)
        working = asyncio.create_task(pulse.queue.run(2))
        pulse.queue.add(Work(PROMPT_PREFIX, Key("a", "b")))

        async def await_status(status: int) -> str:
            async with asyncio.timeout(scaled(30)):
                while (answer := await probe())[0] != status:  # noqa: ASYNC110 - as a kubelet does
                    await asyncio.sleep(0.05)
            return answer[1]

        assert "stuck" in await await_status(500)
        held.set()

        assert await await_status(200) == "alive\n"
        working.cancel()
