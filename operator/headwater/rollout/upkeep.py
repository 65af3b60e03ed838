"""What time does to a rollout whatever was decided: the deadline's clock, what is retained."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from headwater.contract.route import Revision
from headwater.rollout.state import Observed, Phase, Plan, Retained, State

MOUNT_LAG: Final = timedelta(minutes=2)
"""How long a kubelet may take to follow a ConfigMap: until then a pod may begin conversations
with the revision before."""
RETAINED_LIMIT: Final = 4
"""Former stable revisions in one bundle: each costs its bytes in every namespace."""
_LONGEST: Final = timedelta(hours=24)
"""After that even a conversation that never paused pays for one write."""


def retained_after(plan: Plan, state: State, new: Revision, now: datetime) -> tuple[Retained, ...]:
    """What stays in the bundle when `new` takes the place of the stable revision."""
    old = state.stable
    first = () if old is None else (Retained(old, now + plan.retain + MOUNT_LAG),)
    following = (item for item in state.retained if old is None or item.revision != old)
    kept = (item for item in (*first, *following) if item.revision.digest != new.digest)
    return tuple(kept)[:RETAINED_LIMIT]


def expire(plan: Plan, state: State, observed: Observed, now: datetime) -> State:
    """Let go what no conversation can have warm any more; what is in use stays a while longer."""
    kept = tuple(
        replace(item, until=until)
        for item in state.retained
        if (until := _until(plan, state, item, observed, now)) > now
    )
    if kept == state.retained:
        return state
    gone = len(kept) < len(state.retained)
    return replace(state, retained=kept, epoch=state.epoch + gone)


def _until(plan: Plan, state: State, item: Retained, observed: Observed, now: datetime) -> datetime:
    used = observed.used.get(item.revision.digest)
    if item.until > now or used is None:
        return item.until
    limit = (state.promoted_at or now) + _LONGEST
    return max(item.until, min(used + plan.retain, limit))


def run_clock(plan: Plan, state: State, now: datetime) -> State:
    """Stop the deadline's clock while people or pauses are waited for, and let it run on after.

    The time of silence stands with it.
    """
    candidate = state.candidate
    if candidate is None:
        return state
    waits = state.phase in (Phase.PAUSED, Phase.AWAITING_APPROVAL) or plan.declared is None
    stopped = candidate.clock_stopped_at
    if waits and stopped is None:
        return replace(state, candidate=replace(candidate, clock_stopped_at=now))
    if not waits and stopped is not None:
        stood = now - stopped
        running = replace(
            candidate,
            clock_from=candidate.clock_from + stood,
            heard_at=min(candidate.heard_at + stood, now),
            clock_stopped_at=None,
        )
        return replace(state, candidate=running)
    return state
