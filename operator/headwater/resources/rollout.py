"""`spec.rollout`: how a new version replaces the stable one."""

from typing import Annotated, Final, Literal

from pydantic import Field

from headwater.resources.schema import ATOMIC, Digest, Duration, Model, list_map, rule, rules


class Pause(Model):
    """A wait between two weights."""

    duration: Duration | None = None
    """How long, like `10m`; without it, until `approvedDigest` names the candidate."""


class Query(
    Model,
    json_schema_extra=rules(
        rule(
            "has(self.min) || has(self.max)",
            "neither min nor max is given, so any answer would do: give at least one",
        ),
        rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min is above max, so no answer would do",
        ),
    ),
):
    """A question to Prometheus whose answer only the author can interpret."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """What it is called in the status, in events and messages."""
    promql: Annotated[str, Field(min_length=1, max_length=4096)]
    """The query. `{{digest12}}`, `{{prefix}}` and `{{namespace}}` become the candidate's first 12
    hex characters and the prefix's own name and namespace. Its answer is one number."""
    min: float | None = None
    """The least that the answer may be."""
    max: float | None = None
    """The most that the answer may be."""
    failure_limit: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many answers of one step may lie outside before the candidate goes back. No answer is
    not a failure."""


Share = Annotated[float, Field(ge=0, le=1)]
Increase = Annotated[float, Field(ge=0, le=100)]
Requests = Annotated[int, Field(ge=1, le=1_000_000)]


class StepAnalysis(Model):
    """Limits of one step; what is not given here is as in `rollout.analysis`."""

    min_hit_rate: Share | None = None
    """Instead of `analysis.minHitRate`."""
    max_hit_rate_drop: Share | None = None
    """Instead of `analysis.maxHitRateDrop`."""
    max_error_rate_increase: Share | None = None
    """Instead of `analysis.maxErrorRateIncrease`."""
    max_cost_increase: Increase | None = None
    """Instead of `analysis.maxCostIncrease`."""
    max_latency_increase: Increase | None = None
    """Instead of `analysis.maxLatencyIncrease`."""
    min_requests: Requests | None = None
    """Instead of `analysis.minRequests`."""


class Step(
    Model,
    json_schema_extra=rules(
        rule(
            "has(self.setWeight) != has(self.pause)",
            "a step is either setWeight or pause: write two steps",
        ),
        rule(
            "!has(self.analysis) || has(self.setWeight)",
            "analysis belongs to a setWeight: it says what a candidate must show at that weight",
        ),
    ),
):
    """One step of a canary."""

    set_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """The percentage of new conversations that the candidate gets from here on."""
    pause: Pause | None = None
    """Stay at this weight for a while."""
    analysis: StepAnalysis | None = None
    """Limits that hold at this weight instead of the general ones."""


class Analysis(Model):
    """What a candidate must show before it goes on.

    Rates are judged with the confidence that is asked for, however often one looks; see
    docs/judge.md."""  # noqa: D209 - the text of the CRD

    min_hit_rate: Share = 0.9
    """The share of eligible requests that must read the cache; below it the candidate goes back.
    A request is eligible when its lane was warm before it was sent."""
    max_hit_rate_drop: Share | None = None
    """How far the hit rate may lie below that of the stable version: 0.05 is five points."""
    max_error_rate_increase: Share = 0.02
    """How far the share of failed requests may lie above that of the stable version."""
    max_cost_increase: Increase | None = None
    """How much more an answer may cost than one of the stable version: 0.2 is a fifth more."""
    max_latency_increase: Increase | None = None
    """How much longer than with the stable version an answer may take to begin."""
    min_requests: Requests = 50
    """Eligible requests that each model must have seen in a step before the candidate goes on."""
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95
    """How sure it must be that the candidate is good enough before it goes on."""
    rollback_confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.99
    """How sure it must be that the candidate is not good enough before it goes back."""
    no_data: Literal["Wait", "Pause", "RollBack"] = "Wait"
    """What happens when no model shows anything for `noDataAfter`: `Wait` until the deadline,
    `Pause` with the deadline's clock stopped, or `RollBack`. A source of evidence that is away
    always pauses."""
    no_data_after: Annotated[Duration, Field(validate_default=True)] = "10m"  # type: ignore[assignment]  # as users write it
    """How long silence has to last to be called that."""
    unused_models: Literal["Wait", "Ignore"] = "Wait"
    """Whether a model of `spec.models` that shows no eligible request holds the candidate back:
    `Wait` does, until the deadline; `Ignore` goes on what the other models show."""
    queries: Annotated[
        tuple[Query, ...], Field(max_length=8, json_schema_extra=list_map("name"))
    ] = ()
    """Questions of your own. Each needs an answer within its limits before the candidate goes
    on; the controller must know a Prometheus."""


class RollbackWindow(Model):
    """Which versions need no canary to come back."""

    revisions: Annotated[int, Field(ge=0, le=20)] = 0
    """How many versions back: 1 is the one that was stable before."""


_WEIGHTS: Final = "self.steps.filter(s, has(s.setWeight)).map(s, s.setWeight)"


class Rollout(
    Model,
    json_schema_extra=rules(
        rule(
            "self.strategy != 'Immediate' || !has(self.steps)",
            "Immediate takes no steps: remove steps, or choose the strategy Canary",
        ),
        rule(
            f"!has(self.steps) || ({_WEIGHTS}.isSorted() && self.steps.all(s, !has(s.setWeight) ||"
            " self.steps.exists_one(t, has(t.setWeight) && t.setWeight == s.setWeight)))",
            "each setWeight must be greater than the one before: a candidate only gains share,"
            " and goes back at once where it fails",
            field_path=".steps",
        ),
        rule(
            "!has(self.steps) || self.steps.exists(s, has(s.setWeight))",
            "no step has a setWeight, so a candidate would get no traffic and show nothing:"
            " add one, or remove steps",
            field_path=".steps",
        ),
    ),
):
    """How a new version replaces the stable one."""

    strategy: Literal["Canary", "Immediate"] = "Canary"
    """`Canary` goes by steps and on evidence; `Immediate` replaces the stable version at once."""
    steps: Annotated[tuple[Step, ...], Field(max_length=20, json_schema_extra=ATOMIC)] | None = None
    """The steps of a canary, in order; after the last one the candidate becomes stable.
    Without steps: 10 %, then 50 %."""
    analysis: Annotated[Analysis, Field(default_factory=Analysis)]
    """What a candidate must show before it goes on."""
    approval: Literal["Automatic", "Required"] = "Automatic"
    """Whether promotion waits, after the last step, for `approvedDigest`."""
    approved_digest: Digest | None = None
    """The approval: the digest of the candidate. It names the exact bytes, so it holds for them
    alone and need not be taken back."""

    first_version: Literal["Immediate", "Canary"] = "Immediate"
    """What becomes of the first version, which has nothing to go back to: `Immediate` is stable at
    once; `Canary` is served to everyone, too, and is stable when it showed what `analysis` asks."""
    progress_deadline: Annotated[Duration, Field(validate_default=True)] = "2h"  # type: ignore[assignment]  # as users write it
    """How long a weight may wait for its evidence. Pauses, waiting for an approval and `suspend`
    take nothing from it."""
    on_deadline: Literal["Hold", "RollBack"] = "Hold"
    """What happens then: `Hold` keeps the candidate at its weight and calls for a person (a longer
    deadline or a higher `retry` goes on), `RollBack` takes it back."""
    rollback_window: Annotated[RollbackWindow, Field(default_factory=RollbackWindow)]
    """Going back to one of the last stable versions needs no canary. An approval that is required
    is still waited for."""

    @property
    def canary_steps(self) -> tuple[Step, ...]:
        """The steps that a canary takes."""
        if self.steps is None:
            return (Step(set_weight=10), Step(set_weight=50))
        return self.steps
