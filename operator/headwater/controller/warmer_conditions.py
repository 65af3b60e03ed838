"""What a CacheWarmer's status and its Events say of its lanes. Pure."""

from collections.abc import Collection, Mapping

from headwater.controller.conditions import Finding, kstatus
from headwater.controller.warming import LaneKey, Lanes, Skip
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Lane
from headwater.warmer.schedule import Timetable


def cacheable(lanes: Lanes, skips: Mapping[LaneKey, Skip]) -> Finding:
    """Whether the provider caches the contract for what is warmed."""
    below = sorted({skip.message for skip in skips.values() if skip.why == "BelowMinimum"})
    if below:
        return Finding("Cacheable", "False", "BelowMinimum", "; ".join(below))
    if lanes.counted == lanes.wanted:
        message = "the provider caches the contract for every model that is warmed"
        return Finding("Cacheable", "True", "Cached", message)
    message = "the provider has not counted the contract's tokens for every lane yet"
    return Finding("Cacheable", "Unknown", "NotCounted", message)


def exclusive(warmer: CacheWarmer, lanes: Lanes) -> Finding:
    """Who else names the same lanes."""
    other = min(lanes.shared.values())
    credential, model = min(lanes.shared)
    who = other if lanes.elsewhere else warmer.metadata.name
    message = (
        f"{len(lanes.shared)} lanes, {credential} on {model} for one, are named by {other}, too:"
        f" {who} warms them; take them out of one of the two"
    )
    return Finding("Exclusive", "False", "LaneShared", message)


def ready(lanes: Collection[Lane], times: Timetable, trouble: str) -> list[Finding]:
    """Ready and its like; `trouble` is why no report came."""
    failed = [lane for lane in lanes if lane.state == "Failed"]
    if failed:
        worst = failed[0]
        message = (
            f"{len(failed)} lanes failed; {worst.credential} on {worst.model}: {worst.message}"
        )
        return kstatus("WarmingFailed", message, stalled=True)
    if trouble:
        return kstatus("NoReport", trouble, stalled=True)
    if lanes and all(lane.state == "Skipped" for lane in lanes):
        return kstatus("Scheduled", f"nothing to do: {_why(lanes)}", ready=True)
    return kstatus("Scheduled", f"warms at {times}", ready=True)


def _why(lanes: Collection[Lane]) -> str:
    """Why lanes are left out, each reason once."""
    return "; ".join(sorted({lane.message or "" for lane in lanes}))


def result(lane: Lane, version: str) -> tuple[str, str, dict[str, str]] | None:
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
