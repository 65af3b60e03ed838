"""A controller killed between any two of its writes: the next one ends where it would have ended.

Every case is a prefix of its own. All play the same rollout at the same time, under one
controller whose writes go through a gate: case n is stopped after the n-th write of a stage has
been done and before the controller learns of it. Once every case stands at its place the
controller is killed and started again, and one more prefix, which nothing stopped, says what the
end has to be.
"""

import contextlib
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, EVENT, NAMESPACE, PROMPT_PREFIX
from headwater.contract.route import salt_for
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.servers import Gate, Metrics
from tests.integration.controller.team import LABEL, MODEL, contracts, manifest, route

SECONDS = 30.0
REQUESTS = 50
REVISION = "create configmaps"
BUNDLE = "apply configmaps"
STATUS = "replace promptprefixes/status"
EVENT_WRITE = "create events"
BECAME_STABLE = "apply configmaps"
"""On the revision: a lost status is rebuilt from it."""

CANARY = {
    "strategy": "Canary",
    "steps": [{"setWeight": 10}, {"setWeight": 50}],
    "analysis": {"minRequests": REQUESTS},
}


@dataclass(frozen=True)
class Stage:
    """One thing that happens to a prefix.

    Attributes:
        writes: what the controller does about it, in order. They are the specification: bytes
            before what refers to them, the decision before what follows from it, telling last.
        spec: what the author edits; None where evidence is what moves the rollout.
        reached: the version that is stable then, the candidate's and its weight.
    """

    name: str
    writes: tuple[str, ...]
    spec: dict[str, Any] | None
    reached: tuple[str, str | None, int | None]


STAGES = (
    Stage(
        "first version",
        (REVISION, BUNDLE, BUNDLE, STATUS, EVENT_WRITE),
        {"version": "v1"},
        ("v1", None, None),
    ),
    Stage(
        "second version, at once",
        (REVISION, STATUS, BUNDLE, BUNDLE, STATUS, EVENT_WRITE),
        {"version": "v2", "rollout": {"strategy": "Immediate"}},
        ("v2", None, None),
    ),
    Stage(
        "canary",
        (REVISION, STATUS, BUNDLE, BUNDLE, EVENT_WRITE, EVENT_WRITE),
        {"version": "v3", "rollout": CANARY},
        ("v2", "v3", 10),
    ),
    Stage(
        "raised on evidence",
        (STATUS, BUNDLE, BUNDLE, EVENT_WRITE),
        None,
        ("v2", "v3", 50),
    ),
    Stage(
        "promoted on evidence",
        (BECAME_STABLE, STATUS, BUNDLE, BUNDLE, STATUS, EVENT_WRITE),
        None,
        ("v3", None, None),
    ),
)
CASES = max(len(stage.writes) for stage in STAGES) + 1


@dataclass
class Case:
    """One prefix and the two namespaces that get its bundle."""

    name: str
    api: Api

    @property
    def namespaces(self) -> list[str]:
        return [f"{self.name}-a", f"{self.name}-b"]

    def make(self) -> None:
        for namespace in self.namespaces:
            labels = {LABEL: self.namespaces[0]}
            self.api.create(NAMESPACE, {"metadata": {"name": namespace, "labels": labels}})

    def manifest(self, spec: dict[str, Any]) -> dict[str, Any]:
        return manifest(self.namespaces[0], name=self.name, **{"revisionHistoryLimit": 1, **spec})

    def status(self) -> dict[str, Any]:
        found = self.api.get(PROMPT_PREFIX, self.namespaces[0], self.name)
        status: dict[str, Any] = found.get("status", {})
        return status

    def standing(self) -> tuple[str | None, str | None, int | None]:
        """Stable version, candidate's version, its weight, as recorded."""
        status = self.status()
        stable, candidate = status.get("stable", {}), status.get("candidate", {})
        return stable.get("version"), candidate.get("version"), candidate.get("weight")

    def end(self) -> str:
        """Everything that stands in the cluster for this prefix, without times and names."""
        revisions = self.api.list(CONFIG_MAP, self.namespaces[0], "headwater.dev/role=revision")
        bundles = [
            found
            for namespace in self.namespaces
            for found in self.api.list(CONFIG_MAP, namespace, "headwater.dev/role=bundle")
        ]
        candidate = self.status().get("candidate", {}).get("digest")
        salt = salt_for(self.namespaces[0], self.name, candidate)
        assert all(route(bundle)["salt"] == salt for bundle in bundles)
        everything = {
            "status": _settled(self.status()),
            "revisions": [
                {
                    "name": found["metadata"]["name"],
                    "labels": found["metadata"]["labels"],
                    "contracts": {name: data.decode() for name, data in contracts(found).items()},
                }
                for found in revisions
            ],
            "bundles": [
                {"where": found["metadata"]["namespace"], "data": found["data"]}
                for found in bundles
            ],
        }
        return json.dumps(everything, indent=1).replace(self.name, "NAME").replace(salt, "SALT")

    def told_twice(self) -> list[str]:
        """Events that stand there more than once."""
        notes = [event["note"] for event in self.api.list(EVENT, self.namespaces[0])]
        return [note for note in notes if notes.count(note) > 1]


