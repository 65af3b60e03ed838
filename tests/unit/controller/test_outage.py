"""An outage of the evidence is known to every candidate, whenever it begins or ends."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from headwater.cluster import NAMESPACE, PROMPT_PREFIX
from headwater.controller.watch import Work
from tests.unit.controller.memory import Mishap, Server
from tests.unit.controller.process import HOUSE, LABEL, WANTED, Process, Sidecars, published
from tests.unit.rollout.stories import START

ROUNDS = 5
"""More readings in vain than an outage takes."""
CALLS = range(6)
"""Of a reconcile that begins a canary."""


class World:
    """A controller whose prefix has served one version and is about to try another."""

    def __init__(self) -> None:
        self.server, self.sidecars = Server(), Sidecars()
        self.looked: list[Work] = []
        self.process = Process(self.server, self.sidecars, lambda: START)

    async def prepare(self) -> None:
        """Serve the first version, and declare the second one."""
        labels = {LABEL: "yes"}
        for name in (HOUSE.namespace, "a"):
            self.server.create(NAMESPACE, {"metadata": {"name": name, "labels": labels}})
        spec = {
            "owner": {"team": "platform"},
            "models": ["claude-opus-5"],
            "consumers": {"namespaceSelector": WANTED},
            "rollout": {"steps": [{"setWeight": 10}, {"setWeight": 50}]},
            **published("a", 0),
        }
        metadata = {"namespace": HOUSE.namespace, "name": HOUSE.name}
        self.server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": spec})
        await self.process.start()
        await self.process.scrape()
        await self.process.work()
        there = self.server.get(PROMPT_PREFIX, *HOUSE)["spec"]
        self.server.edit(PROMPT_PREFIX, *HOUSE, spec={**there, **published("b", 1)})
        self.process.catch_up()

    async def turn(self, *, away: bool) -> None:
        """Let the sidecars go or come back, for so long that it is known."""
        self.sidecars.away = away
        for _ in range(ROUNDS):
            await self.process.scrape(lambda work, within: self.looked.append(work))

    async def reconcile(self, meanwhile: Callable[[], Awaitable[None]], at: int) -> None:
        """Work once, with something happening at a call; again, where anybody asks for it."""
        self.process.connection.expect(Mishap(at, meanwhile=meanwhile))
        again = await self.process.work()
        self.process.connection.expect(None)
        if self.looked or again == timedelta(0):
            await self.process.work()

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(PROMPT_PREFIX, *HOUSE)["status"]
        return found


@pytest.mark.parametrize("at", CALLS)
async def test_one_that_begins_while_a_canary_does(at: int) -> None:
    """The candidate stands still and says so, though it was not there when evidence went out."""
    world = World()
    await world.prepare()
    await world.reconcile(lambda: world.turn(away=True), at)
    assert world.process.outage
    assert world.status["phase"] == "Paused"
    assert "evidence cannot be read" in world.status["message"]


@pytest.mark.parametrize("at", CALLS)
async def test_one_that_ends_while_a_canary_begins(at: int) -> None:
    """It does not stand still for what is over."""
    world = World()
    await world.prepare()
    await world.turn(away=True)
    world.looked.clear()
    await world.reconcile(lambda: world.turn(away=False), at)
    assert not world.process.outage
    assert world.status["phase"] == "Progressing"
