"""A Kubernetes control plane of one's own: etcd, kube-apiserver and kube-controller-manager.

    with ControlPlane() as control_plane:
        control_plane.kubectl("get", "namespaces")

It listens on 127.0.0.1 only, keeps everything in one temporary directory, and is gone without a
trace afterwards, however the process that started it ends (see `supervisor`). There is no node:
no pod runs, except by `node`. It never touches the user's kubeconfig or kubectl cache.

`current_cluster()` gives the kubeconfig's cluster (kind, k3d, a real one) the same face.
"""

import base64
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from tests.cluster import assets
from tests.cluster.janitor import unmarked
from tests.cluster.ports import free_port
from tests.cluster.waiting import scaled, wait_until

ADMIN: Final = "headwater-test-admin"
START_SECONDS: Final = 60
KUBECTL_SECONDS: Final = 400
"""For one answer of kubectl, which itself may be told to wait for minutes."""
PORT_ATTEMPTS: Final = 5
_ETCD: Final = "unix://etcd.sock:0"
_CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)
"""Those of Kubernetes' controllers that have something to do where no pod runs."""
_COLLECT_GARBAGE: Final = {"GOGC": "400"}
"""Go's servers collect garbage less often: a quarter less of a processor to start, for memory."""
_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}
# FIPS 186-4, D.1.2.3: the order of P-256; RFC 5480, 2.1.1.1: its object identifier.
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_PARAMETERS: Final = bytes.fromhex("a00a06082a8648ce3d030107")


class ControlPlaneError(Exception):
    """A process of the control plane did not start or ended; the message shows its last lines."""


