"""When real requests used the provider's cache lanes, as the sidecars tell.

Pure. A sidecar tells of each lane when its last request began; from readings a few seconds apart
follow the gaps between requests. Those that are shorter than the time between two readings run
together, and none of them matters to a cache that lives for minutes.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

WINDOW: Final = timedelta(days=1)
_APART: Final = timedelta(seconds=1)
"""A sidecar reckons the time of day anew whenever it tells of a use: that is no other use."""
_REMEMBERED: Final = 1_000
"""Uses of one lane, and lanes: a busy one is seen to be busy from fewer."""


class LaneId(NamedTuple):
    """A lane as sidecars name it: 12 hex characters of the digest, a fingerprint of the key."""

    prefix: str
    digest: str
    model: str
    credential: str


@dataclass(frozen=True, slots=True)
class Use:
    """A lane was used anew; `before` is the use before it, where one is remembered."""

    lane: LaneId
    at: datetime
    before: datetime | None


@dataclass(slots=True)
class LaneUses:
    """The uses of a day. `since` is when the first sidecar was read, None before."""

    since: datetime | None = None
    _times: dict[LaneId, deque[datetime]] = field(default_factory=dict)
    """Those that were used last at the end."""

    def see(self, lanes: Mapping[LaneId, datetime], now: datetime) -> list[Use]:
        """Take in one sidecar's word; what is new in it."""
        self.since = self.since or now
        found = []
        for lane, told in lanes.items():
            at = min(told, now)  # a clock that is ahead, or a lie, keeps no lane warm
            times = self._times.get(lane)
            if at <= now - WINDOW or (times is not None and at - times[-1] <= _APART):
                continue
            found.append(Use(lane, at, times[-1] if times is not None else None))
            kept = self._times[lane] = self._times.pop(lane, deque(maxlen=_REMEMBERED))
            kept.append(at)
        while len(self._times) > _REMEMBERED:
            del self._times[next(iter(self._times))]
        return found

    def last(self, lane: LaneId) -> datetime | None:
        """When a lane was used last; None where that is not known."""
        times = self._times.get(lane)
        return times[-1] if times is not None else None

    def times(self, lane: LaneId, now: datetime) -> tuple[datetime, ...]:
        """Its uses of the last day, in order."""
        return tuple(at for at in self._times.get(lane, ()) if at > now - WINDOW)
