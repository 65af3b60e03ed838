"""What a controller shows of itself, and of where prefixes stand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.cluster import Object
from headwater.contract.errors import HeadwaterError
from headwater.controller.evidence import Evidence
from headwater.controller.metrics import Metrics
from headwater.controller.queue import WorkQueue
from headwater.controller.store import Store
from headwater.evidence.ledger import Ledger
from headwater.evidence.scrape import Sidecars
from tests.unit.controller.bodies import prompt_prefix, stored
from tests.unit.controller.test_queue import in_jumping_time, working

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WHERE = 'namespace="ai-platform",'


async def nothing(_: str) -> timedelta | None:
    return None


def evidence(*prefixes: Object) -> Evidence:
    store = Store()
    for body in prefixes:
        store.see_prefix(stored(body))
    interval = timedelta(seconds=15)
    return Evidence(store, Ledger(NOW), Sidecars(dict), None, interval, lambda: NOW)


def metrics_of(*prefixes: Object) -> bytes:
    """Of a controller that leads and has something of everything."""
    return Metrics(WorkQueue(nothing), evidence(*prefixes)).exposition()


def shown(exposition: bytes) -> set[str]:
    """The samples of ours, each as its line."""
    lines = exposition.decode().splitlines()
    return {line for line in lines if line.startswith(("headwater_controller", "headwater_prefix"))}


def test_one_that_waits_shows_no_more_than_that() -> None:
    """So that nothing is counted twice."""
    waiting = Metrics(None, None).exposition()
    assert shown(waiting) == {"headwater_controller_leads 0.0"}
    assert b"process_resident_memory_bytes" in waiting


@pytest.mark.parametrize(
    ("status", "phase", "stalled"),
    [
        pytest.param({}, "Pending", 0, id="not looked at yet"),
        pytest.param({"phase": "Stable", "conditions": []}, "Stable", 0, id="stable"),
        pytest.param(
            {"phase": "RolledBack", "conditions": [{"type": "Stalled", "status": "True"}]},
            "RolledBack",
            1,
            id="went back",
        ),
        pytest.param(
            {"phase": "Progressing", "conditions": [{"type": "Stalled", "status": "False"}]},
            "Progressing",
            0,
            id="on its way",
        ),
    ],
)
def test_where_a_prefix_stands(status: dict[str, Any], phase: str, stalled: int) -> None:
    """By the status that was written last."""
    body = {**prompt_prefix(), "status": status}
    assert shown(metrics_of(body)) == {
        "headwater_controller_leads 1.0",
        "headwater_controller_failing 0.0",
        "headwater_controller_evidence_available 1.0",
        f'headwater_prefix_phase{{{WHERE}phase="{phase}",prefix="help-desk"}} 1.0',
        f'headwater_prefix_stalled{{{WHERE}prefix="help-desk"}} {stalled:.1f}',
    }


def test_what_fails_and_what_is_silent() -> None:
    """As long as it does."""
    broken = {"one", "two"}

    async def reconcile(key: str) -> timedelta | None:
        if key in broken:
            raise HeadwaterError("the API server refuses it")
        return None

    queue, known = WorkQueue(reconcile), evidence()

    async def story() -> None:
        for key in ("one", "two", "three"):
            queue.add(key)
        await queue.rest()
        known.outage = "no answer"
        said = shown(Metrics(queue, known).exposition())
        assert "headwater_controller_failing 2.0" in said
        assert "headwater_controller_evidence_available 0.0" in said
        broken.clear()
        queue.add("one")
        await queue.rest()
        assert "headwater_controller_failing 1.0" in shown(Metrics(queue, known).exposition())

    in_jumping_time(working(queue, story))
