"""Everything that the targets of the Makefile need and that is not Python: one table.

    python -m tests.cluster.assets NAME [NAME …]    finds or builds each, and says why and where

The Makefile does that before a target starts. What runs later, tests above all, asks `require`,
which builds nothing.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeGuard, get_args

from tests.cluster import machine
from tests.cluster.cache import AssetsError, say
from tests.cluster.control_plane_build import ControlPlaneBuild
from tests.cluster.debian_package import DebianPackage
from tests.cluster.go_build import BINARIES, HELM, KUBERNETES, GoBuild

__all__ = ["CONTROL_PLANE", "TABLE", "Asset", "AssetsError", "Name", "find_or_build", "require"]

Name = Literal["control-plane", "helm", "prometheus", "node-binaries", "coredns"]
Target = Literal["demo", "test", "proofs", "e2e", "bench", "generate", "verify"]


class Source(Protocol):
    """Where an asset comes from."""

    def find(self, environ: Mapping[str, str], /) -> Path | None:
        """Return the directory of its programs, where it is on the machine; start nothing long."""

    def make(self, environ: Mapping[str, str], /) -> Path:
        """Build or fetch what `find` did not find, and return the directory.

        Raises:
            AssetsError: it could not be had; the message says what to do.
        """


@dataclass(frozen=True)
class Asset:
    """Programs that some targets need.

    Attributes:
        what: the programs.
        why: what they are for.
        targets: which targets have it as a prerequisite.
        takes: about how long it takes the first time, on two cores.
        source: where it comes from.
        on_a_node_only: it is not needed on a machine that cannot run a node.
    """

    what: str
    why: str
    targets: Sequence[Target]
    takes: str
    source: Source
    on_a_node_only: bool = False


CONTROL_PLANE: Final = ControlPlaneBuild(
    "kubernetes",
    BINARIES,
    KUBERNETES,
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": f"{KUBERNETES}/cmd/kube-apiserver",
        "kube-controller-manager": f"{KUBERNETES}/cmd/kube-controller-manager",
        "kubectl": f"{KUBERNETES}/cmd/kubectl",
    },
)
_NODE: Final = GoBuild(
    "node",
    BINARIES / "node",
    KUBERNETES,
    {
        "kubelet": f"{KUBERNETES}/cmd/kubelet",
        "kube-proxy": f"{KUBERNETES}/cmd/kube-proxy",
        "kube-scheduler": f"{KUBERNETES}/cmd/kube-scheduler",
        "pause": "./pause",
    },
)
TABLE: Final[Mapping[Name, Asset]] = {
    "control-plane": Asset(
        "etcd, kube-apiserver, kube-controller-manager and kubectl",
        "the Kubernetes that everything runs on",
        ("demo", "test", "proofs", "e2e", "bench"),
        "7 minutes",
        CONTROL_PLANE,
    ),
    "helm": Asset(
        "Helm",
        "renders the chart and installs it",
        ("test", "proofs", "e2e", "bench", "generate", "verify"),
        "2 minutes",
        GoBuild("helm", BINARIES / "helm", HELM, {"helm": f"{HELM}/cmd/helm"}),
    ),
    "prometheus": Asset(
        "Prometheus and promtool",
        "a source of evidence, and the judge of the chart's alerts",
        ("test", "proofs"),
        "half a minute",
        DebianPackage(
            "prometheus",
            ("prometheus", "promtool"),
            "put Prometheus 2.40 or newer on PATH (https://prometheus.io/download)",
        ),
    ),
    "node-binaries": Asset(
        "kubelet, kube-proxy, kube-scheduler and pause",
        "a node, for pods that run",
        ("e2e", "bench"),
        "5 minutes",
        _NODE,
        on_a_node_only=True,
    ),
    "coredns": Asset(
        "CoreDNS",
        "names of Services, for pods that run",
        ("e2e", "bench"),
        "2 minutes",
        GoBuild("coredns", BINARIES / "coredns", "github.com/coredns/coredns", {"coredns": "."}),
        on_a_node_only=True,
    ),
}


def require(name: Name, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory with the programs of an asset, without building anything.

    Raises:
        AssetsError: it is not there; the message has the command that builds it.
    """
    directory = TABLE[name].source.find(environ)
    if directory is None:
        asset = TABLE[name]
        raise AssetsError(
            f"{asset.what}: not on this machine yet. Run `make {name}` (about {asset.takes} the "
            f"first time), or start what you ran by its target: make {', '.join(asset.targets)}."
        )
    return directory


def find_or_build(name: Name, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory with the programs of an asset, built or fetched now if need be.

    Raises:
        AssetsError: it could not be had; the message says what to do.
    """
    asset = TABLE[name]
    directory = asset.source.find(environ)
    if asset.source is CONTROL_PLANE and (directory is None or "KUBEBUILDER_ASSETS" in environ):
        for line in CONTROL_PLANE.passed_over(environ):  # else nobody wonders
            say(line)
    if directory is None:
        say(f"{name}: not here yet; this takes about {asset.takes}, once")
        directory = asset.source.make(environ)
    return directory


def _settle(name: Name, environ: Mapping[str, str]) -> str:
    """Find or build one asset, and return the line that says so."""
    asset = TABLE[name]
    about = f"{name}: {asset.what} ({asset.why})"
    if asset.on_a_node_only and (lacking := machine.missing()):
        return f"{about}: not needed here, {lacking}"
    found = asset.source.find(environ)
    started = time.monotonic()
    directory = find_or_build(name, environ)
    how = "found in" if found else f"made in {time.monotonic() - started:.0f} s, kept in"
    return f"{about}: {how} {directory}"


def _known(name: str) -> TypeGuard[Name]:
    return name in get_args(Name)


def _main(names: Sequence[str]) -> None:
    known = [name for name in names if _known(name)]
    if not known or len(known) < len(names):
        lines = [
            f"  {name:13}  {asset.what}: {asset.why} ({asset.takes} the first time)"
            for name, asset in TABLE.items()
        ]
        sys.exit("usage: python -m tests.cluster.assets NAME [NAME …]\n" + "\n".join(lines))
    for name in known:
        print(_settle(name, os.environ), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _main(sys.argv[1:])
    except AssetsError as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit("interrupted: the next run goes on where this one stopped")
