"""Whether a wish to warm a lane, from the pod's own application, is granted. Pure.

A user opens the page from which a request will follow: the application says so, and does not
wait. What is warm already, or was wished for a moment ago, costs nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Literal

from headwater.contract.lane import Lane

Verdict = Literal["warm", "limited", "granted"]

_EVERY_SECONDS: Final = 10.0
"""For all lanes together: a page that is opened by everybody at once is one wish."""
_REMEMBERED: Final = 256


@dataclass(slots=True)
class Triggers:
    """What was granted lately; `now` and `used` are seconds of one clock that never goes back."""

    _granted: OrderedDict[Lane, float] = field(default_factory=OrderedDict)
    _last: float | None = None

    def decide(self, lane: Lane, now: float, *, used: float | None, ttl: float) -> Verdict:
        """Grant at most one warming of a lane in a TTL, and of all lanes in ten seconds.

        Args:
            lane: what is to be warmed.
            now: the time.
            used: when a request last used the lane; None where that is not known.
            ttl: how long a use keeps it warm, in seconds.
        """
        granted = self._granted.get(lane)
        for at in (used, granted):
            if at is not None and now - at < ttl:
                return "warm"
        if self._last is not None and now - self._last < _EVERY_SECONDS:
            return "limited"
        self._last = self._granted[lane] = now
        self._granted.move_to_end(lane)
        if len(self._granted) > _REMEMBERED:
            self._granted.popitem(last=False)
        return "granted"

    def failed(self, lane: Lane) -> None:
        """What was granted did not succeed: the next wish may."""
        self._granted.pop(lane, None)
