"""The sidecar as a container of somebody else's pod, and the volumes that it reads. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from headwater.controller.objects import Key, bundle_name

CONTAINER: Final = "headwater-sidecar"
PORT: Final = 8484
BASE_URL: Final = f"http://127.0.0.1:{PORT}"
TEAM_LABEL: Final = "headwater.dev/team"
SURFACE_LABEL: Final = "headwater.dev/surface"

_BUNDLES: Final = "/etc/headwater"
_USER: Final = 65532
"""Given, because a pod may say that its containers are root unless they say otherwise."""
_START_SECONDS: Final = 120
"""The bundle is there when a container starts, so this is about a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the sidecars of an installation have in common.

    `provider_url` is where they send to, if not to the provider itself.
    """

    image: str
    provider_url: str | None = None


def volume_names(count: int) -> list[str]:
    """The names of as many bundles' volumes."""
    return [f"headwater-bundle-{number}" for number in range(1, count + 1)]


def volumes(prefixes: Sequence[Key]) -> list[dict[str, Any]]:
    """The volumes of these bundles.

    None is optional: a pod waits for its bundle, and does not start without it.
    """
    return [
        {"name": name, "configMap": {"name": bundle_name(prefix)}}
        for name, prefix in zip(volume_names(len(prefixes)), prefixes, strict=True)
    ]


def container(
    prefixes: Sequence[Key],
    workload: str,
    deploy_label: str,
    metrics_port: int,
    settings: Settings,
) -> dict[str, Any]:
    """The container for `initContainers`.

    It starts before those that follow and outlives them, and a Job does not wait for it.
    `deploy_label` is the label of the pod that tells one roll-out from the next.
    """
    bundles = [f"--bundle={_directory(prefix)}" for prefix in prefixes]
    upstream = [f"--upstream={settings.provider_url}"] if settings.provider_url else []
    return {
        "name": CONTAINER,
        "image": settings.image,
        "restartPolicy": "Always",
        "command": ["headwater", "sidecar"],
        "args": [
            *bundles,
            f"--port={PORT}",
            f"--metrics-address=0.0.0.0:{metrics_port}",
            *upstream,
        ],
        "env": [
            _from_field("HEADWATER_NAMESPACE", "metadata.namespace"),
            _from_field("HEADWATER_TEAM", f"metadata.labels['{TEAM_LABEL}']"),
            _from_field("HEADWATER_SURFACE", f"metadata.labels['{SURFACE_LABEL}']"),
            {"name": "HEADWATER_WORKLOAD", "value": workload},
            _from_field("HEADWATER_DEPLOY_REVISION", f"metadata.labels['{deploy_label}']"),
        ],
        "ports": [{"name": "headwater", "containerPort": metrics_port}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": "headwater"},
            "periodSeconds": 1,
            "failureThreshold": _START_SECONDS,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": _USER,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": name, "mountPath": _directory(prefix), "readOnly": True}
            for name, prefix in zip(volume_names(len(prefixes)), prefixes, strict=True)
        ],
    }


def _directory(prefix: Key) -> str:
    return f"{_BUNDLES}/{prefix.namespace}/{prefix.name}"


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
