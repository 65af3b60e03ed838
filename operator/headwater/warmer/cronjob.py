"""The CronJob that a CacheWarmer stands for: a pure function from one to the other.

Its pod holds API keys, so it gets nothing else: no service account token, no root, no writable
disk. The keys are files, one volume each; they are never in the environment, which crash reports
and child processes copy. The Secret itself is only named: whoever applies this need not read it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from headwater.cluster.labels import MANAGED_BY_LABEL, ROLE_LABEL
from headwater.contract.content import TTL
from headwater.resources.schema import API_VERSION
from headwater.resources.warmer import CacheWarmer, Credential
from headwater.warmer.schedule import START_UP, auto

Object = dict[str, Any]

ROLE: Final = "warm"
WARMER_LABEL: Final = "headwater.dev/warmer"

TIME_LIMIT_SECONDS: Final = 120
"""One run: then it reports what it has, well before the next is due."""
_NAME_LIMIT: Final = 52
"""A Job adds 11 characters to its CronJob's name, and a Pod's label takes 63.
Source: kubernetes.io/docs/concepts/workloads/controllers/cron-jobs."""

_BUNDLE: Final = PurePosixPath("/headwater/bundle")
_CREDENTIALS: Final = PurePosixPath("/headwater/credentials")
_KEY_FILE: Final = "api-key"
_REPORT: Final = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class WarmedPrefix:
    """What a warmer needs to know of its prefix."""

    ttl: TTL
    models: tuple[str, ...]


def cronjob(
    warmer: CacheWarmer,
    prefix: WarmedPrefix,
    *,
    image: str,
    bundle_config_map: str,
    provider_url: str | None = None,
) -> Object:
    """The desired CronJob, for server-side apply.

    Args:
        warmer: the resource; its namespace, name and uid become the owner reference.
        prefix: its prefix's TTL (for `schedule: Auto`) and models (for those left empty).
        image: an image whose `headwater` command can `warm`.
        bundle_config_map: the bundle's ConfigMap in the warmer's namespace.
        provider_url: another base URL than the provider's own, such as a gateway's.
    """
    labels = {
        MANAGED_BY_LABEL: "headwater",
        ROLE_LABEL: ROLE,
        WARMER_LABEL: warmer.metadata.name,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": name_for(warmer.metadata.name),
            "namespace": warmer.metadata.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": CacheWarmer.names.kind,
                    "name": warmer.metadata.name,
                    "uid": warmer.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "schedule": schedule_of(warmer, prefix),
            # A control plane's own zone may have summer time, and an hour twice or never.
            "timeZone": "Etc/UTC",
            "suspend": warmer.spec.suspend,
            "concurrencyPolicy": "Forbid",
            # Later than this the next run is nearer than the one that was missed.
            "startingDeadlineSeconds": TIME_LIMIT_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": labels},
                "spec": {
                    # The next run is the retry; the SDK has tried three times by then.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": TIME_LIMIT_SECONDS + 2 * int(START_UP.total_seconds()),
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": _pod(warmer, prefix, image, bundle_config_map, provider_url),
                    },
                },
            },
        },
    }


def name_for(warmer: str) -> str:
    """The CronJob's name: the warmer's, with a hash where it had to be cut."""
    name = f"headwater-{warmer}"
    if len(name) <= _NAME_LIMIT:
        return name
    # A part between dots may not end in the dash that follows.
    kept = name[: _NAME_LIMIT - 9].rstrip("-.")
    return f"{kept}-{hashlib.sha256(warmer.encode()).hexdigest()[:8]}"


def schedule_of(warmer: CacheWarmer, prefix: WarmedPrefix) -> str:
    """The five cron fields in force."""
    return auto(prefix.ttl) if warmer.spec.schedule == "Auto" else warmer.spec.schedule


def _pod(
    warmer: CacheWarmer,
    prefix: WarmedPrefix,
    image: str,
    bundle_config_map: str,
    provider_url: str | None,
) -> Object:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": ROLE,
                "image": image,
                "command": _command(warmer, prefix, provider_url),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "128Mi"},
                    "limits": {"memory": "256Mi"},
                },
                "terminationMessagePath": _REPORT,
                # A crash before the report leaves its last lines there instead.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    {"name": "bundle", "mountPath": str(_BUNDLE), "readOnly": True},
                    *(
                        {
                            "name": _volume_name(index),
                            "mountPath": str(_CREDENTIALS / credential.name),
                            "readOnly": True,
                        }
                        for index, credential in enumerate(warmer.spec.credentials)
                    ),
                ],
            }
        ],
        "volumes": [
            {"name": "bundle", "configMap": {"name": bundle_config_map}},
            *(
                _key_volume(_volume_name(index), credential)
                for index, credential in enumerate(warmer.spec.credentials)
            ),
        ],
    }


def _command(warmer: CacheWarmer, prefix: WarmedPrefix, provider_url: str | None) -> list[str]:
    command = ["headwater", "warm", "--bundle", str(_BUNDLE)]
    for credential in warmer.spec.credentials:
        command += [
            "--credential",
            f"{credential.name}={_CREDENTIALS / credential.name / _KEY_FILE}",
        ]
    for model in warmer.spec.models or prefix.models:
        command += ["--model", model]
    command += ["--revisions", warmer.spec.warm, "--time-limit", str(TIME_LIMIT_SECONDS)]
    if provider_url is not None:
        command += ["--base-url", provider_url]
    return [*command, "--report", _REPORT]


def _volume_name(index: int) -> str:
    # A credential's name may have capitals and dots, which a volume's may not.
    return f"credential-{index}"


def _key_volume(name: str, credential: Credential) -> Object:
    return {
        "name": name,
        "secret": {
            "secretName": credential.secret_ref.name,
            "items": [{"key": credential.secret_ref.key, "path": _KEY_FILE}],
            # Without its Secret a pod would wait for ever and report nothing: so it starts,
            # warms with the other keys, and says which one is missing.
            "optional": True,
        },
    }
