"""Counters of many processes added up to totals that only ever grow.

Pure. A process's counters start at zero when it starts, and vanish with it; what was counted
of it stays counted. What a process had counted before it was first seen belongs to a time
that somebody else recorded, unless the process is younger than the ledger. Where that is not
certain, counts are left out: evidence that is missing makes a rollout slower, evidence that
is counted twice would make it wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from headwater.evidence.lanes import LaneId
from headwater.evidence.uses import Use
from headwater.rollout.state import Counts

_REMEMBERED_FOR: Final = timedelta(hours=1)
_REMEMBERED: Final = 20_000
"""Processes; those that were not read for the longest time are forgotten first."""
_NOTHING: Final = Counts()


@dataclass(frozen=True, slots=True)
class Series:
    """What a set of counters is about.

    `prefix` is the PromptPrefix's name as the process has it, and `digest` the first 12 hex
    characters. Whose prefix of that name it is, the process is not asked.
    """

    prefix: str
    digest: str
    model: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one process: its start, and its counters by series.

    A target is a place where one process at a time is read: a pod, an address.
    """

    target: str
    started_at: datetime
    counts: Mapping[Series, Counts]
    uses: Mapping[str, Use] = field(default_factory=dict)
    """What it says besides of each prefix, by its name; the ledger does not ask."""
    lanes: Mapping[LaneId, datetime] = field(default_factory=dict)
    """When it last used each lane; the ledger does not ask."""


@dataclass(slots=True)
class _Process:
    counts: dict[Series, Counts]
    read_at: datetime


@dataclass(slots=True)
class _Revision:
    used_at: datetime
    counts: dict[str, Counts] = field(default_factory=dict)


Owners = Callable[[str], Iterable[str]]
"""Whose evidence one process's counts are, by the name of a prefix: of nobody, or of several."""


def _as_named(prefix: str) -> Iterable[str]:
    return (prefix,)


class Ledger:
    """Totals of each revision by model since `opened_at`."""

    def __init__(self, opened_at: datetime) -> None:
        """Open an empty ledger."""
        self.opened_at = opened_at
        self._counts_whole_from = opened_at
        self._processes: dict[tuple[str, datetime], _Process] = {}
        """By target and start, those that were read last at the end."""
        # By owner and digest.
        self._revisions: dict[tuple[str, str], _Revision] = {}

    def record(self, sample: Sample, now: datetime, owners: Owners = _as_named) -> set[str]:
        """Add what is new in a sample, and return the owners for which anything was.

        What belongs to nobody at the time is dropped, and counts for nobody later.
        """
        identity = sample.target, sample.started_at
        process = self._processes.pop(identity, None)
        if process is None:
            young = self._counts_whole_from <= sample.started_at <= now
            process = _Process({} if young else dict(sample.counts), now)
        process.read_at = now
        self._processes[identity] = process
        changed = set()
        for series, counts in sample.counts.items():
            before = process.counts.get(series, _NOTHING)
            if counts == before:
                continue
            after = process.counts[series] = _most(before, counts)
            if after != before:
                for owner in owners(series.prefix):
                    self._add(owner, series, after - before, now)
                    changed.add(owner)
        return changed

    def _add(self, owner: str, series: Series, gained: Counts, now: datetime) -> None:
        revision = self._revisions.setdefault((owner, series.digest), _Revision(now))
        revision.used_at = now
        known = revision.counts.get(series.model, _NOTHING)
        revision.counts[series.model] = known + gained

    def forget(self, now: datetime) -> None:
        """Drop the memory of processes that were not read for an hour; their totals stay.

        One of them that comes back all the same is not counted whole: neither it nor any other
        that started before it did.
        """
        while self._processes:
            identity, process = next(iter(self._processes.items()))
            if now - process.read_at <= _REMEMBERED_FOR and len(self._processes) <= _REMEMBERED:
                return
            del self._processes[identity]
            _, started_at = identity
            after = min(started_at + timedelta(microseconds=1), now)  # a start to come is a lie
            self._counts_whole_from = max(self._counts_whole_from, after)

    def totals(self, owner: str, digest: str) -> dict[str, Counts]:
        """Return the counts by model of one revision, by the first 12 hex characters of it."""
        revision = self._revisions.get((owner, digest))
        return dict(revision.counts) if revision is not None else {}

    def used_at(self, owner: str, digest: str) -> datetime | None:
        """When a count of a revision last grew; None where none has since the opening."""
        revision = self._revisions.get((owner, digest))
        return revision.used_at if revision is not None else None


def _most(before: Counts, after: Counts) -> Counts:
    """The furthest that one process's counters came: one that fell in the same process lies."""
    return Counts(*map(max, before.all(), after.all()))
