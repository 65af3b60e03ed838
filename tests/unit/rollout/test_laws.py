"""What holds in every rollout, whatever authors commit and consumers see, in whatever order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headwater.contract.digest import Digest
from headwater.contract.route import Revision
from headwater.rollout.decide import decide
from headwater.rollout.judge import judge
from headwater.rollout.state import Counts, Evidence, Reason, Result, State, Step
from tests.unit.rollout.stories import (
    HAIKU,
    MINUTE,
    NONE,
    OPUS,
    START,
    UNTIL_APPROVED,
    again,
    pause,
    plan,
    weight,
)

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
        self.plan = plan(None, min_requests=10, min_hit_rate=0.8, steps=(weight(10), weight(50)))
        self.state = State()
        self.now = START

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

    @rule(minutes=st.integers(0, 15))
    def wait(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self._decide()

    @rule(observed=evidences)
    def answer(self, observed: Evidence) -> None:
        self._decide(observed)

    @rule(hits=st.integers(10, 30))
    def answer_well(self, hits: int) -> None:
        self._decide({OPUS: Counts(hits=hits)})

    def _decide(self, observed: Evidence = NONE) -> None:
        before = self.state
        decision = decide(self.plan, before, observed, self.now)
        self.state = decision.state
        verdict = self._verdict(before, observed)
        self._check_weight(before, verdict)
        self._check_stable(before, verdict)
        self._check_standstill(before)

        moved = _route(before) != _route(self.state)
        assert self.state.epoch >= before.epoch, "the epoch never falls"
        assert (self.state.epoch > before.epoch) == moved, "it rises where the route changes"
        assert bool(decision.events) == moved, "what changes the route is told, and nothing else"
        assert decision.look_again is None or decision.look_again > timedelta(0)
        repeated = again(self.plan, decision, self.now)
        assert repeated == replace(decision, events=()), "doing it twice changes nothing"

    def _verdict(self, before: State, observed: Evidence) -> Result | None:
        """What the judge makes of the candidate that ran, with what is new."""
        if before.candidate is None:
            return None
        known = before.candidate.evidence
        evidence = {
            model: known.get(model, Counts()) + observed.get(model, Counts())
            for model in {*known, *observed} & set(self.plan.models)
        }
        return judge(
            evidence, min_hit_rate=self.plan.min_hit_rate, min_requests=self.plan.min_requests
        ).result

    def _check_weight(self, before: State, verdict: Result | None) -> None:
        was, now = before.candidate, self.state.candidate
        if was is None or now is None or was.revision.digest != now.revision.digest:
            if now is not None and was is not now:
                assert now.weight in (0, *_weights(self.plan.steps)[:1]), "it begins at the start"
            return
        assert now.weight >= was.weight, "a candidate's weight never falls: it goes out as a whole"
        if now.weight > was.weight > 0:
            assert verdict is Result.PASS, "a weight rises only with a pass on the one before"
        assert verdict is not Result.ROLL_BACK, "below the floor no candidate stays"

    def _check_stable(self, before: State, verdict: Result | None) -> None:
        was, now = before.stable, self.state.stable
        if was == now:
            return
        assert now == self.plan.declared, "only what is declared and verified becomes stable"
        assert now is not None, "what is stable is replaced, never taken away"
        if was is None or was.digest == now.digest:
            return
        last = self.state.history[-1]
        assert (last.reason, last.revision) == (Reason.PROMOTED, now)
        if self.plan.approval_required:
            assert self.plan.approved_digest == now.digest, "approval names the exact bytes"
        if self.plan.strategy == "Canary":
            candidate = before.candidate
            assert candidate is not None, "a canary is promoted after it was one"
            assert candidate.revision.digest == now.digest
            assert candidate.weight > 0, "what nobody got was not tried"
            assert verdict is Result.PASS, "nothing is promoted without positive evidence"

    def _check_standstill(self, before: State) -> None:
        """Suspended, or without verified content, a rollout can go back and do nothing else."""
        if not self.plan.suspend and self.plan.declared is not None:
            return
        assert _digest(self.state.stable) == _digest(before.stable)
        if self.state.candidate is not None:
            assert before.candidate is not None
            assert self.state.candidate.revision.digest == before.candidate.revision.digest
            assert self.state.candidate.weight == before.candidate.weight


def _route(state: State) -> object:
    candidate = state.candidate
    return state.stable, candidate and (candidate.revision, candidate.weight)


def _digest(revision: Revision | None) -> Digest | None:
    return revision.digest if revision else None


def _weights(steps: Sequence[Step]) -> list[int]:
    return [step.weight for step in steps if hasattr(step, "weight")]


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)
