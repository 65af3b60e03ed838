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
from headwater.controller.objects import Key, bundle_name, files_of
from headwater.controller.watch import Work
from tests.unit.controller.memory import Change, Mishap, Server
from tests.unit.controller.process import (
    HOUSE,
    LABEL,
    PLACES,
    Process,
    Sidecars,
    come_or_go,
    published,
)
from tests.unit.rollout.stories import OPUS, START

GUEST: Final = Key("team", "guest")
SELECTS: Final = {HOUSE: "yes", GUEST: "no"}
"""The prefixes, and the value of the label by which each selects its namespaces."""
LABELS: Final = ("yes", "neither", "no")
KEYS: Final = tuple(SELECTS)
ROUNDS: Final = 24
"""Reconciles after which nothing may be left to do."""
SOON: Final = timedelta(seconds=5)
"""What wants to be called again later than that waits for its time, and the clock stands."""
ACTS: Final = st.sampled_from(["prefix", "publish", "namespace", "label", "hear"])
NUMBERS: Final = st.integers(0, 3)


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

    @rule(act=ACTS, number=NUMBERS)
    def act(self, act: str, number: int) -> None:
        """Somebody does something, or one event arrives."""
        key, place = KEYS[number % 2], PLACES[number % 2]
        there = self.server.find(PROMPT_PREFIX, *key)
        if act == "hear":
            self._hear(number)
        elif act == "namespace":
            come_or_go(self.server, place)
        elif act == "label":
            self._label(place)
        elif act == "prefix" and there is not None:
            self.server.delete(PROMPT_PREFIX, *key)
        elif act == "prefix":
            metadata = {"namespace": key.namespace, "name": key.name}
            spec = self._spec(key, number)
            self.server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": spec})
        elif there is not None:
            self.server.edit(PROMPT_PREFIX, *key, spec=self._spec(key, number))

    @rule(
        number=NUMBERS,
        at=NUMBERS,
        late=st.booleans(),
        meanwhile=st.lists(st.tuples(ACTS, NUMBERS), max_size=3),
    )
    def work(
        self, number: int, at: int, *, late: bool, meanwhile: Sequence[tuple[str, int]]
    ) -> None:
        """A reconcile, if one was asked for; meanwhile things happen between two of its calls."""
        if not late:
            self._hear_all(0)

        async def happens() -> None:
            for act, of in meanwhile:
                self.act(act, of)

        self.process.connection.expect(Mishap(at, meanwhile=happens))
        self._reconcile(number)
        self.process.connection.expect(None)

    @rule(first=st.booleans())
    def settle(self, *, first: bool) -> None:
        """When all was heard of and all that was asked for is done, all is as declared."""
        for _ in range(ROUNDS):
            self._hear_all(0 if first else -1)
            if not self.asked:
                break
            self._reconcile(0)
        else:
            raise AssertionError("it does not come to rest")
        for key in KEYS:
            self._check(key)

    def _reconcile(self, number: int) -> None:
        if not self.asked:
            return
        work = sorted(self.asked)[number % len(self.asked)]
        self.asked.remove(work)
        try:
            again = self.runner.run(self.process.work(work.key))
        except ApiError:
            self.asked.add(work)
        else:
            if again is not None and again <= SOON:
                self.asked.add(work)

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

    def _label(self, name: str) -> None:
        there = self.server.find(NAMESPACE, None, name)
        if there is not None:
            at = LABELS.index(there["metadata"]["labels"][LABEL])
            labels = {LABEL: LABELS[(at + 1) % len(LABELS)]}
            self.server.merge_metadata(NAMESPACE, None, name, labels=labels)

    def _spec(self, key: Key, text: int) -> dict[str, Any]:
        return {
            "owner": {"team": "platform"},
            "models": [OPUS],
            "consumers": {"namespaceSelector": {"matchLabels": {LABEL: SELECTS[key]}}},
            "rollout": {"strategy": "Immediate"},
            **published(f"v{text}", text),
        }

    def _check(self, key: Key) -> None:
        staying = {
            body["metadata"]["name"]: body["metadata"]["labels"][LABEL]
            for body in self.server.all(NAMESPACE)
            if "deletionTimestamp" not in body["metadata"]
        }
        served = {
            body["metadata"]["namespace"]: bundle.decode(files_of(body)).route.stable.digest
            for body in self.server.all(CONFIG_MAP)
            if body["metadata"]["name"] == bundle_name(key)
            and body["metadata"]["namespace"] in staying
        }
        prefix = self.server.find(PROMPT_PREFIX, *key)
        if prefix is None:
            assert served == {}
            return
        selected = [name for name, label in staying.items() if label == SELECTS[key]]
        assert served == dict.fromkeys(selected, prefix["spec"]["digest"])
        assert prefix["status"]["stable"]["digest"] == prefix["spec"]["digest"]
        assert prefix["status"]["observedGeneration"] == prefix["metadata"]["generation"]


TestWakes = Wakes.TestCase
TestWakes.settings = settings(max_examples=100, stateful_step_count=25)


def test_what_was_read_before_it_was_heard_of_is_served() -> None:
    """A prefix is made anew while the bundles of its namesake are about to be withdrawn."""
    story = Wakes()
    story.act("prefix", 0)
    story.settle(first=True)
    story.act("prefix", 0)
    story.work(0, at=0, late=False, meanwhile=[("prefix", 2)])
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


def test_what_one_prefix_read_of_a_namespace_concerns_the_other_one_too() -> None:
    """A namespace leaves one prefix and joins another; the former's reconcile reads of it first."""
    story = Wakes()
    story.act("prefix", 0)
    story.act("prefix", 1)
    story.settle(first=True)
    story.act("label", 0)
    story.work(0, at=0, late=False, meanwhile=[("label", 0)])
    story.teardown()
