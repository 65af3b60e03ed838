"""A stand-in for the kubelet, as far as a bundle that a running pod has mounted is concerned."""

import threading
from contextlib import suppress
from typing import Any, Final, Self

import urllib3

from headwater.cluster import POD
from tests.cluster.control_plane import ControlPlane
from tests.cluster.volumes import MountedConfigMap
from tests.integration.controller.harness import Api

_LOOK_SECONDS: Final = 0.1


class Kubelet:
    """Mounts bundles. As on a node, a pod's volumes follow late: when the pod is synced.

    That is now and then (`sync`, a minute or more apart on a node), and at once where the pod
    itself changes.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._pods: list[tuple[str, str, MountedConfigMap]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def mount(self, namespace: str, pod: str, mounted: MountedConfigMap) -> None:
        """Look after a pod."""
        with self._lock:
            self._pods.append((namespace, pod, mounted))

    def sync(self) -> None:
        """What every node does now and then."""
        with self._lock:
            for _, _, mounted in self._pods:
                mounted.sync()

    def _run(self) -> None:
        known: dict[tuple[str, str], Any] = {}
        with Api(self._plane) as api:
            while not self._ended.wait(_LOOK_SECONDS):
                with self._lock, suppress(urllib3.exceptions.HTTPError, AssertionError):
                    for namespace, name, mounted in self._pods:
                        annotations = api.get(POD, namespace, name)["metadata"]["annotations"]
                        if known.setdefault((namespace, name), annotations) != annotations:
                            mounted.sync()
                            known[namespace, name] = annotations
