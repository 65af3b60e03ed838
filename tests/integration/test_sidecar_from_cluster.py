"""`headwater sidecar --from-cluster`: a bundle followed through a real API server."""

import base64
import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.contract import bundle
from tests.cluster.control_plane import Cluster, ControlPlane
from tests.cluster.waiting import scaled, wait_until
from tests.integration.test_sidecar_process import address, ask, start
from tests.unit.sidecar import bundles

NAME = "headwater.ai-platform.org-core"


def put(cluster: Cluster | ControlPlane, namespace: str, declared: bundle.Bundle) -> None:
    """Text in data, compressed contracts in binaryData, as the controller writes it."""
    text, binary = {}, {}
    for name, data in bundle.encode(declared).items():
        if name.endswith(".gz"):
            binary[name] = base64.b64encode(data).decode()
        else:
            text[name] = data.decode()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace},
        "data": text,
        "binaryData": binary,
    }
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(config_map)
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate(timeout=scaled(30))


def follow(
    cluster: Cluster | ControlPlane,
    namespace: str,
    processes: list[subprocess.Popen[str]],
    temporary: Path,
) -> tuple[subprocess.Popen[str], str]:
    ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
    process = start(
        "--from-cluster",
        f"{namespace}/{NAME}",
        *ports,
        KUBECONFIG=str(cluster.kubeconfig),
        TMPDIR=str(temporary),
    )
    processes.append(process)
    address(process, "listening on")
    return process, address(process, "metrics on")


def serves(metrics: str, version: str) -> Any:
    return lambda: (
        f'role="stable",surface="",team="",version="{version}"' in (ask(f"{metrics}/metrics")[1])
    )


def test_a_bundle_is_followed(
    control_plane: Cluster,
    namespace: str,
    processes: list[subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """Not there yet, there, newer, damaged, repaired, deleted: each seen, the last good kept."""
    process, metrics = follow(control_plane, namespace, processes, tmp_path)
    assert ask(f"{metrics}/readyz")[0] == 503
    put(control_plane, namespace, bundles.make("v1"))
    wait_until(serves(metrics, "v1"), timeout=30, message="v1 is served")
    put(control_plane, namespace, bundles.make("v2", size=20_000))
    wait_until(serves(metrics, "v2"), timeout=30, message="v2 is served, compressed as it is")
    route = {"data": {bundle.ROUTE_FILE: "{}"}}
    control_plane.kubectl("patch", "configmap", NAME, "-n", namespace, "-p", json.dumps(route))
    wait_until(
        lambda: "format None" in ask(f"{metrics}/readyz")[1], timeout=30, message="damage is seen"
    )
    assert serves(metrics, "v2")()
    put(control_plane, namespace, bundles.make("v3"))
    wait_until(serves(metrics, "v3"), timeout=30, message="v3 is served")
    control_plane.kubectl("delete", "configmap", NAME, "-n", namespace)
    put(control_plane, namespace, bundles.make("v4"))
    wait_until(serves(metrics, "v4"), timeout=30, message="v4 is served")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=scaled(30))
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == [], "the private copy is gone"


def test_an_api_server_that_is_gone_leaves_the_last_bundle(
    lent_control_plane: ControlPlane, processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """It is served on, and followed again when the API server is back."""
    team = f"team-{secrets.token_hex(3)}"
    lent_control_plane.kubectl("create", "namespace", team)
    put(lent_control_plane, team, bundles.make("v1"))
    _, metrics = follow(lent_control_plane, team, processes, tmp_path)
    wait_until(serves(metrics, "v1"), timeout=30, message="v1 is served")
    lent_control_plane.stop_api_server()
    assert ask(f"{metrics}/readyz") == (200, "ok\n")
    lent_control_plane.start_api_server()
    put(lent_control_plane, team, bundles.make("v2"))
    wait_until(serves(metrics, "v2"), timeout=30, message="v2 is served")
    assert ask(f"{metrics}/readyz") == (200, "ok\n")


def test_without_a_kubeconfig_it_says_so(tmp_path: Path) -> None:
    """One sentence, no traceback, no waiting."""
    process = start("--from-cluster", f"team-a/{NAME}", KUBECONFIG=str(tmp_path / "none"))
    _, error = process.communicate(timeout=scaled(30))
    assert process.returncode == 1
    assert "no cluster is configured" in error
    assert "Traceback" not in error
