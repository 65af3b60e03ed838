"""The reconcile of a CacheWarmer: a CronJob out of it, and lanes out of the CronJob's reports.

The operator never reads the Secret: it names it in the CronJob, and learns of a credential only
the fingerprint that the job reports.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from headwater.cluster import (
    CACHE_WARMER,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Object,
)
from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.digest import Digest
from headwater.controller import runs, warmer_conditions, warming, worth
from headwater.controller.conditions import Finding, kstatus, stamp
from headwater.controller.cronjobs import CronJobs
from headwater.controller.events import Recorder
from headwater.controller.objects import Key, bundle_name
from headwater.controller.routes import counted_tokens
from headwater.controller.store import Store
from headwater.controller.warming import LaneKey, Lanes, Skip
from headwater.controller.warmth import Kept, Warmth
from headwater.evidence.lanes import LaneId
from headwater.resources import CacheWarmer, PromptPrefix
from headwater.resources.schema import Condition
from headwater.resources.warmer import CacheWarmerStatus, Lane
from headwater.rollout.state import Phase
from headwater.warmer.cronjob import NextRun, WarmedPrefix, cronjob, name_for, timetable_of
from headwater.warmer.report import Finished
from headwater.warmer.schedule import (
    START_UP,
    ScheduleError,
    Timetable,
    problem,
    timetable,
)

_ONCE_MORE: Final = timedelta(milliseconds=200)
"""When a write that came second is decided on anew."""
_MOMENT: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_OFF: Final = NextRun(suspended=True)


@dataclass(slots=True)
class WarmerReconciler:
    """Carries out what one CacheWarmer asks for."""

    cluster: Cluster
    store: Store
    recorder: Recorder
    warmth: Warmth
    clock: Callable[[], datetime]
    image: str
    provider_url: str | None = None
    cron_jobs: CronJobs = field(init=False)
    _taken: dict[Key, set[str]] = field(default_factory=dict)
    """The pods whose reports stand in the status."""

    def __post_init__(self) -> None:
        """Know of no CronJob."""
        self.cron_jobs = CronJobs(self.cluster, self.store)

    async def reconcile(self, key: Key) -> timedelta | None:
        """Make the cluster say what the warmer says; when to look again, if at all."""
        body = self.store.warmers.get(key)
        if body is None:
            self.cron_jobs.forget(key)  # its CronJob goes by its owner reference
            self._taken.pop(key, None)
            self.warmth.forget(key)
            return None
        if body["metadata"].get("deletionTimestamp"):
            return None
        try:
            return await self._reconcile(key, CacheWarmer.model_validate(body))
        except NotFoundError:
            return None
        except ConflictError:  # somebody wrote first
            self._taken.pop(key, None)
            with contextlib.suppress(NotFoundError):
                self.store.see_warmer(await self.cluster.get(CACHE_WARMER, *key))
            return _ONCE_MORE
        except ApiError:
            # What was written all the same is seen in what stands there.
            self._taken.pop(key, None)
            self.cron_jobs.forget(key)
            raise

    async def _reconcile(self, key: Key, warmer: CacheWarmer) -> timedelta | None:
        now, recorded = self.clock().replace(microsecond=0), warmer.status
        prefix, missing = self._prefix(key, warmer)
        if prefix is None:
            await self._stop(key, warmer)
            await self._record(key, warmer, recorded, missing, now)
            return None
        new = self._new_runs(key, warmer)
        warmer = _after(warmer, new.values())
        lanes = self._lanes(key, warmer, prefix, new.values(), now)
        awaits = _awaits(warmer, prefix, lanes)
        facts = WarmedPrefix(prefix.spec.ttl, prefix.spec.models, awaits)
        found = self._decide(key, warmer, facts, lanes, now)
        await self._apply(key, warmer, facts, found)
        ttl = timedelta(seconds=TTL_SECONDS[facts.ttl])
        aged = [
            warming.shown(lane, found.skips.get(name), lanes.used.get(name), ttl, now)
            for name, lane in lanes.recorded.items()
        ]
        conditions = found.conditions
        if found.times is not None and not found.stopped:
            conditions = [
                *warmer_conditions.ready(aged, found.times, self._trouble(key, warmer)),
                *conditions,
            ]
        await self._record(key, warmer, recorded, conditions, now, aged, found)
        # As soon as the status has it: whatever is told takes its time.
        self._taken[key] |= new.keys()
        self.warmth.took(key, warmer, new.values())
        if lanes.used:
            self.warmth.watching.add(key)
        self.warmth.keep(key, Kept(prefix.metadata.name, facts.ttl, tuple(aged)))
        await self._tell_transitions(warmer, recorded.conditions, conditions)
        await self._tell_runs(warmer, prefix, lanes, new)
        return _look_again(warmer, found, lanes, aged, ttl, now)

    # --- what is known -----------------------------------------------------------------------

    def _prefix(self, key: Key, warmer: CacheWarmer) -> tuple[PromptPrefix | None, list[Finding]]:
        """The prefix, where it serves something; else what is missing."""
        name = warmer.spec.prefix_ref.name
        record = self.store.prefixes.get(Key(key.namespace, name))
        if record is None:
            message = (
                f"there is no PromptPrefix {name!r} in {key.namespace}: apply it, or correct"
                " prefixRef"
            )
            return None, kstatus("PrefixNotFound", message)
        prefix = PromptPrefix.model_validate(record.body)
        if prefix.status.stable is None and prefix.status.candidate is None:
            return None, kstatus("PrefixNotServed", f"{name} serves no version yet")
        return prefix, []

    def _new_runs(self, key: Key, warmer: CacheWarmer) -> dict[str, Finished]:
        """The runs that the status does not tell of yet, by their pods."""
        there, reported = self.store.runs(key), warmer.status.reported_at
        taken = self._taken.get(key)
        if taken is None:  # what this process did not take another one did
            taken = {
                pod
                for pod, run in there.items()
                if reported is not None and (run.began_at is None or run.began_at <= reported)
            }
        self._taken[key] = taken & there.keys()
        return {pod: run for pod, run in there.items() if pod not in taken}

    def _lanes(
        self,
        key: Key,
        warmer: CacheWarmer,
        prefix: PromptPrefix,
        new: Iterable[Finished],
        now: datetime,
    ) -> Lanes:
        wanted = frozenset(_wanted(warmer, prefix))
        plain = warming.is_plain(warmer.spec.request)
        recorded = runs.merged(warmer.status.lanes, new, wanted, now, named=plain)
        prefix_key = Key(key.namespace, prefix.metadata.name)
        counted = counted_tokens([*self.store.lanes_of(prefix_key), *recorded.values()])
        record = self.store.prefixes[prefix_key]
        resolution = record.resolution
        declared = resolution.digest if resolution is not None else None
        tokens, exact = {}, set()
        for name in wanted:
            digest = Digest(name.digest)
            if (provided := counted.get(digest, {}).get(name.model)) is not None:
                tokens[name] = provided
                exact.add(name)
            elif resolution is not None and digest == declared and name.model in resolution.tokens:
                tokens[name] = resolution.tokens[name.model]
        used = {
            name: at
            for name, lane in recorded.items()
            if (at := self.warmth.uses.last(_id(prefix_key, lane))) is not None
        }
        others = [
            CacheWarmer.model_validate(other)
            for other in self.store.warmers_of(prefix_key)
            if other["metadata"]["name"] != key.name
        ]
        shared = warming.overlaps(warmer, others, prefix.spec.models)
        ttl, due = prefix.spec.ttl, _next_run(warmer, prefix.spec.ttl, now)
        relied_on = [
            one for one in others if warming.leaves_to(warmer, one) and warming.holds(one, ttl, due)
        ]
        elsewhere = warming.overlaps(warmer, relied_on, prefix.spec.models)
        return Lanes(
            wanted=wanted,
            recorded=recorded,
            tokens=tokens,
            counted=frozenset(exact),
            used=used,
            elsewhere={
                name: elsewhere[name.credential, name.model]
                for name in wanted
                if (name.credential, name.model) in elsewhere
            },
            shared=shared,
        )

    def _trouble(self, key: Key, warmer: CacheWarmer) -> str:
        """Why the latest run reported nothing; empty where it did."""
        made, trouble = self.store.trouble(key)
        reported = warmer.status.reported_at
        if not trouble or (reported and datetime.fromisoformat(made) < reported):
            return ""
        return trouble

    # --- what follows ------------------------------------------------------------------------

    def _decide(
        self, key: Key, warmer: CacheWarmer, facts: WarmedPrefix, lanes: Lanes, now: datetime
    ) -> "_Found":
        """Whether and what the next run warms."""
        try:
            times = timetable_of(warmer, facts)
            slow = warmer.status.start_up or START_UP
            sparse = (
                problem(warmer.spec.schedule, facts.ttl, now, slow)
                if warmer.spec.schedule != "Auto"
                else None
            )
            skips = warming.skips(warmer, facts.ttl, times, lanes, now)
        except ScheduleError as error:
            return _stopped(None, "ScheduleInvalid", str(error))
        if sparse is not None:
            return _stopped(times, "ScheduleTooSparse", sparse)
        if shared := self._shared_credential(key, warmer):
            return _stopped(times, "CredentialShared", shared)
        priced = worth.priced(lanes, facts.ttl)
        conditions = [warmer_conditions.cacheable(lanes, skips)]
        left = worth.left_today(warmer, now)
        run, stop = NextRun(), ""
        if left is not None:
            budget = worth.within_budget(warmer, left, priced.values())
            conditions.append(budget)
            stop = "" if budget.status == "True" else budget.message
            run = NextRun(allowance=worth.allowance(left, priced, len(lanes.wanted)))
        pays = self._economical(warmer, times, facts.ttl, lanes, priced, now)
        conditions.append(pays)
        if pays.status == "False" and warmer.spec.when_uneconomical == "Suspend":
            stop = stop or pays.message
        if lanes.shared:
            conditions.append(warmer_conditions.exclusive(warmer, lanes))
        run = NextRun(
            suspended=bool(stop) or len(skips) == len(lanes.wanted),
            skip=tuple((name.credential, name.model, Digest(name.digest).short) for name in skips),
            allowance=run.allowance,
        )
        if stop:
            reason = "BudgetSpent" if "budget" in stop else pays.reason
            conditions = [*kstatus(reason, stop), *conditions]
        return _Found(times, run, conditions, skips, stopped=bool(stop))

    def _shared_credential(self, key: Key, warmer: CacheWarmer) -> str:
        prefixes = [one for one in self.store.prefixes if one.namespace == key.namespace]
        dedicated = {one.name for one in prefixes if self.store.is_dedicated(one)}
        if not dedicated:
            return ""
        here = self.store.warmers_in(key.namespace)
        others = [CacheWarmer.model_validate(self.store.warmers[one]) for one in here if one != key]
        return warming.shared_credential(warmer, others, dedicated)

    def _economical(
        self,
        warmer: CacheWarmer,
        times: Timetable,
        ttl: TTL,
        lanes: Lanes,
        priced: Mapping[LaneKey, Any],
        now: datetime,
    ) -> Finding:
        uses = self.warmth.uses
        prefix = Key(warmer.metadata.namespace, warmer.spec.prefix_ref.name)
        watch = worth.Watch.of(warmer, uses.since or now, now)
        traffic = {
            name: found
            for name, lane in lanes.recorded.items()
            if lane.fingerprint
            and (found := worth.traffic_of(uses.times(_id(prefix, lane), now), watch, ttl))
        }
        verdict = worth.economical(warmer, times, ttl, priced, traffic)
        if verdict is not None:
            return verdict
        for before in warmer.status.conditions:  # what was seen before a restart still holds
            if before.type == "Economical":
                return Finding(before.type, before.status, before.reason, before.message)
        message = "no sidecar has told of a lane's traffic for an hour yet"
        return Finding("Economical", "Unknown", "TrafficUnknown", message)

    # --- what is written ---------------------------------------------------------------------

    async def _stop(self, key: Key, warmer: CacheWarmer) -> None:
        """A CronJob without a prefix would start pods that find no bundle."""
        name = Key(key.namespace, name_for(warmer.metadata.name))
        if name not in self.store.cron_jobs:
            return
        facts = WarmedPrefix("5m", warmer.spec.models)
        await self._put(key, _scheduled_somehow(warmer), facts, _OFF)

    async def _apply(
        self,
        key: Key,
        warmer: CacheWarmer,
        facts: WarmedPrefix,
        found: "_Found",
    ) -> None:
        """Apply the CronJob; where nothing could ever be warmed, only one that stands there."""
        name = Key(key.namespace, name_for(warmer.metadata.name))
        useless = bool(found.skips) and all(
            skip.why == "BelowMinimum" for skip in found.skips.values()
        )
        hopeless = found.stopped or (useless and found.run.suspended)
        if hopeless and name not in self.store.cron_jobs:
            return
        scheduled = warmer if found.times is not None else _scheduled_somehow(warmer)
        await self._put(key, scheduled, facts, found.run)

    async def _put(self, key: Key, warmer: CacheWarmer, facts: WarmedPrefix, run: NextRun) -> None:
        """Have its CronJob stand there, and tell where somebody had done something to it."""
        bundle = bundle_name(Key(key.namespace, warmer.spec.prefix_ref.name))
        desired = cronjob(
            warmer,
            facts,
            run,
            image=self.image,
            bundle_config_map=bundle,
            provider_url=self.provider_url,
        )
        repaired = await self.cron_jobs.put(key, desired)
        if repaired:
            await self._tell(warmer, "Repaired", repaired)

    async def _record(
        self,
        key: Key,
        warmer: CacheWarmer,
        recorded: CacheWarmerStatus,
        found: list[Finding],
        now: datetime,
        lanes: Iterable[Lane] = (),
        decided: "_Found | None" = None,
    ) -> None:
        """Write the status, where it says anything new. `warmer` is as the new runs left it."""
        generation, before = warmer.metadata.generation, warmer.status
        times = None if decided is None else decided.times
        runs_on = decided is not None and not decided.run.suspended and not warmer.spec.suspend
        status = CacheWarmerStatus(
            observed_generation=generation,
            schedule=None if times is None else str(times),
            next_warm_at=times.after(now) if times is not None and runs_on else None,
            start_up=before.start_up,
            lanes=tuple(lanes),
            spent=before.spent,
            reported_at=before.reported_at,
            conditions=tuple(stamp(found, before.conditions, generation, now)),
        )
        if status == recorded:
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

    async def _tell_transitions(
        self, warmer: CacheWarmer, before: Iterable[Condition], found: Iterable[Finding]
    ) -> None:
        """Tell of what became false, and of why nothing runs any more."""
        known = {one.type: (one.status, one.message) for one in before}
        for one in found:
            status, message = known.get(one.type, ("", ""))
            became_false = one.type in _TOLD and one.status == "False" != status
            stopped = (one.type, one.status) == ("Stalled", "True") and one.message != message
            if became_false or (stopped and one.reason in _TOLD_STALLED):
                await self._tell(warmer, one.reason, one.message)

    async def _tell_runs(
        self,
        warmer: CacheWarmer,
        prefix: PromptPrefix,
        lanes: Lanes,
        new: Mapping[str, Finished],
    ) -> None:
        """Record every result, and tell of those that changed what a lane is."""
        before = {
            LaneKey(lane.credential, lane.model, str(lane.digest)): lane
            for lane in warmer.status.lanes
        }
        status = prefix.status
        versions = {row.digest: row.version for row in (status.stable, status.candidate) if row}
        warmed = {
            LaneKey(lane.credential, lane.model, str(lane.digest))
            for run in new.values()
            for lane in run.report.lanes
        }
        for name in sorted(warmed & lanes.recorded.keys()):
            lane, known = lanes.recorded[name], before.get(name)
            said = warmer_conditions.result(lane, versions.get(lane.digest, ""))
            if said is None:
                continue
            reason, note, facts = said
            if known is None or known.state != lane.state:
                warning = lane.state == "Failed"
                await self._tell(warmer, reason, note, facts, warning=warning)
            else:
                self.recorder.record(CACHE_WARMER, _about(warmer), reason, note, facts)
        for run in new.values():
            if (skewed := runs.skew(run, self.clock())) and _place(warmer) not in self.warmth.told:
                self.warmth.told.add(_place(warmer))
                note = f"{skewed}: lanes are called cold in time, and NTP should run on the node"
                await self._tell(warmer, "ClockSkewed", note)

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


def _scheduled_somehow(warmer: CacheWarmer) -> CacheWarmer:
    """With a schedule that the API server takes, for a CronJob that is suspended."""
    spec = warmer.spec.model_copy(update={"schedule": "Auto", "active_hours": None})
    return warmer.model_copy(update={"spec": spec})


def _wanted(warmer: CacheWarmer, prefix: PromptPrefix) -> Iterable[LaneKey]:
    both = warmer.spec.warm == "StableAndCandidate"
    for revision in (prefix.status.stable, prefix.status.candidate if both else None):
        if revision is not None:
            for credential in warmer.spec.credentials:
                for model in warmer.spec.models or prefix.spec.models:
                    yield LaneKey(credential.name, model, str(revision.digest))


def _awaits(warmer: CacheWarmer, prefix: PromptPrefix, lanes: Lanes) -> bool:
    """Whether a lane is waited for, by a candidate or by who is on a stable not warmed yet."""
    if prefix.status.phase == Phase.WARMING.value and warmer.spec.warm != "Stable":
        return True
    stable = prefix.status.stable
    return stable is not None and not any(
        lane.last_warm_at or lane.message
        for lane in lanes.recorded.values()
        if lane.digest == stable.digest
    )


def _about(warmer: CacheWarmer) -> Object:
    metadata = warmer.metadata
    return {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid}


def _place(warmer: CacheWarmer) -> Key:
    """Its place."""
    return Key(warmer.metadata.namespace, warmer.metadata.name)


_TOLD: Final = ("Cacheable", "WithinBudget", "Economical", "Exclusive")
_TOLD_STALLED: Final = ("CredentialShared", "ScheduleTooSparse", "ScheduleInvalid")


@dataclass(frozen=True, slots=True)
class _Found:
    """What was decided: `conditions` hold Ready and its like only where it is `stopped`."""

    times: Timetable | None
    run: NextRun
    conditions: list[Finding]
    skips: Mapping[LaneKey, Skip]
    stopped: bool


def _stopped(times: Timetable | None, reason: str, message: str) -> _Found:
    return _Found(times, _OFF, kstatus(reason, message, stalled=True), {}, stopped=True)


def _after(warmer: CacheWarmer, new: Iterable[Finished]) -> CacheWarmer:
    """The warmer with what the new runs cost and took."""
    finished = list(new)
    began = [at for run in finished if (at := run.began_at) is not None]
    status = warmer.status
    if not began:
        return warmer
    costs = [(run.began_at or began[0], run.report.usd) for run in finished]
    status = status.model_copy(
        update={
            "spent": worth.spent(status.spent, costs),
            "start_up": runs.start_up(status.start_up, finished),
            "reported_at": max(*began, status.reported_at or began[0]),
        }
    )
    return warmer.model_copy(update={"status": status})


def _next_run(warmer: CacheWarmer, ttl: TTL, now: datetime) -> datetime:
    """Return when a warmer runs next; the present where its schedule is none."""
    spec, slow = warmer.spec, warmer.status.start_up or START_UP
    try:
        return timetable(spec.schedule, ttl, spec.active_hours, slow).after(now)
    except ScheduleError:
        return now


def _look_again(
    warmer: CacheWarmer,
    found: _Found,
    lanes: Lanes,
    aged: Iterable[Lane],
    ttl: timedelta,
    now: datetime,
) -> timedelta | None:
    """When something changes by itself: a lane's end, the next decision, midnight."""
    waits = [
        lane.last_warm_at + ttl - now + _MOMENT
        for lane in aged
        if lane.state == "Warm" and lane.last_warm_at is not None
    ]
    traffic = lanes.used and warmer.spec.skip_when_traffic
    if found.times is not None and (traffic or lanes.shared):
        # Just before each run, with the latest that is known of the traffic, and of whether the
        # warmer that names the same lane warms it then.
        due = found.times.after(now + warming.LEAD) - warming.LEAD
        waits.append(max(due - now, _MOMENT))
    retries = [lane.retry_at - now for lane in aged if lane.retry_at and lane.retry_at > now]
    waits += [wait + _MOMENT for wait in retries]
    if warmer.spec.budget is not None and warmer.status.spent is not None:
        midnight = now.replace(hour=0, minute=0, second=0) + _DAY
        waits.append(midnight - now + _MOMENT)
    return min((wait for wait in waits if wait > timedelta()), default=None)


def _id(prefix: Key, lane: Lane) -> LaneId:
    return LaneId(str(prefix), lane.digest.short, lane.model, lane.fingerprint or "")
