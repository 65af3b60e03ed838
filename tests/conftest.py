"""One real control plane for the whole test run, started only where a collected test wants it.

Under pytest-xdist the controlling process owns it and starts it as soon as a worker has collected
a test that asks for it; the workers are handed a directory to find it in. It ends with that
process, however that ends. A test that stops or pauses the API server takes `lent_control_plane`,
because the shared one is in use by others at the same time.
"""

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.cluster import assets
from tests.cluster.control_plane import Cluster, ControlPlane, open_cluster
from tests.cluster.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.controller.harness import Api

pytest_plugins = ["tests.cluster.run"]

# A shell that starts this in the background has it ignore SIGINT, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are timed by nobody here: the machines that run them are shared, and noisy.
settings.register_profile("shared", deadline=None, max_examples=50)
settings.load_profile("shared")

_WORKER_INPUT = "headwater_control_plane"
_OWNER = pytest.StashKey["_Owner"]()


class _Owner:
    """The controlling process's hold on the control plane that its workers share."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._executor = ThreadPoolExecutor(1)  # the controller must go on serving its workers
        self._started: Future[None] | None = None
        self._control_plane = ControlPlane()

    def start_if_wanted(self) -> None:
        if self._started is None and (self.directory / "wanted").exists():
            self._started = self._executor.submit(self._start)

    def _start(self) -> None:
        try:
            found = self._control_plane.__enter__()
            answer = {"kubeconfig": str(found.kubeconfig), "kubectl": str(found.kubectl_binary)}
        except Exception as error:
            answer = {"error": str(error)}
            raise
        finally:
            unfinished = self.directory / "answer.part"
            unfinished.write_text(json.dumps(answer))
            unfinished.rename(self.directory / "answer.json")

    def end(self) -> None:
        self._executor.shutdown()
        if self._started is not None and self._started.exception() is None:
            self._control_plane.__exit__()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker that is about to start where it will find the control plane."""
    if _OWNER not in node.config.stash:
        directory = node.config._tmp_path_factory.mktemp("control-plane")
        node.config.stash[_OWNER] = _Owner(directory)
    node.workerinput[_WORKER_INPUT] = str(node.config.stash[_OWNER].directory)


@pytest.hookimpl(tryfirst=True)  # before xdist tells the controller that we have collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say before the first test that the control plane's programs are missing, where they are."""
    config = session.config
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())} & {
        "control_plane",
        "lender",
    }
    if not wanted or config.option.collectonly or os.environ.get("HEADWATER_CLUSTER"):
        return
    try:
        assets.require("control-plane")
    except assets.AssetsError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    if "control_plane" in wanted and (shared := _shared_directory(config)):
        (shared / "wanted").touch()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Start the control plane while the workers run what does not need it."""
    node.config.stash[_OWNER].start_if_wanted()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the control plane with the run."""
    if _OWNER in config.stash:
        config.stash[_OWNER].end()


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The cluster that all tests share: leave what is not in your namespace as it was."""
    shared = _shared_directory(pytestconfig)
    if shared is None or os.environ.get("HEADWATER_CLUSTER"):
        with open_cluster(os.environ) as cluster:
            yield cluster
        return
    path = shared / "answer.json"
    wait_until(path.exists, timeout=100, message="the run's control plane is started")
    answer = json.loads(path.read_text())
    if "error" in answer:
        pytest.fail(answer["error"], pytrace=False)
    yield Cluster(Path(answer["kubeconfig"]), Path(answer["kubectl"]))


@pytest.fixture(scope="session")
def api_of() -> Iterator[Callable[[Cluster], "Api"]]:
    """A client of a cluster's API: one for each cluster, since a new one costs more than a call."""
    from tests.integration.controller.harness import Api  # noqa: PLC0415 - only where it is used

    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda cluster: stack.enter_context(Api(cluster)))


@pytest.fixture
def namespace(control_plane: Cluster, api_of: Callable[[Cluster], "Api"]) -> Iterator[str]:
    """The name of a fresh namespace."""
    name = f"headwater-test-{secrets.token_hex(4)}"
    api_of(control_plane).request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api_of(control_plane).leave(name)


@pytest.fixture
def kubectl(control_plane: Cluster) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`Cluster.kubectl` of the shared cluster."""
    return control_plane.kubectl


def _shared_directory(config: pytest.Config) -> Path | None:
    """Where the controlling process leaves its answer; None without xdist."""
    given = getattr(config, "workerinput", {}).get(_WORKER_INPUT)
    return Path(given) if given else None
