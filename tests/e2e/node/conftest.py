"""One node for all stories of this folder.

With `HEADWATER_CLUSTER=current` it is the kubeconfig's cluster, whose nodes have the images
already: `headwater`, `headwater-sidecar` and `headwater-application` with the tag `node`.
"""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import assets
from tests.cluster.control_plane import Cluster
from tests.e2e.node.installation import IMAGES, gateway, missing, open_node, values
from tests.e2e.node.world import (
    DEFINITIONS,
    OWNER,
    SHOP,
    Application,
    Helm,
    Prefix,
    Stopwatch,
    consumer_namespace,
)


@pytest.fixture(scope="session")
def stopwatch(pytestconfig: pytest.Config) -> Stopwatch:
    """Prints each step to the terminal, also where a worker of pytest-xdist takes it."""
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            if hasattr(pytestconfig, "workerinput"):  # its terminal is nobody's
                print(line, file=sys.stderr, flush=True)
            else:
                reporter.ensure_newline()
                reporter.write_line(line)

    return Stopwatch(say)


@pytest.fixture(scope="session")
def _lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that all workers of a run see."""
    return tmp_path_factory.getbasetemp().parent / "machine.lock"


@pytest.fixture(scope="session")
def beside_others(_lock: Path) -> Iterator[None]:
    """The machine may change while this runs, and this may change it."""
    with _locked(_lock, fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="module")
def alone(_lock: Path) -> Iterator[None]:
    """No other lane has a node, or works with images."""
    with _locked(_lock, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield


@pytest.fixture(scope="session")
def _node(
    pytestconfig: pytest.Config, stopwatch: Stopwatch, beside_others: None
) -> Iterator[Cluster]:
    """A cluster with a node that has the images, for all files of a lane."""
    del beside_others
    if lacking := missing():
        pytest.skip(lacking)
    worker = getattr(pytestconfig, "workerinput", {}).get("workerid", "gw0")
    with open_node(stopwatch, number=int(worker.removeprefix("gw"))) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def node(_node: Cluster) -> Iterator[Cluster]:
    """A cluster with a node that has the images; the definitions go with the file's last test."""
    yield _node
    # Helm leaves them, and they belong to the release of whoever brought them.
    _node.kubectl("delete", "crd", *DEFINITIONS, "--ignore-not-found", check=False)


@pytest.fixture(scope="module")
def helm(node: Cluster) -> Helm:
    """Helm, for the node."""
    return Helm(assets.require("helm") / "helm", node)


@pytest.fixture(scope="module")
def installed(node: Cluster, helm: Helm, stopwatch: Stopwatch) -> None:
    """Everything of the chart, with the simulator behind a gateway."""
    with stopwatch.step("helm install: all is ready"):
        helm.install(values(IMAGES))
    gateway(node, IMAGES.operator)


@pytest.fixture(scope="module")
def prefix(node: Cluster, installed: None) -> Prefix:
    """The team's namespace, with nothing published yet."""
    del installed
    node.kubectl("create", "namespace", OWNER)
    consumer_namespace(node, SHOP)
    return Prefix(node)


@pytest.fixture(scope="module")
def chat(node: Cluster, prefix: Prefix) -> Application:
    """A team's application; `deploy` starts it."""
    del prefix
    return Application(node, SHOP)
