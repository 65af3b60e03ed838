"""Whoever changes something has it looked at, in whatever order a watch tells of it.

Here a reconcile happens only where an event or a reconcile before asked for it, as in the queue.
kopf hands on the events of one uid in their order, and those of two at once: a prefix that was
deleted and made anew may be heard of the wrong way round, and may be read before it is heard of.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headwater.cluster import CONFIG_MAP, EVENT, NAMESPACE, PROMPT_PREFIX, ApiError
from headwater.contract import bundle
from headwater.controller.objects import bundle_name, files_of
from headwater.controller.watch import Work
from tests.unit.controller.memory import Change, Mishap, Server
from tests.unit.controller.process import (
    HOUSE,
    LABEL,
    PLACES,
    TEXTS,
    WANTED,
    Process,
    Sidecars,
    published,
)
from tests.unit.rollout.stories import OPUS, START

ROUNDS: Final = 12
"""Reconciles after which nothing may be left to do."""
SOON: Final = timedelta(seconds=5)
"""What wants to be called again later than that waits for its time, and the clock stands."""
ACTS: Final = st.sampled_from(["prefix", "namespace", "publish", "hear"])


class Wakes(RuleBasedStateMachine):
    """One controller that works only when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.server = Server()
        for name in (HOUSE.namespace, *PLACES):
            self.server.create(NAMESPACE, {"metadata": {"name": name, "labels": {LABEL: "yes"}}})
        self.asked: set[Work] = set()
        self.untold: dict[str, deque[Change]] = {}
        """Events that nobody has heard of yet, by uid."""
        self.process = Process(self.server, Sidecars(), lambda: START, self.asked.add)
        self.runner.run(self.process.start())
        self.runner.run(self.process.scrape())

    def teardown(self) -> None:
        try:
            self.settle(first=False)
        finally:
            self.runner.close()

    @rule(act=ACTS, number=st.integers(0, 3))
    def act(self, act: str, number: int) -> None:
        """Somebody does something, or one event arrives."""
        there = self.server.find(PROMPT_PREFIX, *HOUSE)
        if act == "hear":
            self._hear(number)
        elif act == "namespace":
            self._come_or_go(PLACES[number % len(PLACES)])
        elif act == "prefix" and there is not None:
            self.server.delete(PROMPT_PREFIX, *HOUSE)
        elif act == "prefix":
            metadata = {"namespace": HOUSE.namespace, "name": HOUSE.name}
            self.server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": self._spec(number)})
        elif there is not None:
            self.server.edit(PROMPT_PREFIX, *HOUSE, spec=self._spec(number))

    @rule(
        at=st.integers(0, 3),
        late=st.booleans(),
        meanwhile=st.lists(st.tuples(ACTS, st.integers(0, 3)), max_size=3),
    )
    def work(self, at: int, *, late: bool, meanwhile: Sequence[tuple[str, int]]) -> None:
        """A reconcile, if one was asked for; meanwhile things happen between two of its calls."""
        if not late:
            self._hear_all(0)
        if not self.asked:
            return
        self.asked.clear()

        async def happens() -> None:
            for act, number in meanwhile:
                self.act(act, number)

        self.process.connection.expect(Mishap(at, meanwhile=happens))
        self._reconcile()
        self.process.connection.expect(None)

    @rule(first=st.booleans())
    def settle(self, *, first: bool) -> None:
        """When all was heard of and all that was asked for is done, all is as declared."""
        self._hear_all(0 if first else -1)
        for _ in range(ROUNDS):
            if not self.asked:
                break
            self.asked.clear()
            self._reconcile()
            self._hear_all(0 if first else -1)
        else:
            raise AssertionError("it does not come to rest")
        self._check()

    def _reconcile(self) -> None:
        house = Work(PROMPT_PREFIX, HOUSE)
        try:
            again = self.runner.run(self.process.work())
        except ApiError:
            self.asked.add(house)
        else:
            if again is not None and again <= SOON:
                self.asked.add(house)

    def _hear(self, number: int) -> bool:
        """Get the next event of one object, whichever it is; False where there is none."""
        for change in self.process.news():
            self.untold.setdefault(change.body["metadata"]["uid"], deque()).append(change)
        uids = list(self.untold)
        if not uids:
            return False
        uid = uids[number % len(uids)]
        self.process.hear(self.untold[uid].popleft())
        if not self.untold[uid]:
            del self.untold[uid]
        return True

    def _hear_all(self, number: int) -> None:
        while self._hear(number):
            pass

    def _come_or_go(self, name: str) -> None:
        there = self.server.find(NAMESPACE, None, name)
        if there is None:
            self.server.create(NAMESPACE, {"metadata": {"name": name, "labels": {LABEL: "yes"}}})
        elif "deletionTimestamp" in there["metadata"]:
            self.server.finish(name)
        else:
            self.server.terminate(name)

    def _spec(self, text: int) -> dict[str, Any]:
        return {
            "owner": {"team": "platform"},
            "models": [OPUS],
            "consumers": {"namespaceSelector": WANTED},
            "rollout": {"strategy": "Immediate"},
            **published(f"v{text}", text % len(TEXTS)),
        }

    def _check(self) -> None:
        prefix = self.server.find(PROMPT_PREFIX, *HOUSE)
        staying = {
            body["metadata"]["name"]
            for body in self.server.all(NAMESPACE)
            if "deletionTimestamp" not in body["metadata"]
        }
        served = {
            body["metadata"]["namespace"]: bundle.decode(files_of(body)).route.stable.digest
            for body in self.server.all(CONFIG_MAP)
            if body["metadata"]["name"] == bundle_name(HOUSE)
            and body["metadata"]["namespace"] in staying
        }
        if prefix is None:
            assert served == {}
            return
        assert served == dict.fromkeys(staying, prefix["spec"]["digest"])
        assert prefix["status"]["stable"]["digest"] == prefix["spec"]["digest"]
        assert prefix["status"]["observedGeneration"] == prefix["metadata"]["generation"]


TestWakes = Wakes.TestCase
TestWakes.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


def test_what_was_read_before_it_was_heard_of_is_served() -> None:
    """A prefix is made anew while the bundles of its namesake are about to be withdrawn."""
    story = Wakes()
    story.act("prefix", 0)
    story.settle(first=True)
    story.act("prefix", 0)
    story.work(at=0, late=False, meanwhile=[("prefix", 1)])
    story.teardown()


def test_a_namespace_that_is_made_anew_gets_its_bundle_and_nobody_is_blamed() -> None:
    """The bundle went with the namespace: no hand has deleted it."""
    story = Wakes()
    story.act("prefix", 0)
    story.settle(first=True)
    for _ in ("ends", "is gone", "is made anew"):
        story.act("namespace", 0)
    story.teardown()
    assert "Repaired" not in {event["reason"] for event in story.server.all(EVENT)}
