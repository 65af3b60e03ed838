"""A CacheWarmer on the real API server: its CronJob, and what its pods report."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from headwater.cluster import CACHE_WARMER, CRON_JOB, EVENT, JOB, POD, PROMPT_PREFIX
from headwater.contract.content import content, digest_of
from headwater.contract.digest import Digest
from headwater.providers.usage import Usage
from headwater.warmer.report import Report, State, WarmedLane, encode
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller import pods
from tests.integration.controller.harness import Api
from tests.integration.controller.team import MODEL, PATIENCE, REPAIR_SECONDS, Team, prompt, route

pytestmark = pytest.mark.xdist_group("controller")

CRON_JOB_NAME = "headwater-warm"
TTL = timedelta(minutes=5)
FINGERPRINT = "0123456789ab"


class Warmer:
    """The CacheWarmer `warm` of a team's prefix `house`, and the pods that the test plays."""

    def __init__(self, team: Team) -> None:
        self.team, self.api = team, team.api

    def apply(self, name: str = "warm", **spec: Any) -> None:
        credential = {"name": "prod", "secretRef": {"name": "anthropic", "key": "api-key"}}
        usual = {"prefixRef": {"name": "house"}, "credentials": [credential]}
        metadata = {"name": name, "namespace": self.team.namespace}
        self.api.apply(CACHE_WARMER, {"metadata": metadata, "spec": {**usual, **spec}})

    def cron_job(self) -> dict[str, Any] | None:
        return self.api.find(CRON_JOB, self.team.namespace, CRON_JOB_NAME)

    def await_cron_job(self) -> dict[str, Any]:
        found = wait_until(self.cron_job, PATIENCE, "the CronJob is made")
        assert found is not None
        return found

    def status(self) -> dict[str, Any]:
        found = self.api.get(CACHE_WARMER, self.team.namespace, "warm")
        status: dict[str, Any] = found.get("status", {})
        return status

    def await_condition(self, kind: str, status: str, reason: str) -> dict[str, Any]:
        def holds() -> dict[str, Any]:
            conditions = {row["type"]: row for row in self.status().get("conditions", ())}
            assert kind in conditions
            found: dict[str, Any] = conditions[kind]
            assert (found["status"], found["reason"]) == (status, reason), found
            return found

        return wait_until(holds, PATIENCE, f"{kind}={status} for {reason}")

    def await_lane(self, state: str) -> dict[str, Any]:
        def is_so() -> dict[str, Any]:
            lanes: list[dict[str, Any]] = self.status().get("lanes", [])
            assert [lane["state"] for lane in lanes] == [state], lanes
            return lanes[0]

        return wait_until(is_so, PATIENCE, f"the lane is {state}")

    def await_event(self, reason: str, *words: str) -> None:
        def told() -> bool:
            notes = [
                event["note"]
                for event in self.api.list(EVENT, self.team.namespace)
                if event["reason"] == reason and event["regarding"]["kind"] == "CacheWarmer"
            ]
            assert any(all(word in note for word in words) for note in notes), notes
            return True

        wait_until(told, PATIENCE, f"an Event {reason} says {', '.join(words)}")

    def start(self, name: str) -> None:
        """A pod of the CronJob's template is made."""
        template = self.await_cron_job()["spec"]["jobTemplate"]["spec"]["template"]
        namespace = self.team.namespace
        pod = {
            "metadata": {"name": name, "namespace": namespace, **template["metadata"]},
            "spec": template["spec"],
        }
        # It is refused until the namespace has its service account.
        wait_until(lambda: self.api.create(POD, pod), PATIENCE, "a pod is accepted")

    def finish(self, name: str, message: str) -> None:
        """A pod of the CronJob's template ends, and leaves this termination message."""
        self.start(name)
        pods.end_warming(self.api, self.team.namespace, name, message)

    def report(
        self,
        name: str,
        digest: Digest,
        *,
        at: datetime,
        state: State = "Warm",
        usage: Usage | None = None,
        message: str = "",
    ) -> None:
        """A pod reports about the one lane."""
        lane = WarmedLane("prod", FINGERPRINT, MODEL, digest, at, state, usage, message)
        self.finish(name, encode(Report(lanes=(lane,))).decode())

    def routed(self) -> dict[str, Any]:
        """The route in the warmer's own namespace."""
        bundle = self.team.bundle(self.team.namespace)
        assert bundle is not None
        return route(bundle)


