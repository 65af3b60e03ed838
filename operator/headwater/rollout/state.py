"""What a rollout is made of: the plan that an author declared and the state that is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight


class Phase(StrEnum):
    """Where a prefix stands; `kubectl get pp` shows it."""

    PENDING = "Pending"
    WARMING = "Warming"
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
    RECOVERED = "Recovered"
    RELABELLED = "Relabelled"
    CANARY_STARTED = "CanaryStarted"
    WEIGHT_RAISED = "WeightRaised"
    WEIGHT_LOWERED = "WeightLowered"
    SUPERSEDED = "Superseded"
    PROMOTED = "Promoted"
    RETURNED = "Returned"
    ABORTED = "Aborted"
    HIT_RATE_BELOW_FLOOR = "HitRateBelowFloor"
    HIT_RATE_BELOW_STABLE = "HitRateBelowStable"
    ERRORS_ABOVE_STABLE = "ErrorsAboveStable"
    COST_ABOVE_STABLE = "CostAboveStable"
    LATENCY_ABOVE_STABLE = "LatencyAboveStable"
    QUERY_FAILED = "QueryFailed"
    NO_DATA = "NoData"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Query:
    """A question of the author's own to Prometheus: its answer has to lie within the limits.

    More than `failure_limit` answers outside of them in one step take the candidate back.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None
    failure_limit: int = 0

    def holds(self, value: float) -> bool:
        """Whether an answer lies within the limits."""
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a candidate must show; see `spec.rollout.analysis` for what each limit means.

    Shares are of 1. A limit that is None is not judged.
    """

    min_hit_rate: float = 0.9
    max_hit_rate_drop: float | None = None
    max_error_rate_increase: float | None = 0.02
    max_cost_increase: float | None = None
    max_latency_increase: float | None = None
    min_requests: int = 50
    confidence: float = 0.95
    rollback_confidence: float = 0.99
    no_data: Literal["Wait", "Pause", "RollBack"] = "Wait"
    no_data_after: timedelta = timedelta(minutes=10)
    unused_models: Literal["Wait", "Ignore"] = "Wait"
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Give the candidate this share of new conversations.

    `analysis` is what it must show at this weight, where that is not what the plan says.
    """

    weight: Weight
    analysis: Analysis | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this long, or, without a duration, until the candidate's digest is approved."""

    duration: timedelta | None = None


Step = SetWeight | Pause


@dataclass(frozen=True, slots=True)
class Plan:
    """What the author declared; `declared` is None while no verified bytes stand behind it.

    Evidence about other than the declared `models` does not count. `rollback_window` counts
    former stable revisions; `retain` is how long a conversation's cache lives without use.
    """

    declared: Revision | None
    models: tuple[str, ...]
    steps: tuple[Step, ...]
    strategy: Literal["Canary", "Immediate"] = "Canary"
    first_version: Literal["Immediate", "Canary"] = "Immediate"
    analysis: Analysis = Analysis()
    approval_required: bool = False
    approved_digest: str | None = None
    progress_deadline: timedelta | None = timedelta(hours=2)
    on_deadline: Literal["Hold", "RollBack"] = "Hold"
    rollback_window: int = 0
    retain: timedelta = timedelta(minutes=5)
    suspend: bool = False
    retry: int = 0
    history_limit: int = 10

    def approves(self, revision: Revision) -> bool:
        """Whether the approval names exactly this revision's bytes."""
        return self.approved_digest == revision.digest


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted of one revision on one model. All of it is whole numbers that add up.

    Only eligible requests are hits or misses. `errors` are those that the contract may have
    caused; `answers` are all that were answered, eligible or not. `cost_micros` is what they
    cost in millionths of a dollar; `first_bytes` answers took `first_byte_ms` together to begin.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    answers: int = 0
    cost_micros: int = 0
    first_bytes: int = 0
    first_byte_ms: int = 0

    @property
    def eligible(self) -> int:
        """Requests that could have read the cache."""
        return self.hits + self.misses

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(*(mine + its for mine, its in zip(self.all(), other.all(), strict=True)))

    def __sub__(self, other: "Counts") -> "Counts":
        """What came on top of `other`."""
        return Counts(*(mine - its for mine, its in zip(self.all(), other.all(), strict=True)))

    def all(self) -> tuple[int, ...]:
        """Every count, in the order of the fields."""
        # Written out: it is asked for at every look at every model.
        return (
            self.hits,
            self.misses,
            self.errors,
            self.answers,
            self.cost_micros,
            self.first_bytes,
            self.first_byte_ms,
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
    """A result and the sentence that explains it; `reason` is that of going back."""

    result: Result
    message: str
    reason: Reason | None = None


NOT_JUDGED: Final = Verdict(Result.WAITING, "not judged yet")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against stable on one model, window of answers by window of answers.

    A window is worse where the candidate's mean is above stable's by more than is allowed. The
    marks are the counts at which the running window began.
    """

    cost_windows: int = 0
    cost_worse: int = 0
    latency_windows: int = 0
    latency_worse: int = 0
    candidate_mark: Counts = Counts()
    baseline_mark: Counts = Counts()


@dataclass(frozen=True, slots=True)
class Measurement:
    """An answer to one of the author's queries; `value` is None where there was none."""

    at: datetime
    value: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one query in the running step: how many failed, and the latest."""

    failures: int
    latest: Measurement


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen since the state was recorded.

    `candidate` and `stable` are counts that are not in the state yet. `outage` says why the
    source of evidence is silent, empty where it works. `warming` names the candidate's lanes
    that a warmer is about to warm. `used` is when a former revision was last seen in use.
    `recovered` are the revision and the epoch that a lost status can be rebuilt from.
    """

    candidate: "Evidence" = field(default_factory=dict)
    stable: "Evidence" = field(default_factory=dict)
    outage: str = ""
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    warming: tuple[str, ...] = ()
    used: Mapping[Digest, datetime] = field(default_factory=dict)
    recovered: tuple[Revision, int] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """The revision being canaried.

    `evidence`, `comparisons` and `answers` count since its weight was last set, `baseline` what
    stable did since the canary began. The deadline's clock runs from `clock_from`, and stands
    while `clock_stopped_at` is set. `heard_at` is when evidence last grew.
    """

    revision: Revision
    step: int
    weight: Weight
    started_at: datetime
    step_started_at: datetime
    clock_from: datetime
    heard_at: datetime
    clock_stopped_at: datetime | None = None
    retry: int = 0
    evidence: Evidence = field(default_factory=dict)
    baseline: Evidence = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    answers: Mapping[str, Answers] = field(default_factory=dict)
    verdict: Verdict = NOT_JUDGED


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A candidate that went back: the same bytes are not tried again until `retry` is bumped."""

    revision: Revision
    retry: int
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Retained:
    """A former stable revision whose conversations may still have a warm cache until then."""

    revision: Revision
    until: datetime


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """When a candidate with a share last left the route, and the epoch of that route."""

    epoch: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history; `retry` is `spec.retry` when the revision went back.

    `by` is who asked for it, empty where evidence or time decided or nobody is known.
    """

    revision: Revision
    reason: Reason
    message: str
    at: datetime
    retry: int | None = None
    by: str = ""


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
    retained: tuple[Retained, ...] = ()
    withdrawn: Withdrawn | None = None
    history: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to record, and what to tell."""

    state: State
    events: tuple[Entry, ...] = ()
