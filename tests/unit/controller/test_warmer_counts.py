"""A finished warming run is counted once, and before anything is told of it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from headwater.cluster import (
    CACHE_WARMER,
    NAMESPACE,
    PROMPT_PREFIX,
    ApiError,
    UnavailableError,
)
from headwater.contract.digest import Digest
from headwater.controller.events import Recorder
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.controller.warmer import WarmerReconciler
from headwater.controller.warmth import Warmth
from headwater.providers.usage import Usage
from headwater.warmer.report import Finished, Report, WarmedLane
from tests.unit.controller.bodies import PREFIX, TWO, prompt_prefix
from tests.unit.controller.memory import Connection, Mishap, Server

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WARMER = Key(PREFIX.namespace, "hot")
MODEL = "claude-opus-4-8"
DIGEST = Digest.of(TWO)
STATUS_WRITE, EVENT_WRITE = 1, 2
"""Calls of a first reconcile, after that of the CronJob."""


class Process:
    """A warmer, its prefix, and a pod that has finished a run of two requests."""

    def __init__(self) -> None:
        self.server, self.store, self.warmth = Server(), Store(), Warmth()
        self.connection = Connection(self.server)
        self.reconciler = WarmerReconciler(
            self.connection,
            self.store,
            Recorder(self.connection, lambda: NOW, instance="test"),
            self.warmth,
            lambda: NOW,
            image="headwater:test",
        )
        self.server.create(NAMESPACE, {"metadata": {"name": PREFIX.namespace}})
        self.server.create(PROMPT_PREFIX, prompt_prefix())
        stable = {"version": "v2", "digest": str(DIGEST), "configMap": "x"}
        stable["promotedAt"] = NOW.isoformat()
        self.server.write_status(PROMPT_PREFIX, *PREFIX, {"stable": stable, "phase": "Stable"})
        credential = {"name": "prod", "secretRef": {"name": "s", "key": "k"}}
        spec = {"prefixRef": {"name": PREFIX.name}, "credentials": [credential]}
        metadata = {"namespace": WARMER.namespace, "name": WARMER.name}
        self.server.create(CACHE_WARMER, {"metadata": metadata, "spec": spec})
        lane = WarmedLane(
            *("prod", "0123456789ab", MODEL, DIGEST, NOW, "Warm"),
            Usage(cache_write_5m=1_530),
            requests=2,
            usd=Decimal("0.0125"),
        )
        self.store.see_run(WARMER, "pod-1", Finished(Report(lanes=(lane,))))
        self.watch()

    def watch(self) -> None:
        """Take in what stands in the cluster."""
        self.store.see_prefix(self.server.get(PROMPT_PREFIX, *PREFIX))
        self.store.see_warmer(self.server.get(CACHE_WARMER, *WARMER))

    @property
    def spent(self) -> str | None:
        status: dict[str, Any] = self.server.get(CACHE_WARMER, *WARMER).get("status") or {}
        found: str | None = status.get("spent", {}).get("usd")
        return found

    @property
    def requests(self) -> float:
        name = "headwater_warm_requests_total"
        labels = {"namespace": WARMER.namespace, "prefix": PREFIX.name, "warmer": WARMER.name}
        value = self.warmth.metrics.registry.get_sample_value(name, {**labels, "result": "warm"})
        return value or 0.0


async def test_it_is_counted_before_an_event_tells_of_it() -> None:
    """An Event may take as long as a request; whoever reads the status reads the metrics."""
    process = Process()
    counted: list[float] = []

    async def look() -> None:
        assert process.spent == "0.0125"
        counted.append(process.requests)

    process.connection.expect(Mishap(EVENT_WRITE, meanwhile=look))
    await process.reconciler.reconcile(WARMER)
    assert process.connection.writes[EVENT_WRITE] == "create events"
    assert counted == [2.0]


@pytest.mark.parametrize("watched", [True, False], ids=["watched before", "watched later"])
async def test_a_lost_answer_does_not_count_it_twice(watched: bool) -> None:  # noqa: FBT001 - a table
    """The status was written, and the controller never learned of it."""
    process = Process()
    process.connection.expect(Mishap(STATUS_WRITE, UnavailableError(0, "no answer"), done=True))
    with pytest.raises(ApiError):
        await process.reconciler.reconcile(WARMER)
    assert process.connection.writes[STATUS_WRITE] == "replace cachewarmers/status"
    assert process.spent == "0.0125"
    if watched:
        process.watch()
    for _ in range(3):
        await process.reconciler.reconcile(WARMER)
    assert process.spent == "0.0125"


async def test_an_answer_that_was_a_refusal_does_not_lose_it() -> None:
    """Nothing was written: the next attempt records it."""
    process = Process()
    process.connection.expect(Mishap(STATUS_WRITE, UnavailableError(0, "no answer")))
    with pytest.raises(ApiError):
        await process.reconciler.reconcile(WARMER)
    assert process.requests == 0.0
    await process.reconciler.reconcile(WARMER)
    assert (process.spent, process.requests) == ("0.0125", 2.0)