_TIMES = re.compile(r"At$|Time$|^at$|^until$|^clockFrom$")


def _settled(part: Any) -> Any:
    """Without times, and without what was seen since the controller started: hit rates."""
    if isinstance(part, dict):
        return {
            key: _settled(value)
            for key, value in part.items()
            if not _TIMES.search(key) and key != "hitRate"
        }
    if isinstance(part, list):
        return [_settled(value) for value in part]
    return part


@pytest.mark.slow
def test_killed_between_any_two_writes(lent_control_plane: ControlPlane, tmp_path: Path) -> None:
    """Revisions, bundles and status end the same wherever the controller was killed."""
    metrics, gate = Metrics(), Gate(lent_control_plane)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(Api(lent_control_plane))
        target = stack.enter_context(metrics.served())
        kubeconfig = stack.enter_context(gate.served(tmp_path))
        controller = Controller(kubeconfig, tmp_path / "log", "--scrape-target", target)
        stack.enter_context(controller)
        stack.enter_context(reporting(controller))
        run = secrets.token_hex(3)
        undisturbed = Case(f"undisturbed-{run}", api)
        cases = [Case(f"case-{run}-{number}", api) for number in range(CASES)]
        for case in (undisturbed, *cases):
            case.make()
        for stage in STAGES:
            _play(stage, undisturbed, cases, gate, metrics, controller)


def _play(
    stage: Stage,
    undisturbed: Case,
    cases: list[Case],
    gate: Gate,
    metrics: Metrics,
    controller: Controller,
) -> None:
    everyone = [undisturbed, *cases]
    for case in everyone:
        gate.lane(case.name + "-").writes.clear()
    stopped = cases[: len(stage.writes) + 1]
    for number, case in enumerate(stopped):
        gate.lane(case.name + "-").let_through = number
    _push(stage, everyone, metrics)
    lane = gate.lane(undisturbed.name + "-")
    wait_until(
        lambda: _same(lane.writes, list(stage.writes)), SECONDS, f"the writes of {stage.name}"
    )
    wait_until(
        lambda: all(gate.lane(case.name + "-").holds for case in stopped),
        SECONDS,
        f"{stage.name}: every case stands between two writes",
    )
    controller.kill()
    gate.release()
    controller.start()
    metrics.await_scrape()
    if stage.spec is None:
        # Evidence that was not recorded died with the process; traffic goes on and brings more.
        behind = [case for case in everyone if case.standing() != stage.reached]
        _push(stage, behind, metrics)
    for case in everyone:
        wait_until(
            lambda case=case: _same(case.end(), undisturbed.end()),  # type: ignore[misc]
            SECONDS,
            f"{stage.name}: {case.name} ends like the one that nothing stopped",
        )
        assert case.standing() == stage.reached
        assert not case.told_twice()


def _push(stage: Stage, cases: list[Case], metrics: Metrics) -> None:
    """Let happen to these prefixes what the stage is about."""
    for case in cases:
        if stage.spec is None:
            digest = case.status()["candidate"]["digest"]
            metrics.count(case.name, digest, model=MODEL, hits=REQUESTS)
        else:
            case.api.apply(PROMPT_PREFIX, case.manifest(stage.spec))


def _same(found: object, expected: object) -> bool:
    assert found == expected
    return True
