"""What the stories on a node are told with: Helm, applications in pods, prefixes, and a stopwatch.

Everything goes through kubectl and helm, as a user's hands would; nothing runs beside the cluster.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.team import LABEL, MODEL, manifest, prompt

ROOT: Final = Path(__file__).parents[3]
CHART: Final = ROOT / "charts" / "headwater"
PREVIOUS: Final = Path(__file__).parent / "previous" / "headwater-0.1.0.tgz"
"""The chart before this one, by `helm package`. There was no release yet: it is how it began."""
RELEASE: Final = "headwater"
SYSTEM: Final = "headwater-system"
OWNER: Final = "ai-platform"
SHOP: Final = "shop"
PREFIX: Final = "house"
DEFINITIONS: Final = ("promptprefixes.headwater.dev", "cachewarmers.headwater.dev")
PATIENCE: Final = 180.0
"""Seconds until something must have happened on a small machine that has more to do: a kubelet's
sync is in it."""
PATIENT: Final = f"--timeout={2 * PATIENCE:.0f}s"
"""The same for Helm and kubectl."""

HALF: Final[dict[str, Any]] = {
    "steps": [{"setWeight": 50}, {"pause": {"duration": "1h"}}],
    "approval": "Automatic",
}
"""A canary that stays where many notice it."""
CANARY: Final[dict[str, Any]] = {
    "steps": [{"setWeight": 50}],
    "analysis": {"minHitRate": 0.8, "minRequests": 20},
    "approval": "Required",
    "progressDeadline": "10m",
}
"""It needs an approval, and shows its hits before."""
SURE: Final = 20
"""So many conversations in a row do not miss a share of one half."""

PRINTED: Final = re.compile(r"\[pod/([^/\]]+)/main\] (\{.*\})$", re.MULTILINE)
"""Of a log that went with its container a kubelet says so, and does not end the line."""

Say = Callable[[str], None]


class Stopwatch:
    """Says of each step how long it took."""

    def __init__(self, say: Say) -> None:
        self.say = say

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.say(f"{time.monotonic() - began:7.1f} s  {what}: failed")
            raise
        self.say(f"{time.monotonic() - began:7.1f} s  {what}")


@dataclass(frozen=True)
class Images:
    """What the cluster's nodes have."""

    operator: str
    sidecar: str
    application: str

    @property
    def values(self) -> dict[str, Any]:
        """For the chart."""
        operator, sidecar = (name.rpartition(":") for name in (self.operator, self.sidecar))
        return {
            "image": {"repository": operator[0], "tag": operator[2], "pullPolicy": "IfNotPresent"},
            "sidecar": {"repository": sidecar[0], "tag": sidecar[2]},
        }


@dataclass(frozen=True)
class Helm:
    """The binary, and the cluster that it speaks to."""

    binary: Path
    cluster: Cluster

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it in the release's namespace.

        Raises:
            AssertionError: it failed and `check` is set; with what it said.
        """
        directory = self.cluster.kubeconfig.parent / "helm"
        done = subprocess.run(
            [self.binary, *arguments, "--namespace", SYSTEM],
            env={
                **os.environ,
                **self.cluster.environment,
                **{f"HELM_{kind}_HOME": str(directory / kind) for kind in ("CACHE", "DATA")},
                "HELM_CONFIG_HOME": str(directory / "CONFIG"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=scaled(4 * PATIENCE),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"helm {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done

    def install(
        self,
        values: Mapping[str, Any],
        *more: str,
        chart: Path = CHART,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Install or upgrade a chart, and wait until all of it is ready."""
        file = self.cluster.kubeconfig.parent / "values.json"
        file.write_text(json.dumps(values))
        return self(
            *("upgrade", "--install", RELEASE, str(chart), "--create-namespace"),
            *("--wait", PATIENT, "--values", str(file), *more),
            check=check,
        )


@dataclass(frozen=True)
class Line:
    """What an application printed of one answer.

    Attributes:
        asked: in seconds since the epoch.
        error: what the SDK raised; None for an answer.
    """

    pod: str
    asked: float
    version: str | None
    wrote: int
    read: int
    error: str | None


