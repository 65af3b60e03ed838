"""A real API server takes what the chart renders, and applying it again changes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from charts.generate import DEPLOY, matrix, objects, rendered
from headwater.controller.deletion import FINALIZER
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.team import manifest
from tests.integration.lending import Lender, Lent
from tests.integration.webhook.harness import as_account

pytestmark = pytest.mark.xdist_group("chart")  # what is rendered is kept

NAME = "headwater-webhook"
KINDS = YAML(typ="safe").load(Path(__file__).with_name("kinds.yaml").read_text())


@pytest.fixture(scope="module")
def borrowed(lender: Lender) -> Iterator[Lent]:
    """A control plane for these tests."""
    with lender.lent() as lent:
        yield lent


@pytest.fixture(scope="module")
def plane(borrowed: Lent) -> ControlPlane:
    """A control plane that also knows the kinds of cert-manager and of the Prometheus operator."""
    plane = borrowed.plane
    secured = {"pod-security.kubernetes.io/warn": "restricted"}
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name, labels in (("headwater", secured), ("team-a", {}), ("team-b", {}))
    ]
    apply(plane, *namespaces, *map(foreign, KINDS))
    for kind in KINDS:
        name = f"crd/{kind['plural']}.{kind['group']}"
        wait = ("wait", "--for=condition=Established", "--timeout=120s", name)
        wait_until(lambda wait=wait: plane.kubectl(*wait), 30, f"{name} is served")  # type: ignore[misc]
    return plane


def foreign(kind: dict[str, str]) -> dict[str, Any]:
    """A definition of a kind of somebody else's, which takes anything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind['plural']}.{kind['group']}"},
        "spec": {
            "group": kind["group"],
            "scope": "Namespaced",
            "names": {"kind": kind["kind"], "plural": kind["plural"]},
            "versions": [
                {
                    "name": kind["version"],
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


def apply(plane: ControlPlane, *bodies: dict[str, Any], options: tuple[str, ...] = ()) -> str:
    """What kubectl says to the administrator who applies them, warnings included."""
    whole = {"apiVersion": "v1", "kind": "List", "items": bodies}
    done = plane.kubectl(*("apply", "--server-side", *options, "-f", "-"), input=json.dumps(whole))
    return done.stdout + done.stderr


@pytest.mark.parametrize("case", matrix())
def test_the_api_server_takes_it(plane: ControlPlane, case: str) -> None:
    """Every object of every case, hooks included, without a warning: restricted pods, and CEL."""
    found = objects(rendered("-f", str(matrix()[case])))
    said = apply(plane, *found.values(), options=("--dry-run=server", "--validate=strict"))
    assert said.count("(server dry run)") == len(found)
    assert "Warning" not in said


def test_applied_with_kubectl_it_does_not_drift(plane: ControlPlane) -> None:
    """What the controller writes into the configurations is neither a conflict nor a change."""
    install = ("apply", "--server-side", "-f", str(DEPLOY))
    plane.kubectl(*install)
    configurations = [
        ("MutatingWebhookConfiguration", "inject.headwater.dev"),
        ("ValidatingWebhookConfiguration", "validate.headwater.dev"),
    ]
    for kind, webhook in configurations:
        told = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": NAME},
            "webhooks": [{"name": webhook, "clientConfig": {"caBundle": "Q0E="}}],
        }
        apply(plane, told, options=("--field-manager=headwater", "--validate=false"))
    differs = plane.kubectl("diff", "--server-side", "-f", str(DEPLOY), check=False)
    assert (differs.returncode, differs.stdout) == (0, "")
    plane.kubectl(*install)
    for kind, _ in configurations:
        first, *_ = plane.get(kind, NAME)["webhooks"]
        assert first["clientConfig"]["caBundle"] == "Q0E="


def test_nothing_holds_a_prefix_when_all_is_gone(plane: ControlPlane, tmp_path: Path) -> None:
    """The hook's own account takes off our finalizer, and nobody else's."""
    body = manifest("team-a", name="held")
    body["metadata"]["finalizers"] = [FINALIZER, "example.com/theirs"]
    body |= {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix"}
    apply(plane, body)
    hooks = objects(rendered("--show-only", "templates/cleanup.yaml"))
    rights = [body for body in hooks.values() if body["kind"] != "Job"]
    apply(plane, *rights)
    (job,) = (body for body in hooks.values() if body["kind"] == "Job")
    command: list[str] = job["spec"]["template"]["spec"]["containers"][0]["command"]
    account = as_account(plane, tmp_path / "kubeconfig", "headwater-cleanup")

    done = subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:]],
        env={**os.environ, "KUBECONFIG": str(account.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "took the finalizer off 1 prefixes.\n"
    left = plane.get("pp", "held", "-n", "team-a")["metadata"]["finalizers"]
    assert left == ["example.com/theirs"]
