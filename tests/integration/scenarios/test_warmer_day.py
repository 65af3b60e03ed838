"""Two hours of a warmer, told in half a minute: one write for each version, then reads only.

The controller is real and runs by a clock that the test moves, as the provider's caches do. The
test is the CronJob's controller and the kubelet: at each of the schedule's minutes it runs the
command that stands in the CronJob, unless that is suspended.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from click.testing import CliRunner

from headwater.cli import warm
from headwater.cluster import CACHE_WARMER, CRON_JOB, JOB, POD
from headwater.contract.digest import Digest
from headwater.contract.route import credential_fingerprint
from headwater.controller.objects import files_of
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller import pods
from tests.integration.controller.servers import serving
from tests.integration.controller.team import MODEL, PATIENCE, Team, new_team, route
from tests.integration.scenarios.provider import Provider, Received, running
from tests.integration.scenarios.world import Site

pytestmark = pytest.mark.xdist_group("scenarios")

KEY = "sk-of-the-warmer"
STEP = timedelta(minutes=4)
START_UP = timedelta(seconds=12)
NAME = "headwater-warm"
CANARY = {
    "strategy": "Canary",
    "steps": [{"setWeight": 10}],
    "analysis": {"minHitRate": 0.9, "minRequests": 50},
}


@dataclass
class Sidecar:
    """When the lane's real requests were, and how many read it, as one sidecar tells."""

    used: dict[Digest, datetime] = field(default_factory=dict)
    hits: dict[Digest, int] = field(default_factory=dict)
    reads: int = 0

    async def metrics(self, _: web.Request) -> web.Response:
        self.reads += 1
        lines = [f"process_start_time_seconds {datetime(2026, 1, 1, tzinfo=UTC).timestamp()}"]
        for digest, at in self.used.items():
            lane = f'{self._lane(digest)},credential="{credential_fingerprint(KEY)}"'
            name = "headwater_lane_last_used_timestamp_seconds"
            lines.append(f"{name}{{{lane}}} {at.timestamp()}")
        for digest, hits in self.hits.items():
            counted = f'{self._lane(digest)},outcome="hit",eligible="true"'
            lines.append(f"headwater_requests_total{{{counted}}} {hits}")
        return web.Response(text="\n".join(lines) + "\n")

    @staticmethod
    def _lane(digest: Digest) -> str:
        return f'prefix="house",digest12="{digest.short}",model="{MODEL}"'


