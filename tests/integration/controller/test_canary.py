"""A canary on the real API server, moved by the counters of a sidecar that the test plays."""

from typing import Any

import pytest

from headwater.contract.digest import Digest
from tests.cluster.waiting import wait_until
from tests.integration.controller.servers import Metrics
from tests.integration.controller.team import MODEL, PATIENCE, Team, contracts, prompt, route

pytestmark = pytest.mark.xdist_group("controller")

REQUESTS = 50
"""With no miss among them the judge is sure: they lie above a floor of 0.9."""


def canary(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "strategy": "Canary",
        "steps": list(steps),
        "analysis": {"minHitRate": 0.9, "minRequests": REQUESTS},
        **more,
    }


class Rollout:
    """One prefix, its consumer, and the traffic that its candidate gets.

    Evidence belongs to a prefix's name and its bytes, so each has bytes of its own.
    """

    def __init__(self, team: Team, metrics: Metrics) -> None:
        self.team, self._metrics = team, metrics
        self.consumer = team.consumer("a")
        self.stable = team.serve(source=self._source("v1"))

    def _source(self, version: str) -> dict[str, Any]:
        return {"system": [{"text": prompt(f"{self.team.namespace} {version}")}]}

    def publish(self, version: str, rollout: dict[str, Any], **spec: Any) -> Digest:
        return self.team.publish(
            version=version, source=self._source(version), rollout=rollout, **spec
        )

    def traffic(self, digest: Digest, *, hits: int = 0, misses: int = 0) -> None:
        self._metrics.count("house", digest, model=MODEL, hits=hits, misses=misses)

    def await_phase(self, phase: str, *, weight: int | None = None) -> dict[str, Any]:
        """Wait until the status and the consumer's bundle both say so; the status."""

        def reached() -> dict[str, Any]:
            status = self.team.status()
            candidate = status.get("candidate", {})
            assert (status["phase"], candidate.get("weight")) == (phase, weight), status
            bundle = self.team.bundle(self.consumer)
            assert bundle is not None
            routed = route(bundle)
            assert routed["epoch"] == status["epoch"]
            assert routed["stable"]["digest"] == status["stable"]["digest"]
            names = {row["digest"] for row in (status["stable"], *status["retained"])}
            assert [row["digest"] for row in routed.get("retained", ())] == [
                row["digest"] for row in status["retained"]
            ]
            if candidate:
                names.add(candidate["digest"])
                assert routed["candidate"]["digest"] == candidate["digest"]
                assert routed["candidate"]["weight"] == candidate["weight"] * 100
            else:
                assert routed["candidate"] is None
            assert set(contracts(bundle)) == names
            return status

        return wait_until(reached, PATIENCE, f"{phase} at {weight}")

    def history(self) -> list[tuple[str, str]]:
        return [(row["version"], row["event"]) for row in self.team.status()["history"]]


@pytest.fixture
def rollout(team: Team, metrics: Metrics) -> Rollout:
    return Rollout(team, metrics)