@pytest.fixture
def warmer(team: Team) -> Iterator[Warmer]:
    made = Warmer(team)
    yield made
    for pod in team.api.list(POD, team.namespace):  # else the namespace waits for a kubelet
        path = POD.path(team.namespace, pod["metadata"]["name"])
        team.api.request("DELETE", path, gracePeriodSeconds="0")


class TestCronJob:
    def test_follows_from_warmer_and_prefix(self, warmer: Warmer, team: Team) -> None:
        """The schedule fits the TTL, it goes with its warmer, and its pod finds the bundle."""
        digest = team.serve()
        warmer.apply()
        cron_job = warmer.await_cron_job()
        assert cron_job["spec"]["schedule"] == "*/4 * * * *"
        (owner,) = cron_job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("CacheWarmer", "warm")
        ready = warmer.await_condition("Ready", "True", "Scheduled")
        assert ready["message"] == "warms at */4 * * * *"
        assert warmer.status()["schedule"] == "*/4 * * * *"
        lane = warmer.await_lane("Cold")
        assert (lane["credential"], lane["model"], lane["digest"]) == ("prod", MODEL, digest)
        team.await_bundle(team.namespace, digest)

    def test_what_became_stable_at_once_waits_for_no_half_hour(
        self, warmer: Warmer, team: Team
    ) -> None:
        """It is served already, so that the runs come often until the first has warmed it."""
        team.serve()
        warmer.apply()
        warmer.await_lane("Cold")
        source = {"system": [{"text": prompt("v2")}]}
        digest = team.serve(
            version="v2",
            ttl="1h",
            source=source,
            digest=str(digest_of(content(tools=(), system=source["system"], ttl="1h"))),
            rollout={"strategy": "Immediate"},
        )

        def follows(schedule: str) -> bool:
            lanes = [lane["digest"] for lane in warmer.status()["lanes"]]
            return lanes == [digest] and warmer.await_cron_job()["spec"]["schedule"] == schedule

        wait_until(lambda: follows("*/4 * * * *"), PATIENCE, "the CronJob runs often")
        due = datetime.fromisoformat(warmer.status()["nextWarmAt"])
        assert (due.minute % 4, due.second) == (0, 0)
        assert due - datetime.now(UTC) <= timedelta(minutes=4)
        wrote = Usage(cache_write_1h=2000)
        warmer.report("warm-1", digest, at=datetime.now(UTC), usage=wrote)
        wait_until(lambda: follows("*/30 * * * *"), PATIENCE, "the CronJob follows the TTL")
        warmer.apply(suspend=True)
        wait_until(lambda: "nextWarmAt" not in warmer.status(), PATIENCE, "no run is due")

    def test_is_put_back(self, warmer: Warmer, team: Team, api: Api) -> None:
        """An edit and a deletion by hand are undone, and told."""
        team.serve()
        warmer.apply()
        before = warmer.await_cron_job()
        warmer.await_condition("Ready", "True", "Scheduled")
        api.patch(CRON_JOB, team.namespace, CRON_JOB_NAME, {"spec": {"schedule": "0 0 1 1 *"}})
        wait_until(
            lambda: warmer.await_cron_job()["spec"] == before["spec"],
            REPAIR_SECONDS,
            "the schedule is put back",
            promised=True,
        )
        warmer.await_event("Repaired", CRON_JOB_NAME, "by kubectl-edit", "put back")
        api.delete(CRON_JOB, team.namespace, CRON_JOB_NAME)

        def made_anew() -> bool:
            found = warmer.cron_job()
            return (
                found is not None
                and found["metadata"]["uid"] != before["metadata"]["uid"]
                and found["spec"] == before["spec"]
            )

        wait_until(made_anew, REPAIR_SECONDS, "it is made anew", promised=True)

    def test_waits_for_its_prefix(self, warmer: Warmer, team: Team) -> None:
        """A missing prefix, and one that serves nothing, are named; then it is scheduled."""
        warmer.apply()
        missing = warmer.await_condition("Ready", "False", "PrefixNotFound")
        assert "there is no PromptPrefix 'house'" in missing["message"]
        team.publish(digest=Digest.of(b"other"))
        warmer.await_condition("Ready", "False", "PrefixNotServed")
        assert warmer.cron_job() is None
        team.serve()
        warmer.await_condition("Ready", "True", "Scheduled")
        warmer.await_cron_job()

    def test_a_dedicated_prefix_shares_no_credential(
        self, warmer: Warmer, team: Team, api: Api
    ) -> None:
        """Neither warmer runs until one of them has a key of its own, and both are told why."""
        team.serve()
        team.serve(name="payments", version="p1")
        warmer.apply()
        warmer.apply("other", prefixRef={"name": "payments"})
        warmer.await_condition("Ready", "True", "Scheduled")

        def suspended(name: str) -> bool:
            found = api.get(CRON_JOB, team.namespace, name)
            return bool(found["spec"]["suspend"])

        names = ("headwater-warm", "headwater-other")
        alone = {"isolation": "Dedicated", "namespaces": [team.namespace]}
        team.edit({"consumers": {**alone, "namespaceSelector": None}}, "payments")
        told = warmer.await_condition("Stalled", "True", "CredentialShared")
        for word in ("'anthropic'", "'api-key'", "other warms payments", "payments is Dedicated"):
            assert word in told["message"]
        wait_until(lambda: all(map(suspended, names)), PATIENCE, "neither runs")
        warmer.await_event("CredentialShared", "house", "payments is Dedicated")

        own = {"name": "own", "secretRef": {"name": "payments", "key": "api-key"}}
        warmer.apply("other", prefixRef={"name": "payments"}, credentials=[own])
        warmer.await_condition("Ready", "True", "Scheduled")
        wait_until(lambda: not any(map(suspended, names)), PATIENCE, "both run")

    def test_a_deleted_warmer_takes_its_bundle_along(
        self, warmer: Warmer, team: Team, api: Api
    ) -> None:
        """Its own namespace had the bundle for its jobs alone."""
        consumer = team.consumer("a")
        digest = team.serve()
        warmer.apply()
        team.await_bundle(team.namespace, digest)
        api.delete(CACHE_WARMER, team.namespace, "warm")
        wait_until(lambda: team.bundle(team.namespace) is None, PATIENCE, "the bundle goes")
        team.await_bundle(consumer, digest)