class Application:
    """A Deployment of an image that knows nothing of Headwater, where pods take part."""

    def __init__(self, cluster: Cluster, namespace: str, name: str = "chat") -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name

    def deploy(self, image: str, *, replicas: int = 1, pause: float = 0.5) -> None:
        """Apply it, with no word about a sidecar."""
        labels = {"app": self.name}
        environment = {
            "ANTHROPIC_API_KEY": f"sk-{self.namespace}",
            "MODEL": MODEL,
            "PAUSE": str(pause),
        }
        container = {
            "name": "main",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": name, "value": value} for name, value in environment.items()],
        }
        apply(
            self.cluster,
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "containers": [container],
                            "terminationGracePeriodSeconds": 1,
                        },
                    },
                },
            },
        )

    def await_ready(self) -> None:
        """Every replica of the newest template is Ready, and no older one is left."""

        def all_are() -> bool:
            found = self.cluster.get("deployment", self.name, "-n", self.namespace)
            wanted, status = found["spec"]["replicas"], found.get("status", {})
            assert status.get("observedGeneration") == found["metadata"]["generation"]
            counts = [status.get(f"{kind}Replicas", 0) for kind in ("ready", "updated")]
            assert [*counts, len(self.pods())] == [wanted] * 3, status
            return True

        wait_until(all_are, 2 * PATIENCE, f"all of {self.name} is Ready", 1)

    def pods(self) -> list[dict[str, Any]]:
        """Its pods that are not on their way out."""
        found = self.cluster.get("pods", "-n", self.namespace, "-l", f"app={self.name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def lines(self, last: int = -1) -> list[Line]:
        """What its pods printed, or the last so many of each; each pod's in their order."""
        log = self.cluster.kubectl(
            *("logs", "-n", self.namespace, "-l", f"app={self.name}", "-c", "main", "--prefix"),
            *(f"--tail={last}", "--max-log-requests=50"),
        ).stdout
        return [_line(*printed) for printed in PRINTED.findall(log)]

    def touch(self) -> None:
        """Have the kubelet sync its pods now, instead of within a minute or so."""
        self.cluster.kubectl(
            *("annotate", "pods", "-n", self.namespace, "-l", f"app={self.name}"),
            *("--overwrite", f"example.com/touched={time.time()}"),
        )

    def await_version(self, version: str) -> None:
        """Every pod has had an answer of this version."""

        def each_had() -> bool:
            self.touch()
            had = {line.pod for line in self.lines(SURE) if line.version == version}
            return had >= {pod["metadata"]["name"] for pod in self.pods()}

        # Touched more often, pods keep a small machine's kubelet from anything else.
        what = f"each pod of {self.name} is answered with {version}"
        wait_until(each_had, 2 * PATIENCE, what, 5)


def _line(pod: str, printed: str) -> Line:
    line = json.loads(printed)
    return Line(
        pod,
        line["asked"],
        line.get("version"),
        line.get("wrote", 0),
        line.get("read", 0),
        line.get("error"),
    )


class Prefix:
    """The platform team's one prefix, published by `kubectl apply`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def publish(self, version: str, text: str | None = None, **spec: Any) -> str:
        """Apply a version; its digest."""
        source = {"system": [{"text": text or prompt(version)}]}
        body = manifest(OWNER, name=PREFIX, version=version, source=source, **spec)
        apply(
            self.cluster, {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body}
        )
        return str(body["spec"]["digest"])

    @property
    def status(self) -> dict[str, Any]:
        """As the controller wrote it last."""
        found = self.cluster.get("promptprefix", PREFIX, "-n", OWNER)
        status: dict[str, Any] = found.get("status", {})
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            raise AssertionError(f"not looked at yet: {status}")
        return status

    def await_phase(self, phase: str, version: str) -> dict[str, Any]:
        """Wait until this phase is about this version; the status."""

        def found() -> dict[str, Any] | None:
            status = self.status
            at = status.get("stable" if phase == "Stable" else "candidate") or {}
            assert status["phase"] == phase, status
            assert phase == "RolledBack" or at.get("version") == version, status
            return status

        status = wait_until(found, PATIENCE, f"{PREFIX} is {phase} with {version}", 0.3)
        assert status is not None
        return status


class Warmer:
    """Keeps the prefix's lanes warm, and runs each minute.

    Attributes:
        keys: of which it has one lane each, by the names of their credentials.
        first: the lane that was warmed first, as it was then.
    """

    def __init__(self, cluster: Cluster, keys: Mapping[str, str]) -> None:
        self.cluster, self.keys = cluster, keys
        self.first: dict[str, Any] = {}

    def apply(self, **spec: Any) -> None:
        """Apply it with its Secret; the keywords are further fields of the spec."""
        about = {"name": "warm", "namespace": OWNER}
        references = [
            {"name": name, "secretRef": {"name": "anthropic", "key": name}} for name in self.keys
        ]
        apply(
            self.cluster,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {**about, "name": "anthropic"},
                "stringData": self.keys,
            },
            {
                "apiVersion": "headwater.dev/v1alpha1",
                "kind": "CacheWarmer",
                "metadata": about,
                "spec": {
                    "prefixRef": {"name": PREFIX},
                    "credentials": references,
                    "schedule": "* * * * *",
                    "warm": "Stable",
                    **spec,
                },
            },
        )

    @property
    def status(self) -> dict[str, Any]:
        """As the controller wrote it last."""
        found = self.cluster.get("cachewarmer", "warm", "-n", OWNER)
        status: dict[str, Any] = found.get("status", {})
        return status

    def await_lane(self, credential: str, after: str = "", **expected: Any) -> dict[str, Any]:
        """Wait until a lane is so, over some minutes of the schedule; the lane.

        Args:
            credential: whose lane.
            after: when the lane was warm once, of which a later time is awaited.
            expected: fields of the lane.
        """

        def is_so() -> dict[str, Any]:
            lanes: list[dict[str, Any]] = self.status.get("lanes", [])
            found = [each for each in lanes if each["credential"] == credential]
            assert [lane | expected for lane in found] == found != [], lanes
            assert not after or found[0]["lastWarmAt"] > after, lanes
            return found[0]

        what = f"the lane of {credential} is {expected}"
        return wait_until(is_so, 4 * PATIENCE, what, 1)


def pods_of(cluster: Cluster, role: str) -> list[str]:
    """The names of a role's pods that are not on their way out."""
    label = f"app.kubernetes.io/component={role}"
    pods = [pod["metadata"] for pod in cluster.get("pods", "-n", SYSTEM, "-l", label)["items"]]
    return [pod["name"] for pod in pods if "deletionTimestamp" not in pod]


def apply(cluster: Cluster, *manifests: Mapping[str, Any]) -> None:
    """`kubectl apply` of these."""
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(listed))


