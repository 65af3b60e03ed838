"""What was off the contract of late: when and where last, and what the log has not told yet.

One entry for each reason, whatever clients send. Without I/O and without a clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headwater.contract.reasons import Reason

LOG_SECONDS: Final = 60.0
"""Between two lines of the log about one reason: under Observe it may be every request."""


@dataclass(slots=True)
class _Latest:
    place: str
    at: float
    logged: float
    untold: int


class Violations:
    """The latest violation of each reason, of one prefix."""

    def __init__(self) -> None:
        """Start with none."""
        self._latest: dict[Reason, _Latest] = {}

    def note(self, reason: Reason, place: str, now: float) -> int:
        """Take in one at `now` (seconds); how many a line of the log is due for, 0 for no line."""
        latest = self._latest.get(reason)
        if latest is None:
            self._latest[reason] = _Latest(place, now, logged=now, untold=0)
            return 1
        latest.place, latest.at = place, now
        latest.untold += 1
        if now - latest.logged < LOG_SECONDS:
            return 0
        latest.logged, told, latest.untold = now, latest.untold, 0
        return told

    def latest(self) -> Iterator[tuple[Reason, str, float]]:
        """Reason, place and time of the last one of each."""
        return ((reason, latest.place, latest.at) for reason, latest in self._latest.items())
