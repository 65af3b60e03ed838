"""A stand-in for the kubelet where there is no node: runs the one container of a Job's pod here.

What runs is the pod that the job controller made from the Job's own template: its command, its
environment, its volumes. A mount path does not exist on this machine, so wherever one stands in
the command, the arguments or a variable, the path of a temporary directory takes its place. The
outcome goes into the pod's status, from which the job controller goes on as it always does.

It knows no images, probes, init containers or resource limits, and says so rather than guess.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.cluster.control_plane import Cluster
from tests.cluster.volumes import NodeError, entries, field, mount
from tests.cluster.waiting import wait_until

POD_SECONDS: Final = 20  # the job controller backs off where the namespace is not ready yet
# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
MESSAGE_BYTES: Final = 4096
LOG_TAIL_BYTES: Final = 2048


@dataclass(frozen=True)
class PodRun:
    """How a pod's container ended.

    Attributes:
        message: what it left in its termination message file, as it stands in the pod's status.
        log: standard output and error, together.
    """

    pod: str
    exit_code: int
    message: str
    log: str


def run_cronjob_now(
    cluster: Cluster,
    namespace: str,
    cronjob: str,
    *,
    extra_env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    timeout: float = 60,
) -> PodRun:
    """Make a Job from the CronJob, as `kubectl create job --from` does, and run its pod."""
    job = f"{cronjob[:40]}-now-{secrets.token_hex(4)}"
    cluster.kubectl("create", "job", job, f"--from=cronjob/{cronjob}", "-n", namespace)
    return run_pod_of_job(
        cluster, namespace, job, extra_env=extra_env, entrypoint=entrypoint, timeout=timeout
    )


def run_pod_of_job(
    cluster: Cluster,
    namespace: str,
    job: str,
    *,
    extra_env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    timeout: float = 60,
) -> PodRun:
    """Wait for the Job's pod, run its container to the end, and report into the pod's status.

    Args:
        cluster: where the Job is.
        namespace: that of the Job.
        job: its name.
        extra_env: variables added to (or put over) the container's own, such as
            ANTHROPIC_BASE_URL of a server on this machine.
        entrypoint: what the image would run where the container names no command.
        timeout: seconds the container may take; then it is killed, as activeDeadlineSeconds does.

    Raises:
        NodeError: the pod asks for something that needs a real node.
        TimeoutError: the Job got no pod.
    """

    def waiting_pod() -> dict[str, Any] | None:
        pods = cluster.get("pods", "-n", namespace, "-l", f"batch.kubernetes.io/job-name={job}")
        return next((pod for pod in pods["items"] if pod["status"]["phase"] == "Pending"), None)

    pod = wait_until(waiting_pod, POD_SECONDS, f"job {namespace}/{job} has a pod to run")
    assert pod is not None
    spec = pod["spec"]
    if spec.get("initContainers") or len(spec["containers"]) != 1:
        raise NodeError(f"pod {pod['metadata']['name']} has more than one container")
    with tempfile.TemporaryDirectory(prefix="headwater-pod-") as directory:
        container = _Container(cluster, pod, Path(directory), extra_env or {}, entrypoint)
        started = datetime.now(UTC)
        exit_code, reason, log = container.run(timeout)
        message = container.termination_message(exit_code, log)
    terminated = {
        "exitCode": exit_code,
        "reason": reason,
        "message": message,
        "startedAt": _timestamp(started),
        "finishedAt": _timestamp(datetime.now(UTC)),
    }
    status = {
        "phase": "Failed" if exit_code else "Succeeded",
        "startTime": _timestamp(started),
        "containerStatuses": [
            {
                "name": container.spec["name"],
                "image": container.spec["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": terminated},
            }
        ],
    }
    name = pod["metadata"]["name"]
    cluster.kubectl(
        *("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge"),
        *("--patch", json.dumps({"status": status})),
    )
    return PodRun(name, exit_code, message, log)


class _Container:
    """The pod's container with everything it mounts under `directory`."""

    def __init__(
        self,
        cluster: Cluster,
        pod: Mapping[str, Any],
        directory: Path,
        extra_env: Mapping[str, str],
        entrypoint: Sequence[str],
    ) -> None:
        self._cluster, self._pod, self._directory = cluster, pod, directory
        self.spec: Mapping[str, Any] = pod["spec"]["containers"][0]
        self._termination_log = directory / "termination-log"
        self._termination_log.touch()
        self._places = {self.spec["terminationMessagePath"]: self._termination_log}
        for volume in pod["spec"].get("volumes", ()):
            mount(cluster, pod, volume, directory / "volumes" / volume["name"])
        for wish in self.spec.get("volumeMounts", ()):
            place = directory / "volumes" / wish["name"] / wish.get("subPath", "")
            self._places[wish["mountPath"].rstrip("/")] = place
        environment = self._environment()
        command = [*(self.spec.get("command") or entrypoint), *self.spec.get("args", ())]
        if not command:
            raise NodeError(
                f"container {self.spec['name']} names no command, and its image is not here: "
                "pass the image's as entrypoint"
            )
        self._command = [self._placed(_expanded(word, environment)) for word in command]
        self._environ = {
            # The console scripts of this virtual environment are what the image would hold.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOSTNAME": pod["metadata"]["name"],
            **{name: self._placed(value) for name, value in environment.items()},
            **extra_env,
        }

    def run(self, timeout: float) -> tuple[int, str, str]:
        """Exit code, the reason a kubelet would give, and the log."""
        log = self._directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(timeout)
                reason = "Error" if code else "Completed"
            except subprocess.TimeoutExpired:
                code, reason = -9, "DeadlineExceeded"
            finally:
                process.kill()  # nothing to it where it has ended
                process.wait()
        # A runtime reports a signal as 128 + its number, Python as its negative.
        return (code if code >= 0 else 128 - code), reason, log.read_text(errors="replace")

    def termination_message(self, exit_code: int, log: str) -> str:
        """What the kubelet would put into the status, cut where it cuts."""
        message = self._termination_log.read_bytes()[:MESSAGE_BYTES].decode(errors="replace")
        fallback = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if exit_code and not message and fallback:
            return log[-LOG_TAIL_BYTES:]
        return message

    def _environment(self) -> dict[str, str]:
        if "envFrom" in self.spec:
            raise NodeError(f"container {self.spec['name']} has envFrom: name each variable in env")
        environment: dict[str, str] = {}
        for variable in self.spec.get("env", ()):
            value = self._value(variable)
            if value is not None:
                environment[variable["name"]] = _expanded(value, environment)
        return environment

    def _value(self, variable: Mapping[str, Any]) -> str | None:
        match variable.get("valueFrom"):
            case None:
                return str(variable.get("value", ""))
            case {"fieldRef": {"fieldPath": path}}:
                return field(self._pod, path)
            case {"secretKeyRef": wish} | {"configMapKeyRef": wish}:
                kind = "secret" if "secretKeyRef" in variable["valueFrom"] else "configMap"
                found = entries(self._cluster, self._pod["metadata"]["namespace"], kind, wish)
                if wish["key"] in found:
                    return found[wish["key"]].decode()
                if wish.get("optional"):
                    return None
                raise NodeError(f"{kind} {wish['name']} has no key {wish['key']}")
            case other:
                raise NodeError(
                    f"variable {variable['name']} ({', '.join(other)}) needs a real node"
                )

    def _placed(self, text: str) -> str:
        """The text with every mount path in it replaced; of two that fit, by the longer."""
        paths = "|".join(re.escape(path) for path in sorted(self._places, key=len, reverse=True))
        return re.sub(
            rf"(?<![\w.-])({paths})(?![\w.-])", lambda path: str(self._places[path[0]]), text
        )


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where the variable is known, `$$` as `$`: the kubelet's rule."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]+)\)", value, text)


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
