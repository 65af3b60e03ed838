"""Volumes as the kubelet lays them out, where there is no kubelet.

A ConfigMap in a pod is a directory of links into `..data`, itself a link to a directory named by
its time; an update writes a new directory and swaps the one link, so a reader sees all files of
one version or of the other, never a mixture.
Source: https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/volume/util/atomic_writer.go
"""

import base64
import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import kubernetes
from urllib3.exceptions import HTTPError

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled

FOLLOW_SECONDS: Final = 0.2


class NodeError(Exception):
    """The pod asks for something that this stand-in for a kubelet does not do."""


def write_atomically(directory: Path, files: Mapping[str, bytes]) -> bool:
    """Make the directory show exactly these files, all at once; False where it already did."""
    data = directory / "..data"
    old = data.resolve() if data.is_symlink() else None
    if old and files == {
        str(path.relative_to(old)): path.read_bytes() for path in old.rglob("*") if path.is_file()
    }:
        return False
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
    new = Path(tempfile.mkdtemp(prefix=stamp, dir=directory))
    new.chmod(0o755)
    for name, content in files.items():
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    link = directory / "..data_tmp"
    link.symlink_to(new.name)
    link.replace(data)
    visible = {Path(name).parts[0] for name in files}
    for name in visible:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for path in directory.iterdir():
        if not path.name.startswith("..") and path.name not in visible:
            path.unlink()
    if old:
        shutil.rmtree(old)
    return True


def mount(cluster: Cluster, pod: Mapping[str, Any], volume: Mapping[str, Any], at: Path) -> None:
    """Fill the new directory `at` with what the pod's volume holds (file modes are not set).

    Raises:
        NodeError: a kind of volume that needs a real node, or a source that is not there.
    """
    at.mkdir(parents=True)
    match volume:
        case {"emptyDir": _}:
            return
        case {"projected": {"sources": sources}}:
            pass
        case {"secret": {"secretName": name, **wish}}:
            sources = [{"secret": {"name": name, **wish}}]
        case {"configMap": _} | {"downwardAPI": _}:
            sources = [volume]
        case _:
            kind = ", ".join(sorted(set(volume) - {"name"}))
            raise NodeError(f"volume {volume['name']} ({kind}) needs a real node")
    files: dict[str, bytes] = {}
    for source in sources:
        files |= _files_of(cluster, pod, source)
    write_atomically(at, files)


def entries(
    cluster: Cluster, namespace: str, kind: str, wish: Mapping[str, Any]
) -> dict[str, bytes]:
    """Every key of the ConfigMap or Secret that a volume or a variable wishes for, by name.

    Raises:
        NodeError: it is not there, and not optional.
    """
    found = cluster.kubectl("get", kind, wish["name"], "-n", namespace, "-o", "json", check=False)
    if found.returncode != 0:
        if wish.get("optional"):
            return {}
        raise NodeError(f"the pod needs {kind} {wish['name']}: {found.stderr.strip()}")
    return contents(json.loads(found.stdout))


def contents(source: Mapping[str, Any]) -> dict[str, bytes]:
    """The entries of a ConfigMap or a Secret, as the API server shows it, in bytes."""
    text, encoded = source.get("data") or {}, source.get("binaryData") or {}
    if source["kind"] == "Secret":
        text, encoded = {}, text
    return {key: value.encode() for key, value in text.items()} | {
        key: base64.b64decode(value) for key, value in encoded.items()
    }


def field(pod: Mapping[str, Any], path: str) -> str:
    """What the downward API says for a fieldPath.

    Raises:
        NodeError: a field that only a node knows.
    """
    metadata = pod["metadata"]
    match path.removesuffix("']").split("['"):
        case ["metadata.name" | "metadata.namespace" | "metadata.uid"]:
            return str(metadata[path.removeprefix("metadata.")])
        case ["spec.serviceAccountName"]:
            return str(pod["spec"]["serviceAccountName"])
        case ["metadata.labels" | "metadata.annotations" as group, key]:
            return str(metadata.get(group.removeprefix("metadata."), {}).get(key, ""))
        case ["metadata.labels" | "metadata.annotations" as group]:
            pairs = sorted(metadata.get(group.removeprefix("metadata."), {}).items())
            return "\n".join(f"{key}={json.dumps(value)}" for key, value in pairs)
        case _:
            raise NodeError(f"the field {path} needs a real node")


def _files_of(
    cluster: Cluster, pod: Mapping[str, Any], source: Mapping[str, Any]
) -> dict[str, bytes]:
    namespace = pod["metadata"]["namespace"]
    match source:
        case {"configMap": wish} | {"secret": wish}:
            kind = "configMap" if "configMap" in source else "secret"
            found = entries(cluster, namespace, kind, wish)
            items = wish.get("items") or [{"key": key, "path": key} for key in found]
            missing = [item["key"] for item in items if item["key"] not in found]
            if missing and not wish.get("optional"):
                raise NodeError(f"{kind} {wish['name']} has no key {', '.join(missing)}")
            return {item["path"]: found[item["key"]] for item in items if item["key"] in found}
        case {"downwardAPI": {"items": items}}:
            return {
                item["path"]: field(pod, item["fieldRef"]["fieldPath"]).encode() for item in items
            }
        case {"serviceAccountToken": wish}:
            audience = [f"--audience={wish['audience']}"] if "audience" in wish else []
            account = pod["spec"]["serviceAccountName"]
            token = cluster.kubectl("create", "token", account, "-n", namespace, *audience).stdout
            return {wish["path"]: token.strip().encode()}
        case _:
            raise NodeError(f"a volume projected from {', '.join(source)} needs a real node")


class MountedConfigMap:
    """One ConfigMap of the API server, mirrored into a directory as the kubelet does for a pod.

        with MountedConfigMap(cluster, "shop", "settings", directory) as mounted:
            mounted.sync()      # once, now; or
            mounted.follow()    # in the background, until the `with` ends

    Like the kubelet it keeps the last content while the API server or the ConfigMap is gone.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, directory: Path) -> None:
        self.directory = directory
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._ended = threading.Event()
        self._follower: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._client = kubernetes.config.new_client_from_config(str(self._cluster.kubeconfig))
        self._api = kubernetes.client.CoreV1Api(self._client)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._follower:
            self._follower.join()
        self._client.rest_client.pool_manager.clear()
        self._client.close()

    def sync(self) -> bool:
        """Take over what the API server has now; False where nothing changed.

        Raises:
            kubernetes.client.ApiException: the ConfigMap is not there (status 404).
            urllib3.exceptions.HTTPError: no API server answers.
        """
        answer = self._api.read_namespaced_config_map(
            self._name, self._namespace, _preload_content=False, _request_timeout=scaled(30)
        )
        return write_atomically(self.directory, contents(json.loads(answer.data)))

    def follow(self) -> None:
        """Sync now and five times a second from a thread of its own."""
        self._follower = threading.Thread(target=self._run, name=f"mounted {self._name}")
        self._follower.start()

    def _run(self) -> None:
        while True:
            with contextlib.suppress(kubernetes.client.ApiException, HTTPError):
                self.sync()
            if self._ended.wait(FOLLOW_SECONDS):
                return
