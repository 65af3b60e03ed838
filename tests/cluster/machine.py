"""What a node takes from the machine that it runs on, and whether this machine has it."""

import os
import shutil
import subprocess
import sys
from typing import Final

NEEDED: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "unshare": "util-linux",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""The commands, and the Debian package that has each."""


def missing() -> str | None:
    """Return why no node can run here, in one sentence; None where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a node needs Linux and root"
    lacking = sorted({package for command, package in NEEDED.items() if not shutil.which(command)})
    if lacking:
        return f"a node needs what `make node` installs, and this is missing: {', '.join(lacking)}"
    made = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        return f"a node needs namespaces of its own, and has none here: {made.stderr.strip()}"
    return None