def delete_namespaces(cluster: Cluster, *names: str) -> None:
    """Return when nothing is left of them."""
    cluster.kubectl("delete", "namespace", *names, "--wait=false", "--ignore-not-found")
    wait_until(
        lambda: not {*names} & {each["metadata"]["name"] for each in cluster.get("ns")["items"]},
        PATIENCE,
        f"{', '.join(names)} are gone",
        1,
    )


def consumer_namespace(cluster: Cluster, name: str, prefix: str = PREFIX) -> None:
    """A namespace whose pods take part: a label, an annotation, and what the prefix selects by."""
    apply(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {LABEL: OWNER, "headwater.dev/inject": "enabled"},
                "annotations": {"headwater.dev/prefixes": f"{OWNER}/{prefix}"},
            },
        },
    )


def run_program(cluster: Cluster, namespace: str, file: Path, image: str, *arguments: str) -> None:
    """A pod of the file's name that runs it, in an image that has what it imports."""
    metadata = {"name": file.stem, "namespace": namespace}
    container = {
        "name": file.stem,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/headwater/bin/python", f"/program/{file.name}", *arguments],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    volume = {"name": "program", "configMap": {"name": file.stem}}
    apply(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {file.name: file.read_text()},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container], "volumes": [volume], "restartPolicy": "Never"},
        },
    )


def seconds_of_an_abort(prefix: Prefix, application: Application, stable: str, bad: str) -> float:
    """From the edit that takes a candidate back until the last pod's last request with it.

    Args:
        prefix: what is canaried; it ends as it was.
        application: many pods of it.
        stable: the version that is served.
        bad: the candidate's, a new one.
    """
    application.await_version(stable)  # a Ready pod may still be far from its first request
    prefix.publish(bad, rollout=HALF)
    application.await_version(bad)
    edited = time.time()
    prefix.publish(stable)

    def only_stable() -> bool:
        versions: dict[str, set[str | None]] = {}
        for line in application.lines(SURE):
            versions.setdefault(line.pod, set()).add(line.version if line.asked > edited else bad)
        return all(seen == {stable} for seen in versions.values())

    wait_until(only_stable, 3 * PATIENCE, f"no pod sends {bad}", 1)
    late = [line.asked for line in application.lines() if line.version == bad]
    return max(*late, edited) - edited
