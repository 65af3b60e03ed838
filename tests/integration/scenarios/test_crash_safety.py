"""Everything that can be away is, at every step of one canary: controllers, and the metrics.

Two replicas of the controller take turns by a Lease. Evidence comes from a real Prometheus.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from headwater.cluster.kinds import LEASE
from headwater.controller.lease import LEASE_NAME
from tests.cluster.control_plane import ControlPlane
from tests.cluster.prometheus import PrometheusServer
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.team import PATIENCE
from tests.integration.lending import Audit
from tests.integration.scenarios.world import Site, World

STEPS = (10, 50, 100)
MANY = 300
"""Conversations in an outage: more than a step takes."""
LEASE_SECONDS: Final = 30.0
"""Until the lease of a controller that was killed has expired, and some more."""
QUIET_RENEWALS: Final = 2
NOTICED: Final = 5.0
"""Seconds until a new leader knows of an outage, beside the time for which a lease lasts."""
EVIDENCE: Final = re.compile(r"\d+ of \d+ eligible requests read the cache")


class Replicas:
    """Two controllers, of which one leads."""

    def __init__(self, site: Site, directory: Path, *arguments: str) -> None:
        self._api = site.api
        self._dead = {""}  # nobody holds a lease that is free
        self.all = [
            Controller(site.plane.kubeconfig, directory / f"{name}.log", *arguments)
            for name in ("one", "other")
        ]

    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._api.get(LEASE, "default", LEASE_NAME)["spec"]
        return spec

    def leader(self) -> Controller:
        """The one whose process holds the lease."""
        holder = self.lease()["holderIdentity"]
        (leading,) = (each for each in self.all if f"leads as {holder}" in each.said())
        assert leading.running
        return leading

    def await_leader(self) -> None:
        """Wait until one of them leads that was not killed."""

        def leads() -> bool:
            holder = self.lease()["holderIdentity"]
            return holder not in self._dead and any(holder in each.said() for each in self.all)

        wait_until(leads, LEASE_SECONDS, "one of them leads")

    def led(self) -> int:
        """How often one of them began to lead."""
        return sum(each.said().count("leads as ") for each in self.all)

    def await_renewals(self, count: int) -> None:
        """Wait until the leader has renewed its lease so often."""
        renewals = {self.lease()["renewTime"]}

        def renewed() -> bool:
            renewals.add(self.lease()["renewTime"])
            return len(renewals) > count

        wait_until(renewed, LEASE_SECONDS, f"the lease is renewed {count} times")

    def kill_leader(self, *, expire: bool = False) -> None:
        """Kill it, and start it again, as a node does.

        Its lease has to `expire`, or is freed, so that not every kill takes that long.
        """
        killed = self.leader()
        self._dead.add(self.lease()["holderIdentity"])
        killed.kill()
        if not expire:
            free = {"spec": {"holderIdentity": ""}}
            self._api.patch(LEASE, "default", LEASE_NAME, free)
        killed.start()


@pytest.fixture
def site(lent_control_plane: ControlPlane, audit: Audit) -> Iterator[Site]:
    """A control plane on which no other scenario is played."""
    with Api(lent_control_plane) as api:
        yield Site(lent_control_plane, api, audit)


@pytest.fixture
def prometheus(world: World, tmp_path: Path) -> Iterator[PrometheusServer]:
    """The metrics backend, which scrapes the pods of the world."""
    targets = tmp_path / "targets.json"
    targets.write_text("[]")
    discovery = {"files": [str(targets)], "refresh_interval": "1s"}
    jobs = [{"job_name": "sidecars", "file_sd_configs": [discovery]}]
    with PrometheusServer(tmp_path / "prometheus", jobs) as server:
        yield server


@pytest.fixture
def replicas(site: Site, prometheus: PrometheusServer, tmp_path: Path) -> Iterator[Replicas]:
    found = Replicas(site, tmp_path, "--leader-election", "--prometheus-url", prometheus.url)
    with ExitStack() as stack:
        for each in found.all:
            stack.enter_context(each)
            stack.enter_context(reporting(each))
        yield found


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_done_twice(
    world: World, replicas: Replicas, prometheus: PrometheusServer, tmp_path: Path
) -> None:
    """Kills and an outage delay a canary; they change nothing about how it goes."""
    replicas.await_leader()
    team = world.team
    support = team.consumer("support")
    team.serve(source=world.source("v1"))
    for name in ("chat", "mail"):
        world.pod(support, name, key="sk-support")
    targets = [each.metrics.removeprefix("http://") for each in world.applications]
    (tmp_path / "targets.json").write_text(json.dumps([{"targets": targets}]))
    world.talk()

    second = team.publish(
        version="v2",
        source=world.source("v2"),
        rollout={
            "steps": [{"setWeight": weight} for weight in STEPS],
            "analysis": {"minHitRate": 0.8, "minRequests": 25},
        },
    )
    for weight in STEPS:
        world.talk_until(partial(stands_at, weight), f"v2 gets {weight}%")
        if weight == STEPS[0]:
            assert_an_outage_pauses(world, replicas, prometheus, weight)
        else:
            replicas.kill_leader()
            replicas.await_leader()
    world.talk_until(lambda status: status["phase"] == "Stable", "v2 is stable")

    # No weight without a recorded analysis, none twice, none left out, one promotion.
    status = team.status()
    assert status["stable"]["digest"] == second
    history = status["history"]
    assert [(row["version"], row["event"]) for row in history] == [
        ("v1", "FirstVersion"),
        ("v2", "CanaryStarted"),
        *[("v2", "WeightRaised") for _ in STEPS],
        ("v2", "Promoted"),
    ]
    raised = [row["reason"] for row in history if row["event"] == "WeightRaised"]
    assert [int(reason.split("%")[0]) for reason in raised] == list(STEPS)
    assert all(EVIDENCE.search(reason) for reason in (*raised[1:], history[-1]["reason"]))

    # One leader at a time: each of the others began with the lease of one that was dead.
    assert replicas.led() == 1 + len(STEPS)
    assert_a_reconcile_of_what_is_right_writes_nothing(world, replicas)


def stands_at(weight: int, status: Mapping[str, Any]) -> bool:
    return bool(status.get("candidate", {}).get("weight") == weight)


def elapsed(status: Mapping[str, Any]) -> timedelta:
    """Of the deadline, while its clock stands."""
    candidate = status["candidate"]
    stopped, began = candidate["clockStoppedAt"], candidate["clockFrom"]
    return datetime.fromisoformat(stopped) - datetime.fromisoformat(began)


def assert_an_outage_pauses(
    world: World, replicas: Replicas, prometheus: PrometheusServer, weight: int
) -> None:
    """The candidate stands where it is until it is over, whoever leads, and so does the deadline.

    With a reading every 0.2 s this is more rounds in vain than ten minutes have at the default.
    """
    prometheus.kill()
    paused = world.await_phase("Paused", weight=weight)
    assert "evidence cannot be read" in paused["message"]
    replicas.kill_leader(expire=True)
    world.talk(MANY)
    replicas.await_leader()
    replicas.await_renewals(1)
    status = world.await_phase("Paused", weight=weight)
    assert status["epoch"] == paused["epoch"]
    nearer = elapsed(status) - elapsed(paused)
    assert nearer <= timedelta(seconds=scaled(NOTICED)), "the deadline came nearer"
    prometheus.start()


def assert_a_reconcile_of_what_is_right_writes_nothing(world: World, replicas: Replicas) -> None:
    """Neither while nothing happens, nor by a new leader, who looks at everything once."""
    world.await_synced()

    def known() -> bool:
        # A metrics backend lags behind, and who has the bundle is told as it says.
        return not world.team.status()["consumers"]["oldBundle"]

    wait_until(known, PATIENCE, "it is known that every pod has the bundle")
    before = len(world.site.writes())
    replicas.await_renewals(QUIET_RENEWALS)
    replicas.kill_leader()
    replicas.await_leader()
    replicas.await_renewals(QUIET_RENEWALS)
    assert world.site.writes()[before:] == []
