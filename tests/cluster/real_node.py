"""A cluster of one node of one's own: real pods, on Linux as root.

    with NodeCluster() as cluster:
        cluster.load(Path("image.tar"))
        cluster.kubectl("run", "it", "--image=localhost/it:1", "--image-pull-policy=Never")

It is the control plane with a scheduler, kubelet, kube-proxy and CoreDNS, on containerd and runc,
all of it in namespaces of its own (see `enclosure`): this machine sees one network link, by which
the API server is reached. Nodes that run at the same time have different numbers.
"""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.cluster import assets, machine
from tests.cluster.control_plane import ADMIN, ControlPlane, ControlPlaneError
from tests.cluster.go_build import architecture
from tests.cluster.waiting import scaled, wait_until

NODE: Final = "node"
PODS: Final = "10.244.0.0/24"
DNS: Final = "10.96.0.10"
PAUSE: Final = "localhost/pause:1"
READY_SECONDS: Final = 90
RESTART_SECONDS: Final = 5
"""How long a kubelet waits at most before it starts a container again that has ended. Its default
is 300 s: 10 s, 20 s, 40 s, …, of which a test learns nothing."""


class NodeCluster(ControlPlane):
    """A control plane with a node (some 15 s); leaving the `with` ends it without a trace.

    Args:
        number: tells nodes apart that run on this machine at the same time, 0 to 255.

    Raises:
        ControlPlaneError: on entering, what is missing, or which process did not start.
    """

    _groups: ClassVar[Mapping[str, str]] = {
        ADMIN: "system:masters",
        f"system:node:{NODE}": "system:nodes",
        "system:kube-scheduler": "",
        "system:kube-proxy": "",
    }
    _controllers = ("*",)

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self._link = f"headwater{number}"
        # RFC 2544 keeps 198.18.0.0/15 for laboratories, so that no office uses it.
        self._outer, self._address = f"198.18.{number}.254", f"198.18.{number}.1"

    @property
    def environment(self) -> dict[str, str]:
        """As any cluster's, and past the shell's proxy, which does not know the node."""
        return {**super().environment, "NO_PROXY": self._address, "no_proxy": self._address}

    @property
    def containerd(self) -> str:
        """The address of the node's containerd, for `ctr`."""
        return str(self.directory / "containerd.sock")

    def ctr(self, *arguments: str) -> str:
        """What `ctr` says in the namespace of Kubernetes."""
        return subprocess.run(
            ["ctr", "--address", self.containerd, "--namespace", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=scaled(300),
        ).stdout

    def load(self, archive: Path) -> None:
        """Give the node an image, of an archive that names it."""
        self.ctr("image", "import", str(archive))

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """End a container's first process with SIGKILL; returns when the next one is Ready."""

        def ready() -> str:
            states = self.get("pod", pod, "-n", namespace)["status"]["containerStatuses"]
            (state,) = (each for each in states if each["name"] == container)
            return str(state["containerID"]) if state["ready"] else ""

        what = f"{container} of {pod} is Ready"
        killed = wait_until(ready, 120, what, 1)
        self.ctr("task", "kill", "--signal", "SIGKILL", killed.removeprefix("containerd://"))
        wait_until(lambda: ready() not in {"", killed}, 120, f"{what} again", 1)

    def stop_etcd(self) -> None:
        """Etcd is gone; its data stays."""
        self._ask({"kill": "etcd"})

    def start_etcd(self) -> None:
        """Etcd is back with the same data, and the API server ready."""
        self._start_etcd()
        self._await("kube-apiserver", "/readyz")

    def __enter__(self) -> "NodeCluster":  # noqa: PYI034 - typing.Self of a subclass's own
        if lacking := machine.missing():
            raise ControlPlaneError(lacking)
        if Path("/sys/class/net", self._link).exists():
            raise ControlPlaneError(
                f"another node runs on this machine already: it has the link {self._link}"
            )
        self._node_binaries = assets.require("node-binaries")
        self._dns_binary = assets.require("coredns") / "coredns"
        super().__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        super().__exit__(*ended)
        # The kernel takes the link away with the network, a moment after that is left.
        link = Path("/sys/class/net", self._link)
        wait_until(lambda: not link.exists(), 60, f"the link {self._link} is gone")

    def _supervisor_command(self) -> list[str]:
        enclosure = Path(__file__).with_name("enclosure.py")
        addresses = (f"{self._outer}/24", f"{self._address}/24")
        return [sys.executable, "-I", "-S", str(enclosure), self._link, *addresses]

    def _binary(self, process: str) -> Path:
        if process == "containerd":
            return Path(shutil.which(process) or process)
        if process == "coredns":
            return self._dns_binary
        return (
            self._node_binaries if (self._node_binaries / process).exists() else self._binaries
        ) / process

    def _api_server_arguments(self, port: int) -> list[str]:
        return [
            *super()._api_server_arguments(port),
            "--bind-address=0.0.0.0",
            f"--advertise-address={self._address}",
            "--endpoint-reconciler-type=lease",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-client-certificate=kubelet-client.crt",
            "--kubelet-client-key=kubelet-client.key",
        ]

    def _start_etcd(self) -> None:
        if not (self.directory / "kubelet-client.crt").exists():
            self._make_client_certificate()
        super()._start_etcd()

    def _make_client_certificate(self) -> None:
        """By which the API server logs in at the kubelet: an authority of one certificate."""
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
                *("-subj", "/O=system:masters/CN=kube-apiserver"),
                *("-keyout", "kubelet-client.key", "-out", "kubelet-client.crt"),
            ],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )

    def _start(self) -> None:
        super()._start()
        port = int(self.host.rpartition(":")[2])
        for user in self._groups:
            self._write(_file_of(user), json.dumps(self._kubeconfig(port, user)))
        self._start_containerd()
        self._start_kubelet()
        self._run(
            "kube-scheduler",
            f"--kubeconfig={_file_of('system:kube-scheduler')}",
            "--leader-elect=false",
        )
        self._write("kube-proxy.json", json.dumps(_kube_proxy()))
        self._run("kube-proxy", "--config=kube-proxy.json")
        self._start_dns()
        try:
            wait_until(self._ready, READY_SECONDS, "the node is Ready")
        except TimeoutError as error:
            raise ControlPlaneError(
                f"{error}; the kubelet's last lines:\n{self._tail('kubelet')}"
            ) from None

    def _start_containerd(self) -> None:
        directory = self.directory
        (directory / "cni").mkdir()
        # Nothing can be Ready before there is a network.
        self._write("cni/pods.conflist", json.dumps(_network()))
        self._write("containerd.toml", _containerd(directory))
        self._run("containerd", "--config=containerd.toml")
        wait_until(
            lambda: (
                subprocess.run(
                    ["ctr", "--address", self.containerd, "version"],
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            ),
            120,
            f"containerd answers; its last lines:\n{self._tail('containerd')}",
        )
        _write_image(directory / "pause.tar", PAUSE, self._node_binaries / "pause")
        self.load(directory / "pause.tar")

    def _start_kubelet(self) -> None:
        (self.directory / "resolv.conf").touch()
        self._write("kubelet.json", json.dumps(_kubelet(self.directory)))
        self._run(
            "kubelet",
            "--config=kubelet.json",
            f"--kubeconfig={_file_of(f'system:node:{NODE}')}",
            f"--hostname-override={NODE}",
            f"--node-ip={self._address}",
            f"--cert-dir={self.directory / 'kubelet-certificates'}",
        )

    def _start_dns(self) -> None:
        self._write(
            "Corefile",
            ".:53 {\n errors\n ready 127.0.0.1:8181\n"
            " kubernetes cluster.local in-addr.arpa {\n"
            f"  kubeconfig {self.directory / 'kubeconfig'}\n }}\n}}\n",
        )
        self._run("coredns", "-conf", "Corefile")
        ports = [{"name": kind, "protocol": kind.upper(), "port": 53} for kind in ("udp", "tcp")]
        self.kubectl("apply", "-f", "-", input=json.dumps(_dns_service(self._address, ports)))

    def _ready(self) -> bool:
        for process in ("containerd", "kubelet", "kube-proxy", "kube-scheduler", "coredns"):
            if (code := self._ask({"poll": process})["code"]) is not None:
                raise ControlPlaneError(f"{process} ended with {code}:\n{self._tail(process)}")
        nodes = self.get("nodes")["items"]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            for condition in node["status"].get("conditions", ())
        )


