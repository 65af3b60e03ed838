"""CronJobs in the cluster: one stands as it was wished for last, whoever edits it. An edge."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from headwater.cluster import CRON_JOB, Cluster, NotFoundError, Object
from headwater.controller.objects import Key, editor_of
from headwater.controller.store import Store

DESIRED_ANNOTATION: Final = "headwater.dev/desired"
"""Hash of the CronJob as it was wished for last: what is as wished is not written again."""


@dataclass(slots=True)
class CronJobs:
    """Those of all warmers, each known by its warmer's key."""

    cluster: Cluster
    store: Store
    _applied: dict[Key, Object] = field(default_factory=dict)

    def forget(self, key: Key) -> None:
        """Know nothing of what was applied for a warmer, so that it is looked at anew."""
        self._applied.pop(key, None)

    async def put(self, key: Key, desired: Object) -> str:
        """Apply a CronJob unless it stands as it was applied last; what was repaired, if anything.

        Raises:
            ApiError: the API server did not take it.
        """
        desired = _marked(desired)
        name = Key(key.namespace, desired["metadata"]["name"])
        last = self._applied.get(key)
        repairs = last is not None and last["desired"] == desired
        if last == {"desired": desired, "generation": self.store.cron_jobs.get(name)}:
            return ""
        done = await self._done_to(name) if repairs else ""
        if last is None and name in self.store.cron_jobs:
            there = await self.cluster.get(CRON_JOB, *name)
            written = (
                there if _stands(desired, there) else await self.cluster.apply(CRON_JOB, desired)
            )
        else:
            written = await self.cluster.apply(CRON_JOB, desired)
        self.store.see_cron_job(written)
        self._applied[key] = {"desired": desired, "generation": self.store.cron_jobs.get(name)}
        return f"the CronJob {name.name} was {done}: put back" if repairs else ""

    async def _done_to(self, name: Key) -> str:
        """What was done to a CronJob by hand, and by whom."""
        try:
            there = await self.cluster.get(CRON_JOB, *name)
        except NotFoundError:
            return "deleted"
        by = editor_of(there["metadata"], "spec")
        return f"changed by hand{f' by {by}' if by else ''}"


def _marked(desired: Object) -> Object:
    """With its own hash, so that a field that is wished for no longer is noticed, too."""
    digest = hashlib.sha256(msgspec.json.encode(desired, order="sorted")).hexdigest()[:16]
    metadata = {**desired["metadata"], "annotations": {DESIRED_ANNOTATION: digest}}
    return {**desired, "metadata": metadata}


def _stands(desired: Any, found: Any) -> bool:
    """Whether all that is wished for stands there; what the API server filled in may, too."""
    if isinstance(desired, dict):
        return isinstance(found, dict) and all(
            key in found and _stands(value, found[key]) for key, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(found, list)
            and len(desired) == len(found)
            and all(map(_stands, desired, found))
        )
    return bool(desired == found)
