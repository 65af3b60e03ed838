"""The local control plane: what the other integration tests stand on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.cluster.control_plane import Cluster, ControlPlane, ControlPlaneError, open_cluster
from tests.cluster.go_build import kubernetes_version
from tests.cluster.node import run_cronjob_now, run_pod_of_job
from tests.cluster.volumes import MountedConfigMap, NodeError
from tests.cluster.waiting import scaled, wait_until
from tests.integration.fake_programs import fake_control_plane
from tests.integration.lending import Audit

ROOT = Path(__file__).parents[2]


def cronjob(container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    """A CronJob that would not start by itself for a long time."""
    template = {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "none", **container}],
        **pod,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "report"},
        "spec": {
            "schedule": "0 0 1 1 *",
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": template}}},
        },
    }


def apply(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(manifest))


def processes_with(text: str) -> list[str]:
    """The command lines of this machine's processes that work in a directory or name it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text in str((entry / "cwd").readlink()):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended while we looked, or is another user's
            continue
    return found


class TestCluster:
    def test_is_the_pinned_kubernetes(self, control_plane: Cluster) -> None:
        """Server and kubectl are both of the minor version that everything is tested with."""
        version = json.loads(control_plane.kubectl("version", "-o", "json").stdout)
        minor = kubernetes_version().rpartition(".")[0]
        assert version["serverVersion"]["gitVersion"].startswith(f"{minor}.")
        assert version["clientVersion"]["gitVersion"].startswith(f"{minor}.")
        assert control_plane.kubectl("get", "--raw", "/readyz").stdout == "ok"

    def test_says_what_kubectl_said(self, control_plane: Cluster) -> None:
        """A failed command names itself and the server's words; unchecked, it just returns."""
        with pytest.raises(AssertionError, match=r"get configmap absent\n.*NotFound"):
            control_plane.kubectl("get", "configmap", "absent")
        assert control_plane.kubectl("get", "configmap", "absent", check=False).returncode == 1

    def test_tells_users_apart(self, control_plane: Cluster, namespace: str) -> None:
        """RBAC is on: a user without a role may do nothing."""
        denied = control_plane.kubectl(
            *("auth", "can-i", "get", "secrets", "-n", namespace, "--as=somebody"), check=False
        )
        assert denied.stdout.strip() == "no"

    def test_refuses_an_unknown_wish(self) -> None:
        """A mistyped HEADWATER_CLUSTER does not silently start a control plane."""
        with pytest.raises(ControlPlaneError, match="HEADWATER_CLUSTER=curent is not known"):
            open_cluster({"HEADWATER_CLUSTER": "curent"})

    def test_takes_the_current_cluster_of_a_kubeconfig(
        self, control_plane: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """HEADWATER_CLUSTER=current leads to the kubeconfig's cluster and copies its context."""
        monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
        monkeypatch.setenv("PATH", str(control_plane.kubectl_binary.parent), prepend=os.pathsep)
        with open_cluster({"HEADWATER_CLUSTER": "current"}) as cluster:
            assert cluster.host == control_plane.host
            assert cluster.token == control_plane.token
            assert cluster.kubeconfig != control_plane.kubeconfig
            assert cluster.get("namespace", "default")["status"]["phase"] == "Active"


class TestPods:
    def test_a_cronjob_runs_with_what_it_mounts(
        self, control_plane: Cluster, namespace: str
    ) -> None:
        """Command, variables and volumes are the Job's own; the outcome lands in the statuses."""
        source = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "text"},
            "data": {"greeting": "good morning"},
            "binaryData": {"bytes": "AP8="},
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "key"},
            "stringData": {"api-key": "s3cret"},
        }
        script = """\
            import os, pathlib, sys
            text, out = map(pathlib.Path, sys.argv[1:])
            assert (text / "..data").is_symlink()
            assert (text / "renamed").read_text() == "good morning"
            assert (text / "raw").read_bytes() == bytes([0, 255])
            assert pathlib.Path(os.environ["KEY_FILE"]).read_text() == "s3cret"
            assert os.environ["KEY"] == "s3cret"
            assert "HOME" not in os.environ
            print("seen in the log")
            out.write_text(f"{os.environ['WHO']} on {os.environ['EXTRA']}")
            """
        container = {
            "command": ["python", "-c", textwrap.dedent(script), "/etc/text", "$(OUT)"],
            "env": [
                {
                    "name": "NAMESPACE",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                },
                {"name": "WHO", "value": "$(NAMESPACE)/$$"},
                {"name": "OUT", "value": "/dev/termination-log"},
                {"name": "KEY_FILE", "value": "/etc/text-keys/api-key"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "api-key"}}},
            ],
            "volumeMounts": [
                {"name": "text", "mountPath": "/etc/text"},
                {"name": "keys", "mountPath": "/etc/text-keys"},
            ],
        }
        items = [{"key": "greeting", "path": "renamed"}, {"key": "bytes", "path": "raw"}]
        volumes = [
            {"name": "text", "configMap": {"name": "text", "items": items}},
            {"name": "keys", "secret": {"secretName": "key"}},
        ]
        for manifest in (source, secret, cronjob(container, volumes=volumes)):
            apply(control_plane, namespace, manifest)

        run = run_cronjob_now(control_plane, namespace, "report", extra_env={"EXTRA": "a node"})

        assert (run.exit_code, run.message) == (0, f"{namespace}/$ on a node"), run.log
        assert run.log == "seen in the log\n"
        pod = control_plane.get("pod", run.pod, "-n", namespace)
        state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (state["message"], state["reason"]) == (run.message, "Completed")
        job = pod["metadata"]["ownerReferences"][0]["name"]
        control_plane.kubectl("wait", "--for=condition=Complete", f"job/{job}", "-n", namespace)

    def test_a_failure_fails_the_job(self, control_plane: Cluster, namespace: str) -> None:
        """The exit code reaches the Job, and the log stands in for a message where asked to."""
        script = "import sys; sys.exit('no such prefix')"
        container = {
            "args": ["-c", script],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        apply(control_plane, namespace, cronjob(container))
        control_plane.kubectl("create", "job", "once", "--from=cronjob/report", "-n", namespace)
        run = run_pod_of_job(control_plane, namespace, "once", entrypoint=[sys.executable])
        assert (run.exit_code, run.message) == (1, "no such prefix\n")
        control_plane.kubectl("wait", "--for=condition=Failed", "job/once", "-n", namespace)

    def test_a_run_is_bounded_in_time(self, control_plane: Cluster, namespace: str) -> None:
        """A container that does not end is killed, and its pod says so."""
        apply(control_plane, namespace, cronjob({"command": ["sleep", "60"]}))
        run = run_cronjob_now(control_plane, namespace, "report", timeout=0.2)
        status = control_plane.get("pod", run.pod, "-n", namespace)["status"]
        terminated = status["containerStatuses"][0]["state"]["terminated"]
        assert (run.exit_code, terminated["reason"]) == (137, "DeadlineExceeded")

    @pytest.mark.parametrize(
        ("container", "pod", "words"),
        [
            ({}, {}, "names no command"),
            (
                {"command": ["true"], "envFrom": [{"configMapRef": {"name": "text"}}]},
                {},
                "has envFrom",
            ),
            (
                {"command": ["true"]},
                {"volumes": [{"name": "disk", "hostPath": {"path": "/"}}]},
                r"volume disk \(hostPath\) needs a real node",
            ),
            (
                {"command": ["true"]},
                {"volumes": [{"name": "text", "configMap": {"name": "absent"}}]},
                "the pod needs configMap absent",
            ),
        ],
    )
    def test_refuses_what_needs_a_node(
        self,
        control_plane: Cluster,
        namespace: str,
        container: dict[str, Any],
        pod: dict[str, Any],
        words: str,
    ) -> None:
        """What the stand-in cannot do it names, and it never runs half a pod."""
        apply(control_plane, namespace, cronjob(container, **pod))
        with pytest.raises(NodeError, match=words):
            run_cronjob_now(control_plane, namespace, "report")


class TestMountedConfigMap:
    def test_shows_one_version_at_a_time(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> None:
        """Files come, change and go with one swap of a link, and stay when the source is gone."""
        create = ("create", "configmap", "route", "-n", namespace)
        control_plane.kubectl(*create, "--from-literal=a=1", "--from-literal=b=1")
        with MountedConfigMap(control_plane, namespace, "route", tmp_path / "mount") as mounted:
            assert mounted.sync()
            assert not mounted.sync()
            before = (mounted.directory / "..data").readlink()
            patch = json.dumps({"data": {"a": "2", "b": None}})
            control_plane.kubectl("patch", "configmap", "route", "-n", namespace, "-p", patch)
            assert mounted.sync()
            assert (mounted.directory / "a").read_text() == "2"
            assert {path.name for path in mounted.directory.iterdir()} == {
                *("a", "..data", str((mounted.directory / "..data").readlink())),
            }
            assert (mounted.directory / "..data").readlink() != before
            control_plane.kubectl("delete", "configmap", "route", "-n", namespace)
            with pytest.raises(kubernetes.client.ApiException, match="404"):
                mounted.sync()
            assert (mounted.directory / "a").read_text() == "2"

    def test_follows_in_the_background(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> None:
        """A follower may start before its ConfigMap exists."""
        with MountedConfigMap(control_plane, namespace, "late", tmp_path) as mounted:
            mounted.follow()
            control_plane.kubectl(
                "create", "configmap", "late", "-n", namespace, "--from-literal=a=1"
            )
            wait_until((tmp_path / "a").exists, 5, "the follower mirrors the new ConfigMap")


class TestApiServerOutage:
    def test_comes_back_with_its_data(self, lent_control_plane: ControlPlane) -> None:
        """Paused it does not answer, stopped it refuses; afterwards all is as it was."""
        cluster = lent_control_plane
        cluster.kubectl("create", "configmap", "kept", "--from-literal=a=1")
        host = cluster.host
        cluster.pause()
        asked = cluster.kubectl("get", "--raw=/readyz", "--request-timeout=1s", check=False)
        assert asked.returncode != 0
        cluster.resume()
        assert cluster.kubectl("get", "--raw=/readyz").stdout == "ok"
        cluster.stop_api_server()
        asked = cluster.kubectl("get", "--raw=/readyz", check=False)
        assert "refused" in asked.stderr
        cluster.start_api_server()
        assert cluster.host == host
        assert cluster.get("configmap", "kept")["data"] == {"a": "1"}

    def test_writes_an_audit_log_where_asked(
        self, lent_control_plane: ControlPlane, audit: Audit
    ) -> None:
        """Every answered request is one line with its user and verb, so writes can be counted."""
        lent_control_plane.kubectl("create", "configmap", "seen", "--as=auditee", check=False)
        nobody = {"username": ""}
        mine = [
            event
            for event in audit.events()
            if event.get("impersonatedUser", nobody)["username"] == "auditee"
        ]
        assert [(event["verb"], event["responseStatus"]["code"]) for event in mine] == [
            ("create", 403)
        ]


class TestGoneWithoutATrace:
    @pytest.mark.slow
    @pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_however_its_parent_ends(self, ending: signal.Signals, control_plane: Cluster) -> None:
        """After Ctrl-C, a polite request and a violent death: no process, no directory."""
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert parent.stdout is not None
            lines = iter(parent.stdout.readline, "Ctrl-C ends it.\n")
            (line,) = [line for line in lines if "export KUBECONFIG=" in line]
            directory = Path(line.strip().partition("=")[2]).parent
            assert len(processes_with(str(directory))) == 4  # three servers and their supervisor
            parent.send_signal(ending)
            _, stderr = parent.communicate(timeout=scaled(30))
        finally:
            parent.kill()
            parent.wait()
        assert (parent.returncode, stderr) == (-9 if ending == signal.SIGKILL else 0, "")
        wait_until(lambda: not directory.exists(), 10, f"{directory} is removed")
        wait_until(lambda: not processes_with(str(directory)), 10, "every process has ended")

    def test_when_it_cannot_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error shows the last lines of the process that failed, and nothing is left."""
        fakes = fake_control_plane(tmp_path / "bin", kubernetes_version(), "3.6.4")
        # Of two that have ended either could be seen first: this one goes on.
        server = fakes / "kube-apiserver"
        server.write_text(server.read_text().replace("exit 3", "exec sleep 600"))
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(fakes))
        control_plane = ControlPlane()
        with pytest.raises(ControlPlaneError, match=r"etcd ended with 3.*\n.*disk on fire"):
            control_plane.__enter__()
        assert not control_plane.directory.exists()
