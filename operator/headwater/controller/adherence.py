"""Whether consumers keep to the contract: the bundle that each pod is on, and what broke it.

Pure, but for its memory of what each sidecar said last. What is told is coarse on purpose: a status
is written when something begins or ends, and not because a count grew.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from headwater.contract.reasons import Reason
from headwater.controller.consumers import Consumer
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.evidence.ledger import Sample
from headwater.evidence.uses import Break, Use
from headwater.resources.status import EXCEPTIONS_LIMIT, ConsumerCounts, ConsumerException

WINDOW: Final = timedelta(minutes=10)
"""How long a pod stays off the contract after its last such request, and how long one whose sidecar
does not answer is taken to be as it was."""
_COARSE: Final = 300
"""Seconds: how exact the time and the count of what goes on are."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A pod that is not as it should be. `use` is None where its sidecar cannot be read."""

    pod: Key
    use: Use | None
    is_old: bool
    breaks: dict[Reason, Break]
    """Those within the window."""
    uncached: Break | None = None
    """Requests with much uncached system text of their own; None where none is in the window."""


@dataclass(slots=True)
class Adherence:
    """What the sidecars said last."""

    store: Store
    opened_at: datetime
    _said: dict[str, tuple[datetime, Sample]] = field(default_factory=dict, init=False)

    def see(self, sample: Sample, now: datetime) -> None:
        """Take in what a sidecar says."""
        self._said[sample.target] = now, sample

    def forget(self, now: datetime) -> None:
        """Drop what is too old to be believed."""
        self._said = {name: said for name, said in self._said.items() if now - said[0] <= WINDOW}

    def deviations(self, prefix: Key, epoch: int, now: datetime) -> list[Deviation]:
        """Return the pods that are not as they should be, the worst first.

        Every pod is on an old bundle for a moment, so that is the least of it.
        """
        found = (
            self._deviation(each, prefix, epoch, now) for each in self.store.consumers_of(prefix)
        )
        wrong = (each for each in found if each is not None)
        return sorted(
            wrong,
            key=lambda each: (not each.breaks, each.uncached is None, not each.is_old, each.pod),
        )

    def unheard(self, prefix: Key, now: datetime) -> set[Key]:
        """The pods of which nothing is known yet: they, or this controller, are new."""
        return {
            each.pod
            for each in self.store.consumers_of(prefix)
            if each.pod in self.store.sidecars
            and self._heard(each.pod, now) is None
            and not self._is_silent(each, now)
        }

    def _heard(self, pod: Key, now: datetime) -> Sample | None:
        """What its sidecar said last, within the window."""
        # A Prometheus names it by its address.
        said = self._said.get(str(pod)) or self._said.get(urlsplit(self.store.sidecars[pod]).netloc)
        return None if said is None or now - said[0] > WINDOW else said[1]

    def _is_silent(self, consumer: Consumer, now: datetime) -> bool:
        """Whether one that was not heard had the time to be."""
        return now - max(consumer.created, self.opened_at) > WINDOW

    def _deviation(
        self, consumer: Consumer, prefix: Key, epoch: int, now: datetime
    ) -> Deviation | None:
        if consumer.pod not in self.store.sidecars:
            return None
        said = self._heard(consumer.pod, now)
        if said is None:
            silent = self._is_silent(consumer, now)
            return Deviation(consumer.pod, None, is_old=False, breaks={}) if silent else None
        use = said.uses.get(prefix.name)
        if use is None:
            return None
        breaks = {reason: found for reason, found in use.breaks.items() if _is_recent(found, now)}
        uncached = use.uncached if _is_recent(use.uncached, now) else None
        is_old = use.epoch is not None and use.epoch != epoch
        if not (is_old or breaks or uncached):
            return None
        return Deviation(consumer.pod, use, is_old, breaks, uncached)


def _is_recent(found: Break, now: datetime) -> bool:
    return found.at is not None and now - found.at <= WINDOW


