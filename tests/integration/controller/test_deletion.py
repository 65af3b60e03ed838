"""A prefix that is deleted while pods mount its bundle: held, and how it is let go."""

import shlex
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, NAMESPACE, POD, PROMPT_PREFIX
from headwater.contract.digest import Digest
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.integration.controller import pods
from tests.integration.controller.harness import Api
from tests.integration.controller.team import PATIENCE, REPAIR_SECONDS, Team

pytestmark = pytest.mark.xdist_group("controller")

FINALIZER = "headwater.dev/consumers"


class Consumed:
    """A prefix that is served to one namespace, with one pod there that mounts its bundle."""

    def __init__(self, team: Team) -> None:
        self.team, self.api = team, team.api
        self.consumer = team.consumer("a")
        self.digest: Digest = team.serve()
        assert self.finalizers() == [], "a prefix without consumers costs no further write"
        self.start("web")
        wait_until(lambda: FINALIZER in self.finalizers(), PATIENCE, "the first pod is seen")

    def start(self, name: str) -> None:
        pods.start(self.api, self.consumer, name, self.team.bundle_name())

    def finalizers(self) -> list[str]:
        found: list[str] = self.team.prefix()["metadata"].get("finalizers", [])
        return found

    def delete(self) -> str:
        """Delete the prefix and wait until that is held; the message."""
        self.api.delete(PROMPT_PREFIX, self.team.namespace, "house")
        found = self.team.await_condition("Ready", "False", "DeletionHeld")
        message: str = found["message"]
        return message

    def await_gone(self) -> None:
        wait_until(
            lambda: self.api.find(PROMPT_PREFIX, self.team.namespace, "house") is None,
            PATIENCE,
            "the prefix is gone",
        )
        wait_until(
            lambda: self.team.bundle(self.consumer) is None, PATIENCE, "its bundle is gone, too"
        )


@pytest.fixture
def consumed(team: Team) -> Consumed:
    return Consumed(team)


def test_it_is_held_until_the_last_pod_is_gone(consumed: Consumed) -> None:
    """The condition tells who is left, as it changes; then everything goes by itself."""
    team = consumed.team
    consumed.start("api")
    consumed.delete()

    def told() -> str:
        message: str = team.condition("Ready")["message"]
        return message if "2 pods in 1 namespaces" in message else ""

    # It learns of pods by a watch, and may have known of the first one alone.
    message = wait_until(told, PATIENCE, "both are counted")
    assert f"{consumed.consumer}/api, {consumed.consumer}/web" in message
    assert team.status()["message"] == message, "as `kubectl get pp -o wide` has it"
    assert team.condition("Reconciling")["status"] == "True"
    assert team.condition("Stalled")["status"] == "False"
    team.await_event("DeletionHeld", "pods in 1 namespaces")

    consumed.api.delete(POD, consumed.consumer, "web")
    wait_until(
        lambda: "1 pods" in team.condition("Ready")["message"], PATIENCE, "one of them is gone"
    )
    assert team.bundle(consumed.consumer) is not None
    consumed.api.delete(POD, consumed.consumer, "api")
    consumed.await_gone()
    assert len(team.events("DeletionHeld")) == 1


def test_while_held_the_bundle_is_kept_right_and_nothing_begins(consumed: Consumed) -> None:
    """Its pods go on as they are: a hand edit is undone, a new version is not started."""
    team = consumed.team
    consumed.delete()
    team.publish(version="v2", rollout={"strategy": "Immediate"})
    team.await_condition("Ready", "False", "DeletionHeld")
    name = team.bundle_name()
    consumed.api.patch(CONFIG_MAP, consumed.consumer, name, {"data": {"mine": "x"}})

    def repaired() -> bool:
        bundle = team.bundle(consumed.consumer)
        return bundle is not None and "mine" not in bundle["data"]

    wait_until(repaired, REPAIR_SECONDS, "the hand edit is undone", promised=True)
    consumed.api.delete(CONFIG_MAP, consumed.consumer, name)
    team.await_bundle(consumed.consumer, consumed.digest)
    assert team.status()["stable"]["digest"] == consumed.digest
    assert FINALIZER in consumed.finalizers()


def test_the_message_has_the_command_that_forces_it(
    consumed: Consumed, control_plane: Cluster
) -> None:
    """As it stands there: the prefix and its bundles go, the pod does not."""
    message = consumed.delete()
    command = message[message.index("kubectl annotate") :]
    control_plane.kubectl(*shlex.split(command)[1:])
    consumed.await_gone()
    consumed.team.await_event("DeletionForced", "1 pods")
    assert consumed.api.find(POD, consumed.consumer, "web") is not None


def test_the_namespace_takes_it_along(consumed: Consumed) -> None:
    """A namespace that is deleted is not kept by a prefix in it."""
    consumed.delete()
    consumed.api.delete(NAMESPACE, None, consumed.team.namespace)
    consumed.await_gone()


def test_a_namespace_that_left_holds_nothing(consumed: Consumed) -> None:
    """Its bundle is gone already, so there is nothing to keep for its pods."""
    unselected: dict[str, Any] = {"metadata": {"labels": None}}
    consumed.delete()
    consumed.api.patch(NAMESPACE, None, consumed.consumer, unselected)
    consumed.await_gone()


def test_finished_pods_hold_nothing(consumed: Consumed) -> None:
    """A pod that has run to its end reads no bundle any more."""
    consumed.delete()
    consumed.api.patch(
        POD, consumed.consumer, "web", {"status": {"phase": "Succeeded"}}, subresource="/status"
    )
    consumed.await_gone()


def test_other_finalizers_are_left_alone(consumed: Consumed) -> None:
    """Neither when ours is put on nor when it is taken off."""
    team = consumed.team
    theirs = {"metadata": {"finalizers": ["example.com/theirs", FINALIZER, "example.com/more"]}}
    consumed.api.patch(PROMPT_PREFIX, team.namespace, "house", theirs)
    consumed.delete()
    consumed.api.delete(POD, consumed.consumer, "web")
    wait_until(
        lambda: consumed.finalizers() == ["example.com/theirs", "example.com/more"],
        PATIENCE,
        "ours is off",
    )
    consumed.api.patch(PROMPT_PREFIX, team.namespace, "house", {"metadata": {"finalizers": None}})
    consumed.await_gone()


def test_a_finalizer_that_was_taken_off_comes_back(consumed: Consumed) -> None:
    """`kubectl replace` with an old file drops it: the prefix would be unprotected."""
    name = consumed.team.namespace
    consumed.api.patch(PROMPT_PREFIX, name, "house", {"metadata": {"finalizers": None}})
    wait_until(lambda: FINALIZER in consumed.finalizers(), PATIENCE, "it is back")


def test_pods_are_counted(consumed: Consumed, api: Api) -> None:
    """`status.consumers` says how many mount the bundle."""
    known = {"namespaces": 1, "pods": 1, "oldBundle": 0, "offContract": 0, "exceptions": []}
    wait_until(lambda: consumed.team.status()["consumers"] == known, PATIENCE, "the pod is counted")
    api.delete(POD, consumed.consumer, "web")
    wait_until(lambda: consumed.team.status()["consumers"]["pods"] == 0, PATIENCE, "and no longer")