class Cluster:
    """A Kubernetes cluster that tests may use, but neither stop nor pause.

    Attributes:
        kubeconfig: a file of one context, for an administrator.
        kubectl_binary: the kubectl that fits the cluster.
    """

    def __init__(self, kubeconfig: Path, kubectl_binary: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_binary = kubectl_binary

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find this cluster, and no other."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            # A later control plane may get the same port: its discovery must not be this one's.
            "KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl-cache"),
        }

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self._entry("clusters", "cluster")["server"])

    @property
    def token(self) -> str | None:
        """The administrator's bearer token; None where the kubeconfig has another credential."""
        return self._entry("users", "user").get("token")

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - named as subprocess.run names it
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this cluster; `--as=NAME --as-group=GROUP` makes it another user.

        Raises:
            AssertionError: it failed and `check` is set; the message has the command and stderr.
        """
        done = subprocess.run(
            [self.kubectl_binary, *arguments],
            env={**os.environ, **self.environment},
            input=input or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=scaled(KUBECTL_SECONDS),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}\n{done.stderr.strip()}")
        return done

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get … -o json` says."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)
        return found

    def _entry(self, kind: str, key: str) -> dict[str, Any]:
        (named,) = json.loads(self.kubeconfig.read_text())[kind]
        entry: dict[str, Any] = named[key]
        return entry


@contextmanager
def current_cluster() -> Iterator[Cluster]:
    """The cluster of the user's kubeconfig and current context; nothing is started or stopped.

    A copy of that one context is used, so that switching contexts meanwhile changes nothing.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise ControlPlaneError("HEADWATER_CLUSTER=current needs kubectl on PATH")
    view = subprocess.run(
        [kubectl, "config", "view", "--minify", "--flatten", "--raw", "--output=json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if view.returncode != 0:
        raise ControlPlaneError(
            f"HEADWATER_CLUSTER=current needs a kubeconfig with a context: {view.stderr.strip()}"
        )
    with tempfile.TemporaryDirectory(prefix="headwater-") as directory:
        kubeconfig = Path(directory) / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(view.stdout)
        yield Cluster(kubeconfig, Path(kubectl))


class ControlPlane(Cluster):
    """A cluster that this process starts (3 to 5 s); leaving the `with` ends it.

    Args:
        audit_log: where the API server writes one JSON line a request (level Metadata, once
            answered); None for no audit.

    Attributes:
        directory: everything it writes; logs are `<process>.log` in there.
    """

    directory: Path
    _address = "127.0.0.1"
    _groups: ClassVar[Mapping[str, str]] = {ADMIN: "system:masters"}
    """Who may log in by a token, and as what."""
    _controllers: ClassVar[Sequence[str]] = _CONTROLLERS
    """What kube-controller-manager runs."""

    def __init__(self, *, audit_log: Path | None = None) -> None:
        self._audit_log = audit_log.absolute() if audit_log else None

    def __enter__(self) -> Self:
        self._binaries = assets.require("control-plane")
        self._supervisor = subprocess.Popen(
            self._supervisor_command(),
            # It ends by itself, and what it started with it.
            env={**unmarked(os.environ), **_COLLECT_GARBAGE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C is for us; it must live to clean up
        )
        try:
            self.directory = Path(self._answer()["directory"])
            super().__init__(self.directory / "kubeconfig", self._binaries / "kubectl")
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def pause(self) -> None:
        """The API server stops answering while its connections stay open (SIGSTOP)."""
        self._ask({"signal": signal.SIGSTOP, "to": "kube-apiserver"})

    def resume(self) -> None:
        """The API server goes on after `pause` (SIGCONT)."""
        self._ask({"signal": signal.SIGCONT, "to": "kube-apiserver"})

    def stop_api_server(self) -> None:
        """The API server is gone and connections are refused; its data stays."""
        self._ask({"kill": "kube-apiserver"})

    def start_api_server(self) -> None:
        """The API server is back on the same port with the same data, and ready."""
        self._run("kube-apiserver", *self._api_server)
        self._await("kube-apiserver", "/readyz")

    def _supervisor_command(self) -> list[str]:
        return [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py"))]

    def _start_etcd(self) -> None:
        self._run(
            "etcd",
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            # Sockets in our directory (the working directory of every process) need no port and
            # let no other user of the machine in; etcd insists on something after the colon.
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=unix://etcd-peer.sock:0",
        )

    def _start(self) -> None:
        self._start_etcd()
        self._tokens = {user: secrets.token_urlsafe(24) for user in self._groups}
        self._write(
            "tokens.csv",
            "".join(
                f'{token},{user},{user},"{self._groups[user]}"\n'
                for user, token in self._tokens.items()
            ),
        )
        self._write("service-accounts.key", _new_ec_private_key())
        self._write("audit-policy.json", json.dumps(_AUDIT_POLICY))
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = free_port()
            self._write("kubeconfig", json.dumps(self._kubeconfig(port, ADMIN)))
            self._api_server = self._api_server_arguments(port)
            try:
                self.start_api_server()
                break
            except ControlPlaneError as error:
                # Someone may take a free port between our look and the server's start.
                if "address already in use" not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
        self._run(
            "kube-controller-manager",
            "--kubeconfig=kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
            "--service-account-private-key-file=service-accounts.key",
            # As everywhere: each of its controllers is somebody, and policies tell them apart.
            "--use-service-account-credentials",
            "--root-ca-file=certificates/apiserver.crt",
            f"--controllers={','.join(self._controllers)}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )
        # Pods are refused where the namespace has no service account yet.
        self._await("kube-controller-manager", "/api/v1/namespaces/default/serviceaccounts/default")

    def _api_server_arguments(self, port: int) -> list[str]:
        arguments = [
            f"--etcd-servers={_ETCD}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--cert-dir=certificates",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=service-accounts.key",
            "--service-account-signing-key-file=service-accounts.key",
            # No pod reaches the service `kubernetes`, and it may not point to the loopback.
            "--endpoint-reconciler-type=none",
            "--advertise-address=127.0.0.1",
        ]
        if self._audit_log:
            arguments += [
                f"--audit-log-path={self._audit_log}",
                "--audit-policy-file=audit-policy.json",
            ]
        return arguments

    def _kubeconfig(self, port: int, user: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "headwater-test",
            "contexts": [{"name": "headwater-test", "context": {"cluster": "local", "user": user}}],
            "clusters": [
                {
                    "name": "local",
                    "cluster": {
                        "server": f"https://{self._address}:{port}",
                        "certificate-authority": str(self._certificate),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
        }

    @property
    def _certificate(self) -> Path:
        return self.directory / "certificates" / "apiserver.crt"

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)

    def _run(self, process: str, *arguments: str) -> None:
        self._ask(
            {
                "start": process,
                "argv": [str(self._binary(process)), *arguments],
                "log": f"{process}.log",
            }
        )

    def _binary(self, process: str) -> Path:
        return self._binaries / process

    def _await(self, process: str, path: str) -> None:
        """Wait until the API server has the path, and both processes still run."""

        def there() -> bool:
            for name in dict.fromkeys(("etcd", "kube-apiserver", process)):
                if (code := self._ask({"poll": name})["code"]) is not None:
                    raise ControlPlaneError(
                        f"{name} ended with {code} while it was awaited:\n{self._tail(name)}"
                    )
            return self._has(path)

        try:
            wait_until(there, START_SECONDS, f"{process} makes {path} available")
        except TimeoutError as error:
            raise ControlPlaneError(f"{error}; its last lines:\n{self._tail(process)}") from None

    def _has(self, path: str) -> bool:
        request = urllib.request.Request(
            self.host + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}),  # the shell's proxy does not know our loopback
                urllib.request.HTTPSHandler(
                    context=ssl.create_default_context(cafile=self._certificate)
                ),
            )
            with opener.open(request, timeout=scaled(30)):
                return True
        except OSError:  # no certificate yet, refused, 404, 500: all of them mean "not yet"
            return False

    def _tail(self, process: str) -> str:
        lines = (self.directory / f"{process}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-20:])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.write(json.dumps(request) + "\n")
        self._supervisor.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        if not line:
            raise ControlPlaneError("the supervisor of the control plane has ended: see its stderr")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        self._supervisor.communicate()  # closes its input, which ends it and all it started


def open_cluster(environ: Mapping[str, str]) -> AbstractContextManager[Cluster]:
    """What the environment asks for: a control plane of our own, or `HEADWATER_CLUSTER=current`."""
    match environ.get("HEADWATER_CLUSTER", ""):
        case "":
            return ControlPlane()
        case "current":
            return current_cluster()
        case other:
            raise ControlPlaneError(
                f"HEADWATER_CLUSTER={other} is not known: unset it for a local control plane, or "
                "set it to `current` for the cluster of your kubeconfig"
            )


def _new_ec_private_key() -> str:
    """A fresh P-256 key in PEM, to sign service account tokens with.

    RFC 5915 lets the public key be left out (Go computes it), so a random number below the order
    of the curve is all it takes, and neither openssl nor a library is needed.
    """
    scalar = secrets.randbelow(_P256_ORDER - 1) + 1
    der = b"\x30\x31\x02\x01\x01\x04\x20" + scalar.to_bytes(32, "big") + _P256_PARAMETERS
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"
