"""The status is a rollout's only memory: what goes in comes out, and nothing is written twice."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.controller.status import dump, plan_from, state_from, status_from
from headwater.resources import PromptPrefix
from headwater.resources.generate import openapi_schema
from headwater.resources.schema import MESSAGE_LIMIT, Condition
from headwater.resources.status import (
    HISTORY_LIMIT,
    PUBLISHED_LIMIT,
    ConsumerCounts,
    PromptPrefixStatus,
)
from headwater.rollout.state import (
    Analysis,
    Answers,
    Candidate,
    Comparison,
    Counts,
    Entry,
    Evidence,
    Measurement,
    Observed,
    Pause,
    Phase,
    Query,
    Reason,
    Result,
    Retained,
    RolledBack,
    SetWeight,
    State,
    Verdict,
    Withdrawn,
)
from tests.unit.controller.bodies import PREFIX, prompt_prefix
from tests.unit.rollout.stories import FEW, NONE, START, V1, V2, serving, trying
from tests.unit.rollout.test_laws import NOTHING_NEW, Rollouts

SCHEMA = openapi_schema(PromptPrefix)["properties"]["status"]
LATER = START + timedelta(hours=1)


def written(
    state: State,
    previous: PromptPrefixStatus | None = None,
    now: datetime = START,
    stable_counts: Evidence = NONE,
) -> PromptPrefixStatus:
    """The status, having been to the API server and back."""
    ready = Condition(
        type="Ready", status="True", last_transition_time=START, reason="Stable", message=""
    )
    status = status_from(
        PREFIX,
        state,
        previous or PromptPrefixStatus(),
        generation=4,
        conditions=[ready],
        consumers=ConsumerCounts(namespaces=2, pods=5),
        stable_counts=stable_counts,
        now=now,
    )
    sent = json.loads(json.dumps(dump(status)))
    assert refusals(sent, SCHEMA, "status") == []
    return PromptPrefixStatus.model_validate(sent)


def refusals(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """What the API server would refuse, or drop, of a value: the keywords that our CRDs use."""
    match value:
        case dict():
            if schema["type"] != "object":
                return [f"{where}: an object"]
            fields = schema["properties"]
            required = set(schema.get("required", ()))
            found = [f"{where}: {name} is required" for name in required - set(value)]
            found += [f"{where}: {name} is unknown" for name in value if name not in fields]
            for name in value.keys() & fields.keys():
                found += refusals(value[name], fields[name], f"{where}.{name}")
            return found
        case list():
            found = [f"{where}: too long"] if len(value) > schema["maxItems"] else []
            if keys := schema.get("x-kubernetes-list-map-keys"):
                names = [tuple(item[key] for key in keys) for item in value]
                found += [f"{where}: twice the same key"] if len(set(names)) < len(names) else []
            for item in value:
                found += refusals(item, schema["items"], f"{where}[]")
            return found
        case bool():
            return [] if schema["type"] == "boolean" else [f"{where}: a boolean"]
        case int():
            fits = schema["type"] == "integer" and (
                schema.get("minimum", value) <= value <= schema.get("maximum", value)
            )
            return [] if fits else [f"{where}: {value}"]
        case str():
            fits = (
                schema["type"] == "string"
                and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
                and value in schema.get("enum", [value])
            )
            return [] if fits else [f"{where}: {value!r}"]
    return [f"{where}: {value!r} has no place in a status"]


times = st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC))
texts = st.text(st.characters(codec="utf-8"), max_size=MESSAGE_LIMIT)
numbers = st.integers(0, 2**53)
revisions = st.builds(
    Revision,
    st.from_regex(r"[a-z0-9]{1,63}", fullmatch=True),
    st.binary(max_size=2).map(Digest.of),
)
counts = st.builds(Counts, *[numbers] * len(Counts().all()))
model_ids = st.text("abc-", min_size=1, max_size=128)
some = counts.filter(lambda count: count != Counts())
measurements = st.builds(
    Measurement, times, st.none() | st.floats(allow_nan=False, allow_infinity=False), texts
)


@st.composite
def candidates_of(draw: st.DrawFn) -> Candidate:
    """A candidate as `decide` leaves it: what was not counted is not there."""
    models = draw(st.lists(model_ids, max_size=8, unique=True))
    evidence = {model: draw(some) for model in models}
    comparison = st.builds(Comparison, *[numbers] * 4, counts, counts)
    return Candidate(
        revision=draw(revisions),
        step=draw(st.integers(0, 20)),
        weight=Weight.percent(draw(st.integers(0, 100))),
        started_at=draw(times),
        step_started_at=draw(times),
        clock_from=draw(times),
        heard_at=draw(times),
        clock_stopped_at=draw(st.none() | times),
        retry=draw(st.integers(0, 2**31 - 1)),
        evidence=evidence,
        baseline={model: draw(some) for model in models[:4]},
        comparisons={model: draw(comparison) for model in models[:2]},
        answers=draw(
            st.dictionaries(
                st.text("abc", min_size=1, max_size=63),
                st.builds(Answers, numbers, measurements),
                max_size=8,
            )
        ),
        verdict=draw(st.builds(Verdict, st.sampled_from(Result), texts)),
    )


candidates = candidates_of()
gone = st.builds(RolledBack, revisions, st.integers(0, 2**31 - 1), texts, times)
histories = st.lists(
    st.builds(
        Entry, revisions, st.sampled_from(Reason), texts, times, st.none() | st.integers(0, 9)
    ),
    max_size=HISTORY_LIMIT,
).map(tuple)
nothing_yet = st.builds(State, st.sampled_from(Phase), texts, numbers, history=histories)
states = nothing_yet | st.builds(
    State,
    phase=st.sampled_from(Phase),
    message=texts,
    epoch=numbers,
    stable=revisions,
    promoted_at=times,
    candidate=st.none() | candidates,
    rolled_back=st.none() | gone,
    retained=st.lists(st.builds(Retained, revisions, times), max_size=4).map(tuple),
    withdrawn=st.none() | st.builds(Withdrawn, numbers, times),
    history=histories,
)


@given(states)
def test_what_is_recorded_is_what_is_decided_on_next(state: State) -> None:
    """Through the models, JSON and the bounds of the CRD, nothing is lost or changed.

    And nothing new is the same status later, so that it is not written.
    """
    first = written(state)
    assert state_from(first) == state
    assert written(state, previous=first, now=LATER) == first


def test_what_is_too_long_is_cut_once() -> None:
    """A reason of many models is cut, and the cut one is not new the next time."""
    verdict = Verdict(Result.WAITING, "x" * (MESSAGE_LIMIT + 1))
    state = trying(V2, 10)
    assert state.candidate is not None
    long = State(
        stable=V1,
        promoted_at=START,
        message="y" * 5000,
        candidate=replace(state.candidate, verdict=verdict),
    )
    first = written(long)
    assert first.candidate is not None
    assert first.candidate.verdict is not None
    assert len(first.candidate.verdict.reason) == MESSAGE_LIMIT
    assert written(long, previous=first, now=LATER) == first


class RestartedRollouts(Rollouts):
    """The laws of a rollout hold where every decision is followed by a restart."""

    def __init__(self) -> None:
        super().__init__()
        self.status = PromptPrefixStatus()

    def _decide(self, observed: Observed = NOTHING_NEW) -> None:
        super()._decide(observed)
        self.status = written(self.state, self.status, self.now)
        remembered = state_from(self.status)
        assert remembered == self.state, "a restart forgets nothing"
        self.state = remembered


TestRestartedRollouts = RestartedRollouts.TestCase
TestRestartedRollouts.settings = settings(max_examples=40, stateful_step_count=25)


def test_a_verdict_keeps_its_time_while_it_says_the_same() -> None:
    """A new candidate has a verdict of its own, in whatever words."""
    first = written(trying(V2, 10), now=START)
    same = written(trying(V2, 10), previous=first, now=LATER)
    other = written(trying(V1, 10), previous=first, now=LATER)
    times = [status.candidate and status.candidate.verdict for status in (first, same, other)]
    assert [verdict and verdict.at for verdict in times] == [START, START, LATER]


def test_every_routed_version_is_bound_to_its_digest() -> None:
    """Candidates too, and for ever: the newest are last, and stand once."""
    published = [PromptPrefixStatus()]
    for state in (serving(V1), trying(V2, 10), serving(V1), serving(V2)):
        published.append(written(state, previous=published[-1]))
    bound = [[row.version for row in status.published] for status in published]
    assert bound == [[], ["v1"], ["v1", "v2"], ["v1", "v2"], ["v1", "v2"]]


def test_bindings_are_bounded() -> None:
    """The oldest go first."""
    status = PromptPrefixStatus()
    for number in range(PUBLISHED_LIMIT + 2):
        status = written(serving(Revision(f"v{number}", V1.digest)), previous=status)
    assert len(status.published) == PUBLISHED_LIMIT
    assert status.published[0].version == "v2"


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        (NONE, None),
        ({"a": Counts(errors=5)}, None),
        ({"a": Counts(hits=1)}, "100%"),
        ({"a": Counts(misses=1)}, "0%"),
        ({"a": Counts(hits=999, misses=1)}, "99%"),
        ({"a": Counts(hits=1), "b": Counts(misses=1)}, "50%"),
    ],
)
def test_the_hit_rate_that_people_see(counts: Evidence, rate: str | None) -> None:
    """Of the stable revision, over its models, in whole percents and never rounded up."""
    status = written(serving(V1), stable_counts=counts)
    assert status.hit_rate == rate
    assert status.stable is not None
    assert status.stable.hit_rate == rate


def test_the_hit_rate_outlives_a_restart_and_not_a_promotion() -> None:
    """Without counts the last one stands, as long as it is about the same revision."""
    before = written(serving(V1), stable_counts=FEW)
    assert written(serving(V1), previous=before).hit_rate == "100%"
    assert written(serving(V2), previous=before).hit_rate is None


def test_a_history_of_another_release_is_left_out() -> None:
    """A newer one may have told of events that this one does not know."""
    row = {"version": "v1", "digest": str(V1.digest), "at": "2026-11-21T09:00:00Z"}
    status = PromptPrefixStatus.model_validate(
        {"history": [{**row, "event": "Teleported"}, {**row, "event": "Promoted"}]}
    )
    assert [entry.reason for entry in state_from(status).history] == [Reason.PROMOTED]


def test_an_empty_status_is_the_first_state() -> None:
    """A prefix that was just created."""
    assert state_from(PromptPrefixStatus()) == State()


def test_the_plan_is_what_the_author_declared() -> None:
    """Percents and durations become weights and time; a digest is declared once it verified.

    A step's own limits stand on the general ones.
    """
    declared = Digest.of(b"declared")
    body = prompt_prefix(
        rollout={
            "steps": [
                {"setWeight": 5},
                {"pause": {"duration": "90s"}},
                {"setWeight": 50, "analysis": {"minRequests": 70, "maxCostIncrease": 0.5}},
                {"pause": {}},
            ],
            "analysis": {
                "minHitRate": 0.8,
                "minRequests": 7,
                "noDataAfter": "3m",
                "queries": [{"name": "quality", "promql": "up", "min": 0.5, "failureLimit": 2}],
            },
            "approval": "Required",
            "progressDeadline": "30m",
            "rollbackWindow": {"revisions": 2},
            "approvedDigest": str(V2.digest),
        },
        suspend=True,
        retry=3,
    )
    plan = plan_from(PromptPrefix.model_validate(body), declared)
    assert plan.declared == Revision("v2", declared)
    assert plan.models == ("claude-opus-4-8",)
    general = Analysis(
        min_hit_rate=0.8,
        min_requests=7,
        no_data_after=timedelta(minutes=3),
        queries=(Query("quality", minimum=0.5, failure_limit=2),),
    )
    assert plan.analysis == general
    assert plan.steps == (
        SetWeight(Weight(500)),
        Pause(timedelta(seconds=90)),
        SetWeight(Weight(5000), replace(general, min_requests=70, max_cost_increase=0.5)),
        Pause(),
    )
    assert (plan.strategy, plan.first_version, plan.on_deadline) == ("Canary", "Immediate", "Hold")
    assert (plan.progress_deadline, plan.rollback_window) == (timedelta(minutes=30), 2)
    assert plan.retain == timedelta(minutes=5)
    assert (plan.approval_required, plan.approved_digest) == (True, V2.digest)
    assert (plan.suspend, plan.retry, plan.history_limit) == (True, 3, HISTORY_LIMIT)
    assert plan_from(PromptPrefix.model_validate(body), None).declared is None


def test_without_steps_a_canary_has_two() -> None:
    """10 %, then 50 %."""
    plan = plan_from(PromptPrefix.model_validate(prompt_prefix()), None)
    assert plan.steps == (SetWeight(Weight(1000)), SetWeight(Weight(5000)))
    assert (plan.strategy, plan.approval_required, plan.suspend) == ("Canary", False, False)
