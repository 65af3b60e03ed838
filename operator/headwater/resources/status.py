"""The status of a PromptPrefix: the record that a rollout is decided on, and what people read.

The record is all that a restart has: what is decided rests on it and on the spec alone.
"""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field

from headwater.resources.schema import (
    ATOMIC,
    Conditions,
    Count,
    Digest,
    Message,
    Model,
    ModelId,
    list_map,
)

PUBLISHED_LIMIT: Final = 200
HISTORY_LIMIT: Final = 50
EXCEPTIONS_LIMIT: Final = 50


class Revision(Model):
    """A published version."""

    version: Annotated[str, Field(max_length=128)]
    """Its name."""
    digest: Digest
    """Its exact bytes."""


class StableRevision(Revision):
    """The version that consumers get."""

    config_map: Annotated[str, Field(max_length=253)]
    """The immutable ConfigMap that holds its bytes."""
    promoted_at: AwareDatetime
    """When it became stable."""
    hit_rate: Annotated[str, Field(max_length=16)] | None = None
    """The share of its eligible requests that read the cache, like `98%`."""


class Verdict(Model):
    """What the evidence says about the candidate."""

    result: Literal["Waiting", "Pass", "RollBack"]
    """`Pass` lets the rollout go on, `RollBack` ends it, `Waiting` waits for more evidence."""
    reason: Message
    """Why, in a sentence."""
    at: AwareDatetime
    """When this was found."""


class Counted(Model):
    """What was counted of one version on one model."""

    hits: Count = 0
    """Eligible requests that read the contract from the cache."""
    misses: Count = 0
    """Eligible requests that did not."""
    errors: Count = 0
    """Requests that failed in a way that the contract may have caused."""
    answers: Count = 0
    """Requests that were answered, eligible or not."""
    cost_micros: Count = 0
    """What the answers cost in millionths of a dollar; counted where `maxCostIncrease` is set."""
    first_bytes: Count = 0
    """Answers that began; counted where `maxLatencyIncrease` is set."""
    first_byte_ms: Count = 0
    """Milliseconds until they began, all together."""


class Windows(Model):
    """How the candidate compares with stable, window by window."""

    cost: Count = 0
    """Windows in which the cost of an answer was compared."""
    cost_worse: Count = 0
    """Those in which the candidate's was above what `maxCostIncrease` allows."""
    latency: Count = 0
    """Windows in which the time until an answer begins was compared."""
    latency_worse: Count = 0
    """Those in which the candidate's was above what `maxLatencyIncrease` allows."""
    candidate_from: Annotated[Counted, Field(default_factory=Counted)]
    """The candidate's counts when the running window began."""
    stable_from: Annotated[Counted, Field(default_factory=Counted)]
    """The stable version's counts then."""


class Evidence(Counted):
    """What one model's traffic showed since the candidate got its weight."""

    model: ModelId
    """The model."""
    stable: Annotated[Counted, Field(default_factory=Counted)]
    """What the stable version showed since the canary began."""
    windows: Windows | None = None
    """How the two compare in cost and latency, where that is judged."""


class QueryAnswers(Model):
    """The answers to one of `analysis.queries` at this weight."""

    name: Annotated[str, Field(max_length=63)]
    """Its name."""
    failures: Count
    """Answers that lay outside the limits."""
    value: Annotated[str, Field(max_length=32)] | None = None
    """The latest answer; absent where there was none."""
    problem: Message = ""
    """Why there was none."""
    at: AwareDatetime
    """When it was asked last."""


class CandidateRevision(Revision):
    """The version that is being canaried."""

    config_map: Annotated[str, Field(max_length=253)]
    """The immutable ConfigMap that holds its bytes."""
    weight: Annotated[int, Field(ge=0, le=100)]
    """The percentage of new conversations that get it."""
    step: Annotated[int, Field(ge=0, le=20)]
    """The index of the current step, from 0."""
    started_at: AwareDatetime
    """When the canary began."""
    step_started_at: AwareDatetime
    """When the current step began."""
    clock_from: AwareDatetime | None = None
    """From when the deadline counts; moved on by the time in which it stood."""
    clock_stopped_at: AwareDatetime | None = None
    """Since when the deadline's clock stands."""
    heard_at: AwareDatetime | None = None
    """When its evidence last grew."""
    retry: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """`spec.retry` when it was last given time."""
    verdict: Verdict | None = None
    """What the evidence says so far."""
    evidence: Annotated[
        tuple[Evidence, ...], Field(max_length=16, json_schema_extra=list_map("model"))
    ] = ()
    """What its traffic showed since it got its weight, by model."""
    queries: Annotated[
        tuple[QueryAnswers, ...], Field(max_length=8, json_schema_extra=list_map("name"))
    ] = ()
    """What `analysis.queries` answered since it got its weight."""


