"""What happens to a rollout: one row for each phase and each thing that can be observed in it."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from headwater.contract.route import Revision
from headwater.rollout.decide import decide
from headwater.rollout.state import Counts, Evidence, Phase, Plan, Reason, State
from tests.unit.rollout.stories import (
    BAD,
    FEW,
    GOOD,
    HAIKU,
    MINUTE,
    NONE,
    OPUS,
    START,
    STEPS,
    UNTIL_APPROVED,
    V1,
    V2,
    V3,
    again,
    pause,
    plan,
    route,
    serving,
    trying,
    weight,
    went_back,
)

NOTHING = State()


@dataclass(frozen=True)
class Row:
    """`state` and what is observed in it, then what becomes of it."""

    name: str
    plan: Plan
    state: State
    phase: Phase
    route: str
    reasons: tuple[Reason, ...] = ()
    observed: Evidence = field(default_factory=dict)
    minutes: float = 0
    says: str = ""


def canary_of(revision: Revision, *steps: object, **facts: object) -> Plan:
    return plan(revision, steps=steps, **facts)


ROWS = [
    # --- the first version -----------------------------------------------------------------
    Row(
        "nothing that verifies was ever declared",
        plan(None),
        NOTHING,
        Phase.PENDING,
        "-",
    ),
    Row(
        "the first version is served at once: there is nothing to compare it with",
        plan(V1),
        NOTHING,
        Phase.STABLE,
        "v1",
        (Reason.FIRST_VERSION,),
        says="v1 is served to everyone",
    ),
    Row(
        "the first version needs no approval, so that a new cluster starts from Git alone",
        plan(V1, approval_required=True),
        NOTHING,
        Phase.STABLE,
        "v1",
        (Reason.FIRST_VERSION,),
    ),
    Row(
        "a suspended first version is not published",
        plan(V1, suspend=True),
        NOTHING,
        Phase.PAUSED,
        "-",
        says="suspended: v1 is not published",
    ),
    Row(
        "what is declared is what is served",
        plan(V1),
        serving(V1),
        Phase.STABLE,
        "v1",
    ),
    # --- Immediate ---------------------------------------------------------------------------
    Row(
        "Immediate replaces the stable version at once",
        plan(V2, strategy="Immediate"),
        serving(V1),
        Phase.STABLE,
        "v2",
        (Reason.PROMOTED,),
    ),
    Row(
        "Immediate waits for an approval that is required",
        plan(V2, strategy="Immediate", approval_required=True),
        serving(V1),
        Phase.AWAITING_APPROVAL,
        "v1",
        says=f"v2 waits for spec.rollout.approvedDigest: {V2.digest}",
    ),
    Row(
        "Immediate goes on with the approval",
        plan(V2, strategy="Immediate", approval_required=True, approved_digest=V2.digest),
        serving(V1),
        Phase.STABLE,
        "v2",
        (Reason.PROMOTED,),
    ),
    Row(
        "Immediate does nothing while suspended",
        plan(V2, strategy="Immediate", suspend=True),
        serving(V1),
        Phase.PAUSED,
        "v1",
    ),
    Row(
        "Immediate, chosen while a canary runs, skips the rest of it",
        plan(V2, strategy="Immediate"),
        trying(V2, 10),
        Phase.STABLE,
        "v2",
        (Reason.PROMOTED,),
    ),
    Row(
        "Immediate, chosen while a canary runs, promotes nothing that failed",
        plan(V2, strategy="Immediate"),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
    ),
    # --- the start of a canary ---------------------------------------------------------------
    Row(
        "a new version begins at the first weight",
        plan(V2),
        serving(V1),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
        says="none of 20 eligible requests seen",
    ),
    Row(
        "a pause behind the first weight begins with it",
        canary_of(V2, weight(10), pause(5), weight(50)),
        serving(V1),
        Phase.PAUSED,
        "v1, v2 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "a pause before the first weight shows the candidate to nobody",
        canary_of(V2, pause(5), weight(10)),
        serving(V1),
        Phase.PAUSED,
        "v1, v2 at 0%",
        (Reason.CANARY_STARTED,),
    ),
    Row(
        "a suspended prefix starts no canary",
        plan(V2, suspend=True),
        serving(V1),
        Phase.PAUSED,
        "v1",
        says="suspended: v2 is not started",
    ),
    Row(
        "without any weight in its steps a canary goes nowhere, and says why",
        canary_of(V2),
        serving(V1),
        Phase.PROGRESSING,
        "v1, v2 at 0%",
        (Reason.CANARY_STARTED,),
        says="add a setWeight",
    ),
    Row(
        "a candidate that differs from stable in its label alone is no candidate",
        plan(Revision("v1-final", V1.digest)),
        serving(V1),
        Phase.STABLE,
        "v1-final",
        (Reason.RELABELLED,),
        says="v1-final is served to everyone",
    ),
    # --- weights -----------------------------------------------------------------------------
    Row(
        "no data waits: it neither passes nor fails",
        plan(V2),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        minutes=10_000,
        says="none of 20 eligible requests seen",
    ),
    Row(
        "too little data waits",
        plan(V2),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=FEW,
        minutes=10_000,
        says="5 on claude-opus-5 of 20 eligible requests seen",
    ),
    Row(
        "a pass raises the weight to that of the next step",
        plan(V2),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
    ),
    Row(
        "evidence adds up over decisions",
        plan(V2),
        trying(V2, 10, evidence={OPUS: Counts(hits=15)}),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=FEW,
    ),
    Row(
        "a pass on one model does not speak for another with traffic",
        plan(V2),
        trying(V2, 10, evidence=GOOD),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed={HAIKU: Counts(hits=3)},
        says="3 on claude-haiku-4-5 of 20",
    ),
    Row(
        "evidence about a model that was not declared does not count",
        plan(V2, models=(OPUS,)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed={HAIKU: Counts(hits=100), "other": Counts(misses=100)},
        says="none of 20",
    ),
    Row(
        "a pass at the last weight promotes",
        plan(V2),
        trying(V2, 50, step=1),
        Phase.STABLE,
        "v2",
        (Reason.PROMOTED,),
        observed=GOOD,
    ),
    Row(
        "at the last weight, too, no data waits",
        plan(V2),
        trying(V2, 50, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        minutes=10_000,
    ),
    Row(
        "a step appended while the last one waits is taken like any other",
        canary_of(V2, weight(10), weight(50), weight(80)),
        trying(V2, 50, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 80%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
    ),
    Row(
        "steps edited to less than the candidate has take nothing from it",
        canary_of(V2, weight(5), weight(20), weight(90)),
        trying(V2, 50, step=0),
        Phase.PROGRESSING,
        "v1, v2 at 90%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
    ),
    # --- pauses ------------------------------------------------------------------------------
    Row(
        "a pause lasts as long as it says, whatever the evidence",
        canary_of(V2, weight(10), pause(5), weight(50)),
        trying(V2, 10, step=1),
        Phase.PAUSED,
        "v1, v2 at 10%",
        observed=GOOD,
        minutes=4.9,
        says="paused for 5 min",
    ),
    Row(
        "a pause that is over goes on with a pass",
        canary_of(V2, weight(10), pause(5), weight(50)),
        trying(V2, 10, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
        minutes=5,
    ),
    Row(
        "a pause that is over is no pass",
        canary_of(V2, weight(10), pause(5), weight(50)),
        trying(V2, 10, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        minutes=5,
        says="none of 20",
    ),
    Row(
        "a pause without duration waits for the approval, not for time or evidence",
        canary_of(V2, weight(10), UNTIL_APPROVED, weight(50)),
        trying(V2, 10, step=1),
        Phase.AWAITING_APPROVAL,
        "v1, v2 at 10%",
        observed=GOOD,
        minutes=10_000,
        says=f"v2 waits for spec.rollout.approvedDigest: {V2.digest}",
    ),
    Row(
        "a pause without duration ends with the approval, and then evidence decides",
        canary_of(V2, weight(10), UNTIL_APPROVED, weight(50), approved_digest=V2.digest),
        trying(V2, 10, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
    ),
    Row(
        "an approval before any weight starts the traffic",
        canary_of(V2, UNTIL_APPROVED, weight(10), approved_digest=V2.digest),
        trying(V2, 0),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_RAISED,),
    ),
    # --- approval ----------------------------------------------------------------------------
    Row(
        "where approval is required, a pass at the last weight asks for it",
        plan(V2, approval_required=True),
        trying(V2, 50, step=1),
        Phase.AWAITING_APPROVAL,
        "v1, v2 at 50%",
        observed=GOOD,
        says=str(V2.digest),
    ),
    Row(
        "an approval given early counts when its time comes",
        plan(V2, approval_required=True, approved_digest=V2.digest),
        trying(V2, 50, step=1),
        Phase.STABLE,
        "v2",
        (Reason.PROMOTED,),
        observed=GOOD,
    ),
    Row(
        "an approval given early does not shorten the way",
        plan(V2, approval_required=True, approved_digest=V2.digest),
        serving(V1),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "an approval of another digest has no effect",
        plan(V2, approval_required=True, approved_digest=V3.digest),
        trying(V2, 50, step=1, evidence=GOOD),
        Phase.AWAITING_APPROVAL,
        "v1, v2 at 50%",
    ),
    Row(
        "an approval never promotes what evidence does not carry",
        plan(V2, approval_required=True, approved_digest=V2.digest),
        trying(V2, 50, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        observed=FEW,
    ),
    Row(
        "a candidate that waits for approval still goes back on evidence",
        plan(V2, approval_required=True),
        trying(V2, 50, step=1, evidence=GOOD, phase=Phase.AWAITING_APPROVAL),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
    ),
    # --- going back --------------------------------------------------------------------------
    Row(
        "below the floor the candidate goes back, and the sentence says why",
        plan(V2),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
        says="v2 went back: on claude-opus-5 10 of 20 eligible requests read the cache (50%),"
        " and the floor is 90%",
    ),
    Row(
        "a candidate goes back in the middle of a pause",
        canary_of(V2, weight(10), pause(60), weight(50)),
        trying(V2, 10, step=1),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
    ),
    Row(
        "a candidate goes back even while suspended",
        plan(V2, suspend=True),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
    ),
    Row(
        "a candidate goes back even while the newly declared content does not verify",
        plan(None),
        trying(V2, 10),
        Phase.DEGRADED,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
    ),
    Row(
        "the commit is reverted: the candidate is aborted",
        plan(V1),
        trying(V2, 50, step=1, evidence=GOOD),
        Phase.STABLE,
        "v1",
        (Reason.ABORTED,),
    ),
    Row(
        "a revert aborts even while suspended",
        plan(V1, suspend=True),
        trying(V2, 10),
        Phase.STABLE,
        "v1",
        (Reason.ABORTED,),
    ),
    Row(
        "a revert to the stable bytes under another label aborts and relabels",
        plan(Revision("v1-final", V1.digest)),
        trying(V2, 10),
        Phase.STABLE,
        "v1-final",
        (Reason.ABORTED, Reason.RELABELLED),
    ),
    Row(
        "a version that went back does nothing while it stays declared",
        plan(V2),
        went_back(V2),
        Phase.ROLLED_BACK,
        "v1",
        minutes=10_000,
        says="v2 went back: it missed",
    ),
    Row(
        "bytes that went back do nothing under another label either",
        plan(Revision("v2-again", V2.digest)),
        went_back(V2),
        Phase.ROLLED_BACK,
        "v1",
    ),
    Row(
        "a higher retry tries it again, from the first step",
        plan(V2, retry=1),
        went_back(V2),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "a lower retry does not",
        plan(V2, retry=1),
        went_back(V2, retry=2),
        Phase.ROLLED_BACK,
        "v1",
    ),
    Row(
        "another version is tried after one that went back",
        plan(V3),
        went_back(V2),
        Phase.PROGRESSING,
        "v1, v3 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "the stable version, declared again after a roll back, is simply stable",
        plan(V1),
        went_back(V2),
        Phase.STABLE,
        "v1",
    ),
    # --- other commits while a candidate runs --------------------------------------------------
    Row(
        "a third version supersedes the candidate and begins at the first step",
        plan(V3),
        trying(V2, 50, step=1, evidence=GOOD),
        Phase.PROGRESSING,
        "v1, v3 at 10%",
        (Reason.SUPERSEDED, Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "a third version while suspended takes the second out and waits",
        plan(V3, suspend=True),
        trying(V2, 10),
        Phase.PAUSED,
        "v1",
        (Reason.SUPERSEDED,),
        says="suspended: v3 is not started",
    ),
    Row(
        "a third version that is Immediate and unapproved takes the second out and waits",
        plan(V3, strategy="Immediate", approval_required=True),
        trying(V2, 10),
        Phase.AWAITING_APPROVAL,
        "v1",
        (Reason.SUPERSEDED,),
    ),
    Row(
        "the candidate's bytes under another label go on where they were",
        plan(Revision("v2-final", V2.digest)),
        trying(V2, 10, evidence=FEW),
        Phase.PROGRESSING,
        "v1, v2-final at 10%",
        (Reason.RELABELLED,),
        says="5 on claude-opus-5 of 20",
    ),
    Row(
        "suspended, a candidate stays where it is",
        plan(V2, suspend=True),
        trying(V2, 10),
        Phase.PAUSED,
        "v1, v2 at 10%",
        observed=GOOD,
        minutes=10_000,
        says="suspended",
    ),
    # --- content that does not verify ----------------------------------------------------------
    Row(
        "content that does not verify leaves the stable version untouched",
        plan(None),
        serving(V1),
        Phase.DEGRADED,
        "v1",
    ),
    Row(
        "content that does not verify stops the candidate where it is",
        plan(None),
        trying(V2, 10),
        Phase.DEGRADED,
        "v1, v2 at 10%",
        observed=GOOD,
        minutes=10_000,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    """What becomes of it is what the row says; doing it twice changes and tells nothing."""
    now = START + row.minutes * MINUTE
    decision = decide(row.plan, row.state, row.observed, now)

    assert decision.state.phase == row.phase
    assert route(decision.state) == row.route
    assert tuple(event.reason for event in decision.events) == row.reasons
    assert row.says in decision.state.message
    assert decision.state.history == (*row.state.history, *decision.events)
    assert (decision.state.epoch > row.state.epoch) == (row.route != route(row.state))

    repeated = again(row.plan, decision, now)
    assert repeated == replace(decision, events=())


def test_the_rows_cover_every_phase_and_every_reason() -> None:
    """A phase or a reason without a row is one that nobody specified."""
    # Promoting is shown while a promotion that was decided is carried out.
    assert {row.phase for row in ROWS} == set(Phase) - {Phase.PROMOTING}
    assert {reason for row in ROWS for reason in row.reasons} == set(Reason)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_pause_says_when_to_look_again() -> None:
    """The rest of the pause, so that nothing has to poll."""
    given = canary_of(V2, weight(10), pause(5), weight(50))
    decision = decide(given, trying(V2, 10, step=1), NONE, START + 3 * MINUTE)
    assert decision.look_again == timedelta(minutes=2)
    assert decide(given, trying(V2, 10, step=1), NONE, START + 5 * MINUTE).look_again is None


def test_a_pause_is_counted_from_when_it_began() -> None:
    """Two pauses in a row last as long as both; time spent at a weight before is not part of it."""
    given = canary_of(V2, pause(5), pause(5), weight(10))
    first = decide(given, serving(V1), NONE, START)
    second = decide(given, first.state, NONE, START + 7 * MINUTE)
    assert (second.state.phase, second.look_again) == (Phase.PAUSED, 5 * MINUTE)
    third = decide(given, second.state, NONE, START + 12 * MINUTE)
    assert route(third.state) == "v1, v2 at 10%"


def test_each_weight_is_judged_on_its_own_requests() -> None:
    """What was counted at 10 % does not carry the candidate from 50 %."""
    raised = decide(plan(V2), trying(V2, 10), GOOD, START).state
    assert raised.candidate is not None
    assert raised.candidate.evidence == {}
    waiting = decide(plan(V2), raised, NONE, START)
    assert route(waiting.state) == "v1, v2 at 50%"


def test_the_history_says_on_what_grounds() -> None:
    """A weight and a promotion name the counts that carried them."""
    raised = decide(plan(V2), trying(V2, 10), GOOD, START)
    promoted = decide(plan(V2), raised.state, GOOD, START + MINUTE)
    grounds = "on claude-opus-5 19 of 20 eligible requests read the cache (95%)"
    assert [entry.message for entry in promoted.state.history] == [
        f"50 %: {grounds}",
        f"v2 is served to everyone: {grounds}",
    ]
    assert promoted.state.promoted_at == START + MINUTE


def test_the_history_is_bounded() -> None:
    """The newest entries stay, and everything is told all the same."""
    given = plan(V2, history_limit=1)
    decision = decide(given, serving(V1), NONE, START)
    assert [entry.reason for entry in decision.events] == [
        Reason.CANARY_STARTED,
        Reason.WEIGHT_RAISED,
    ]
    assert [entry.reason for entry in decision.state.history] == [Reason.WEIGHT_RAISED]
    assert decide(replace(given, history_limit=0), serving(V1), NONE, START).state.history == ()


def test_a_roll_back_is_remembered_with_its_retry() -> None:
    """What went back, why, when, and under which retry: the next decision needs it."""
    gone = decide(plan(V2, retry=3), trying(V2, 10), BAD, START + MINUTE).state.rolled_back
    assert gone is not None
    assert (gone.revision, gone.retry, gone.at) == (V2, 3, START + MINUTE)


def test_the_whole_story_of_a_good_version() -> None:
    """Published, tried at each weight, approved, promoted."""
    given = plan(V2, steps=STEPS, approval_required=True)
    state = serving(V1)
    seen = []
    for step in range(4):
        state = decide(given, state, GOOD, START + step * MINUTE).state
        seen.append((route(state), state.phase))
    approved = replace(given, approved_digest=V2.digest)
    state = decide(approved, state, NONE, START + 5 * MINUTE).state
    assert [*seen, (route(state), state.phase)] == [
        ("v1, v2 at 10%", Phase.PROGRESSING),
        ("v1, v2 at 50%", Phase.PROGRESSING),
        ("v1, v2 at 50%", Phase.AWAITING_APPROVAL),
        ("v1, v2 at 50%", Phase.AWAITING_APPROVAL),
        ("v2", Phase.STABLE),
    ]
