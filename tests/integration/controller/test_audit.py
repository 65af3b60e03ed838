"""Whatever changed a contract can be found later: with who asked for it, and the digest."""

import json
from typing import Any

import pytest

from headwater.cluster import PROMPT_PREFIX
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, Controller
from tests.integration.controller.team import PATIENCE, Team, digest_in, manifest

pytestmark = pytest.mark.xdist_group("controller")

WAITS = {"strategy": "Immediate", "approval": "Required"}


def recorded(controller: Controller, team: Team) -> list[dict[str, Any]]:
    """The lines of the audit about a team's prefix."""
    lines = (line for line in controller.said().splitlines() if " headwater.audit " in line)
    found = [json.loads(line[line.index("{") :]) for line in lines]
    return [line for line in found if line["object"] == f"{team.namespace}/house"]


def test_a_publication_and_its_approval(team: Team, api: Api, controller: Controller) -> None:
    """Published by one tool, approved by another, promoted on that: Event, line and history."""
    first = team.serve()
    second = manifest(team.namespace, version="v2", rollout=WAITS)
    api.apply(PROMPT_PREFIX, second, manager="argocd-controller")
    digest = digest_in(second)
    team.await_event("Published", "v2", digest, "(asked for by argocd-controller)")
    approval = {"spec": {"rollout": {"approvedDigest": digest}}}
    api.patch(PROMPT_PREFIX, team.namespace, "house", approval, manager="kubectl-edit")
    team.await_stable(digest)
    team.await_event("Approved", "v2", digest, "(asked for by kubectl-edit)")
    team.await_event("Promoted", "v2", "(asked for by kubectl-edit)")
    told = team.status()["history"]
    assert [(row["event"], row.get("by")) for row in told] == [
        ("FirstVersion", "kubectl"),
        ("Promoted", "kubectl-edit"),
    ]
    lines = {(line["event"], line["version"]): line for line in recorded(controller, team)}
    published, promoted = lines["Published", "v2"], lines["Promoted", "v2"]
    assert lines["Published", "v1"]["digest"] == first
    assert team.events("Published") == [published["note"]], "FirstVersion told of v1's"
    assert (published["digest"], published["by"]) == (digest, "argocd-controller")
    assert "approvedBy" not in published
    assert promoted["publishedBy"] == "argocd-controller"
    assert promoted["approvedBy"] == "kubectl-edit"
    assert promoted["publishedAt"] <= promoted["approvedAt"]


def test_an_abort(team: Team, api: Api, controller: Controller) -> None:
    """Who took the commit back is told, and not who published what is gone."""
    steps = {"steps": [{"setWeight": 5}, {"pause": {}}]}
    team.serve(rollout=steps)
    second = manifest(team.namespace, version="v2", rollout=steps)
    api.apply(PROMPT_PREFIX, second, manager="argocd-controller")
    team.await_event("CanaryStarted", "v2 is tried (asked for by argocd-controller)")
    back = manifest(team.namespace, rollout=steps)
    api.apply(PROMPT_PREFIX, back, manager="kubectl-rollback")
    team.await_event("Aborted", "(asked for by kubectl-rollback)")
    wait_until(
        lambda: [line for line in recorded(controller, team) if line["event"] == "Aborted"],
        PATIENCE,
        "it is recorded",
    )
    assert team.events("Published") == []


def test_a_restart_tells_nothing_anew(team: Team, controller: Controller) -> None:
    """What was told is not told again when something else changes."""
    team.serve(rollout={"approval": "Required", "approvedDigest": digest_in(manifest("x"))})
    team.await_event("Approved", "v1")
    before = recorded(controller, team)
    assert [line["event"] for line in before] == ["Published", "Approved", "FirstVersion"]
    team.edit({"retry": 1})
    team.await_stable(digest_in(manifest("x")))
    assert recorded(controller, team) == before
