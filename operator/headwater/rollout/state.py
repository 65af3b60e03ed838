"""What a rollout is made of: the plan that an author declared and the state that is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from headwater.contract.route import Revision, Weight


class Phase(StrEnum):
    """Where a prefix stands; `kubectl get pp` shows it."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTING = "Promoting"
    STABLE = "Stable"
    ROLLED_BACK = "RolledBack"
    DEGRADED = "Degraded"


class Reason(StrEnum):
    """Why something happened: the reason of an Event and of a history entry."""

    FIRST_VERSION = "FirstVersion"
    RELABELLED = "Relabelled"
    CANARY_STARTED = "CanaryStarted"
    WEIGHT_RAISED = "WeightRaised"
    SUPERSEDED = "Superseded"
    PROMOTED = "Promoted"
    ABORTED = "Aborted"
    HIT_RATE_BELOW_FLOOR = "HitRateBelowFloor"


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Give the candidate this share of new conversations."""

    weight: Weight


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this long, or, without a duration, until the candidate's digest is approved."""

    duration: timedelta | None = None


Step = SetWeight | Pause


@dataclass(frozen=True, slots=True)
class Plan:
    """What the author declared; `declared` is None while no verified bytes stand behind it.

    Evidence about other than the declared `models` does not count.
    """

    declared: Revision | None
    models: tuple[str, ...]
    steps: tuple[Step, ...]
    strategy: Literal["Canary", "Immediate"] = "Canary"
    min_hit_rate: float = 0.9
    min_requests: int = 50
    approval_required: bool = False
    approved_digest: str | None = None
    suspend: bool = False
    retry: int = 0
    history_limit: int = 10

    def approves(self, revision: Revision) -> bool:
        """Whether the approval names exactly this revision's bytes."""
        return self.approved_digest == revision.digest


@dataclass(frozen=True, slots=True)
class Counts:
    """Answers to one revision on one model. Only eligible requests are hits or misses."""

    hits: int = 0
    misses: int = 0
    errors: int = 0

    @property
    def eligible(self) -> int:
        """Requests that could have read the cache."""
        return self.hits + self.misses

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            self.hits + other.hits, self.misses + other.misses, self.errors + other.errors
        )

    def __sub__(self, other: "Counts") -> "Counts":
        """What came on top of `other`."""
        return Counts(
            self.hits - other.hits, self.misses - other.misses, self.errors - other.errors
        )


Evidence = Mapping[str, Counts]
"""Counts by model."""


class Result(StrEnum):
    """What the judge makes of the evidence."""

    WAITING = "Waiting"
    PASS = "Pass"  # noqa: S105 - a verdict
    ROLL_BACK = "RollBack"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A result and the sentence that explains it."""

    result: Result
    message: str


NOT_JUDGED: Final = Verdict(Result.WAITING, "not judged yet")


@dataclass(frozen=True, slots=True)
class Candidate:
    """The revision being canaried. `evidence` counts since its weight was last set."""

    revision: Revision
    step: int
    weight: Weight
    started_at: datetime
    step_started_at: datetime
    evidence: Evidence = field(default_factory=dict)
    verdict: Verdict = NOT_JUDGED


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A candidate that went back: the same bytes are not tried again until `retry` is bumped."""

    revision: Revision
    retry: int
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history."""

    revision: Revision
    reason: Reason
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class State:
    """What is recorded in the status, and all that the next decision needs."""

    phase: Phase = Phase.PENDING
    message: str = ""
    epoch: int = 0
    stable: Revision | None = None
    promoted_at: datetime | None = None
    candidate: Candidate | None = None
    rolled_back: RolledBack | None = None
    history: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to record, what to tell, and when to look again at the latest."""

    state: State
    events: tuple[Entry, ...] = ()
    look_again: timedelta | None = None