class TestWhatIsNotRun:
    """Each is said in a condition and an Event, and starts no pod."""

    def test_a_contract_below_the_minimum(self, warmer: Warmer, team: Team) -> None:
        """There is no CronJob, and the model is named."""
        team.serve(source={"system": [{"text": "Be brief."}]})
        warmer.apply()
        found = warmer.await_condition("Cacheable", "False", "BelowMinimum")
        assert f"{MODEL} caches from" in found["message"]
        warmer.await_event("BelowMinimum", MODEL, "lengthen the prefix")
        assert warmer.await_lane("Cold")["message"] == found["message"]
        assert warmer.cron_job() is None

    def test_a_schedule_that_leaves_lanes_cold(self, warmer: Warmer, team: Team) -> None:
        """Where no webhook refused it, or the prefix's TTL changed since."""
        team.serve()
        warmer.apply(schedule="*/50 * * * *")
        found = warmer.await_condition("Stalled", "True", "ScheduleTooSparse")
        assert "up to 50m between two runs" in found["message"]
        assert "a cache of 5m" in found["message"]
        assert warmer.cron_job() is None
        warmer.apply()
        warmer.await_condition("Ready", "True", "Scheduled")
        assert warmer.await_cron_job()["spec"]["suspend"] is False
        warmer.apply(schedule="*/20 * * * *")
        warmer.await_condition("Stalled", "True", "ScheduleTooSparse")
        assert warmer.await_cron_job()["spec"]["suspend"] is True

    def test_a_time_zone_that_does_not_exist(self, warmer: Warmer, team: Team) -> None:
        """It is named; with one that does, the CronJob follows it."""
        team.serve()
        hours = {"timeZone": "Europe/Atlantis", "from": "07:00", "to": "20:00"}
        warmer.apply(activeHours=hours)
        found = warmer.await_condition("Stalled", "True", "ScheduleInvalid")
        assert "no time zone 'Europe/Atlantis'" in found["message"]
        warmer.apply(activeHours={**hours, "timeZone": "Europe/Berlin"})
        warmer.await_condition("Ready", "True", "Scheduled")
        spec = warmer.await_cron_job()["spec"]
        assert (spec["schedule"], spec["timeZone"]) == ("*/4 7-19 * * *", "Europe/Berlin")
        assert warmer.status()["schedule"] == "*/4 7-19 * * * (Europe/Berlin)"

    def test_a_prefix_that_is_taken_away(self, warmer: Warmer, team: Team, api: Api) -> None:
        """Pods that find no bundle would only wait."""
        team.serve()
        warmer.apply()
        warmer.await_condition("Ready", "True", "Scheduled")
        api.delete(PROMPT_PREFIX, team.namespace, "house")
        warmer.await_condition("Ready", "False", "PrefixNotFound")
        wait_until(
            lambda: warmer.await_cron_job()["spec"]["suspend"], PATIENCE, "the CronJob is suspended"
        )

    def test_two_warmers_of_one_lane(self, warmer: Warmer, team: Team, api: Api) -> None:
        """Both say so, and the older one runs."""
        team.serve()
        warmer.apply()
        warmer.await_condition("Ready", "True", "Scheduled")
        born = api.get(CACHE_WARMER, team.namespace, "warm")["metadata"]["creationTimestamp"]

        def is_later() -> bool:
            return datetime.now(UTC) > datetime.fromisoformat(born) + timedelta(seconds=1)

        wait_until(is_later, PATIENCE, "another second has begun")
        warmer.apply("again")
        first = warmer.await_condition("Exclusive", "False", "LaneShared")
        assert "named by again, too: warm warms them" in first["message"]

        def both() -> bool:
            second = api.get(CACHE_WARMER, team.namespace, "again").get("status", {})
            told = {row["type"]: row["message"] for row in second.get("conditions", ())}
            assert "named by warm, too: warm warms them" in told.get("Exclusive", "")
            (lane,) = second["lanes"]
            assert lane["state"] == "Skipped"
            assert api.get(CRON_JOB, team.namespace, "headwater-again")["spec"]["suspend"] is True
            return bool(warmer.await_cron_job()["spec"]["suspend"] is False)

        wait_until(both, PATIENCE, "the younger one leaves the lane alone")

    def test_pods_that_find_no_place(self, warmer: Warmer, team: Team, api: Api) -> None:
        """The scheduler's words, until a run reports."""
        digest = team.serve()
        warmer.apply()
        warmer.start("pod-1")
        why = "0/3 nodes are available: 3 Insufficient memory."
        unplaced = {"type": "PodScheduled", "status": "False", "message": why}
        status = {"phase": "Pending", "conditions": [unplaced]}
        api.patch(POD, team.namespace, "pod-1", {"status": status}, subresource="/status")
        found = warmer.await_condition("Ready", "False", "NoReport")
        assert why in found["message"]
        warmer.report("pod-2", digest, at=datetime.now(UTC), usage=Usage(cache_write_5m=1_530))
        api.request("DELETE", POD.path(team.namespace, "pod-1"), gracePeriodSeconds="0")
        warmer.await_condition("Ready", "True", "Scheduled")

    def test_a_clock_that_is_ahead(self, warmer: Warmer, team: Team) -> None:
        """It is told, and makes no lane warm for longer than it is."""
        digest = team.serve()
        warmer.apply()
        ahead = datetime.now(UTC) + timedelta(seconds=30)
        warmer.report("pod-1", digest, at=ahead, usage=Usage(cache_read=1_530))
        lane = warmer.await_lane("Warm")
        assert datetime.fromisoformat(lane["lastWarmAt"]) < ahead - timedelta(seconds=20)
        warmer.await_event("ClockSkewed", "s ahead of ours", "NTP")


