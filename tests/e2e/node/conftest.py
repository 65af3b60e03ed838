"""One node for all stories of this folder.

With `HEADWATER_CLUSTER=current` it is the kubeconfig's cluster, whose nodes have the images
already: `headwater`, `headwater-sidecar` and `headwater-application` with the tag `node`.
"""

from collections.abc import Iterator

import pytest

from tests.cluster import assets
from tests.cluster.control_plane import Cluster
from tests.e2e.node.installation import missing, open_node
from tests.e2e.node.world import Helm, Stopwatch


@pytest.fixture(scope="session")
def stopwatch(pytestconfig: pytest.Config) -> Stopwatch:
    """Prints each step to the terminal."""
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    return Stopwatch(say)


@pytest.fixture(scope="module")
def node(stopwatch: Stopwatch) -> Iterator[Cluster]:
    """A cluster with a node that has the images."""
    if lacking := missing():
        pytest.skip(lacking)
    with open_node(stopwatch) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def helm(node: Cluster) -> Helm:
    """Helm, for the node."""
    return Helm(assets.require("helm") / "helm", node)
