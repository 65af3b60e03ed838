"""Statuses that stand in clusters: a new release of the operator starts nothing and loses nothing.

`golden/<generation>/<name>.yaml` is a PromptPrefix as a release recorded it, with the time of the
record and what was observed then. A file is never edited: clusters have what is in it. When the
status gets a new form, a new generation is written beside the others:

    python -m tests.unit.controller.test_golden tests/unit/controller/golden/<generation>

and each of its files is read by a person before it is committed. A release that can no longer
read a generation says so in its notes, and only then are that generation's files deleted.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from headwater.cluster import CACHE_WARMER, NAMESPACE, PROMPT_PREFIX, Object
from headwater.contract.digest import Digest
from headwater.controller.objects import Key
from headwater.controller.status import plan_from, state_from, status_from
from headwater.resources import PromptPrefix
from headwater.resources.status import ConsumerCounts
from headwater.rollout.decide import decide
from headwater.rollout.state import Counts, Observed, Phase, State
from tests.unit.controller.memory import CrashError, Mishap, Server
from tests.unit.controller.process import (
    HOUSE,
    LABEL,
    TEXTS,
    WANTED,
    Process,
    Sidecars,
    digest_of_text,
    published,
)
from tests.unit.controller.test_reconcile_laws import verified
from tests.unit.rollout.stories import HAIKU, MINUTE, OPUS, START

GOLDEN: Final = Path(__file__).parent / "golden"
CURRENT: Final = "2"
FILES: Final = sorted(GOLDEN.glob("*/*.yaml"))


@dataclass(frozen=True)
class Recorded:
    """One file."""

    prefix: PromptPrefix
    declared: Digest | None
    observed: Observed
    at: datetime

    @property
    def state(self) -> State:
        return state_from(self.prefix.status)

    @classmethod
    @cache  # half of what these tests cost is YAML
    def read(cls, path: Path) -> "Recorded":
        document = YAML(typ="safe").load(path)
        observed = document["observed"]
        return cls(
            PromptPrefix.model_validate(document["prefix"]),
            verified(document["prefix"]),
            Observed(outage=observed["outage"], warming=tuple(observed["warming"])),
            datetime.fromisoformat(document["at"]),
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_upgrade_starts_nothing(path: Path) -> None:
    """Without news nothing is decided, and consumers keep the route that they have."""
    recorded = Recorded.read(path)
    plan = plan_from(recorded.prefix, recorded.declared)
    before = recorded.state
    decision = decide(plan, before, recorded.observed, recorded.at)
    assert decision.events == ()
    after = decision.state
    if before.phase is Phase.PROMOTING:  # the reconcile says so until every bundle is written
        after = replace(after, phase=before.phase)
    if path.parent.name == "1" and after.candidate is not None:  # it knew no clock to be stopped
        after = replace(after, candidate=replace(after.candidate, clock_stopped_at=None))
    assert _without_words(after) == _without_words(before)


def _without_words(state: State) -> State:
    """Sentences may be put better by a later release."""
    candidate = state.candidate
    if candidate is not None:
        candidate = replace(candidate, verdict=replace(candidate.verdict, message=""))
    return replace(state, message="", candidate=candidate)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nothing_is_lost_in_the_new_form(path: Path) -> None:
    """The present form has all that was recorded, and only its own generation is the same."""
    recorded = Recorded.read(path)
    status = recorded.prefix.status
    written = status_from(
        Key(recorded.prefix.metadata.namespace, recorded.prefix.metadata.name),
        recorded.state,
        status,
        generation=status.observed_generation,
        conditions=status.conditions,
        consumers=status.consumers or ConsumerCounts(namespaces=0),
        stable_counts={},
        now=recorded.at + timedelta(hours=1),
    )
    assert state_from(written) == recorded.state
    if path.parent.name == CURRENT:
        assert written == status


def test_every_phase_is_there() -> None:
    """In the present form; the earlier ones have what there was then."""
    phases = {Recorded.read(path).state.phase for path in FILES if path.parent.name == CURRENT}
    assert phases == set(Phase)


class World:
    """A prefix under a controller, for one file."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.server, self.sidecars = Server(), Sidecars()
        self._runner = asyncio.Runner()
        self.server.create(
            NAMESPACE, {"metadata": {"name": HOUSE.namespace, "labels": {LABEL: "yes"}}}
        )
        self._spec = {
            "owner": {"team": "platform"},
            "models": [OPUS, HAIKU],
            "consumers": {"namespaceSelector": WANTED},
            **published("v1", 0),
            **spec,
        }
        metadata = {"namespace": HOUSE.namespace, "name": HOUSE.name}
        self.server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": self._spec})
        self._process = Process(self.server, self.sidecars, lambda: self.now)
        self._runner.run(self._process.start())
        self._runner.run(self._process.scrape())
        self.work()

    def work(self, mishap: Mishap | None = None) -> None:
        self.now += timedelta(seconds=7)
        self._process.catch_up()
        self._runner.run(self._process.scrape())
        self._process.connection.expect(mishap)
        self._runner.run(self._process.reconcile())

    def commit(self, **parts: Any) -> None:
        self._spec.update(parts)
        self.server.edit(PROMPT_PREFIX, *HOUSE, spec=self._spec)
        self.work()

    def count(self, text: int, hits: int, misses: int = 0) -> None:
        counts = Counts(hits=hits, misses=misses, answers=hits + misses)
        for model in (OPUS, HAIKU):
            self.sidecars.count(Digest(digest_of_text(TEXTS[text])), model, counts)
        self.work()

    def dump(self, outage: str = "", warming: tuple[str, ...] = ()) -> Object:
        self.work()
        body = self.server.get(PROMPT_PREFIX, *HOUSE)
        self._runner.close()
        observed = {"outage": outage, "warming": list(warming)}
        return {"at": self.now.isoformat(), "observed": observed, "prefix": body}


