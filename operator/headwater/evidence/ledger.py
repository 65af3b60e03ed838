"""Counters of many processes added up to totals that only ever grow.

Pure. A process's counters start at zero when it starts, and vanish with it; what was counted
of it stays counted. What a process had counted before it was first seen belongs to a time
that somebody else recorded, unless the process is younger than the ledger.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from headwater.rollout.state import Counts


@dataclass(frozen=True, slots=True)
class Series:
    """What a set of counters is about.

    `prefix` is the PromptPrefix's name and `digest` the first 12 hex characters: prefixes of one
    name in two namespaces share evidence only where they share the bytes, and then the
    provider's cache, too.
    """

    prefix: str
    digest: str
    model: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one process: its start, and its counters by series."""

    target: str
    started_at: datetime
    counts: Mapping[Series, Counts]


@dataclass(slots=True)
class _Seen:
    started_at: datetime
    counts: dict[Series, Counts] = field(default_factory=dict)


class Ledger:
    """Totals by series since `opened_at`."""

    def __init__(self, opened_at: datetime) -> None:
        """Open an empty ledger."""
        self._opened_at = opened_at
        self._seen: dict[str, _Seen] = {}
        self._totals: dict[Series, Counts] = {}

    def record(self, sample: Sample) -> set[str]:
        """Add what is new in a sample; returns the prefixes for which anything was."""
        seen = self._seen.get(sample.target)
        if seen is None or seen.started_at != sample.started_at:
            young = seen is not None or sample.started_at >= self._opened_at
            seen = _Seen(sample.started_at, {} if young else dict(sample.counts))
            self._seen[sample.target] = seen
        changed = set()
        for series, counts in sample.counts.items():
            before = seen.counts.get(series, Counts())
            after = seen.counts[series] = _most(before, counts)
            if after != before:
                self._totals[series] = self._totals.get(series, Counts()) + (after - before)
                changed.add(series.prefix)
        return changed

    def forget_except(self, targets: Iterable[str]) -> None:
        """Drop the memory of processes that are gone; their totals stay."""
        alive = set(targets)
        self._seen = {target: seen for target, seen in self._seen.items() if target in alive}

    def totals(self, prefix: str, digest: str) -> dict[str, Counts]:
        """Counts by model of one revision; `digest` is its first 12 hex characters."""
        return {
            series.model: counts
            for series, counts in self._totals.items()
            if series.prefix == prefix and series.digest == digest
        }


def _most(before: Counts, after: Counts) -> Counts:
    """The furthest that one process's counters came: one that fell in the same process lies."""
    return Counts(
        max(before.hits, after.hits),
        max(before.misses, after.misses),
        max(before.errors, after.errors),
    )
