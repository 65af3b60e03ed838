"""Conversations that run on while versions change: an abort takes them along, a promotion not."""

from typing import Any

import pytest

from headwater.contract.digest import Digest
from tests.integration.controller.harness import Controller
from tests.integration.scenarios.world import Application, World

pytestmark = pytest.mark.xdist_group("scenarios")

CANARY: dict[str, Any] = {"steps": [{"setWeight": 50}, {"pause": {}}]}


@pytest.fixture
def v1(world: World, controller: Controller) -> Digest:
    """Two pods of one team on v1."""
    assert controller.running
    support = world.team.consumer("support")
    digest = world.team.serve(source=world.source("v1"))
    for name in ("chat", "mail"):
        world.pod(support, name, key="sk-support")
    world.talk()
    return digest


def begun_on(application: Application, version: str) -> str:
    """A user whose conversation has begun on a version."""
    users = (f"{application.metrics} {number}" for number in range(100))
    return next(user for user in users if application.ask(user).version == version)


def test_an_abort_takes_them_along_at_once(world: World, v1: Digest) -> None:
    """With the next request, in every pod, and no node has to sync by itself."""
    world.team.publish(version="v2", source=world.source("v2"), rollout=CANARY)
    world.await_phase("AwaitingApproval", weight=50)
    world.await_synced()
    pinned = [(each, begun_on(each, "v2")) for each in world.applications]
    assert [each.ask(user).version for each, user in pinned] == ["v2", "v2"]

    world.team.publish(source=world.source("v1"), rollout=CANARY)
    status = world.await_phase("Stable")
    world.await_sidecars()
    assert [each.ask(user).version for each, user in pinned] == ["v1", "v1"]
    assert status["stable"]["digest"] == v1
    assert world.history()[-1] == ("v2", "Aborted")


@pytest.mark.usefixtures("v1")
def test_a_promotion_lets_them_stay(world: World) -> None:
    """What was cached of them is still good; a new conversation gets the new version."""
    pinned = [(each, begun_on(each, "v1")) for each in world.applications]
    second = world.team.publish(
        version="v2", source=world.source("v2"), rollout={"strategy": "Immediate"}
    )
    world.team.await_stable(second)
    world.await_synced()
    before = world.provider.last
    assert [each.ask(user).version for each, user in pinned] == ["v1", "v1"]
    assert all(each.read > 0 and each.wrote == 0 for each in world.provider.received(before))
    assert {answer.version for answer in world.talk()} == {"v2"}
