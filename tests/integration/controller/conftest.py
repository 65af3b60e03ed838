"""One controller for most of these tests, on a control plane that it shares with no others.

It is cluster-wide, and tests elsewhere play the controller's part themselves. Under pytest-xdist
its tests run in one worker (`xdist_group`). A test that kills a controller or stops the API
server takes a control plane of its own.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.control_plane import Cluster, open_cluster
from tests.cluster.ports import free_port
from tests.integration.controller.harness import Api, Controller, install_crds, reporting
from tests.integration.controller.servers import Metrics
from tests.integration.controller.team import Team, new_team


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """Where the controller is."""
    with open_cluster(os.environ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    """The counters that the shared controller scrapes."""
    return Metrics()


@pytest.fixture(scope="session")
def api(control_plane: Cluster) -> Iterator[Api]:
    """Its API."""
    with Api(control_plane) as api:
        yield api


@pytest.fixture(scope="session")
def liveness() -> str:
    """Where the controller answers its liveness probe."""
    return f"http://127.0.0.1:{free_port()}/healthz"


@pytest.fixture(scope="session")
def shared_controller(
    control_plane: Cluster,
    metrics: Metrics,
    liveness: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Controller]:
    """The one controller of that control plane."""
    install_crds(control_plane)
    log = tmp_path_factory.mktemp("controller") / "log"
    everyone = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everyone = everyone.parent
    with (
        _the_only_one(everyone / "controller.lock"),
        metrics.served() as url,
        Controller(
            control_plane.kubeconfig, log, "--scrape-target", url, "--liveness", liveness
        ) as controller,
    ):
        yield controller


@contextmanager
def _the_only_one(lock: Path) -> Iterator[None]:
    """Two controllers on one control plane would undo each other's work: say so at once."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(
                "another worker of this run has a controller: run pytest with --dist loadgroup,"
                " and with a pytest whose node ids pytest-xdist can group",
                pytrace=False,
            )
        yield


@pytest.fixture
def controller(shared_controller: Controller) -> Iterator[Controller]:
    """The shared controller, watched for trace backs while a test runs."""
    with reporting(shared_controller):
        yield shared_controller
        assert shared_controller.running


@pytest.fixture
def team(controller: Controller, api: Api) -> Iterator[Team]:
    """A fresh namespace whose prefixes the shared controller looks after."""
    with new_team(api) as team:
        yield team