@dataclass
class Day:
    """The time of the controller, of the job and of the provider; and what happens in it.

    It stands still until it is moved, so that no slow machine is late for a run.
    """

    site: Site
    team: Team
    provider: Provider
    sidecar: Sidecar
    directory: Path
    monkeypatch: pytest.MonkeyPatch
    now: datetime

    def jump(self, to: datetime) -> None:
        """Move all clocks."""
        seconds = (to - self.now).total_seconds()
        assert seconds > 0, f"{to} is over"
        self.now = to
        set_clock(self.directory, to)
        urlopen(
            Request(
                f"{self.provider.url}/_simulator/advance",
                f'{{"seconds": {seconds}}}'.encode(),
                {"Content-Type": "application/json"},
            ),
            timeout=scaled(30),
        ).close()

    def apply_warmer(self, **spec: Any) -> None:
        credential = {"name": "prod", "secretRef": {"name": "anthropic", "key": "api-key"}}
        self.team.api.apply(
            CACHE_WARMER,
            {
                "metadata": {"name": "warm", "namespace": self.team.namespace},
                "spec": {
                    "prefixRef": {"name": "house"},
                    "credentials": [credential],
                    "verify": {"delay": "10ms"},
                    **spec,
                },
            },
        )

    def status(self) -> dict[str, Any]:
        body = self.team.api.get(CACHE_WARMER, self.team.namespace, "warm")
        found: dict[str, Any] = body.get("status", {})
        return found

    def await_lanes(self, *digests: Digest) -> None:
        """Wait until these are kept warm, and no others."""

        def are_kept() -> bool:
            return {lane["digest"] for lane in self.status()["lanes"]} == set(digests)

        wait_until(are_kept, PATIENCE, "other lanes are wanted no longer")

    def has_candidate(self) -> bool:
        bundle = self.team.bundle(self.team.namespace)
        return bundle is not None and route(bundle)["candidate"] is not None

    def cron_job(self) -> dict[str, Any]:
        found = self.team.api.find(CRON_JOB, self.team.namespace, NAME)
        assert found is not None
        return found

    def use(self, digest: Digest) -> None:
        """A real request now, which the controller has read when this returns."""
        self.sidecar.used[digest] = self.now
        # The first of them may have been under way.
        known = self.sidecar.reads + 2
        wait_until(lambda: self.sidecar.reads > known, PATIENCE, "the controller reads the metrics")

    def await_suspended(self, *, suspended: bool) -> None:
        """Have the controller look at the warmer by its new time, until it has decided so."""

        def decided() -> bool:
            # It looks at the traffic before each run, by timers that know nothing of our time.
            touched = {"metadata": {"annotations": {"touched": secrets.token_hex(4)}}}
            self.team.api.patch(CACHE_WARMER, self.team.namespace, "warm", touched)
            return bool(self.cron_job()["spec"]["suspend"]) == suspended

        message = f"the CronJob's suspend is {suspended}"
        wait_until(decided, PATIENCE, message, interval=0.3)

    def tick(self, at: datetime) -> list[Received]:
        """The schedule's minute: the requests that the job sent, if one runs."""
        before = self.provider.last
        # As it stands at the minute: the pod starts later, and by then the next run is decided.
        cron_job = self.cron_job()["spec"]
        self.jump(at + START_UP)
        if cron_job["suspend"]:
            return []
        job = cron_job["jobTemplate"]["spec"]
        self._report(f"{NAME}-{int(at.timestamp()) // 60}", job, self._run(job))

        def told() -> bool:
            reported = self.status().get("reportedAt")
            return reported is not None and datetime.fromisoformat(reported) >= at

        wait_until(told, PATIENCE, f"the status tells of {at:%H:%M}")
        return self.provider.received(before)

    def _run(self, job: dict[str, Any]) -> str:
        """Run the job's own command, with what would be mounted where it is mounted."""
        bundle = self.team.bundle(self.team.namespace)
        assert bundle is not None
        mounted = self.directory / secrets.token_hex(4)
        mounted.mkdir()
        for name, data in files_of(bundle).items():
            (mounted / name).write_bytes(data)
        (self.directory / "key").write_text(KEY)
        places = {
            "/headwater/bundle": str(mounted),
            "/headwater/credentials/prod/api-key": str(self.directory / "key"),
            "/dev/termination-log": str(mounted / "report"),
        }
        pattern = re.compile("|".join(places))
        (container,) = job["template"]["spec"]["containers"]
        command = [pattern.sub(lambda path: places[path[0]], word) for word in container["command"]]
        day = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                del tz
                return day.now

        self.monkeypatch.setattr(warm, "datetime", Clock)
        done = CliRunner().invoke(warm.command, command[2:])
        assert done.exit_code == 0, done.output
        return (mounted / "report").read_text()

    def _report(self, name: str, job: dict[str, Any], message: str) -> None:
        namespace, template = self.team.namespace, job["template"]
        # Suspended, or a pod of its own would wait for a node.
        made = self.team.api.create(
            JOB,
            {
                "metadata": {"name": name, "namespace": namespace},
                "spec": {**job, "suspend": True},
            },
        )
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": made["metadata"]["uid"],
        }
        metadata = {"name": name, "namespace": namespace, "ownerReferences": [owner]}
        pod = {"metadata": {**template["metadata"], **metadata}, "spec": template["spec"]}
        wait_until(lambda: self.team.api.create(POD, pod), PATIENCE, "a pod is accepted")
        pods.end_warming(self.team.api, namespace, name, message)


def set_clock(directory: Path, now: datetime) -> None:
    """Set the controller's clock."""
    moved = directory / "clock.new"
    moved.write_text(now.isoformat())
    moved.rename(directory / "clock")


