"""The reconcile of a CacheWarmer: a CronJob out of it, and lanes out of the CronJob's reports.

The operator never reads the Secret: it names it in the CronJob, and learns of a credential only
the fingerprint that the job reports.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from headwater.cluster import (
    CACHE_WARMER,
    CRON_JOB,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Object,
)
from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.digest import Digest
from headwater.controller.conditions import Finding, kstatus, stamp
from headwater.controller.events import Recorder
from headwater.controller.objects import Key, bundle_name, editor_of
from headwater.controller.store import Store
from headwater.controller.warming import shared_credential
from headwater.resources import CacheWarmer, PromptPrefix
from headwater.resources.warmer import CacheWarmerStatus, Lane, LastUsage
from headwater.warmer.cronjob import WarmedPrefix, cronjob, schedule_of
from headwater.warmer.report import Report, ReportError, WarmedLane, decode

DESIRED_ANNOTATION: Final = "headwater.dev/desired"
"""Hash of the CronJob as it was wished for last: what is as wished is not written again."""

_ONCE_MORE: Final = timedelta(milliseconds=200)
"""When a write that came second is decided on anew."""

_LaneKey = tuple[str, str, str]


@dataclass(slots=True)
class WarmerReconciler:
    """Carries out what one CacheWarmer asks for."""

    cluster: Cluster
    store: Store
    recorder: Recorder
    clock: Callable[[], datetime]
    image: str
    provider_url: str | None = None
    _applied: dict[Key, Object] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> timedelta | None:
        """Make the cluster say what the warmer says; when to look again, if at all."""
        body = self.store.warmers.get(key)
        if body is None:
            self._applied.pop(key, None)  # its CronJob goes by its owner reference
            return None
        if body["metadata"].get("deletionTimestamp"):
            return None
        try:
            return await self._reconcile(key, CacheWarmer.model_validate(body))
        except NotFoundError:
            return None
        except ConflictError:  # somebody wrote first
            with contextlib.suppress(NotFoundError):
                self.store.see_warmer(await self.cluster.get(CACHE_WARMER, *key))
            return _ONCE_MORE
        except ApiError:
            self._applied.pop(key, None)
            raise

    async def _reconcile(self, key: Key, warmer: CacheWarmer) -> timedelta | None:
        now = self.clock().replace(microsecond=0)
        record = self.store.prefixes.get(Key(key.namespace, warmer.spec.prefix_ref.name))
        if record is None:
            message = (
                f"there is no PromptPrefix {warmer.spec.prefix_ref.name!r} in {key.namespace}:"
                " apply it, or correct prefixRef"
            )
            await self._record(key, warmer, kstatus("PrefixNotFound", message), (), None, now)
            return None
        prefix = PromptPrefix.model_validate(record.body)
        if prefix.status.stable is None and prefix.status.candidate is None:
            message = f"{prefix.metadata.name} serves no version yet"
            await self._record(key, warmer, kstatus("PrefixNotServed", message), (), None, now)
            return None
        facts = WarmedPrefix(ttl=prefix.spec.ttl, models=prefix.spec.models)
        shared = self._shared_credential(key, warmer)
        await self._apply(key, _suspended(warmer) if shared else warmer, prefix, facts)
        wanted = set(_wanted(warmer, prefix))
        lanes = merge(warmer.status.lanes, self.store.reports(key), wanted)
        ttl = timedelta(seconds=TTL_SECONDS[prefix.spec.ttl])
        aged = [age(lane, ttl, now) for lane in lanes]
        schedule = schedule_of(warmer, facts)
        if shared:
            found = kstatus("CredentialShared", shared, stalled=True)
            if all(shared != condition.message for condition in warmer.status.conditions):
                await self._tell(warmer, "CredentialShared", shared)
        else:
            found = _ready(aged, schedule)
        await self._record(key, warmer, found, aged, schedule, now)
        await self._tell_results(warmer, prefix, aged)
        ends = [
            lane.last_warm_at + ttl - now
            for lane in aged
            if lane.state == "Warm" and lane.last_warm_at is not None
        ]
        return min(ends) + timedelta(seconds=1) if ends else None

    def _shared_credential(self, key: Key, warmer: CacheWarmer) -> str:
        prefixes = [one for one in self.store.prefixes if one.namespace == key.namespace]
        dedicated = {one.name for one in prefixes if self.store.is_dedicated(one)}
        if not dedicated:
            return ""
        here = self.store.warmers_in(key.namespace)
        others = [CacheWarmer.model_validate(self.store.warmers[one]) for one in here if one != key]
        return shared_credential(warmer, others, dedicated)

    async def _apply(
        self, key: Key, warmer: CacheWarmer, prefix: PromptPrefix, facts: WarmedPrefix
    ) -> None:
        """Apply the CronJob unless it stands as it was applied last."""
        prefix_key = Key(key.namespace, prefix.metadata.name)
        desired = _marked(
            cronjob(
                warmer,
                facts,
                image=self.image,
                bundle_config_map=bundle_name(prefix_key),
                provider_url=self.provider_url,
            )
        )
        name = Key(key.namespace, desired["metadata"]["name"])
        last = self._applied.get(key)
        repairs = last is not None and last["desired"] == desired
        if last == {"desired": desired, "generation": self.store.cron_jobs.get(name)}:
            return
        done = await self._done_to(name) if repairs else ""
        if last is None and name in self.store.cron_jobs:
            there = await self.cluster.get(CRON_JOB, *name)
            written = (
                there if _stands(desired, there) else await self.cluster.apply(CRON_JOB, desired)
            )
        else:
            written = await self.cluster.apply(CRON_JOB, desired)
        self.store.see_cron_job(written)
        if repairs:
            await self._tell(warmer, "Repaired", f"the CronJob {name.name} was {done}: put back")
        self._applied[key] = {"desired": desired, "generation": self.store.cron_jobs.get(name)}

    async def _done_to(self, name: Key) -> str:
        """What was done to a CronJob by hand, and by whom."""
        try:
            there = await self.cluster.get(CRON_JOB, *name)
        except NotFoundError:
            return "deleted"
        by = editor_of(there["metadata"], "spec")
        return f"changed by hand{f' by {by}' if by else ''}"

    async def _record(
        self,
        key: Key,
        warmer: CacheWarmer,
        found: list[Finding],
        lanes: Iterable[Lane],
        schedule: str | None,
        now: datetime,
    ) -> None:
        """Write the status, where it says anything new."""
        generation = warmer.metadata.generation
        status = CacheWarmerStatus(
            observed_generation=generation,
            schedule=schedule,
            lanes=tuple(lanes),
            conditions=tuple(stamp(found, warmer.status.conditions, generation, now)),
        )
        if status == warmer.status:
            return
        dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        written = await self.cluster.replace_status(
            CACHE_WARMER,
            {
                "metadata": {
                    "namespace": key.namespace,
                    "name": key.name,
                    "resourceVersion": warmer.metadata.resource_version,
                },
                "status": dumped,
            },
        )
        self.store.see_warmer(written)

    async def _tell_results(
        self, warmer: CacheWarmer, prefix: PromptPrefix, lanes: Iterable[Lane]
    ) -> None:
        """Record every result, and tell of those that changed what a lane is."""
        before = {_key(lane): lane for lane in warmer.status.lanes}
        status = prefix.status
        versions = {row.digest: row.version for row in (status.stable, status.candidate) if row}
        for lane in lanes:
            known = before.get(_key(lane))
            if known is not None and lane.last_warm_at == known.last_warm_at:
                continue
            said = _result(lane, versions.get(lane.digest, ""))
            if said is None:
                continue
            reason, note, facts = said
            if known is None or known.state != lane.state:
                warning = lane.state == "Failed"
                await self._tell(warmer, reason, note, facts, warning=warning)
            else:
                self.recorder.record(CACHE_WARMER, _about(warmer), reason, note, facts)

    async def _tell(
        self,
        warmer: CacheWarmer,
        reason: str,
        note: str,
        facts: Mapping[str, str] | None = None,
        *,
        warning: bool = True,
    ) -> None:
        about = _about(warmer)
        await self.recorder.tell(CACHE_WARMER, about, reason, note, facts, warning=warning)


def _suspended(warmer: CacheWarmer) -> CacheWarmer:
    """The warmer as if its author had suspended it."""
    spec = warmer.spec.model_copy(update={"suspend": True})
    return warmer.model_copy(update={"spec": spec})


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


def merge(recorded: Iterable[Lane], reports: Iterable[Report], wanted: set[_LaneKey]) -> list[Lane]:
    """The wanted lanes, each with the newest that is known of it."""
    lanes = {_key(lane): lane for lane in recorded if _key(lane) in wanted}
    for report in reports:
        for warmed in report.lanes:
            name = (warmed.credential, warmed.model, str(warmed.digest))
            known = lanes.get(name)
            before = known.last_warm_at if known is not None else None
            at = warmed.at.replace(microsecond=0)
            if name in wanted and (before is None or at > before):
                lanes[name] = _lane(warmed, at)
    for credential, model, digest in wanted - set(lanes):
        cold = Lane(credential=credential, model=model, digest=Digest(digest), state="Cold")
        lanes[credential, model, digest] = cold
    return [lane for _, lane in sorted(lanes.items())]


def age(lane: Lane, ttl: timedelta, now: datetime) -> Lane:
    """A warm lane whose TTL has passed is cold."""
    if lane.state != "Warm" or lane.last_warm_at is None or now < lane.last_warm_at + ttl:
        return lane
    return lane.model_copy(update={"state": "Cold"})


def report_of(pod: Object) -> Report | None:
    """The report in a finished warming pod's termination message."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        terminated = status.get("state", {}).get("terminated")
        if terminated and terminated.get("message"):
            try:
                return decode(terminated["message"])
            except ReportError:
                return None
    return None