def canary(*steps: Object, **rollout: Any) -> Mapping[str, Any]:
    chosen = steps or ({"setWeight": 10}, {"setWeight": 50})
    return {"rollout": {"steps": list(chosen), "analysis": {"minRequests": 20}, **rollout}}


def trying(*steps: Object, **rollout: Any) -> World:
    world = World()
    world.count(0, 50)
    world.commit(**published("v2", 1), **canary(*steps, **rollout))
    return world


def _pending() -> Object:
    return World(**published("v1", 0) | {"digest": str(Digest.of(b"other"))}).dump()


def _stable() -> Object:
    return World().dump()


def _warming() -> Object:
    world = World()
    lane = {"credential": "prod", "model": OPUS, "digest": digest_of_text(TEXTS[0])}
    name = {"namespace": HOUSE.namespace, "name": "warm"}
    credential = {"name": "prod", "secretRef": {"name": "key", "key": "key"}}
    spec = {"prefixRef": {"name": HOUSE.name}, "credentials": [credential]}
    world.server.create(CACHE_WARMER, {"metadata": name, "spec": spec})
    lanes = {"lanes": [{**lane, "state": "Warm"}]}
    world.server.write_status(CACHE_WARMER, HOUSE.namespace, "warm", lanes)
    world.commit(**published("v2", 1), **canary())
    return world.dump(warming=(f"prod on {OPUS}",))


def _progressing() -> Object:
    world = trying()
    world.count(1, 9, 1)
    return world.dump()


def _raised() -> Object:
    world = trying({"setWeight": 10}, {"setWeight": 50, "analysis": {"minRequests": 40}})
    world.count(1, 60)
    world.count(1, 12, 1)
    return world.dump()


def _compared() -> Object:
    analysis = {"minRequests": 20, "maxCostIncrease": 0.2, "maxLatencyIncrease": 0.5}
    world = trying(analysis=analysis)
    world.count(0, 25)
    world.count(1, 9, 1)
    return world.dump()


def _paused() -> Object:
    world = trying({"setWeight": 10}, {"pause": {"duration": "10m"}}, {"setWeight": 50})
    world.count(1, 60)
    return world.dump()


def _outage() -> Object:
    world = trying()
    world.sidecars.away = True
    world.work()
    return world.dump(outage="nobody answers")


def _suspended() -> Object:
    world = trying()
    world.commit(suspend=True)
    return world.dump()


def _awaiting_approval() -> Object:
    world = trying({"setWeight": 10}, approval="Required")
    world.count(1, 60)
    return world.dump()


def _promoting() -> Object:
    for at in range(20):
        world = trying({"setWeight": 10})
        try:
            world.sidecars.count(Digest(digest_of_text(TEXTS[1])), OPUS, Counts(hits=60))
            world.sidecars.count(Digest(digest_of_text(TEXTS[1])), HAIKU, Counts(hits=60))
            world.work(Mishap(at, CrashError()))
        except CrashError:
            body = world.server.get(PROMPT_PREFIX, *HOUSE)
            if body["status"]["phase"] == "Promoting":
                observed: Object = {"outage": "", "warming": []}
                return {"at": world.now.isoformat(), "observed": observed, "prefix": body}
    raise AssertionError("it never stands between the record and the bundles")


def _retained() -> Object:
    world = trying({"setWeight": 10})
    world.count(1, 60)
    return world.dump()


def _rolled_back() -> Object:
    world = trying()
    world.count(1, 2, 30)
    return world.dump()


def _superseded() -> Object:
    world = trying()
    world.commit(**published("v3", 2))
    return world.dump()


def _aborted() -> Object:
    world = trying()
    world.commit(**published("v1", 0))
    return world.dump()


def _broken() -> Object:
    world = trying()
    world.count(1, 9, 1)
    world.commit(digest=str(Digest.of(b"other")), version="v3")
    return world.dump()


def _overdue() -> Object:
    world = trying(progressDeadline="30m")
    world.now += 40 * MINUTE
    world.work()
    return world.dump()


def _first_canary() -> Object:
    world = World(**canary(firstVersion="Canary"))
    world.count(0, 9, 1)
    return world.dump()


STORIES: Final[Mapping[str, Callable[[], Object]]] = {
    "pending": _pending,
    "stable": _stable,
    "warming": _warming,
    "progressing": _progressing,
    "raised": _raised,
    "compared": _compared,
    "paused": _paused,
    "outage": _outage,
    "suspended": _suspended,
    "awaiting-approval": _awaiting_approval,
    "promoting": _promoting,
    "retained": _retained,
    "rolled-back": _rolled_back,
    "superseded": _superseded,
    "aborted": _aborted,
    "broken-content": _broken,
    "overdue": _overdue,
    "first-canary": _first_canary,
}


if __name__ == "__main__":
    directory, yaml = Path(sys.argv[1]), YAML()
    yaml.width = 100
    directory.mkdir()  # one that is there is never written again
    for name, story in STORIES.items():
        yaml.dump(story(), directory / f"{name}.yaml")
