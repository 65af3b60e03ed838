"""A CacheWarmer on the real API server: its CronJob, and what its pods report."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.cluster import CACHE_WARMER, CRON_JOB, EVENT, POD
from headwater.contract.digest import Digest
from headwater.providers.usage import Usage
from headwater.warmer.report import Report, State, WarmedLane, encode
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api
from tests.integration.controller.team import MODEL, PATIENCE, REPAIR_SECONDS, Team, route

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

    def finish(self, name: str, message: str) -> None:
        """A pod of the CronJob's template ends, and leaves this termination message."""
        template = self.await_cron_job()["spec"]["jobTemplate"]["spec"]["template"]
        namespace = self.team.namespace
        pod = {
            "metadata": {"name": name, "namespace": namespace, **template["metadata"]},
            "spec": template["spec"],
        }
        # It is refused until the namespace has its service account.
        wait_until(lambda: self.api.create(POD, pod), PATIENCE, "a pod is accepted")
        ended = {
            "name": "warm",
            "image": "x",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": message}},
        }
        status = {"phase": "Succeeded", "containerStatuses": [ended]}
        self.api.patch(POD, namespace, name, {"status": status}, subresource="/status")

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

        team.edit({"version": "v2", "ttl": "1h", "models": ["claude-opus-5", MODEL]})

        def follows() -> bool:
            spec = warmer.await_cron_job()["spec"]
            (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
            return spec["schedule"] == "*/30 * * * *" and "claude-opus-5" in container["command"]

        wait_until(follows, PATIENCE, "the CronJob follows the prefix")

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

        wait_until(made_anew, REPAIR_SECONDS, "it is made anew")

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