def _lane(warmed: WarmedLane, at: datetime) -> Lane:
    usage = warmed.usage
    return Lane(
        credential=warmed.credential,
        model=warmed.model,
        digest=warmed.digest,
        state=warmed.state,
        last_warm_at=at,
        message=warmed.message or None,
        fingerprint=warmed.fingerprint or None,
        last_usage=None
        if usage is None
        else LastUsage(
            cache_read=usage.cache_read,
            cache_write5m=usage.cache_write_5m,
            cache_write1h=usage.cache_write_1h,
            uncached=usage.uncached,
        ),
    )


def _wanted(warmer: CacheWarmer, prefix: PromptPrefix) -> Iterable[_LaneKey]:
    both = warmer.spec.warm == "StableAndCandidate"
    for revision in (prefix.status.stable, prefix.status.candidate if both else None):
        if revision is not None:
            for credential in warmer.spec.credentials:
                for model in warmer.spec.models or prefix.spec.models:
                    yield credential.name, model, str(revision.digest)


def _about(warmer: CacheWarmer) -> Object:
    metadata = warmer.metadata
    return {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid}


def _result(lane: Lane, version: str) -> tuple[str, str, dict[str, str]] | None:
    """Reason, sentence and facts of what a job did to a lane; None where it did nothing."""
    facts = {
        "version": version,
        "digest": str(lane.digest),
        "credential": lane.credential,
        "model": lane.model,
    }
    where = f"{lane.credential} on {lane.model}"
    if lane.state == "Failed":
        return "WarmingFailed", f"{where}: {lane.message}", facts
    if lane.state == "Warm" and lane.last_usage is not None:
        used = lane.last_usage
        written = used.cache_write5m + used.cache_write1h
        note = f"{where}: {version} read {used.cache_read:,} tokens and wrote {written:,}"
        return "Warmed", note, facts
    return None


def _key(lane: Lane) -> _LaneKey:
    return lane.credential, lane.model, str(lane.digest)


def _ready(lanes: Iterable[Lane], schedule: str) -> list[Finding]:
    failed = [lane for lane in lanes if lane.state == "Failed"]
    if failed:
        worst = failed[0]
        message = (
            f"{len(failed)} lanes failed; {worst.credential} on {worst.model}: {worst.message}"
        )
        return kstatus("WarmingFailed", message, stalled=True)
    return kstatus("Scheduled", f"warms at {schedule}", ready=True)
