"""The README's section "Install", followed word for word, and removed as docs/operations.md says.

Left out is what a node that has its images needs not: to build them, and what is kind's own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled, wait_until
from tests.e2e.node.installation import IMAGES, own
from tests.e2e.node.world import DEFINITIONS, PATIENCE, PATIENT, Helm, Stopwatch

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).parents[3]
ELSEWHERE: Final = ("make image", "kind ")
NAMES: Final = (
    ("docker.io/library/headwater:0.1.0", IMAGES.operator),
    ("docker.io/library/headwater-sidecar:0.1.0", IMAGES.sidecar),
    ("registry.example.com/headwater:0.1.0", IMAGES.operator),
    ("registry.example.com/headwater-sidecar:0.1.0", IMAGES.sidecar),
)
OF_THE_CLUSTER: Final = (
    "clusterroles",
    "clusterrolebindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
)
"""Kinds of which nothing goes with a namespace."""
WAYS: Final = {
    "**On kind**": "",
    "**On any cluster**": "",
    "**With GitOps**": "Installed with kubectl",
}
"""How it is installed, and after which words docs/operations.md tells how to remove that."""


@pytest.fixture(scope="module", autouse=True)
def _named(node: Cluster) -> None:
    """The node has the images by the names that the README has for them."""
    for name, image in NAMES:
        own(node).ctr("image", "tag", image, name)


@pytest.fixture(scope="module")
def shell(node: Cluster, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> "Shell":
    """Where somebody types who has this checkout, kubectl, helm and headwater."""
    commands = tmp_path_factory.mktemp("bin")
    for binary in (node.kubectl_binary, helm.binary, ROOT / ".venv" / "bin" / "headwater"):
        (commands / binary.name).symlink_to(binary)
    return Shell(node, commands)


class Shell:
    """Runs a document's commands."""

    def __init__(self, node: Cluster, commands: Path) -> None:
        self.environment = {
            **os.environ,
            **node.environment,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HELM_CACHE_HOME": str(commands / "cache"),
        }

    def run(self, commands: str) -> str:
        """What they print; the first that fails is an AssertionError that shows it."""
        done = subprocess.run(
            ["sh", "-eux", "-c", commands],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=scaled(300),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def section(document: str, title: str) -> str:
    """What stands below a heading of the second level."""
    text = (ROOT / document).read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str, after: str) -> str:
    """The first block of commands after these words, without what is done elsewhere."""
    found = re.search(r"```sh\n(.*?)```", text[text.index(after) :], re.DOTALL)
    assert found is not None
    lines = found[1].splitlines()
    return "\n".join(line for line in lines if not line.startswith(ELSEWHERE))


@pytest.mark.parametrize("way", WAYS)
def test_as_it_is_written(way: str, node: Cluster, shell: Shell, stopwatch: Stopwatch) -> None:
    """Each way ends with a pod that has its sidecar; removed, nothing is in the next one's way."""
    install, remove = section("README.md", "Install"), section("docs/operations.md", "Remove")
    with stopwatch.step(f"{way}: installed"):
        shell.run(commands(install, way))
        shell.run(commands(section("docs/operations.md", "Install"), "Then see that it runs"))
    with stopwatch.step(f"{way}: a namespace takes part"):
        listed = shell.run(commands(install, "Then declare a prefix"))
        assert "help-desk" in listed
        wait_until(lambda: ready(node), PATIENCE, "the prefix is Ready", 1)
        node.kubectl(
            *("run", "assistant", "-n", "support", f"--image={IMAGES.application}"),
            *("--image-pull-policy=IfNotPresent", "--command", "--", "sleep", "60"),
        )
        (sidecar,) = node.get("pod", "assistant", "-n", "support")["spec"]["initContainers"]
        assert sidecar["name"] == "headwater-sidecar"
        node.kubectl(
            *(
                "wait",
                "pod/assistant",
                "-n",
                "support",
                "--for=condition=Ready",
                PATIENT,
            )
        )
        node.kubectl("delete", "pod", "assistant", "-n", "support", "--now")
    with stopwatch.step(f"{way}: removed"):
        shell.run(commands(remove, WAYS[way]))
        shell.run("kubectl delete -f examples/quickstart/")
        shell.run("kubectl delete namespace headwater --ignore-not-found")
    left = ("-l", "app.kubernetes.io/instance=headwater", "-o", "name")
    assert node.kubectl("get", ",".join(OF_THE_CLUSTER), *left).stdout == ""


def test_the_stories_run_on_the_kubeconfig_s_cluster(
    node: Cluster, shell: Shell, stopwatch: Stopwatch
) -> None:
    """One that somebody else started, where nothing is of ours but the images."""
    # Whoever applied them without Helm is their owner.
    node.kubectl("delete", "crd", *DEFINITIONS, "--ignore-not-found")
    stories = "tests/e2e/node/test_story.py -k 'install or unmodified'"
    with stopwatch.step("from helm install to helm uninstall, with HEADWATER_CLUSTER=current"):
        said = shell.run(
            f"HEADWATER_CLUSTER=current {sys.executable} -m pytest -q -p no:cacheprovider {stories}"
        )
    assert "3 passed" in said


def ready(node: Cluster) -> bool:
    """Whether the quick start's prefix is served."""
    status = node.get("promptprefix", "help-desk", "-n", "ai-platform").get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return conditions.get("Ready") == "True"
