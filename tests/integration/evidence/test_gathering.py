"""What the controller gathers, from real servers, and whom it has looked at again."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headwater.controller.evidence import Evidence
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.controller.watch import Work
from headwater.evidence.ledger import Ledger
from headwater.evidence.prometheus import Prometheus
from headwater.evidence.scrape import Sidecars
from headwater.evidence.source import Source
from headwater.rollout.state import Measurement
from tests.cluster.prometheus import PrometheusServer
from tests.integration.evidence.pods import MODEL, PREFIX, Pod
from tests.unit.controller.bodies import ONE, TWO, prompt_prefix, revision, stored

pytestmark = pytest.mark.xdist_group("prometheus")

Look = Callable[[Work, timedelta], None]

KEY = Key("ai-platform", PREFIX)
NO_PROMETHEUS = "the controller has no Prometheus: start it with --prometheus-url"


class Controller:
    """The evidence of a controller that knows some prefixes, at a time that the test sets."""

    def __init__(
        self,
        source: Source,
        prometheus: Prometheus | None = None,
        sidecars: tuple[str, ...] = (),
        trusted: tuple[str, ...] = (),
    ) -> None:
        self.now = datetime(2026, 11, 21, 9, tzinfo=UTC)
        self.store = Store()
        self.store.sidecars = {Key("support", name): "" for name in sidecars}
        # So that pods of the test are older than the ledger, and counts are what came since.
        ledger = Ledger(datetime.now(UTC) + timedelta(days=3650))
        self.evidence = Evidence(
            self.store,
            ledger,
            source,
            prometheus,
            interval=timedelta(seconds=15),
            clock=lambda: self.now,
            trusted=trusted,
        )
        self._version = 0

    def see(self, name: str = PREFIX, candidate: bytes | None = None, **parts: Any) -> None:
        """Have a prefix in the store; `candidate` are the bytes that are being canaried."""
        self._version += 1
        queries = [
            {"name": name, "promql": text} for name, text in parts.get("queries", {}).items()
        ]
        body = prompt_prefix(rollout={"analysis": {"queries": queries}})
        status: dict[str, Any] = {}
        if candidate is not None:
            digest = str(revision("v2", candidate).digest)
            status = {"candidate": {"digest": digest, "weight": parts.get("weight", 10)}}
        self.store.see_prefix({**stored(body, self._version, name=name), "status": status})

    async def gather(self) -> list[str]:
        """One round; the prefixes that are to be looked at."""
        return await self._round(self.evidence.gather)

    async def ask(self) -> list[str]:
        """Ask what is to be asked; the prefixes that are to be looked at."""
        return await self._round(self.evidence.ask)

    async def _round(self, part: Callable[[Look], Awaitable[None]]) -> list[str]:
        looked: set[str] = set()
        await part(lambda work, _: looked.add(work.key.name))
        return sorted(looked)


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Pod() as pod:
        yield pod


def sidecars(*pods: Pod) -> Sidecars:
    return Sidecars(lambda: {pod.address: f"http://{pod.address}/metrics" for pod in pods})


async def test_prefixes_that_gained_evidence_are_looked_at(pod: Pod) -> None:
    """And no others, and nobody where nothing is new."""
    controller = Controller(sidecars(pod), trusted=(f"http://{pod.address}/metrics",))
    controller.see()
    controller.see("other")
    assert await controller.gather() == []
    pod.count("hit", 3)
    assert await controller.gather() == [PREFIX]
    assert await controller.gather() == []
    totals = controller.evidence.ledger.totals(str(KEY), pod.digest12)
    assert (totals[MODEL].hits, controller.evidence.outage) == (3, "")


async def test_candidates_are_told_when_an_outage_begins_and_when_it_ends(pod: Pod) -> None:
    """One round in vain is none: the only sidecar may be starting anew."""
    controller = Controller(sidecars(pod))
    controller.see(candidate=TWO, weight=0)
    controller.see("without-candidate")
    assert await controller.gather() == []
    pod.stop()
    assert (await controller.gather(), controller.evidence.outage) == ([], "")
    assert await controller.gather() == [PREFIX]
    assert controller.evidence.outage.startswith(
        "none of 1 sidecars can be read, for one 127.0.0.1"
    )
    assert await controller.gather() == []
    pod.start()
    assert (await controller.gather(), controller.evidence.outage) == ([PREFIX], "")


async def test_no_sidecars_are_no_outage(tmp_path: Path) -> None:
    """Nothing is deployed yet; a Prometheus that knows none of those that are is another matter."""
    with PrometheusServer(tmp_path, []) as server:
        prometheus = Prometheus(server.url)
        nobody, somebody = Controller(prometheus), Controller(prometheus, sidecars=("web-1",))
        for _ in range(2):
            await nobody.gather()
            await somebody.gather()
    assert nobody.evidence.outage == ""
    assert "knows none of the 1 sidecars: does Prometheus scrape them" in somebody.evidence.outage


async def test_queries_are_asked_about_candidates_that_get_traffic(tmp_path: Path) -> None:
    """Every half minute, and at once about another candidate; the answers are that one's alone."""
    queries = {"answer": "42", "own": 'count(absent(m{d="{{digest12}}"}))', "wrong": "{{what}}"}
    with PrometheusServer(tmp_path, []) as server:
        controller = Controller(sidecars(), Prometheus(server.url))
        controller.see("no-candidate", queries=queries)
        controller.see("no-weight", candidate=TWO, weight=0, queries=queries)
        controller.see("no-queries", candidate=TWO)
        controller.see(candidate=TWO, queries=queries)
        assert await controller.ask() == [PREFIX]
        first = controller.evidence.measurements(KEY)
        assert first["answer"] == Measurement(controller.now, 42)
        assert first["own"] == Measurement(controller.now, 1)
        assert (first["wrong"].value, "there are only" in first["wrong"].problem) == (None, True)
        assert controller.evidence.measurements(Key("ai-platform", "no-weight")) == {}

        controller.now += timedelta(seconds=29)
        assert await controller.ask() == []
        controller.now += timedelta(seconds=1)
        assert await controller.ask() == [PREFIX]
        assert controller.evidence.measurements(KEY)["answer"] == Measurement(controller.now, 42)

        controller.see(candidate=ONE, queries=queries)
        assert controller.evidence.measurements(KEY) == {}
        assert await controller.ask() == [PREFIX]
        controller.see(queries=queries)
        assert controller.evidence.measurements(KEY) == {}

    controller.see(candidate=ONE, queries=queries)
    controller.now += timedelta(hours=1)
    await controller.ask()
    answer = controller.evidence.measurements(KEY)["answer"]
    assert (answer.value, answer.at) == (None, controller.now)
    assert "cannot be reached" in answer.problem


async def test_without_a_prometheus_the_answer_says_so() -> None:
    """The author learns from the status what the operator has to do."""
    controller = Controller(sidecars())
    controller.see(candidate=TWO, queries={"answer": "42"})
    assert await controller.ask() == [PREFIX]
    expected = Measurement(controller.now, None, NO_PROMETHEUS)
    assert controller.evidence.measurements(KEY) == {"answer": expected}