class RolledBackRevision(Revision):
    """The version that failed last; it is not tried again until `spec.retry` rises."""

    retry: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """`spec.retry` when it failed."""
    reason: Message
    """Why it failed."""
    at: AwareDatetime
    """When it was taken back."""


class RetainedRevision(Revision):
    """A version that was stable: conversations that began with it may still have it cached."""

    until: AwareDatetime
    """When its bytes leave the bundle, unless it is still in use then."""


class WithdrawnRoute(Model):
    """When a candidate last lost its share."""

    epoch: Annotated[int, Field(ge=0, le=2**53)]
    """The epoch of the route without it."""
    at: AwareDatetime
    """When that was decided."""


class HistoryEntry(Revision):
    """Something that happened to a version."""

    event: Annotated[str, Field(max_length=63)]
    """What happened, in one word."""
    reason: Message = ""
    """Why."""
    at: AwareDatetime
    """When."""
    retry: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """`spec.retry` where it went back: these bytes are not tried again until it rises."""
    by: Annotated[str, Field(max_length=128)] | None = None
    """Who asked for it: the tool (field manager) that published the version, or that approved it.
    Absent where evidence or time decided."""


Said = Annotated[str, Field(max_length=63)]
"""What a pod's sidecar says of itself."""


class ConsumerException(Model):
    """A pod that is not as it should be."""

    namespace: Said
    """Its namespace."""
    pod: Annotated[str, Field(max_length=253)]
    """Its name."""
    team: Said = ""
    """Whose it is."""
    surface: Said = ""
    """What it is a part of."""
    workload: Said = ""
    """What made it."""
    deploy_revision: Said = ""
    """Which roll-out of that."""
    epoch: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """The epoch of the bundle that its sidecar uses; absent while it cannot be read."""
    reason: Annotated[str, Field(max_length=63)] | None = None
    """Why its requests are off the contract; absent where none was within ten minutes."""
    at: Annotated[str, Field(max_length=63)] | None = None
    """The first place that differed, like `tools[3]`."""
    count: Count | None = None
    """How many such requests its sidecar had counted."""
    uncached_system: Count | None = None
    """How many requests had as much uncached system text of their own as the contract has, or
    more; absent where none was within ten minutes."""
    last_seen: AwareDatetime | None = None
    """When the last one was; at most five minutes behind."""


class ConsumerCounts(Model):
    """How many consumers there are, and which of them are not as they should be."""

    namespaces: Count
    """Namespaces that have the bundle."""
    pods: Count = 0
    """Pods that mount it."""
    old_bundle: Count = 0
    """Pods whose sidecar uses another bundle than the present one."""
    off_contract: Count = 0
    """Pods that sent requests off the contract within ten minutes."""
    uncached_system: Count | None = None
    """Pods that sent as much uncached system text of their own as the contract has, or more, within
    ten minutes; absent where none did."""
    exceptions: Annotated[
        tuple[ConsumerException, ...],
        Field(max_length=EXCEPTIONS_LIMIT, json_schema_extra=ATOMIC),
    ] = ()
    """Which those are, and which cannot be read; `headwater consumers` shows them."""


Phase = Literal[
    "Pending",
    "Warming",
    "Progressing",
    "Paused",
    "AwaitingApproval",
    "Promoting",
    "Stable",
    "RolledBack",
    "Degraded",
]


class PromptPrefixStatus(Model):
    """What Headwater found and did."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this status is about."""
    phase: Phase | None = None
    """Where the prefix stands, in one word."""
    message: Message | None = None
    """Where the prefix stands, in a sentence."""
    epoch: Annotated[int, Field(ge=0, le=2**53)] = 0
    """How often the route changed; consumers carry it, so it tells who follows."""
    stable: StableRevision | None = None
    """The version that consumers get."""
    candidate: CandidateRevision | None = None
    """The version that is being canaried."""
    rolled_back: RolledBackRevision | None = None
    """The version that failed last."""
    retained: Annotated[
        tuple[RetainedRevision, ...], Field(max_length=8, json_schema_extra=ATOMIC)
    ] = ()
    """Versions that were stable and stay in the bundle for the conversations that are on them."""
    withdrawn: WithdrawnRoute | None = None
    """When a candidate last lost its share: pods older than that are told at once."""
    history: Annotated[
        tuple[HistoryEntry, ...], Field(max_length=HISTORY_LIMIT, json_schema_extra=ATOMIC)
    ] = ()
    """What happened, oldest first."""
    published: Annotated[
        tuple[Revision, ...],
        Field(max_length=PUBLISHED_LIMIT, json_schema_extra=list_map("version")),
    ] = ()
    """Every version that was ever published: what binds a version to its digest."""
    consumers: ConsumerCounts | None = None
    """How many consumers there are."""
    hit_rate: Annotated[str, Field(max_length=16)] | None = None
    """The share of eligible requests that read the cache, like `98%`."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled (as kstatus reads them), ConsumersServed, DigestVerified,
    Cacheable, Linted, Approved."""