def signature(deviations: Iterable[Deviation], unheard: Collection[Key]) -> Collection[object]:
    """What is worth a look: it stays the same while only counts grow, for some minutes."""
    return {
        *unheard,
        *(
            (each.pod, each.use.epoch if each.use else None, reason, _coarse(found.at))
            for each in deviations
            for reason, found in ({None: each.uncached or Break()} | each.breaks).items()
        ),
    }


def counts(
    namespaces: int,
    pods: int,
    deviations: Sequence[Deviation],
    unheard: Collection[Key],
    epoch: int,
    before: ConsumerCounts | None,
) -> ConsumerCounts:
    """What the status says of a prefix's consumers.

    `before` is what it says now. It stands for those that are `unheard`: a controller that starts
    anew must not take back, and then tell again, what it only has not read yet.
    """
    known = {Key(row.namespace, row.pod): row for row in before.exceptions} if before else {}
    standing = [row for pod, row in known.items() if pod in unheard]
    found = [_row(each, known.get(each.pod)) for each in deviations[:EXCEPTIONS_LIMIT]]
    return ConsumerCounts(
        namespaces=namespaces,
        pods=pods,
        old_bundle=sum(each.is_old for each in deviations)
        + sum(row.epoch not in {None, epoch} for row in standing),
        off_contract=sum(bool(each.breaks) for each in deviations)
        + sum(row.reason is not None for row in standing),
        uncached_system=sum(each.uncached is not None for each in deviations)
        + sum(row.uncached_system is not None for row in standing)
        or None,
        exceptions=tuple([*found, *standing][:EXCEPTIONS_LIMIT]),
    )


def _row(deviation: Deviation, before: ConsumerException | None) -> ConsumerException:
    pod, use, breaks = deviation.pod, deviation.use, deviation.breaks
    row = ConsumerException(namespace=pod.namespace, pod=pod.name)
    if use is None:
        return row
    row = row.model_copy(update=use.served._asdict() | {"epoch": use.epoch})
    if deviation.uncached is not None:
        seen = {"uncached_system": deviation.uncached.count, "last_seen": deviation.uncached.at}
        row = row.model_copy(update=seen)
    if not breaks:
        return before if before is not None and _goes_on(before, row) else row
    # Of several reasons the one that was told goes on to be told.
    told = next((reason for reason in breaks if before and before.reason == reason), None)
    reason = told or max(breaks, key=lambda reason: (breaks[reason].at, reason))
    found = breaks[reason]
    row = row.model_copy(
        update={
            "reason": reason.value,
            "at": found.place or None,
            "count": found.count,
            "last_seen": found.at,
        }
    )
    return before if before is not None and _goes_on(before, row) else row


def _goes_on(before: ConsumerException, row: ConsumerException) -> bool:
    """Whether nothing but counts grew since a row was written, and not for long."""
    grows = ("at", "count", "uncached_system", "last_seen")
    same = before == row.model_copy(update={name: getattr(before, name) for name in grows})
    if (before.uncached_system is None) != (row.uncached_system is None):
        return False
    return same and _coarse(before.last_seen) == _coarse(row.last_seen)


def _coarse(at: datetime | None) -> int:
    return 0 if at is None else int(at.timestamp()) // _COARSE


def began(before: ConsumerCounts | None, after: ConsumerCounts | None) -> Iterator[str]:
    """What there is to tell: one sentence for each workload and reason that is new."""
    known = {_who(row) for row in before.exceptions} if before else set()
    told = {_who(row): row for row in after.exceptions if row.reason} if after else {}
    for who, row in told.items():
        if who not in known:
            at = f" at {row.at}" if row.at else ""
            yield (
                f"team {row.team or '(unknown)'}, surface {row.surface or '(unknown)'}, workload"
                f" {row.namespace}/{row.workload or row.pod}, deploy revision"
                f" {row.deploy_revision or '(unknown)'}: requests are off the contract,"
                f" {row.reason}{at}"
            )


def _who(row: ConsumerException) -> tuple[str | None, ...]:
    return row.namespace, row.team, row.surface, row.workload, row.deploy_revision, row.reason
