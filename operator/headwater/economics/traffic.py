"""When requests come: independently at a rate, or as they were measured.

A request reads the cache where the one before it began at most a TTL ago. What decides is thus
the gap before it (`hit_rate`), and for a warmer's tick the time since the last one (`recent`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final, Self

from headwater.contract.errors import HeadwaterError

DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)


class TrafficError(HeadwaterError):
    """Traffic that cannot be."""


def seconds(span: timedelta) -> Decimal:
    """Exactly."""
    return Decimal(span // timedelta(microseconds=1)) / 1_000_000


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests that come independently of each other, so many a minute on average."""

    per_minute: Decimal

    def __post_init__(self) -> None:
        if not (self.per_minute.is_finite() and self.per_minute >= 0):
            raise TrafficError(f"requests a minute are 0 or more, and not {self.per_minute}.")

    @property
    def per_day(self) -> Decimal:
        """Requests a day."""
        return self.per_minute * (DAY // _MINUTE)

    def hit_rate(self, ttl: timedelta) -> Decimal:
        """The share of requests that come within a TTL after another: 1 - e^(-λ·TTL)."""
        return 1 - (-self.per_minute * seconds(ttl) / seconds(_MINUTE)).exp()

    def recent(self, span: timedelta) -> Decimal:
        """The share of time at which the last request is no longer ago than this.

        The same formula as for gaps: such traffic has no memory.
        """
        return self.hit_rate(span) if span > timedelta() else Decimal(0)

    def split(self, parts: int) -> Self:
        """The traffic of one of several equal parts."""
        return type(self)(self.per_minute / parts)


@dataclass(frozen=True, slots=True)
class Measured:
    """The gaps between requests of one lane, in seconds, as they were observed."""

    gaps: tuple[Decimal, ...]

    def __post_init__(self) -> None:
        if not self.gaps or any(gap < 0 for gap in self.gaps) or not sum(self.gaps):
            raise TrafficError(
                "measured traffic needs two requests at different times, in order: give more."
            )

    @classmethod
    def at(cls, times: Sequence[datetime]) -> Self:
        """The traffic of requests at these times, in order."""
        return cls(tuple(seconds(later - earlier) for earlier, later in pairwise(times)))

    @property
    def per_minute(self) -> Decimal:
        """Requests a minute."""
        return len(self.gaps) * seconds(_MINUTE) / sum(self.gaps)

    @property
    def per_day(self) -> Decimal:
        """Requests a day."""
        return self.per_minute * (DAY // _MINUTE)

    def hit_rate(self, ttl: timedelta) -> Decimal:
        """The share of gaps that a TTL outlives."""
        return Decimal(sum(gap <= seconds(ttl) for gap in self.gaps)) / len(self.gaps)

    def recent(self, span: timedelta) -> Decimal:
        """The share of time at which the last request is no longer ago than this."""
        within = max(seconds(span), Decimal(0))
        return sum((min(gap, within) for gap in self.gaps), Decimal(0)) / sum(self.gaps)

    def split(self, parts: int) -> Self:
        """Refused for several parts: which of them a request belonged to is not known."""
        if parts > 1:
            raise TrafficError(
                "measured gaps are those of one lane: for several tenants give a rate instead."
            )
        return self


Traffic = Poisson | Measured
