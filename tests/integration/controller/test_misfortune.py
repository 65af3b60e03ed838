"""What the world does to a rollout: one test for each misfortune, on the real API server.

Where a misfortune only reaches pure code it is a table there: clocks that jump and deadlines that
stand in `tests/unit/rollout/test_decide.py`, counters that lie in `tests/unit/evidence`. What
holds under all of them together is in `tests/unit/controller/test_reconcile_laws.py`.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headwater.cluster import CONFIG_MAP, PROMPT_PREFIX
from headwater.contract.digest import Digest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.servers import Gate, Metrics
from tests.integration.controller.team import MODEL, PATIENCE, Team, new_team, prompt, route
from tests.integration.controller.test_canary import REQUESTS, Rollout, canary
from tests.integration.lending import Audit

shared = pytest.mark.xdist_group("controller")

STEPS = ({"setWeight": 10}, {"setWeight": 50})


@pytest.fixture
def rollout(team: Team, metrics: Metrics) -> Rollout:
    return Rollout(team, metrics)


def events(rollout: Rollout) -> list[str]:
    return [event for _, event in rollout.history()]


def write_status(api: Api, rollout: Rollout, status: dict[str, Any] | None) -> None:
    """As `kubectl edit --subresource=status` does; None takes all of it away."""
    namespace = rollout.team.namespace
    api.patch(PROMPT_PREFIX, namespace, "house", {"status": status}, subresource="/status")


# --- the status --------------------------------------------------------------------------------


@shared
def test_the_status_of_a_stable_prefix_is_lost(rollout: Rollout, api: Api) -> None:
    """It is rebuilt from the revisions; consumers keep their bytes."""
    second = rollout.publish("v2", {"strategy": "Immediate"})
    epoch = rollout.await_phase("Stable")["epoch"]
    write_status(api, rollout, None)
    rollout.team.await_event("Recovered", "v2")
    status = rollout.await_phase("Stable")
    assert (status["stable"]["digest"], status["stable"]["version"]) == (second, "v2")
    assert status["epoch"] > epoch


@shared
def test_the_status_is_lost_in_the_middle_of_a_canary(rollout: Rollout, api: Api) -> None:
    """The stable version is known again, and the candidate begins anew, without its evidence."""
    second = rollout.publish("v2", canary(*STEPS))
    rollout.await_phase("Progressing", weight=10)
    rollout.traffic(second, hits=REQUESTS)
    rollout.await_phase("Progressing", weight=50)
    write_status(api, rollout, None)
    rollout.team.await_event("Recovered", "v1")
    status = rollout.await_phase("Progressing", weight=10)
    assert status["stable"]["digest"] == rollout.stable
    assert not any(row["hits"] for row in status["candidate"].get("evidence", ()))
    rollout.traffic(second, hits=REQUESTS)
    rollout.await_phase("Progressing", weight=50)
    rollout.traffic(second, hits=REQUESTS)
    assert rollout.await_phase("Stable")["stable"]["digest"] == second


@shared
def test_a_weight_is_written_by_hand(rollout: Rollout, api: Api) -> None:
    """It is put back to what the step declares, and says so."""
    rollout.publish("v2", canary(*STEPS))
    rollout.await_phase("Progressing", weight=10)
    write_status(api, rollout, {"candidate": {"weight": 100}})
    rollout.team.await_event("WeightLowered", "10%")
    rollout.await_phase("Progressing", weight=10)


@shared
def test_evidence_is_written_by_hand(rollout: Rollout, api: Api) -> None:
    """Whoever may write the status is believed, once: the next weight begins with none."""
    second = rollout.publish("v2", canary(*STEPS))
    rollout.await_phase("Progressing", weight=10)
    row = {"model": MODEL, "hits": 10**9}
    write_status(api, rollout, {"candidate": {"evidence": [row]}})
    status = rollout.await_phase("Progressing", weight=50)
    assert not any(row["hits"] for row in status["candidate"].get("evidence", ()))
    rollout.traffic(second, hits=REQUESTS)
    assert "candidate" not in rollout.await_phase("Stable")


# --- commits -----------------------------------------------------------------------------------


@shared
def test_the_steps_change_in_the_middle(rollout: Rollout) -> None:
    """A share that is declared no more is taken back at once; a new step is entered like any."""
    second = rollout.publish("v2", canary(*STEPS))
    rollout.await_phase("Progressing", weight=10)
    rollout.traffic(second, hits=REQUESTS)
    rollout.await_phase("Progressing", weight=50)
    rollout.team.edit({"rollout": {"steps": [{"setWeight": 20}]}})
    rollout.team.await_event("WeightLowered", "20%")
    rollout.await_phase("Progressing", weight=20)
    rollout.team.edit({"rollout": {"steps": [{"setWeight": 20}, {"setWeight": 60}]}})
    rollout.traffic(second, hits=REQUESTS)
    rollout.await_phase("Progressing", weight=60)
    assert rollout.team.status()["stable"]["digest"] == rollout.stable


@shared
def test_broken_content_keeps_no_share_that_is_declared_no_more(rollout: Rollout) -> None:
    """Steps hold whether or not the declared bytes verify."""
    rollout.publish("v2", canary({"setWeight": 50}))
    rollout.await_phase("Progressing", weight=50)
    steps = [{"setWeight": 10}]
    other = str(Digest.of(b"other"))
    rollout.team.edit({"version": "v3", "digest": other, "rollout": {"steps": steps}})
    rollout.await_phase("Degraded", weight=10)


@shared
def test_only_the_label_is_new(rollout: Rollout) -> None:
    """The same bytes under another name: no canary, and consumers are told the name."""
    source = {"system": [{"text": prompt(f"{rollout.team.namespace} v1")}]}
    rollout.team.publish(version="v1-final", source=source, rollout=canary(*STEPS))
    rollout.team.await_event("Relabelled", "v1", "v1-final")
    status = rollout.await_phase("Stable")
    assert status["stable"]["version"] == "v1-final"
    bundle = rollout.team.bundle(rollout.consumer)
    assert bundle is not None
    assert route(bundle)["stable"]["version"] == "v1-final"
    assert events(rollout) == ["FirstVersion", "Relabelled"]


@shared
def test_suspend_stops_the_clock_of_the_deadline(rollout: Rollout) -> None:
    """Time that passed while it stood is not held against the candidate."""
    rollout.publish("v2", canary({"setWeight": 10}, progressDeadline="1h"))
    before = rollout.await_phase("Progressing", weight=10)["candidate"]
    rollout.team.edit({"suspend": True})
    stopped = rollout.await_phase("Paused", weight=10)["candidate"]["clockStoppedAt"]
    # The record has whole seconds; the controller's clock is this machine's.
    later = datetime.fromisoformat(stopped) + timedelta(seconds=1)
    wait_until(lambda: datetime.now(UTC) > later, PATIENCE, "a second passes")
    rollout.team.edit({"suspend": False})
    after = rollout.await_phase("Progressing", weight=10)["candidate"]
    assert after["clockFrom"] > before["clockFrom"]
    assert "clockStoppedAt" not in after


@shared
def test_one_name_in_two_namespaces(
    rollout: Rollout, api: Api, controller: Controller, metrics: Metrics
) -> None:
    """Other bytes have evidence of their own; the same bytes share the cache, and evidence."""
    second = rollout.publish("v2", canary(*STEPS))
    rollout.await_phase("Progressing", weight=10)
    with new_team(api) as team:
        other = Rollout(team, metrics)
        others = other.publish("v2", canary(*STEPS))
        other.await_phase("Progressing", weight=10)
        source = {"system": [{"text": prompt(f"{rollout.team.namespace} v2")}]}
        assert others != second
        metrics.count("house", others, model=MODEL, misses=REQUESTS)
        other.await_phase("RolledBack")
        rollout.await_phase("Progressing", weight=10)
        same = team.publish(version="v3", source=source, rollout=canary(*STEPS))
        assert same == second
        other.await_phase("Progressing", weight=10)
        rollout.traffic(second, hits=REQUESTS)
        for one in (rollout, other):
            one.await_phase("Progressing", weight=50)


# --- processes, metrics, the API server --------------------------------------------------------


class Flaky(Metrics):
    """Counters that can be away, or say what cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.says: Callable[[str], str] | None = None

    async def _answer(self, request: web.Request) -> web.Response:
        answer = await super()._answer(request)
        if self.says is None:
            return answer
        text = self.says(answer.text or "")
        return web.Response(status=200 if text else 500, text=text)


