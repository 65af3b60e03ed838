"""What warming pods tell: reports, times, and why there is none. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from headwater.cluster import Object
from headwater.contract.digest import Digest
from headwater.controller.warming import LaneKey
from headwater.resources.warmer import Lane, LastUsage
from headwater.warmer.report import Finished, ReportError, WarmedLane, decode
from headwater.warmer.schedule import slowest

_SCHEDULED: Final = re.compile(r"-(\d{8})$")
"""A CronJob's Job is named after the minute of its schedule, in minutes since 1970
(kubernetes: pkg/controller/cronjob, getJobName)."""
_LATE: Final = timedelta(hours=1)
"""No run begins that late: its job has a deadline."""
_SKEW: Final = timedelta(seconds=5)
"""What clocks may differ by, and a report take, without a word about it."""


def run_of(pod: Object) -> Finished | None:
    """What a finished warming pod reported; None where it did not."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        terminated = status.get("state", {}).get("terminated")
        if terminated and terminated.get("message"):
            try:
                return Finished(decode(terminated["message"]), _scheduled_at(pod))
            except ReportError:
                return None
    return None


def trouble_of(pod: Object) -> str:
    """Why a warming pod has not reported and may not; empty where nothing speaks against it."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"its pod finds no place: {condition.get('message') or condition.get('reason')}"
    for container in status.get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return (
                f"its pod does not start: {waiting['reason']} {waiting.get('message', '')}".strip()
            )
        if terminated := container.get("state", {}).get("terminated"):
            last = (terminated.get("message") or "").strip().rpartition("\n")[2]
            return f"its pod ended without a report: {terminated.get('reason', '')} {last}".strip()
    if status.get("phase") == "Failed":
        return f"its pod ended without a report: {status.get('reason') or 'no reason given'}"
    return ""


def _scheduled_at(pod: Object) -> datetime | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    found = [_SCHEDULED.search(owner["name"]) for owner in owners if owner["kind"] == "Job"]
    minutes = next((match[1] for match in found if match), None)
    return None if minutes is None else datetime.fromtimestamp(int(minutes) * 60, UTC)


def start_up(before: timedelta | None, runs: Iterable[Finished]) -> timedelta | None:
    """How slow the latest runs were from their schedule's minute to their first request."""
    for run in runs:
        began, scheduled = run.began_at, run.scheduled_at
        if began is not None and scheduled is not None and abs(began - scheduled) < _LATE:
            before = slowest(before, max(began - scheduled, timedelta()))
    return before


def skew(run: Finished, now: datetime) -> str:
    """What is wrong with the clock of a run's node; empty where nothing is seen to be."""
    began = run.began_at
    if began is None:
        return ""
    if began - now > _SKEW:
        return f"the clock of the node is {(began - now).total_seconds():.0f} s ahead of ours"
    behind = run.scheduled_at - began if run.scheduled_at is not None else timedelta()
    if _SKEW < behind < _LATE:
        seconds = behind.total_seconds()
        return f"the clock of the node is {seconds:.0f} s or more behind the control plane's"
    return ""


def merged(
    recorded: Iterable[Lane],
    runs: Iterable[Finished],
    wanted: Iterable[LaneKey],
    now: datetime,
    *,
    named: bool,
) -> dict[LaneKey, Lane]:
    """The wanted lanes, each with the latest that is known of it.

    `named` lanes are known to sidecars by their key's fingerprint.
    """
    known = {LaneKey(one.credential, one.model, str(one.digest)): one for one in recorded}
    lanes = {key: known.get(key) or _cold(key) for key in sorted(set(wanted))}
    for run in sorted(runs, key=lambda one: one.began_at or now):
        for warmed in run.report.lanes:
            key = LaneKey(warmed.credential, warmed.model, str(warmed.digest))
            if key in lanes:
                lanes[key] = _after(lanes[key], warmed, now, named=named)
    return lanes


def _cold(key: LaneKey) -> Lane:
    digest = Digest(key.digest)
    return Lane(credential=key.credential, model=key.model, digest=digest, state="Cold")


def _after(lane: Lane, warmed: WarmedLane, now: datetime, *, named: bool) -> Lane:
    # A clock that is ahead must not make a lane look warm for longer than it is.
    at = min(warmed.at, now).replace(microsecond=0)
    usage = warmed.usage
    said: dict[str, object] = {
        "state": warmed.state,
        "message": warmed.message or None,
        "retry_at": at + timedelta(seconds=warmed.retry_after) if warmed.retry_after else None,
    }
    if named and warmed.fingerprint:
        said["fingerprint"] = warmed.fingerprint
    if usage is not None:
        said["last_warm_at"] = at
        said["last_usage"] = LastUsage(
            cache_read=usage.cache_read,
            cache_write5m=usage.cache_write_5m,
            cache_write1h=usage.cache_write_1h,
            uncached=usage.uncached,
        )
    return lane.model_copy(update=said)
