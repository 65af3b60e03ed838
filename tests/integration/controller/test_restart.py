"""What happens while the API server or the controller is away, and what does not happen then."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from headwater.cluster import CACHE_WARMER, CONFIG_MAP, NAMESPACE, PROMPT_PREFIX
from headwater.contract.digest import Digest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.servers import Gate, Metrics
from tests.integration.controller.team import (
    LABEL,
    PATIENCE,
    REPAIR_SECONDS,
    Team,
    content_of,
    new_team,
)
from tests.integration.lending import Audit

OUTAGE_PATIENCE = 45.0
"""Seconds: the pauses between attempts grow while nobody answers."""
IMMEDIATE = {"strategy": "Immediate"}
QUIET_SCRAPES = 30
"""Six seconds and more: content that is missing is looked for every five."""
RESTART_SCRAPES = 8


@contextlib.contextmanager
def at_work(
    control_plane: ControlPlane, directory: Path
) -> Iterator[tuple[Api, Controller, Metrics]]:
    """A client, a controller, and what it scrapes."""
    metrics, kubeconfig = Metrics(), control_plane.kubeconfig
    with (
        Api(control_plane) as api,
        metrics.served() as url,
        Controller(kubeconfig, directory / "log", "--scrape-target", url) as controller,
        reporting(controller),
    ):
        yield api, controller, metrics


@pytest.mark.slow
def test_the_api_server_goes_away(lent_control_plane: ControlPlane, tmp_path: Path) -> None:
    """The same process goes on where it was, and finds what was changed meanwhile."""
    with at_work(lent_control_plane, tmp_path) as (api, controller, _), new_team(api) as team:
        consumer = team.consumer("a")
        before = team.await_bundle(consumer, team.serve())
        pid = controller.pid
        for attempt, version in enumerate(("v2", "v3")):
            # The second time in the middle of a repair, which has to be taken up again.
            if attempt:
                api.delete(CONFIG_MAP, consumer, team.bundle_name())
            lent_control_plane.stop_api_server()
            lent_control_plane.start_api_server()
            digest = team.publish(version=version, rollout=IMMEDIATE)

            def is_served(expected: str = digest) -> bool:
                status = team.status()
                assert status["stable"]["digest"] == expected
                found = team.bundle(consumer)
                assert found is not None
                return expected in found["data"]["route.json"]

            wait_until(is_served, OUTAGE_PATIENCE, f"{version} is served after the outage")
        # Its watches are back as well, not only its lists.
        bundle = team.await_bundle(consumer, digest)
        api.delete(CONFIG_MAP, consumer, team.bundle_name())
        wait_until(
            lambda: content_of(team.bundle(consumer) or {"metadata": {}}) == content_of(bundle),
            OUTAGE_PATIENCE,
            "the deleted bundle is put back",
        )
        assert before["metadata"]["name"] == bundle["metadata"]["name"]
        assert (controller.pid, controller.running) == (pid, True)


@pytest.mark.xdist_group("own-controller")
def test_things_change_while_the_controller_is_down(
    lent_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Whatever was deleted, edited or added meanwhile is found when it comes back."""
    with at_work(lent_control_plane, tmp_path) as (api, controller, _), new_team(api) as team:
        kept, left = team.consumer("kept"), team.consumer("left")
        digest = team.serve()
        before = team.await_bundle(kept, digest)
        team.await_bundle(kept, team.serve(name="gone", version="g1"), "gone")
        assert controller.stop() == 0
        api.delete(PROMPT_PREFIX, team.namespace, "gone")
        api.patch(NAMESPACE, None, left, {"metadata": {"labels": {LABEL: None}}})
        api.patch(CONFIG_MAP, kept, team.bundle_name(), {"data": {"route.json": "{}", "x": "y"}})
        joined = team.consumer("joined")
        late = team.publish(name="late", version="l1")
        controller.start()
        team.await_bundle(joined, digest)
        team.await_bundle(kept, late, "late")
        wait_until(lambda: team.bundle(left) is None, PATIENCE, "the one that left has nothing")
        wait_until(lambda: team.bundle(kept, "gone") is None, PATIENCE, "the deleted one is gone")
        wait_until(
            lambda: content_of(team.bundle(kept) or before) == content_of(before),
            PATIENCE,
            "the edited bundle is put back",
        )
        team.await_event("Repaired", kept, "by kubectl-edit")


class Late(Gate):
    """A gate that holds the lists of ConfigMaps from which the watch begins."""

    def __init__(self, control_plane: ControlPlane) -> None:
        super().__init__(control_plane)
        self.holds = False
        self._open = False

    def release(self) -> None:
        self._open = True
        super().release()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        watcher = request.headers.get("User-Agent", "").startswith("kopf/")
        if watcher and request.path == CONFIG_MAP.path() and not self._open:
            self.holds = True
            await self._released.wait()
        return await super()._forward(request)


