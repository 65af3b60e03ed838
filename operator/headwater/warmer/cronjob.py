"""The CronJob that a CacheWarmer stands for: a pure function from one to the other.

Its pod holds API keys, so it gets nothing else: no token for the API server, no root, no writable
disk. The keys are files, one volume each; they are never in the environment, which crash reports
and child processes copy. The Secret itself is only named: whoever applies this need not read it.

What a run leaves out and what it may cost stands in its command: the job may ask nobody, and a
command that stays the same while traffic does need not be written for each run.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Final

from headwater.cluster.labels import MANAGED_BY_LABEL, ROLE_LABEL
from headwater.contract.content import TTL
from headwater.resources.schema import API_VERSION
from headwater.resources.warmer import CacheWarmer, Credential
from headwater.warmer.schedule import START_UP, Timetable, timetable

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
_TOKEN_FILE: Final = "token"  # noqa: S105 - a file's name
_TOKEN_SECONDS: Final = 600
"""The least that the API server gives, and more than a run takes."""
_REPORT: Final = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class WarmedPrefix:
    """What a warmer needs to know of its prefix.

    `awaits` a warm lane: a candidate gets no traffic before, and a stable that came at once has
    none yet, so they shall not wait for an hour.
    """

    ttl: TTL
    models: tuple[str, ...]
    awaits: bool = False


@dataclass(frozen=True, slots=True)
class NextRun:
    """What the next run does.

    Attributes:
        suspended: there is none.
        skip: lanes that it leaves out: credential, model, the digest's first 12 hex characters.
        allowance: US dollars that it may cost at most; None for any.
    """

    suspended: bool = False
    skip: tuple[tuple[str, str, str], ...] = ()
    allowance: Decimal | None = None


def cronjob(
    warmer: CacheWarmer,
    prefix: WarmedPrefix,
    run: NextRun,
    *,
    image: str,
    bundle_config_map: str,
    provider_url: str | None = None,
) -> Object:
    """The desired CronJob, for server-side apply.

    Args:
        warmer: the resource; its namespace, name and uid become the owner reference.
        prefix: its prefix's TTL (for `schedule: Auto`) and models (for those left empty).
        run: what was decided about the next run.
        image: an image whose `headwater` command can `warm`.
        bundle_config_map: the bundle's ConfigMap in the warmer's namespace.
        provider_url: another base URL than the provider's own, such as a gateway's.

    Raises:
        ScheduleError: there is no such time zone.
    """
    times = timetable_of(warmer, prefix)
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
            "schedule": times.cron,
            "timeZone": times.zone,
            "suspend": warmer.spec.suspend or run.suspended,
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
                        "spec": _pod(warmer, prefix, run, image, bundle_config_map, provider_url),
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


def timetable_of(warmer: CacheWarmer, prefix: WarmedPrefix) -> Timetable:
    """The schedule in force.

    Raises:
        ScheduleError: there is no such time zone.
    """
    spec, start_up = warmer.spec, warmer.status.start_up or START_UP
    return timetable(
        spec.schedule, "5m" if prefix.awaits else prefix.ttl, spec.active_hours, start_up
    )


def _pod(
    warmer: CacheWarmer,
    prefix: WarmedPrefix,
    run: NextRun,
    image: str,
    bundle_config_map: str,
    provider_url: str | None,
) -> Object:
    account = warmer.spec.service_account_name
    return {
        **({} if account is None else {"serviceAccountName": account}),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": ROLE,
                "image": image,
                "command": _command(warmer, prefix, run, provider_url),
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
                _volume(_volume_name(index), credential)
                for index, credential in enumerate(warmer.spec.credentials)
            ),
        ],
    }


def _command(
    warmer: CacheWarmer, prefix: WarmedPrefix, run: NextRun, provider_url: str | None
) -> list[str]:
    spec = warmer.spec
    command = ["headwater", "warm", "--bundle", str(_BUNDLE)]
    for credential in spec.credentials:
        command += _access(credential)
    for model in spec.models or prefix.models:
        command += ["--model", model]
    command += ["--revisions", spec.warm, "--time-limit", str(TIME_LIMIT_SECONDS)]
    settings = (
        ("--thinking", spec.request.thinking),
        ("--effort", spec.request.effort),
        ("--speed", spec.request.speed),
    )
    for option, value in settings:
        if value is not None:
            command += [option, value]
    for beta in spec.request.betas:
        command += ["--beta", beta]
    if spec.verify.attempts:
        delay = f"{spec.verify.delay.total_seconds():g}"
        command += ["--verify", str(spec.verify.attempts), "--verify-delay", delay]
    for lane in run.skip:
        command += ["--skip", "/".join(lane)]
    if run.allowance is not None:
        command += ["--allowance", f"{run.allowance:f}"]
    if provider_url is not None:
        # One word: the chart's policy compares it.
        command.append(f"--base-url={provider_url}")
    return [*command, "--report", _REPORT]


def _access(credential: Credential) -> list[str]:
    directory = _CREDENTIALS / credential.name
    identity = credential.workload_identity
    if identity is None:
        return ["--credential", f"{credential.name}={directory / _KEY_FILE}"]
    ids = (
        identity.federation_rule_id,
        identity.organization_id,
        identity.service_account_id or "",
        identity.workspace_id or "",
    )
    token = directory / _TOKEN_FILE
    return ["--identity", f"{credential.name}={':'.join((str(token), *ids))}"]


def _volume_name(index: int) -> str:
    # A credential's name may have capitals and dots, which a volume's may not.
    return f"credential-{index}"


def _volume(name: str, credential: Credential) -> Object:
    if credential.workload_identity is not None:
        token = {
            "audience": credential.workload_identity.audience,
            "expirationSeconds": _TOKEN_SECONDS,
            "path": _TOKEN_FILE,
        }
        return {"name": name, "projected": {"sources": [{"serviceAccountToken": token}]}}
    reference = credential.secret_ref
    assert reference is not None  # noqa: S101 - the resource's own rule
    return {
        "name": name,
        "secret": {
            "secretName": reference.name,
            "items": [{"key": reference.key, "path": _KEY_FILE}],
            # Without its Secret a pod would wait for ever and report nothing: so it starts,
            # warms with the other keys, and says which one is missing.
            "optional": True,
        },
    }