class Refusing(Gate):
    """A gate that answers writes itself, as long as it has something to say."""

    def __init__(self, control_plane: ControlPlane) -> None:
        super().__init__(control_plane)
        self.answers: list[int] = []
        self.given: list[int] = []

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self.answers and request.method != "GET":
            status = self.answers.pop(0)
            self.given.append(status)
            return web.json_response({"message": "not now"}, status=status)
        return await super()._forward(request)


@contextlib.contextmanager
def controllers(
    kubeconfig: Path, directory: Path, metrics: Metrics, number: int
) -> Iterator[list[Controller]]:
    """So many, none of which asks whether it is the only one; not started yet."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(metrics.served())
        arguments = ("--scrape-target", url, "--no-leader-election")
        made = [
            Controller(kubeconfig, directory / f"log-{index}", *arguments)
            for index in range(number)
        ]
        for controller in made:
            stack.enter_context(controller)
            stack.enter_context(reporting(controller))
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    "says",
    [
        pytest.param(lambda text: "", id="away"),
        pytest.param(lambda text: re.sub(r"\} \d+", "} NaN", text), id="not a number"),
        pytest.param(lambda text: re.sub(r"\} \d+", "} 1e13", text), id="too many"),
    ],
)
def test_metrics_that_cannot_be_read(
    lent_control_plane: ControlPlane, tmp_path: Path, says: Callable[[str], str]
) -> None:
    """The rollout pauses and names the outage, then goes on where it was.

    Counters that fell take nothing back.
    """
    metrics = Flaky()
    with (
        controllers(lent_control_plane.kubeconfig, tmp_path, metrics, 1),
        Api(lent_control_plane) as api,
        new_team(api) as team,
    ):
        rollout = Rollout(team, metrics)
        second = rollout.publish("v2", canary(*STEPS))
        rollout.await_phase("Progressing", weight=10)
        rollout.traffic(second, hits=REQUESTS - 1)
        wait_until(lambda: team.status()["candidate"]["evidence"], PATIENCE, "it is counted")
        metrics.says = says
        status = rollout.await_phase("Paused", weight=10)
        assert "evidence cannot be read" in status["message"]
        metrics.says = lambda text: re.sub(r"\} [1-9]\d*", "} 1", text)
        before = rollout.await_phase("Progressing", weight=10)["candidate"]["evidence"]
        metrics.await_scrape()
        assert team.status()["candidate"]["evidence"] == before
        metrics.says = None
        rollout.traffic(second, hits=1)
        rollout.await_phase("Progressing", weight=50)


@pytest.mark.slow
def test_two_controllers_by_mistake(
    lent_control_plane: ControlPlane, audit: Audit, tmp_path: Path
) -> None:
    """Nothing is decided twice, and left alone they come to rest."""
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        both = stack.enter_context(controllers(lent_control_plane.kubeconfig, tmp_path, metrics, 2))
        api = stack.enter_context(Api(lent_control_plane))
        team = stack.enter_context(new_team(api))
        rollout = Rollout(team, metrics)
        # Whoever starts anew has counted since another time, and sees another hit rate.
        rollout.traffic(rollout.stable, misses=30)
        wait_until(lambda: team.status().get("hitRate") == "0%", PATIENCE, "the rate is shown")
        both[1].stop()
        both[1].start()
        knows = "knows 1 prefixes"
        wait_until(lambda: both[1].said().count(knows) == 1, PATIENCE, "the second one is back")
        rollout.traffic(rollout.stable, hits=30)
        second = rollout.publish("v2", canary(*STEPS))
        rollout.await_phase("Progressing", weight=10)
        for weight in (50, None):
            rollout.traffic(second, hits=REQUESTS)
            rollout.await_phase("Stable" if weight is None else "Progressing", weight=weight)
        _await_rest(audit, metrics)
        assert events(rollout) == [
            "FirstVersion",
            "CanaryStarted",
            "WeightRaised",
            "WeightRaised",
            "Promoted",
        ]
        assert all(controller.running for controller in both)


def _await_rest(audit: Audit, metrics: Metrics) -> None:
    """Wait until nobody writes for ten scrapes."""

    def rests() -> bool:
        before, until = len(audit.writes()), metrics.scrapes + 20
        wait_until(lambda: metrics.scrapes >= until, PATIENCE, "scrapes")
        return len(audit.writes()) == before

    wait_until(rests, 2 * PATIENCE, "the controllers come to rest")


@pytest.mark.slow
@pytest.mark.parametrize("answer", [409, 429, 500])
def test_the_api_server_will_not_write(
    lent_control_plane: ControlPlane, tmp_path: Path, answer: int
) -> None:
    """Whatever it says, what was decided is done in the end, once."""
    metrics, gate = Metrics(), Refusing(lent_control_plane)
    with (
        gate.served(tmp_path) as kubeconfig,
        controllers(kubeconfig, tmp_path, metrics, 1),
        Api(lent_control_plane) as api,
        new_team(api) as team,
    ):
        rollout = Rollout(team, metrics)
        gate.answers = [answer] * 5
        second = rollout.publish("v2", canary({"setWeight": 10}))
        rollout.await_phase("Progressing", weight=10)
        gate.answers = [answer] * 3
        rollout.traffic(second, hits=REQUESTS)
        assert rollout.await_phase("Stable")["stable"]["digest"] == second
        assert gate.given == [answer] * 8
        assert events(rollout) == ["FirstVersion", "CanaryStarted", "WeightRaised", "Promoted"]
        assert api.find(CONFIG_MAP, team.namespace, f"headwater.house.{second[7:19]}")
