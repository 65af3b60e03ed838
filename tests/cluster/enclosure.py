"""Runs a supervisor in namespaces of its own: mounts, network and processes of a node end with it.

Started by `real_node`, as root. It makes the directory, the namespaces, a cgroup for the pods and
one pair of virtual interfaces, by which this machine reaches the node. When the supervisor ends,
whatever ended it, the kernel ends every process of its process namespace, with those every mount
and every firewall rule is gone, and the cgroups and the directory are removed here.

    enclosure.py LINK OUTER/LEN INNER/LEN
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
# Removing a cgroup fails as long as the kernel is not done with its last process.
PATIENCE_SECONDS = 60


def main(link: str, outer: str, inner: str) -> int:
    """The supervisor's exit code; its protocol goes through by standard input and output."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the supervisor has
    directory = Path(tempfile.mkdtemp(prefix="headwater-"))
    cgroups = [path / directory.name for path in _hierarchies()]
    try:
        for cgroup in cgroups:
            cgroup.mkdir()
        supervisor = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("--propagation", "private", "--"),
                *("sh", str(HERE / "enclosure.sh"), str(directory), inner, outer),
                *(sys.executable, "-I", "-S", str(HERE / "supervisor.py"), str(directory)),
            ]
        )
        _connect(supervisor, link, outer)
        return supervisor.wait()
    finally:
        for cgroup in cgroups:
            _remove_cgroup(cgroup)
        shutil.rmtree(directory)


def _connect(supervisor: subprocess.Popen[bytes], link: str, outer: str) -> None:
    """Lead a link into the supervisor's network; it goes with that network."""
    namespace = Path(f"/proc/{supervisor.pid}/ns/net")
    while (
        supervisor.poll() is None and namespace.readlink() == Path("/proc/self/ns/net").readlink()
    ):
        time.sleep(0.01)
    for command in (
        f"link add {link} type veth peer name eth0 netns {supervisor.pid}",
        f"address add {outer} dev {link}",
        f"link set {link} up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def _hierarchies() -> Iterator[Path]:
    """Where cgroups are: one place (version 2), or one for each controller (version 1)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"}:
            yield Path(place)


def _remove_cgroup(cgroup: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    for place, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                Path(place).rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
