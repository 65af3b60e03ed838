"""`headwater warm --trigger`: a CacheWarmer's job now, with the permissions of who asks."""

import secrets
from typing import Any, Final

import click

from headwater.cli._cluster import ask
from headwater.cluster import CACHE_WARMER, CRON_JOB, JOB, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.resources import CacheWarmer
from headwater.warmer.cronjob import name_for

_NAME_LIMIT: Final = 52


def trigger(name: str, namespace: str | None, context: str | None) -> str:
    """Make a Job of the warmer's CronJob, unless there is nothing to do; what was done.

    Raises:
        click.ClickException: there is no such warmer, or it may not run.
    """

    async def work(cluster: KubernetesCluster) -> str:
        where = namespace or cluster.namespace
        try:
            warmer = CacheWarmer.model_validate(await cluster.get(CACHE_WARMER, where, name))
            cron_job = await cluster.get(CRON_JOB, where, name_for(name))
        except NotFoundError as error:
            raise click.ClickException(
                f"there is no CacheWarmer {name!r} that runs in {where!r} ({error})."
            ) from error
        lanes = warmer.status.lanes
        if lanes and all(lane.state in ("Warm", "Skipped") for lane in lanes):
            return f"{name} is warm: nothing to do"
        if (cron_job.get("status") or {}).get("active"):
            return f"{name} is being warmed: nothing to do"
        if cron_job["spec"].get("suspend"):
            ready = next((one for one in warmer.status.conditions if one.type == "Ready"), None)
            why = (
                ready.message if ready is not None and not warmer.spec.suspend else "suspend: true"
            )
            raise click.ClickException(f"{name} does not run: {why}.")
        made = await cluster.create(JOB, _job(cron_job))
        return f"job {made['metadata']['name']} warms {name}"

    return ask(context, work)


def _job(cron_job: Object) -> Object:
    """As `kubectl create job --from` makes it."""
    metadata, template = cron_job["metadata"], cron_job["spec"]["jobTemplate"]
    labels: dict[str, Any] = (template.get("metadata") or {}).get("labels") or {}
    return {
        "metadata": {
            "name": f"{metadata['name'][:_NAME_LIMIT]}-{secrets.token_hex(4)}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [
                {
                    "apiVersion": CRON_JOB.api_version,
                    "kind": CRON_JOB.kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }
