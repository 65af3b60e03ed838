"""The node leaves this machine as it found it, however often it is started."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cluster import real_node
from tests.cluster.control_plane import ControlPlaneError
from tests.cluster.machine import missing
from tests.cluster.real_node import NodeCluster
from tests.cluster.waiting import wait_until

# It waits until what else there is has left the machine.
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("alone")]

ROOT: Final = Path(__file__).parents[3]
SAYS: Final = {
    "links": ("ip", "-brief", "link"),
    "addresses": ("ip", "-brief", "address"),
    "routes": ("ip", "route", "show", "table", "all"),
    "namespaces": ("lsns", "--noheadings", "--output", "TYPE,NS"),
    "filter rules": ("iptables-save",),
    "settings": ("sysctl", "net.ipv4.ip_forward", "vm.overcommit_memory", "kernel.panic"),
}


@pytest.fixture(autouse=True)
def _can_run() -> None:
    if lacking := missing():
        pytest.skip(lacking)


def machine(directory: Path) -> dict[str, object]:
    """What a node could have left: links, rules, mounts, cgroups, processes of its directory."""
    said = {
        what: subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for what, command in SAYS.items()
    }
    # Counters and the time of day are in the comments.
    said["filter rules"] = "\n".join(
        line.partition(" [")[0] for line in said["filter rules"].splitlines() if line[0] != "#"
    )
    return {
        **said,
        "mounts": Path("/proc/self/mounts").read_text(),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob(f"{directory.name}*")),
        "processes": processes_of(directory),
        "directory": directory.exists(),
    }


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that work in a directory, or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((process / "cwd").readlink())
        except OSError:  # it ended while we looked
            continue
        if str(directory) in command or place.startswith(str(directory)):
            found.append(command)
    return found


@pytest.mark.parametrize("time", ["first", "second"])
def test_it_leaves_nothing(time: str) -> None:
    """With pods running up to the end: no process, mount, namespace, cgroup, link or rule."""
    nowhere = Path("/nonexistent/headwater")
    before = machine(nowhere)
    with NodeCluster() as node:
        assert len(processes_of(node.directory)) > 5
        node.kubectl(
            *("create", "deployment", "pause", f"--image={real_node.PAUSE}", "--replicas=2")
        )
        node.kubectl("rollout", "status", "deployment/pause", "--timeout=360s")
        directory = node.directory
    after = machine(directory)
    assert {what: after[what] for what in before} == before


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed outright takes the node along."""
    program = (
        "import sys, time\n"
        "from tests.cluster.real_node import NodeCluster\n"
        "with NodeCluster() as node:\n"
        "    print(node.directory, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    before = machine(Path("/nonexistent/headwater"))
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        directory = Path(parent.stdout.readline().decode().strip())
        parent.kill()
    wait_until(lambda: not directory.exists(), 120, "its directory is gone")
    wait_until(lambda: machine(directory) == before, 60, "all else is, too")


def test_a_second_one_is_refused() -> None:
    """Its address is taken: the message says so, and the first one goes on."""
    with NodeCluster() as node:
        with pytest.raises(ControlPlaneError, match="another node runs on this machine"):
            NodeCluster().__enter__()
        assert node.get("nodes")["items"]
