"""A good version, warmed before it gets traffic, approved by commits, and promoted."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from headwater.cluster import CACHE_WARMER, CRON_JOB
from headwater.cluster.api import FIELD_MANAGER
from tests.cluster.node import run_cronjob_now
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Controller
from tests.integration.controller.team import PATIENCE
from tests.integration.scenarios.world import World

pytestmark = pytest.mark.xdist_group("scenarios")

WARMED_KEY, COLD_KEY = "sk-warmed", "sk-of-a-team"
LANES = 2
"""Caches at the provider: one for each key, on one model."""
VERSIONS = 2
MIN_REQUESTS = 25
ROLLOUT: dict[str, Any] = {
    "steps": [{"setWeight": 10}, {"setWeight": 50}, {"setWeight": 100}],
    "analysis": {"minHitRate": 0.8, "minRequests": MIN_REQUESTS},
    "approval": "Required",
}


class Warmer:
    """The CacheWarmer of the world's prefix; nothing runs its job but the test."""

    def __init__(self, world: World) -> None:
        self._world, self._api, self._namespace = world, world.team.api, world.team.namespace
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "anthropic", "namespace": self._namespace},
            "stringData": {"key": WARMED_KEY},
        }
        world.site.plane.kubectl("apply", "-f", "-", input=json.dumps(secret))
        credential = {"name": "prod", "secretRef": {"name": "anthropic", "key": "key"}}
        spec = {"prefixRef": {"name": "house"}, "credentials": [credential]}
        metadata = {"name": "warm", "namespace": self._namespace}
        self._api.apply(CACHE_WARMER, {"metadata": metadata, "spec": spec})
        wait_until(
            lambda: self._api.find(CRON_JOB, self._namespace, "headwater-warm"),
            PATIENCE,
            "the CronJob is made",
        )

    def run(self, *digests: str) -> None:
        """Run the job by its own command, and wait until the status calls these lanes warm."""
        done = run_cronjob_now(self._world.site.plane, self._namespace, "headwater-warm")
        assert done.exit_code == 0, done.log

        def are_warm() -> bool:
            warmer = self._api.get(CACHE_WARMER, self._namespace, "warm")
            lanes = warmer.get("status", {}).get("lanes", [])
            # A lane that its traffic keeps warm is left out.
            kept = {each["digest"] for each in lanes if each["state"] in ("Warm", "Skipped")}
            return kept == set(digests)

        wait_until(are_warm, PATIENCE, "the lanes are warm")


def counted(status: Mapping[str, Any], what: str) -> int:
    """Of the candidate, on all models."""
    return sum(row[what] for row in status["candidate"]["evidence"])


@pytest.mark.slow
def test_it_is_promoted_on_evidence_and_approval(world: World, controller: Controller) -> None:
    """Warmed, then 10, 50 and 100 % of new conversations, then an approval of its very bytes."""
    team = world.team
    support = team.consumer("support")
    eighth = team.serve(version="v8", source=world.source("v8"))
    warmer = Warmer(world)
    warmer.run(eighth)
    for name, key in (("chat", WARMED_KEY), ("mail", WARMED_KEY), ("shop", COLD_KEY)):
        world.pod(support, name, key=key)
    world.await_synced()
    world.talk()

    # It gets no traffic before its cache is warm.
    ninth = team.publish(version="v9", source=world.source("v9"), rollout=ROLLOUT)
    status = world.await_phase("Warming")
    assert status["candidate"]["weight"] == 0
    assert {answer.version for answer in world.talk()} == {"v8"}
    warmer.run(eighth, ninth)
    world.await_phase("Progressing", weight=10)

    # Below minRequests it waits, whatever the hits say, and the status says for how many.
    world.await_synced()
    world.talk_until(lambda status: counted(status, "hits"), "v9 shows something")
    status = world.await_phase("Progressing", weight=10)
    assert 0 < counted(status, "hits") < MIN_REQUESTS
    candidate = status["candidate"]
    assert candidate["verdict"]["result"] == "Waiting"
    assert candidate["verdict"]["reason"].endswith("until minRequests")

    # It rises by its steps, each on evidence of its own.
    for weight in (50, 100):
        world.talk_until(
            lambda status, weight=weight: status["candidate"]["weight"] == weight,  # type: ignore[misc]  # bound early
            f"v9 gets {weight}%",
        )
    world.talk_until(lambda status: status["phase"] == "AwaitingApproval", "v9 is good enough")
    status = team.status()
    assert status["candidate"]["verdict"]["result"] == "Pass"
    # The cold key's first request was a write, and is held against nobody.
    assert counted(status, "misses") == 0

    # An approval of other bytes has no effect, and the condition names both.
    assert team.condition("Approved")["reason"] == "NotApproved"
    team.edit({"rollout": {"approvedDigest": str(eighth)}})
    told = team.await_condition("Approved", "False", "OtherDigestApproved")
    assert eighth in told["message"]
    assert ninth in told["message"]
    world.talk()
    assert team.status()["phase"] == "AwaitingApproval"
    team.edit({"rollout": {"approvedDigest": str(ninth)}})
    assert world.await_phase("Stable")["stable"]["digest"] == ninth
    assert team.condition("Approved")["status"] == "True"
    assert world.history()[1:] == [
        ("v9", event)
        for event in ("CanaryStarted", "WeightRaised", "WeightRaised", "WeightRaised", "Promoted")
    ]

    # Each lane was written once for each version.
    world.await_synced()
    world.talk()
    received = world.provider.received()
    assert {each.digest for each in received} == {eighth, ninth}
    assert sum(each.wrote > 0 for each in received) == LANES * VERSIONS

    # Git alone writes the spec: what we applied is what is there, by whom and how often.
    body = team.prefix()
    ours = [
        entry for entry in body["metadata"]["managedFields"] if entry["manager"] == FIELD_MANAGER
    ]
    assert ours, "the operator has written to it"
    assert not [entry for entry in ours if "f:spec" in entry["fieldsV1"]]
    assert body["metadata"]["generation"] == 4, "two versions and two approvals"
    assert controller.running