@pytest.mark.xdist_group("own-controller")
@pytest.mark.parametrize("role", ["revision", "bundle"])
def test_what_is_deleted_before_the_watch_begins_stands_again(
    lent_control_plane: ControlPlane, tmp_path: Path, role: str
) -> None:
    """No event tells of it: it was known from a list, and is not in that of the watch."""
    gate = Late(lent_control_plane)
    with (
        Api(lent_control_plane) as api,
        new_team(api) as team,
        gate.served(tmp_path) as kubeconfig,
        Controller(kubeconfig, tmp_path / "log") as controller,
        reporting(controller),
    ):
        consumer, other = team.consumer("a"), team.consumer("b")
        digest = team.serve()
        team.await_bundle(other, digest)
        bundle = team.await_bundle(consumer, digest)
        before = team.revisions()["v1"] if role == "revision" else bundle
        where = before["metadata"]["namespace"], before["metadata"]["name"]
        wait_until(lambda: gate.holds, PATIENCE, "the watch is about to begin")
        api.delete(CONFIG_MAP, *where)
        gate.release()

        def restored() -> bool:
            found = api.find(CONFIG_MAP, *where)
            return found is not None and content_of(found) == content_of(before)

        wait_until(restored, scaled(REPAIR_SECONDS), f"the {role} stands again")
        team.await_event("Repaired")


@pytest.mark.slow
def test_nothing_is_written_for_nothing(
    lent_control_plane: ControlPlane, audit: Audit, tmp_path: Path
) -> None:
    """With nothing changing there is no write at all, and a restart writes nothing either."""
    with (
        at_work(lent_control_plane, tmp_path) as (api, controller, metrics),
        new_team(api) as team,
    ):
        for name in ("a", "b"):
            team.consumer(name)
        _every_kind_of_prefix(team)

        assert audit.writes(), "the audit log tells the controller's writes"
        assert _writes_of_a_while(audit, metrics, QUIET_SCRAPES) == []
        for number in (signal.SIGTERM, signal.SIGKILL):
            written = len(audit.writes())
            controller.stop(number)
            controller.start()
            metrics.await_scrape()
            _writes_of_a_while(audit, metrics, RESTART_SCRAPES)
            assert audit.writes()[written:] == []


def _every_kind_of_prefix(team: Team) -> None:
    """Prefixes that are served, being tried, gone back, refused and waiting."""
    for index in range(5):
        team.serve(name=f"stable-{index}", version=f"s{index}")
        team.await_event("FirstVersion", name=f"stable-{index}")
    for name, steps in (
        ("canary", [{"setWeight": 10}]),
        ("paused", [{"setWeight": 10}, {"pause": {"duration": "1h"}}]),
        ("waiting", [{"setWeight": 10}, {"pause": {}}]),
    ):
        team.serve(name=name, version=f"{name}-1")
        rollout = {"strategy": "Canary", "steps": steps}
        team.publish(name=name, version=f"{name}-2", rollout=rollout)
        team.await_event("WeightRaised", name=name)
    team.publish(name="wrong", digest=Digest.of(b"other"))
    team.await_event("DigestMismatch", name="wrong")
    source = {"system": [{"textFrom": {"configMapKeyRef": {"name": "none", "key": "x"}}}]}
    team.publish(name="missing", source=source, digest=Digest.of(b"other"))
    team.await_event("ContentMissing", name="missing")
    for name, prefix in (("warm", "stable-0"), ("idle", "nothing")):
        team.api.apply(
            CACHE_WARMER,
            {
                "metadata": {"name": name, "namespace": team.namespace},
                "spec": {
                    "prefixRef": {"name": prefix},
                    "credentials": [{"name": "x", "secretRef": {"name": "x", "key": "x"}}],
                },
            },
        )

    def settled() -> bool:
        warmers = [team.api.get(CACHE_WARMER, team.namespace, name) for name in ("warm", "idle")]
        # The warmer's own namespace gets the bundle, which its jobs mount.
        return (
            all("status" in warmer for warmer in warmers)
            and all((team.status(name).get("conditions")) for name in ("wrong", "missing"))
            and team.bundle(team.namespace, "stable-0") is not None
            and (team.status("stable-0")["consumers"]["namespaces"] == 3)
        )

    wait_until(settled, PATIENCE, "everything has its status")


def _writes_of_a_while(audit: Audit, metrics: Metrics, scrapes: int) -> list[str]:
    """What the controller writes during so many of its scrapes."""
    before, until = len(audit.writes()), metrics.scrapes + scrapes
    wait_until(lambda: metrics.scrapes >= until, 60, f"{scrapes} scrapes")
    return audit.writes()[before:]