@contextmanager
def hurried(site: Site, provider: Provider, target: str, directory: Path) -> Iterator[None]:
    log = directory / "controller.log"
    module = "tests.integration.scenarios.hurried"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(directory / "clock"), provider.url, target],
            env={**os.environ, "KUBECONFIG": str(site.plane.kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert "Traceback" not in log.read_text(), log.read_text()[-4000:]
    except BaseException:
        print(log.read_text()[-4000:])
        raise
    finally:
        process.terminate()
        process.wait(scaled(30))


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider with cold caches, whose time is moved alone."""
    arguments = ("simulator", "--port", "0", "--latency-base-ms", "5", "--time-scale", "0")
    with running(tmp_path / "simulator.log", *arguments) as announced:
        yield Provider(announced("listening"))


@pytest.fixture
def day(
    site: Site, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Day]:
    now = datetime.now(UTC)
    set_clock(tmp_path, now)
    sidecar = Sidecar()
    app = web.Application()
    app.router.add_get("/metrics", sidecar.metrics)
    with (
        serving(app) as url,
        new_team(site.api) as team,
        hurried(site, provider, f"{url}/metrics", tmp_path),
    ):
        yield Day(site, team, provider, sidecar, tmp_path, monkeypatch, now)
        for pod in team.api.list(POD, team.namespace):  # else the namespace waits for a kubelet
            path = POD.path(team.namespace, pod["metadata"]["name"])
            team.api.request("DELETE", path, gracePeriodSeconds="0")


def beginning(day: Day) -> datetime:
    """The next of the schedule's minutes, and one more."""
    now = day.now.replace(second=0, microsecond=0)
    return now + (4 - now.minute % 4) * timedelta(minutes=1) + STEP


@pytest.mark.slow
def test_two_hours_with_one_promotion(day: Day) -> None:
    """One write for each digest, then reads; what is warm is what is live."""
    v1 = day.team.serve()
    day.apply_warmer(skipWhenTraffic=False)
    wait_until(lambda: day.status().get("schedule") == "*/4 * * * *", PATIENCE, "it is scheduled")
    day.team.await_bundle(day.team.namespace, v1)
    begin, sent, v2 = beginning(day), [], None
    day.sidecar.hits = {v1: 1}
    for number in range(30):
        if number == 15:
            v2 = day.team.publish(version="v2", rollout=CANARY)
            wait_until(
                lambda: day.team.status()["phase"] == "Warming", PATIENCE, "v2 is to be warmed"
            )
            assert day.team.status()["stable"]["digest"] == v1
            wait_until(day.has_candidate, PATIENCE, "the bundle has v2")
        received = day.tick(begin + number * STEP)
        sent.append(received)
        if number == 15:
            assert {one.digest for one in received} == {v1, v2}
            assert v2 is not None
            wait_until(
                lambda: day.team.status().get("candidate", {}).get("weight"),
                PATIENCE,
                "v2 gets its first share once it is warm",
            )
            day.sidecar.hits = {v1: 100, v2: 100}
            day.team.await_stable(v2)
            day.await_lanes(v2)
    flat = [one for each in sent for one in each]
    # The requests that verify a write are among the reads.
    writes = [one.digest for one in flat if one.wrote]
    assert writes == [v1, v2], "beyond one write for each digest, reads only"
    assert all(one.read for one in flat if not one.wrote)
    assert {one.digest for one in sent[-1]} == {v2}, "the next run after the promotion warms v2"
    assert all(sent), "no run was left out"
    (lane,) = day.status()["lanes"]
    assert (lane["state"], lane["digest"]) == ("Warm", v2)
    assert day.status()["startUp"] == "12s"
    revisions = day.team.revisions()
    assert set(revisions) == {"v1", "v2"}, "v1 is kept for the way back"
    spent = float(day.status()["spent"]["usd"])
    assert 0 < spent < 1


def test_runs_that_traffic_makes_needless_are_left_out(day: Day) -> None:
    """While real requests come, none is sent; when they end, the lane is warmed again in time."""
    v1 = day.team.serve()
    day.apply_warmer(verify={"attempts": 0})
    wait_until(day.cron_job, PATIENCE, "it is scheduled")
    day.team.await_bundle(day.team.namespace, v1)
    at = beginning(day)
    assert day.tick(at)
    for _ in range(3):
        at += STEP
        day.jump(at - timedelta(seconds=9))
        day.use(v1)
        day.await_suspended(suspended=True)
        assert day.tick(at) == []
    (lane,) = day.status()["lanes"]
    assert (lane["state"], lane["message"]) == ("Skipped", "real requests keep it warm")
    at += STEP
    day.jump(at - timedelta(seconds=9))
    day.await_suspended(suspended=False)
    (request,) = day.tick(at)
    assert request.digest == v1


@pytest.mark.slow
def test_a_budget_that_is_spent_ends_the_day(day: Day) -> None:
    """No request is sent that could exceed it, and the next day begins with all of it."""
    v1 = day.team.serve()
    day.apply_warmer(budget={"maxUsdPerDay": "0.03"}, verify={"attempts": 0})
    wait_until(day.cron_job, PATIENCE, "it is scheduled")
    day.team.await_bundle(day.team.namespace, v1)
    today = beginning(day).date()
    at = beginning(day)
    if (at + 40 * STEP).date() > today:  # not over midnight
        at = datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC) + STEP
    runs = 0
    while day.tick(at):
        runs += 1
        at += STEP
        assert runs < 40, "it never ends"
    status = day.status()
    assert float(status["spent"]["usd"]) <= 0.03
    conditions = {row["type"]: row for row in status["conditions"]}
    assert conditions["WithinBudget"]["reason"] == "BudgetSpent"
    assert conditions["Ready"]["reason"] == "BudgetSpent"
    tomorrow = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), UTC)
    day.jump(tomorrow + timedelta(minutes=1))
    day.await_suspended(suspended=False)
    assert day.tick(tomorrow + STEP)