def test_goes_by_steps_to_promotion(rollout: Rollout) -> None:
    """Each weight takes its own evidence, a pause passes, the approval names the bytes."""
    steps: list[dict[str, Any]] = [{"setWeight": 10}, {"pause": {"duration": "1s"}}]
    second = rollout.publish("v2", canary(*steps, {"setWeight": 50}, {"pause": {}}))
    # The pause is over at once; what is still missing is a verdict.
    status = rollout.await_phase("Progressing", weight=10)
    assert status["candidate"]["verdict"]["result"] == "Waiting"
    assert rollout.team.condition("Ready")["status"] == "False"
    assert rollout.team.condition("Reconciling")["status"] == "True"

    rollout.traffic(second, hits=REQUESTS - 1)

    def is_recorded() -> dict[str, Any]:
        candidate: dict[str, Any] = rollout.team.status()["candidate"]
        row = candidate["evidence"][0] if candidate["evidence"] else {}
        assert row, "nothing yet"
        assert (row["model"], row["hits"], row["misses"]) == (MODEL, REQUESTS - 1, 0)
        return candidate

    found = wait_until(is_recorded, PATIENCE, "the evidence is recorded")["verdict"]["reason"]
    assert found.endswith("1 more eligible request until minRequests")
    rollout.traffic(second, hits=1)
    status = rollout.await_phase("AwaitingApproval", weight=50)
    assert status["message"] == f"v2 waits for spec.rollout.approvedDigest: {second}"
    rollout.team.await_event("WeightRaised", "50%", f"{REQUESTS} of {REQUESTS}")

    rollout.traffic(second, hits=2 * REQUESTS)
    rollout.team.edit({"rollout": {"approvedDigest": str(rollout.stable)}})
    rollout.team.await_condition("Approved", "False", "OtherDigestApproved")
    assert rollout.team.status()["candidate"]["weight"] == 50
    rollout.team.edit({"rollout": {"approvedDigest": str(second)}})
    status = rollout.await_phase("Stable")
    assert status["stable"]["digest"] == second
    assert rollout.team.condition("Ready")["status"] == "True"
    assert rollout.team.condition("Approved")["status"] == "True"
    assert rollout.history() == [
        ("v1", "FirstVersion"),
        ("v2", "CanaryStarted"),
        ("v2", "WeightRaised"),
        ("v2", "WeightRaised"),
        ("v2", "Promoted"),
    ]
    rollout.team.await_event("Promoted", "v2 is served to everyone")
    wait_until(
        lambda: rollout.team.status().get("hitRate") == "100%", PATIENCE, "the hit rate is shown"
    )


def test_waits_out_a_pause(rollout: Rollout) -> None:
    """Evidence alone does not shorten a pause."""
    second = rollout.publish(
        "v2", canary({"setWeight": 10}, {"pause": {"duration": "1h"}}, {"setWeight": 50})
    )
    rollout.await_phase("Paused", weight=10)
    rollout.traffic(second, hits=2 * REQUESTS)
    wait_until(
        lambda: rollout.team.status()["candidate"]["verdict"]["result"] == "Pass",
        PATIENCE,
        "the verdict is in",
    )
    assert rollout.await_phase("Paused", weight=10)["candidate"]["step"] == 1


def test_promotion_waits_for_a_required_approval(rollout: Rollout) -> None:
    """With `approval: Required` the last step is not the end."""
    second = rollout.publish("v2", canary({"setWeight": 100}, approval="Required"))
    rollout.await_phase("Progressing", weight=100)
    rollout.traffic(second, hits=REQUESTS)
    rollout.await_phase("AwaitingApproval", weight=100)
    rollout.team.await_condition("Approved", "False", "NotApproved")
    rollout.team.edit({"rollout": {"approvedDigest": str(second)}})
    rollout.await_phase("Stable")


