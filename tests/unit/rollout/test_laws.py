"""What holds in every rollout, whatever authors commit and consumers see, in whatever order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.decide import decide, look_again
from headwater.rollout.judge import judge
from headwater.rollout.observe import take_in
from headwater.rollout.state import Counts, Evidence, Observed, Reason, Result, State, Step
from headwater.rollout.upkeep import RETAINED_LIMIT
from tests.unit.rollout.stories import (
    HAIKU,
    MINUTE,
    OPUS,
    START,
    UNTIL_APPROVED,
    pause,
    plan,
    seen,
    weight,
)

NOTHING_NEW = Observed()
DIGESTS = [Digest.of(bytes([number])) for number in range(4)]
LABELS = ["a", "b", "c"]
digests = st.sampled_from(DIGESTS)
counts = st.builds(Counts, st.integers(0, 12), st.integers(0, 3), st.integers(0, 2))
evidences = st.dictionaries(st.sampled_from([OPUS, HAIKU, "undeclared"]), counts, max_size=2)
pauses = st.sampled_from([pause(2), pause(10), UNTIL_APPROVED])


@st.composite
def step_lists(draw: st.DrawFn) -> Sequence[Step]:
    """Weights that rise, with pauses anywhere: what the CRD lets through."""
    steps: list[Step] = []
    for percent in sorted(draw(st.sets(st.sampled_from([5, 10, 25, 50, 100]), max_size=3))):
        steps += draw(st.lists(pauses, max_size=1))
        steps.append(weight(percent))
    return (*steps, *draw(st.lists(pauses, max_size=1)))


class Rollouts(RuleBasedStateMachine):
    """Authors, time and traffic act on one prefix; after each act `decide` is asked once."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = plan(
            None,
            steps=(weight(10), weight(50)),
            min_requests=10,
            min_hit_rate=0.8,
            progress_deadline=20 * MINUTE,
        )
        self.state = State()
        self.now = START
        self.outage = ""
        self.warming: tuple[str, ...] = ()
        self.recovered: tuple[Revision, int] | None = None

    @rule(label=st.sampled_from(LABELS), digest=digests)
    def declare(self, label: str, digest: Digest) -> None:
        self.plan = replace(self.plan, declared=Revision(label, digest))
        self._decide()

    @rule()
    def break_the_content(self) -> None:
        self.plan = replace(self.plan, declared=None)
        self._decide()

    @rule()
    def revert(self) -> None:
        self.plan = replace(self.plan, declared=self.state.stable)
        self._decide()

    @rule(digest=st.none() | digests)
    def approve(self, digest: Digest | None) -> None:
        self.plan = replace(self.plan, approved_digest=digest)
        self._decide()

    @rule()
    def approve_what_is_declared(self) -> None:
        declared = self.plan.declared
        self.plan = replace(self.plan, approved_digest=declared.digest if declared else None)
        self._decide()

    @rule(required=st.booleans())
    def require_approval(self, *, required: bool) -> None:
        self.plan = replace(self.plan, approval_required=required)
        self._decide()

    @rule(suspend=st.booleans())
    def suspend(self, *, suspend: bool) -> None:
        self.plan = replace(self.plan, suspend=suspend)
        self._decide()

    @rule()
    def retry(self) -> None:
        self.plan = replace(self.plan, retry=self.plan.retry + 1)
        self._decide()

    @rule(steps=step_lists(), immediate=st.sampled_from([False, False, True]))
    def change_the_strategy(self, steps: tuple[Step, ...], *, immediate: bool) -> None:
        self.plan = replace(self.plan, steps=steps, strategy="Immediate" if immediate else "Canary")
        self._decide()

    @rule(
        first=st.sampled_from(["Immediate", "Canary"]),
        deadline=st.sampled_from([None, 5 * MINUTE, 60 * MINUTE]),
        on_deadline=st.sampled_from(["Hold", "RollBack"]),
        window=st.integers(0, 2),
        no_data=st.sampled_from(["Wait", "Pause", "RollBack"]),
        unused=st.sampled_from(["Wait", "Ignore"]),
    )
    def change_the_rules(
        self,
        first: Literal["Immediate", "Canary"],
        deadline: timedelta | None,
        on_deadline: Literal["Hold", "RollBack"],
        window: int,
        no_data: Literal["Wait", "Pause", "RollBack"],
        unused: Literal["Wait", "Ignore"],
    ) -> None:
        self.plan = replace(
            self.plan,
            first_version=first,
            progress_deadline=deadline,
            on_deadline=on_deadline,
            rollback_window=window,
            analysis=replace(self.plan.analysis, no_data=no_data, unused_models=unused),
        )
        self._decide()

    @rule(minutes=st.integers(-60, 60))
    def wait(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self._decide()

    @rule(outage=st.sampled_from(["", "", "nobody answers"]))
    def lose_the_source(self, outage: str) -> None:
        self.outage = outage
        self._decide()

    @rule(lanes=st.sampled_from([(), ("prod on opus",)]))
    def warm(self, lanes: tuple[str, ...]) -> None:
        self.warming = lanes
        self._decide()

    @rule(observed=evidences, stable=evidences)
    def answer(self, observed: Evidence, stable: Evidence) -> None:
        self._decide(seen(observed, stable=stable))

    @rule(hits=st.integers(10, 60))
    def answer_well(self, hits: int) -> None:
        self._decide(seen({model: Counts(hits=hits) for model in (OPUS, HAIKU)}))

    @rule(percent=st.integers(0, 100))
    def write_a_weight_into_the_status(self, percent: int) -> None:
        if self.state.candidate is not None and self.state.stable is not None:
            written = replace(self.state.candidate, weight=Weight.percent(percent))
            self.state = replace(self.state, candidate=written)

    @rule()
    def lose_the_status(self) -> None:
        stable = self.state.stable
        self.recovered = (stable, self.state.epoch) if stable is not None else None
        self.state = State()

    def _decide(self, observed: Observed = NOTHING_NEW) -> None:
        observed = replace(
            observed, outage=self.outage, warming=self.warming, recovered=self.recovered
        )
        before, lost = self.state, self.state == State() and self.recovered is not None
        decision = decide(self.plan, before, observed, self.now)
        self.state = decision.state
        if lost:
            first = self.recovered is not None and self.recovered[1] == 1
            reason = Reason.FIRST_VERSION if first else Reason.RECOVERED
            assert decision.events[0].reason is reason
            (revision, epoch) = observed.recovered or (None, 0)
            before = replace(before, stable=revision, epoch=epoch)
        self.recovered = None
        verdict = self._verdict(before, observed)
        self._check_weight(before, verdict)
        self._check_stable(before, verdict)
        self._check_standstill(before)
        self._check_retained()

        moved = _route(before) != _route(self.state)
        assert self.state.epoch >= before.epoch, "the epoch never falls"
        if moved:
            assert self.state.epoch > before.epoch, "it rises where the route changes"
        if _offered(before) != _offered(self.state):
            assert decision.events, "what changes what is offered is told"
        told = decision.events
        assert self.state.history[len(self.state.history) - len(told) :] == told, "in this order"
        waits = look_again(self.plan, self.state, self.now)
        assert waits is None or waits > timedelta(0)
        lasting = Observed(outage=self.outage, warming=self.warming)
        repeated = decide(self.plan, self.state, lasting, self.now)
        assert repeated == replace(decision, events=()), "doing it twice changes nothing"

    def _verdict(self, before: State, observed: Observed) -> Result | None:
        """What the judge makes of the candidate that ran, with what is new."""
        if before.candidate is None or before.candidate.weight == 0:
            return None
        candidate = take_in(self.plan, before.candidate, observed, self.now)
        weights = max(1, len(_weights(self.plan.steps)))
        return judge(candidate, self.plan.analysis, models=self.plan.models, weights=weights).result

    def _check_weight(self, before: State, verdict: Result | None) -> None:
        was, now = before.candidate, self.state.candidate
        if now is None or self.state.stable is None:
            return
        declared = _weights(self.plan.steps[: now.step + 1])
        standing = self.plan.declared is None or (self.plan.strategy == "Immediate")
        if not standing:
            assert now.weight <= max(declared, default=0), "never more than its step declares"
        if was is None or was.revision.digest != now.revision.digest:
            assert now.weight in (0, *_weights(self.plan.steps)[:1]), "it begins at the start"
            return
        if now.weight > was.weight > 0:
            assert verdict is Result.PASS, "a weight rises only with a pass on the one before"
            assert self.state.history[-1].reason is Reason.WEIGHT_RAISED, "and says on what"
        if now.weight < was.weight:
            lowered = Reason.WEIGHT_LOWERED in {e.reason for e in self.state.history}
            assert lowered, "it falls only where the steps were changed"
        assert verdict is not Result.ROLL_BACK, "what failed does not stay"
        if self.outage:
            assert now.weight <= was.weight, "without a source nothing rises"

    def _check_stable(self, before: State, verdict: Result | None) -> None:
        was, now = before.stable, self.state.stable
        if was == now:
            return
        assert now == self.plan.declared, "only what is declared and verified becomes stable"
        assert now is not None, "what is stable is replaced, never taken away"
        if was is not None and was.digest == now.digest:
            return
        last = self.state.history[-1]
        assert last.revision == now
        if self.plan.approval_required:
            assert self.plan.approved_digest == now.digest, "approval names the exact bytes"
        if was is None:
            assert last.reason is Reason.FIRST_VERSION
            return
        assert last.reason in (Reason.PROMOTED, Reason.RETURNED)
        if self.plan.strategy == "Canary" and last.reason is Reason.PROMOTED:
            candidate = before.candidate
            assert candidate is not None, "a canary is promoted after it was one"
            assert candidate.revision.digest == now.digest
            assert candidate.weight > 0, "what nobody got was not tried"
            assert verdict is Result.PASS, "nothing is promoted without positive evidence"
            assert not self.outage

    def _check_standstill(self, before: State) -> None:
        """Suspended, or without verified content, a rollout can go back and do nothing else."""
        if not self.plan.suspend and self.plan.declared is not None:
            return
        assert _digest(self.state.stable) == _digest(before.stable)
        if self.state.candidate is not None:
            assert before.candidate is not None
            assert self.state.candidate.revision.digest == before.candidate.revision.digest
            assert self.state.candidate.weight <= before.candidate.weight

    def _check_retained(self) -> None:
        offered = {_digest(revision) for revision in _offered(self.state)[:2]}
        retained = [item.revision.digest for item in self.state.retained]
        assert len(set(retained)) == len(retained) <= RETAINED_LIMIT
        assert not offered & set(retained), "a revision has one part in a route"


def _offered(state: State) -> tuple[Revision | None, Revision | None, int]:
    candidate = state.candidate
    if state.stable is None and candidate is not None:
        return candidate.revision, None, 0
    return (
        state.stable,
        candidate.revision if candidate else None,
        candidate.weight if candidate else 0,
    )


def _route(state: State) -> object:
    return _offered(state), tuple(item.revision for item in state.retained)


def _digest(revision: Revision | None) -> Digest | None:
    return revision.digest if revision else None


def _weights(steps: Sequence[Step]) -> list[int]:
    return [step.weight for step in steps if hasattr(step, "weight")]


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=100, stateful_step_count=30)