class TestReports:
    USAGE = Usage(cache_write_5m=1_530)

    def test_a_warm_lane_is_told_to_consumers(self, warmer: Warmer, team: Team) -> None:
        """Status has the lane; the route has it as kept warm, and the provider's own count."""
        digest = team.serve()
        warmer.apply()
        at = datetime.now(UTC)
        warmer.report("pod-1", digest, at=at, usage=self.USAGE)
        lane = warmer.await_lane("Warm")
        assert lane["lastUsage"]["cacheWrite5m"] == 1_530
        assert datetime.fromisoformat(lane["lastWarmAt"]) == at.replace(microsecond=0)

        def told() -> bool:
            routed = warmer.routed()
            assert routed["tokens"] == {digest: {MODEL: 1_530}}
            return bool(
                routed["keptWarm"]
                == [{"digest": digest, "model": MODEL, "credential": FINGERPRINT}]
            )

        wait_until(told, PATIENCE, "the route tells of the warm lane")
        warmer.await_event("Warmed", "prod", MODEL, "v1 read ", " and wrote ")
        team.await_condition("Cacheable", "True", "AboveMinimum")

    def test_a_lane_goes_cold_with_its_ttl(self, warmer: Warmer, team: Team) -> None:
        """Without another report it is not said to be warm longer than the provider keeps it."""
        digest = team.serve()
        warmer.apply()
        warmer.await_condition("Ready", "True", "Scheduled")
        at = datetime.now(UTC) - TTL + timedelta(seconds=3)
        warmer.report("pod-1", digest, at=at, usage=self.USAGE)
        warmer.await_lane("Warm")
        warmer.await_lane("Cold")
        wait_until(lambda: not warmer.routed()["keptWarm"], PATIENCE, "the route says so, too")

    def test_a_failure_is_said_until_the_next_success(self, warmer: Warmer, team: Team) -> None:
        """The condition, the lane and an Event say what went wrong; then all is well again."""
        digest = team.serve()
        warmer.apply()
        now = datetime.now(UTC)
        why = "the provider refused the key (401): check the Secret"
        warmer.report("pod-1", digest, at=now - timedelta(minutes=4), state="Failed", message=why)
        assert warmer.await_lane("Failed")["message"] == why
        found = warmer.await_condition("Ready", "False", "WarmingFailed")
        assert why in found["message"]
        warmer.await_event("WarmingFailed", "prod", MODEL, why)
        warmer.report("pod-2", digest, at=now, usage=self.USAGE)
        warmer.await_lane("Warm")
        warmer.await_condition("Ready", "True", "Scheduled")

    def test_what_is_no_report_changes_nothing(self, warmer: Warmer, team: Team) -> None:
        """A crash leaves its log's end there: what was known of the lane stands."""
        digest = team.serve()
        warmer.apply()
        warmer.report("pod-1", digest, at=datetime.now(UTC), usage=self.USAGE)
        before = warmer.await_lane("Warm")
        warmer.finish("pod-2", "Traceback (most recent call last): …")
        other = Digest.of(b"a revision that is not wanted any more")
        warmer.report("pod-3", other, at=datetime.now(UTC), usage=self.USAGE)
        later = datetime.now(UTC) + timedelta(seconds=2)
        warmer.report("pod-4", digest, at=later, usage=Usage(cache_read=1_530))
        wait_until(
            lambda: warmer.await_lane("Warm")["lastUsage"]["cacheRead"] == 1_530,
            PATIENCE,
            "the next report counts",
        )
        assert before["digest"] == digest

    def test_what_it_cost_is_counted(self, warmer: Warmer, team: Team, liveness: str) -> None:
        """Requests, tokens and money in the controller's metrics; a day's sum in the status."""
        digest = team.serve()
        warmer.apply(budget={"maxUsdPerDay": "1"})
        lane = WarmedLane(
            *("prod", FINGERPRINT, MODEL, digest, datetime.now(UTC), "Warm"),
            Usage(cache_write_5m=1_530),
            requests=2,
            usd=Decimal("0.0125"),
        )
        warmer.finish("pod-1", encode(Report(lanes=(lane,))).decode())
        warmer.await_lane("Warm")
        assert warmer.status()["spent"]["usd"] == "0.0125"
        warmer.await_condition("WithinBudget", "True", "BudgetLeft")

        def counted() -> str:
            """Return the metrics: the controller learns after others that its write was done."""
            with urlopen(liveness.replace("/healthz", "/metrics"), timeout=scaled(30)) as answer:
                text: str = answer.read().decode()
            where = f'namespace="{team.namespace}",prefix="house"'
            requests = f'headwater_warm_requests_total{{{where},result="warm",warmer="warm"}} 2.0'
            tokens = f'{{kind="cache_write_5m",{where},warmer="warm"}} 1530.0'
            assert requests in text
            assert f"headwater_warm_tokens_total{tokens}" in text
            assert f'headwater_warm_cost_usd_total{{{where},warmer="warm"}} 0.0125' in text
            return text

        text = wait_until(counted, PATIENCE, "the run is counted")
        (state,) = re.findall(rf"headwater_warm_lane_state.(.*{team.namespace}.*). 1.0", text)
        assert 'state="warm"' in state