class TestBelowTheFloor:
    SAID = (
        f"v2 went back: on {MODEL} 5 of 20 eligible requests read the cache (25%);"
        " that is below the floor of 90%, with 99% confidence"
    )

    def test_goes_back_and_says_why(self, rollout: Rollout) -> None:
        """Everyone gets the stable bytes again; status and Event say the figures."""
        second = rollout.publish("v2", canary({"setWeight": 10}, {"setWeight": 50}))
        rollout.await_phase("Progressing", weight=10)
        rollout.traffic(second, hits=5, misses=15)
        status = rollout.await_phase("RolledBack")
        assert status["message"] == self.SAID
        assert status["stable"]["digest"] == rollout.stable
        assert status["rolledBack"]["digest"] == second
        assert status["rolledBack"]["reason"] == self.SAID
        stalled = rollout.team.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "RolledBack")
        rollout.team.await_event("HitRateBelowFloor", self.SAID)

    def test_is_tried_again_only_when_asked_to(self, rollout: Rollout) -> None:
        """Other edits leave it where it is; a bumped `retry` begins from the first step."""
        second = rollout.publish("v2", canary({"setWeight": 10}))
        rollout.await_phase("Progressing", weight=10)
        rollout.traffic(second, hits=5, misses=15)
        rollout.await_phase("RolledBack")
        rollout.team.edit({"owner": {"contact": "#prompts"}})
        rollout.team.await_condition("Stalled", "True", "RolledBack")
        rollout.team.edit({"retry": 1})
        status = rollout.await_phase("Progressing", weight=10)
        assert "rolledBack" not in status
        # What was counted before is not held against it again.
        assert sum(row["misses"] for row in status["candidate"].get("evidence", ())) == 0
        rollout.traffic(second, hits=REQUESTS)
        assert rollout.await_phase("Stable")["stable"]["digest"] == second

    def test_a_mended_version_is_a_new_try(self, rollout: Rollout) -> None:
        """New bytes under a new version need no retry."""
        second = rollout.publish("v2", canary({"setWeight": 10}))
        rollout.await_phase("Progressing", weight=10)
        rollout.traffic(second, misses=20)
        rollout.await_phase("RolledBack")
        third = rollout.publish("v3", canary({"setWeight": 10}))
        rollout.await_phase("Progressing", weight=10)
        rollout.traffic(third, hits=REQUESTS)
        assert rollout.await_phase("Stable")["stable"]["version"] == "v3"


def test_a_reverted_commit_aborts(rollout: Rollout) -> None:
    """Back to the stable version is the abort; the candidate's bytes leave the bundle."""
    rollout.publish("v2", canary({"setWeight": 10}))
    rollout.await_phase("Progressing", weight=10)
    rollout.publish("v1", canary({"setWeight": 10}))
    status = rollout.await_phase("Stable")
    assert status["stable"]["digest"] == rollout.stable
    assert rollout.history()[-1] == ("v2", "Aborted")
    rollout.team.await_event("Aborted", "went back to v1")


def test_a_newer_version_supersedes_the_candidate(rollout: Rollout) -> None:
    """Only the newest declared version is tried."""
    rollout.publish("v2", canary({"setWeight": 10}))
    rollout.await_phase("Progressing", weight=10)
    third = rollout.publish("v3", canary({"setWeight": 20}))
    status = rollout.await_phase("Progressing", weight=20)
    assert status["candidate"]["digest"] == third
    rollout.team.await_event("Superseded", "v3 was published while v2 was tried")


def test_suspend_stands_still_but_still_goes_back(rollout: Rollout) -> None:
    """Nothing rises while `suspend` is set, and a bad candidate goes back all the same."""
    second = rollout.publish("v2", canary({"setWeight": 10}, {"setWeight": 50}))
    rollout.await_phase("Progressing", weight=10)
    rollout.team.edit({"suspend": True})
    rollout.await_phase("Paused", weight=10)
    rollout.traffic(second, hits=REQUESTS)
    wait_until(
        lambda: rollout.team.status()["candidate"]["verdict"]["result"] == "Pass",
        PATIENCE,
        "the verdict is in",
    )
    rollout.await_phase("Paused", weight=10)
    rollout.traffic(second, misses=REQUESTS)
    rollout.await_phase("RolledBack")


def test_traffic_that_nobody_asked_about_moves_nothing(rollout: Rollout, metrics: Metrics) -> None:
    """Another prefix's requests, and other bytes, are no evidence."""
    second = rollout.publish("v2", canary({"setWeight": 10}))
    rollout.await_phase("Progressing", weight=10)
    metrics.count("other", second, model=MODEL, misses=100)
    rollout.traffic(Digest.of(b"other"), misses=100)
    rollout.traffic(rollout.stable, misses=100)
    metrics.await_scrape()
    wait_until(
        lambda: rollout.team.status().get("hitRate") == "0%", PATIENCE, "the stable rate is shown"
    )
    (row,) = rollout.await_phase("Progressing", weight=10)["candidate"]["evidence"]
    assert (row["hits"], row["misses"], row["stable"]["misses"]) == (0, 0, 100)
