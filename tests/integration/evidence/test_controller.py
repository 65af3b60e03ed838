"""`headwater controller` on a Prometheus: a canary that counters, a query and an outage move."""

from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.prometheus import PrometheusServer
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.team import Team, new_team
from tests.integration.evidence.pods import MODEL, PREFIX, Pod

pytestmark = pytest.mark.xdist_group("own-controller")

PATIENCE = 45.0
"""Seconds: Prometheus takes five until it scrapes, and a query is repeated after thirty."""
CANARY = {
    "strategy": "Canary",
    "steps": [{"setWeight": 50}],
    "analysis": {
        "minRequests": 50,
        "queries": [
            {
                "name": "misses",
                "promql": 'sum(headwater_requests_total{digest12="{{digest12}}",outcome="miss"}'
                " or vector(0))",
                "max": 0,
            }
        ],
    },
}


def await_phase(team: Team, phase: str) -> None:
    def reached() -> bool:
        status = team.status(PREFIX)
        assert status["phase"] == phase, status
        return True

    wait_until(reached, PATIENCE, phase)


@pytest.mark.slow
def test_a_canary_on_what_prometheus_says(lent_control_plane: ControlPlane, tmp_path: Path) -> None:
    """It pauses while Prometheus is away, and is promoted on what was counted meanwhile, too."""
    with (
        Pod() as pod,
        PrometheusServer(tmp_path / "prometheus", [pod.job()]) as prometheus,
        Api(lent_control_plane) as api,
        new_team(api) as team,
        Controller(
            lent_control_plane.kubeconfig,
            tmp_path / "log",
            *("--prometheus-url", prometheus.url),
            # It is no pod of the cluster's.
            *("--scrape-target", f"http://{pod.address}/metrics"),
        ) as controller,
        reporting(controller),
    ):
        team.consumer("a")
        team.serve(name=PREFIX, models=(MODEL,))
        second = team.publish(name=PREFIX, models=(MODEL,), version="v2", rollout=CANARY)
        pod.digest12 = second.short

        def is_answered() -> bool:
            answers = team.status(PREFIX)["candidate"]["queries"]
            assert [float(answer.get("value", "nan")) for answer in answers] == [0], answers
            return True

        def is_counted() -> bool:
            rows = team.status(PREFIX)["candidate"]["evidence"]
            assert [row["hits"] for row in rows] == [20], rows
            return True

        await_phase(team, "Progressing")
        wait_until(is_answered, PATIENCE, "the query has an answer")
        pod.stop()
        pod.start()  # younger than the controller, which then takes all that it counts for new
        pod.count("hit", 20)
        wait_until(is_counted, PATIENCE, "Prometheus' counts are in the status")

        prometheus.kill()
        await_phase(team, "Paused")
        assert "cannot be reached" in team.status(PREFIX)["message"]
        pod.count("hit", 60)
        prometheus.start()
        await_phase(team, "Stable")
        assert team.status(PREFIX)["stable"]["digest"] == second