class TestTrigger:
    """`headwater warm --trigger`: a run now, for who may make Jobs."""

    def trigger(self, team: Team, control_plane: Cluster) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                Path(sys.executable).with_name("headwater"),
                *("warm", "--trigger", "warm", "-n", team.namespace),
            ],
            env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )

    def test_it_makes_a_job_where_one_is_of_use(
        self, warmer: Warmer, team: Team, api: Api, control_plane: Cluster
    ) -> None:
        """Not for what is unknown, not for what is warm, and not for what may not run."""
        unknown = self.trigger(team, control_plane)
        assert unknown.returncode == 1
        assert "there is no CacheWarmer 'warm'" in unknown.stderr
        digest = team.serve()
        warmer.apply()
        warmer.await_lane("Cold")
        made = self.trigger(team, control_plane)
        assert (made.returncode, made.stdout.endswith("warms warm\n")) == (0, True), made.stderr
        (job,) = api.list(JOB, team.namespace)
        assert job["metadata"]["name"] == made.stdout.split()[1]
        assert job["metadata"]["ownerReferences"][0]["name"] == CRON_JOB_NAME
        warmer.report("pod-1", digest, at=datetime.now(UTC), usage=Usage(cache_read=1_530))
        warmer.await_lane("Warm")
        warm = self.trigger(team, control_plane)
        assert (warm.returncode, warm.stdout) == (0, "warm is warm: nothing to do\n")
        assert len(api.list(JOB, team.namespace)) == 1