def _file_of(user: str) -> str:
    return f"{user.replace(':', '-')}.kubeconfig"


def _network() -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "subnet": PODS,
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _containerd(directory: Path) -> str:
    return f"""\
version = 2
root = "{directory}/containerd"
state = "/run/containerd"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # What a machine that is itself confined does not allow.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _kubelet(directory: Path) -> dict[str, Any]:
    never = "0%"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(directory / "kubelet-client.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{directory.name}",
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{directory}/containerd.sock",
        "crashLoopBackOff": {"maxContainerRestartPeriod": f"{RESTART_SECONDS}s"},
        "evictionHard": {
            "imagefs.available": never,
            "memory.available": never,
            "nodefs.available": never,
            "nodefs.inodesFree": never,
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "resolvConf": str(directory / "resolv.conf"),
        "volumePluginDir": str(directory / "volume-plugins"),
    }


def _kube_proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": _file_of("system:kube-proxy")},
        "clusterCIDR": PODS,
        # The table of connections is the machine's, and stays as it is.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
            "udpStreamTimeout": "0s",
            "udpTimeout": "0s",
        },
        "hostnameOverride": NODE,
        "mode": "iptables",
        "oomScoreAdj": 0,
    }


def _dns_service(address: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"clusterIP": DNS, "ports": ports},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address]}],
                "ports": ports,
            },
        ],
    }


def _write_image(archive: Path, name: str, program: Path) -> None:
    """An image of one static program, as `docker save` writes it."""
    layer = _tar({program.name: program.read_bytes()})
    config = {
        "os": "linux",
        "architecture": architecture(),
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "manifest.json": manifest}
    archive.write_bytes(
        _tar({"layer.tar": layer, **{name: json.dumps(it).encode() for name, it in files.items()}})
    )


def _tar(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
