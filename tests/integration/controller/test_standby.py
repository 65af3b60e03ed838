"""Two real controllers on one cluster: one works, the other one waits, and takes over."""

import contextlib
import urllib.request
from pathlib import Path

import pytest

from headwater.cluster.kinds import LEASE
from headwater.controller.lease import LEASE_NAME
from tests.cluster.control_plane import ControlPlane
from tests.cluster.ports import free_port
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.team import new_team

pytestmark = pytest.mark.slow

PATIENCE = 30.0


def test_one_works_and_the_other_one_takes_over(
    lent_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Who waits is alive and writes nothing; it follows a stop at once, and an outage ends both."""
    liveness = f"http://127.0.0.1:{free_port()}/healthz"
    kubeconfig = lent_control_plane.kubeconfig
    on = "--leader-election"
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(Api(lent_control_plane))
        first = stack.enter_context(Controller(kubeconfig, tmp_path / "first", on))
        stack.enter_context(reporting(first))
        wait_until(lambda: "knows" in first.said(), PATIENCE, "the first one works")
        second = stack.enter_context(
            Controller(kubeconfig, tmp_path / "second", on, "--liveness", liveness)
        )
        stack.enter_context(reporting(second))
        wait_until(lambda: "waits, because" in second.said(), PATIENCE, "the second one waits")
        with urllib.request.urlopen(liveness, timeout=scaled(30)) as answer:
            assert answer.status == 200
        team = stack.enter_context(new_team(api))
        consumer = team.consumer("a")
        team.await_bundle(consumer, team.serve())
        assert "knows" not in second.said()

        held = api.get(LEASE, "default", LEASE_NAME)["spec"]["holderIdentity"]
        assert first.stop() == 0
        given_back = api.get(LEASE, "default", LEASE_NAME)["spec"]["holderIdentity"]
        assert given_back != held, "nobody has to wait until it expires"
        wait_until(lambda: "knows" in second.said(), PATIENCE, "the second one works")
        digest = team.publish(version="v2", rollout={"strategy": "Immediate"})
        team.await_bundle(consumer, digest)
        first.start()
        wait_until(lambda: "waits, because" in first.said(), PATIENCE, "the first one waits")
        assert first.stop() == 0, "who waits can be stopped"
        assert api.get(LEASE, "default", LEASE_NAME)["spec"]["holderIdentity"]

        lent_control_plane.pause()
        wait_until(lambda: not second.running, PATIENCE, "the leader ends")
        lent_control_plane.resume()
        assert "the lease could not be renewed for 7 s" in second.said()
        assert second.stop() == 1
