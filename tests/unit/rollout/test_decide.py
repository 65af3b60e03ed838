"""What happens to a rollout: one row for each phase and each thing that can be observed in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from headwater.contract.route import Revision, Weight
from headwater.rollout.decide import decide, look_again
from headwater.rollout.state import (
    Analysis,
    Answers,
    Comparison,
    Counts,
    Entry,
    Evidence,
    Measurement,
    Phase,
    Plan,
    Query,
    Reason,
    SetWeight,
    State,
    Withdrawn,
)
from headwater.rollout.upkeep import MOUNT_LAG
from tests.unit.rollout.stories import (
    BAD,
    FEW,
    GOOD,
    HAIKU,
    MINUTE,
    OPUS,
    START,
    STEPS,
    UNTIL_APPROVED,
    V1,
    V2,
    V3,
    pause,
    plan,
    route,
    seen,
    serving,
    trying,
    weight,
    went_back,
)

NOTHING = State()
FIRST = trying(V1, 100, stable=None, promoted_at=None)
"""The first version is served to everyone, and has yet to prove itself."""
COMPARED = trying(
    V2,
    10,
    evidence={OPUS: Counts(answers=1000)},
    comparisons={OPUS: Comparison(50, 50, 50, 50, Counts(answers=1000), Counts(answers=9000))},
)
"""All windows were worse, in cost and in latency."""
AFTER_V1 = serving(
    V2,
    history=(
        Entry(V1, Reason.FIRST_VERSION, "", START),
        Entry(V2, Reason.PROMOTED, "", START),
    ),
)
"""v2 took the place of v1."""
HELD = trying(
    V2,
    10,
    phase=Phase.DEGRADED,
    history=(Entry(V2, Reason.PROGRESS_DEADLINE_EXCEEDED, "", START + 60 * MINUTE),),
)
"""The deadline of an hour was exceeded."""
ASK = Query("answers", minimum=0.5, failure_limit=1)


def answered(value: float | None, failures: int = 0) -> dict[str, Answers]:
    return {"answers": Answers(failures, Measurement(START, value))}


def measured(value: float | None, minutes: int = 1) -> dict[str, Measurement]:
    return {"answers": Measurement(START + minutes * MINUTE, value)}


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
    also: Mapping[str, Any] = field(default_factory=dict)
    """What else was observed, by the fields of `Observed`."""
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
        "a first version without the approval that is required is not served:"
        " else a prefix made anew would be a way around it",
        plan(V1, approval_required=True),
        NOTHING,
        Phase.AWAITING_APPROVAL,
        "-",
        says=f"v1 waits for spec.rollout.approvedDigest: {V1.digest}",
    ),
    Row(
        "the approval is in the spec, so a cluster rebuilt from Git has not forgotten it",
        plan(V1, approval_required=True, approved_digest=V1.digest),
        NOTHING,
        Phase.STABLE,
        "v1",
        (Reason.FIRST_VERSION,),
    ),
    Row(
        "a first version under canary is served to everyone, and not stable yet",
        plan(V1, first_version="Canary"),
        NOTHING,
        Phase.PROGRESSING,
        "v1",
        (Reason.CANARY_STARTED,),
        says="v1 at 100%: ",
    ),
    Row(
        "a first version under canary is stable with a pass",
        plan(V1, first_version="Canary"),
        FIRST,
        Phase.STABLE,
        "v1",
        (Reason.FIRST_VERSION,),
        observed=GOOD,
    ),
    Row(
        "a first version that fails stays, since there is nothing to go back to, and says so",
        plan(V1, first_version="Canary"),
        FIRST,
        Phase.DEGRADED,
        "v1",
        observed=BAD,
        says="there is no version to go back to: publish a better one",
    ),
    Row(
        "a first version under canary that shows nothing until the deadline calls for a person",
        plan(V1, first_version="Canary", progress_deadline=60 * MINUTE),
        FIRST,
        Phase.DEGRADED,
        "v1",
        minutes=60,
        says="not proved within 60 min",
    ),
    Row(
        "suspended, a first version under canary stays where it is",
        plan(V1, first_version="Canary", suspend=True),
        FIRST,
        Phase.PAUSED,
        "v1",
        observed=GOOD,
    ),
    Row(
        "a better first version takes the place of one that has not proved itself",
        plan(V2, first_version="Canary"),
        FIRST,
        Phase.PROGRESSING,
        "v2",
        (Reason.CANARY_STARTED,),
    ),
    Row(
        "content that does not verify leaves a first version under canary where it is",
        plan(None, first_version="Canary"),
        FIRST,
        Phase.DEGRADED,
        "v1",
        observed=BAD,
    ),
    # --- a status that was lost ----------------------------------------------------------------
    Row(
        "a lost status is rebuilt from what is kept, and what is stable stays so without a canary",
        plan(V1),
        NOTHING,
        Phase.STABLE,
        "v1",
        (Reason.RECOVERED,),
        also={"recovered": (V1, 7)},
    ),
    Row(
        "a canary whose status was lost begins anew: nothing is promoted by forgetting",
        plan(V2),
        NOTHING,
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.RECOVERED, Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
        also={"recovered": (V1, 7)},
    ),
    Row(
        "a first version of which only the revision was written is a first version",
        plan(V1),
        NOTHING,
        Phase.STABLE,
        "v1",
        (Reason.FIRST_VERSION,),
        also={"recovered": (V1, 1)},
    ),
    Row(
        "what the status says is not doubted for what else is kept",
        plan(V1),
        serving(V1),
        Phase.STABLE,
        "v1",
        also={"recovered": (V2, 7)},
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
        says="on claude-opus-5 no eligible request yet",
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
        says="on claude-opus-5 no eligible request yet",
    ),
    Row(
        "too little data waits",
        plan(V2),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=FEW,
        minutes=10_000,
        says="15 more eligible requests until minRequests",
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
        trying(V2, 10, evidence={OPUS: Counts(hits=95)}),
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
        says="on claude-haiku-4-5 3 of 3 eligible requests read the cache (100%): 17 more",
    ),
    Row(
        "evidence about a model that was not declared does not count",
        plan(V2, models=(OPUS,)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed={HAIKU: Counts(hits=100), "other": Counts(misses=100)},
        says="no eligible request yet",
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
        "a step that is edited to less takes from the candidate what it has more",
        canary_of(V2, weight(5), weight(20), weight(90)),
        trying(V2, 50, step=0),
        Phase.PROGRESSING,
        "v1, v2 at 5%",
        (Reason.WEIGHT_LOWERED,),
    ),
    Row(
        "steps that are taken away leave the candidate in the last one",
        canary_of(V2, weight(10)),
        trying(V2, 50, step=1),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_LOWERED,),
    ),
    Row(
        "a step that is edited to more applies with the next pass, not before",
        canary_of(V2, weight(20), weight(50)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
    ),
    Row(
        "a share that somebody wrote into the status is cut to what the step declares",
        plan(V2),
        trying(V2, 100),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_LOWERED,),
    ),
    Row(
        "a weight may ask for more than the others",
        canary_of(V2, SetWeight(Weight.percent(10), Analysis(min_requests=500)), weight(50)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=GOOD,
    ),
    # --- models without traffic ----------------------------------------------------------------
    Row(
        "by default a model without traffic is named and waited for",
        plan(V2, unused_models="Wait"),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=GOOD,
        says=HAIKU,
    ),
    # --- warming -------------------------------------------------------------------------------
    Row(
        "a candidate is warmed before it gets traffic",
        plan(V2),
        serving(V1),
        Phase.WARMING,
        "v1, v2 at 0%",
        (Reason.CANARY_STARTED,),
        also={"warming": (f"prod on {OPUS}",)},
        says=f"its cache is being warmed: prod on {OPUS}",
    ),
    Row(
        "a candidate that is warm begins",
        plan(V2),
        trying(V2, 0, phase=Phase.WARMING),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_RAISED,),
        minutes=3,
    ),
    Row(
        "a warmer that does not come is not waited for any longer",
        plan(V2),
        trying(V2, 0, phase=Phase.WARMING),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_RAISED,),
        also={"warming": (f"prod on {OPUS}",)},
        minutes=10,
    ),
    Row(
        "suspended before it was warm, a candidate begins at its first step afterwards",
        plan(V2),
        trying(V2, 0, phase=Phase.PAUSED),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        (Reason.WEIGHT_RAISED,),
    ),
    Row(
        "a candidate with traffic waits for no warmer",
        plan(V2),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
        also={"warming": (f"prod on {OPUS}",)},
    ),
    # --- evidence that does not come -----------------------------------------------------------
    Row(
        "a source that is away pauses, whatever the evidence said",
        plan(V2),
        trying(V2, 10, evidence=GOOD),
        Phase.PAUSED,
        "v1, v2 at 10%",
        also={"outage": "Prometheus does not answer"},
        minutes=10_000,
        says="nothing is judged: Prometheus does not answer",
    ),
    Row(
        "a source that is away stops the start, too",
        plan(V2),
        serving(V1),
        Phase.PAUSED,
        "v1, v2 at 0%",
        (Reason.CANARY_STARTED,),
        also={"outage": "Prometheus does not answer"},
    ),
    Row(
        "silence pauses where the author says so",
        plan(V2, no_data="Pause"),
        trying(V2, 10),
        Phase.PAUSED,
        "v1, v2 at 10%",
        minutes=10,
        says="nothing was counted for 10 min",
    ),
    Row(
        "evidence ends such a pause",
        plan(V2, no_data="Pause"),
        trying(V2, 10, phase=Phase.PAUSED, clock_stopped_at=START + 10 * MINUTE),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=FEW,
        minutes=30,
    ),
    Row(
        "silence takes back where the author says so",
        plan(V2, no_data="RollBack"),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.NO_DATA,),
        minutes=10,
    ),
    Row(
        "silence after a pass is the night, and takes nothing back",
        plan(V2, no_data="RollBack", approval_required=True),
        trying(V2, 50, step=1, evidence=GOOD),
        Phase.AWAITING_APPROVAL,
        "v1, v2 at 50%",
        minutes=600,
    ),
    # --- the deadline --------------------------------------------------------------------------
    Row(
        "at the deadline a candidate without a verdict is held, and a person called",
        plan(V2, progress_deadline=60 * MINUTE),
        trying(V2, 10),
        Phase.DEGRADED,
        "v1, v2 at 10%",
        (Reason.PROGRESS_DEADLINE_EXCEEDED,),
        observed=FEW,
        minutes=60,
        says="no verdict within 60 min",
    ),
    Row(
        "held, it goes on with no verdict of its own",
        plan(V2, progress_deadline=60 * MINUTE),
        HELD,
        Phase.DEGRADED,
        "v1, v2 at 10%",
        observed=GOOD,
        minutes=90,
    ),
    Row(
        "held, it still goes back",
        plan(V2, progress_deadline=60 * MINUTE),
        HELD,
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_FLOOR,),
        observed=BAD,
        minutes=90,
    ),
    Row(
        "a longer deadline lets it go on",
        plan(V2, progress_deadline=120 * MINUTE),
        HELD,
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
        minutes=90,
    ),
    Row(
        "a higher retry gives it the time anew",
        plan(V2, progress_deadline=60 * MINUTE, retry=1),
        HELD,
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        minutes=90,
    ),
    Row(
        "at the deadline a candidate goes back where the author says so",
        plan(V2, progress_deadline=60 * MINUTE, on_deadline="RollBack"),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.PROGRESS_DEADLINE_EXCEEDED,),
        minutes=60,
    ),
    Row(
        "evidence that is in by the deadline, and looked at after it, carries",
        plan(V2, progress_deadline=60 * MINUTE),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
        minutes=61,
    ),
    Row(
        "waiting for an approval takes nothing from the deadline",
        plan(V2, progress_deadline=60 * MINUTE, approval_required=True),
        trying(V2, 50, step=1, evidence=GOOD),
        Phase.AWAITING_APPROVAL,
        "v1, v2 at 50%",
        minutes=10_000,
    ),
    Row(
        "suspended, the deadline's clock stands",
        plan(V2, progress_deadline=60 * MINUTE, suspend=True),
        trying(V2, 10),
        Phase.PAUSED,
        "v1, v2 at 10%",
        minutes=10_000,
    ),
    Row(
        "a clock that was put back prolongs no pause by more than itself",
        canary_of(V2, weight(10), pause(5), weight(50)),
        trying(V2, 10, step=1, step_started_at=START + 60 * MINUTE),
        Phase.PAUSED,
        "v1, v2 at 10%",
        minutes=0,
    ),
    # --- the author's queries ------------------------------------------------------------------
    Row(
        "a query without an answer holds the candidate",
        plan(V2, queries=(ASK,)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        observed=GOOD,
        says="answers",
    ),
    Row(
        "a query that holds lets it go on",
        plan(V2, queries=(ASK,)),
        trying(V2, 10),
        Phase.PROGRESSING,
        "v1, v2 at 50%",
        (Reason.WEIGHT_RAISED,),
        observed=GOOD,
        also={"measurements": measured(0.9)},
    ),
    Row(
        "answers outside the limits take it back, once they are more than are allowed",
        plan(V2, queries=(ASK,)),
        trying(V2, 10, answers=answered(0.1, failures=1)),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.QUERY_FAILED,),
        also={"measurements": measured(0.2)},
    ),
    Row(
        "an answer is counted once, however often it is looked at",
        plan(V2, queries=(ASK,)),
        trying(V2, 10, answers=answered(0.1, failures=1)),
        Phase.PROGRESSING,
        "v1, v2 at 10%",
        also={"measurements": measured(0.1, minutes=0)},
    ),
    # --- compared with stable ------------------------------------------------------------------
    Row(
        "more errors than stable take it back",
        plan(V2),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.ERRORS_ABOVE_STABLE,),
        observed={OPUS: Counts(hits=100, answers=100, errors=100)},
        also={"stable": {OPUS: Counts(hits=900, answers=900, errors=5)}},
    ),
    Row(
        "a hit rate far below stable's takes it back",
        plan(V2, min_hit_rate=0.2, max_hit_rate_drop=0.05),
        trying(V2, 10),
        Phase.ROLLED_BACK,
        "v1",
        (Reason.HIT_RATE_BELOW_STABLE,),
        observed={OPUS: Counts(hits=60, misses=40)},
        also={"stable": {OPUS: Counts(hits=990, misses=10)}},
    ),
    Row(
        "answers that cost more take it back where that is judged",
        plan(V2, max_cost_increase=0.2),
        COMPARED,
        Phase.ROLLED_BACK,
        "v1",
        (Reason.COST_ABOVE_STABLE,),
    ),
    Row(
        "answers that take longer to begin take it back where that is judged",
        plan(V2, max_latency_increase=0.2),
        COMPARED,
        Phase.ROLLED_BACK,
        "v1",
        (Reason.LATENCY_ABOVE_STABLE,),
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
        says="no eligible request yet",
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
        says="v2 went back: on claude-opus-5 10 of 50 eligible requests read the cache (20%);"
        " that is below the floor of 90%, with 99% confidence",
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
    Row(
        "bytes that went back long ago are not forgotten either",
        plan(V2),
        serving(V1, history=(Entry(V2, Reason.NO_DATA, "v2 went back: silence", START, retry=0),)),
        Phase.ROLLED_BACK,
        "v1",
        says="v2 went back: silence",
    ),
    # --- going back to an older version --------------------------------------------------------
    Row(
        "an older version is a version like any other",
        plan(V1),
        AFTER_V1,
        Phase.PROGRESSING,
        "v2, v1 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
    ),
    Row(
        "inside the rollback window an older version comes back at once",
        plan(V1, rollback_window=1),
        AFTER_V1,
        Phase.STABLE,
        "v1",
        (Reason.RETURNED,),
    ),
    Row(
        "and in the middle of a canary, too",
        plan(V1, rollback_window=1),
        trying(V3, 10, stable=V2, history=AFTER_V1.history),
        Phase.STABLE,
        "v1",
        (Reason.SUPERSEDED, Reason.RETURNED),
    ),
    Row(
        "not without the approval where one is required",
        plan(V1, rollback_window=1, approval_required=True, approved_digest=V2.digest),
        AFTER_V1,
        Phase.AWAITING_APPROVAL,
        "v2",
    ),
    Row(
        "what was never stable has no window",
        plan(V3, rollback_window=5),
        AFTER_V1,
        Phase.PROGRESSING,
        "v2, v3 at 10%",
        (Reason.CANARY_STARTED, Reason.WEIGHT_RAISED),
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
        says="15 more eligible requests until minRequests",
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
        "content that does not verify leaves the candidate no more than its step declares",
        plan(None),
        trying(V2, 50),
        Phase.DEGRADED,
        "v1, v2 at 10%",
        (Reason.WEIGHT_LOWERED,),
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
    decision = decide(row.plan, row.state, seen(row.observed, **row.also), now)

    assert decision.state.phase == row.phase
    assert route(decision.state) == row.route
    assert tuple(event.reason for event in decision.events) == row.reasons
    assert row.says in decision.state.message
    assert decision.state.history == (*row.state.history, *decision.events)
    assert (decision.state.epoch > row.state.epoch) == (row.route != route(row.state))

    lasting = {"outage", "warming", "used"} & set(row.also)
    repeated = decide(
        row.plan, decision.state, seen(**{name: row.also[name] for name in lasting}), now
    )
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
    now = START + 3 * MINUTE
    paused = decide(given, trying(V2, 10, step=1), seen(), now).state
    assert look_again(given, paused, now) == timedelta(minutes=2)
    now = START + 5 * MINUTE
    over = decide(given, trying(V2, 10, step=1), seen(), now).state
    assert look_again(given, over, now) is None


def test_a_pause_is_counted_from_when_it_began() -> None:
    """Two pauses in a row last as long as both; time spent at a weight before is not part of it."""
    given = canary_of(V2, pause(5), pause(5), weight(10))
    first = decide(given, serving(V1), seen(), START)
    now = START + 7 * MINUTE
    second = decide(given, first.state, seen(), now)
    assert second.state.phase is Phase.PAUSED
    assert look_again(given, second.state, now) == 5 * MINUTE
    third = decide(given, second.state, seen(), START + 12 * MINUTE)
    assert route(third.state) == "v1, v2 at 10%"


def test_the_deadline_and_silence_say_when_to_look_again() -> None:
    """Whichever is first; while the clock stands, neither."""
    given = plan(V2, progress_deadline=60 * MINUTE)
    state = decide(given, trying(V2, 10), seen(), START).state
    assert look_again(given, state, START) == 60 * MINUTE
    given = plan(V2, progress_deadline=60 * MINUTE, no_data="Pause")
    assert look_again(given, state, START) == 10 * MINUTE
    suspended = replace(given, suspend=True)
    paused = decide(suspended, state, seen(), START).state
    assert look_again(suspended, paused, START) is None


def test_suspend_loses_no_time_from_the_deadline() -> None:
    """Half an hour before, two hours suspended, and half an hour is left."""
    given = plan(V2, progress_deadline=60 * MINUTE)
    state = decide(replace(given, suspend=True), trying(V2, 10), seen(), START + 30 * MINUTE).state
    resumed = decide(given, state, seen(), START + 150 * MINUTE).state
    assert resumed.phase is Phase.PROGRESSING
    assert look_again(given, resumed, START + 150 * MINUTE) == 30 * MINUTE


def test_each_weight_is_judged_on_its_own_requests() -> None:
    """What was counted at 10 % does not carry the candidate from 50 %."""
    raised = decide(plan(V2), trying(V2, 10), seen(GOOD), START).state
    assert raised.candidate is not None
    assert raised.candidate.evidence == {}
    waiting = decide(plan(V2), raised, seen(), START)
    assert route(waiting.state) == "v1, v2 at 50%"


def test_the_history_says_on_what_grounds() -> None:
    """A weight and a promotion name the counts that carried them."""
    raised = decide(plan(V2), trying(V2, 10), seen(GOOD), START)
    promoted = decide(plan(V2), raised.state, seen(GOOD), START + MINUTE)
    grounds = (
        "on claude-opus-5 99 of 100 eligible requests read the cache (99%): above the floor of"
        " 90%; claude-haiku-4-5 shows no eligible request and is ignored"
    )
    assert [entry.message for entry in promoted.state.history] == [
        f"50%: {grounds}",
        f"v2 is served to everyone: {grounds}",
    ]
    assert promoted.state.promoted_at == START + MINUTE


def test_the_history_is_bounded() -> None:
    """The newest entries stay, and everything is told all the same."""
    given = plan(V2, history_limit=1)
    decision = decide(given, serving(V1), seen(), START)
    assert [entry.reason for entry in decision.events] == [
        Reason.CANARY_STARTED,
        Reason.WEIGHT_RAISED,
    ]
    assert [entry.reason for entry in decision.state.history] == [Reason.WEIGHT_RAISED]
    assert decide(replace(given, history_limit=0), serving(V1), seen(), START).state.history == ()


def test_a_roll_back_is_remembered_with_its_retry() -> None:
    """What went back, why, when, and under which retry: the next decision needs it."""
    gone = decide(plan(V2, retry=3), trying(V2, 10), seen(BAD), START + MINUTE).state.rolled_back
    assert gone is not None
    assert (gone.revision, gone.retry, gone.at) == (V2, 3, START + MINUTE)


def test_the_whole_story_of_a_good_version() -> None:
    """Published, tried at each weight, approved, promoted."""
    given = plan(V2, steps=STEPS, approval_required=True)
    state = serving(V1)
    story = []
    for step in range(4):
        state = decide(given, state, seen(GOOD), START + step * MINUTE).state
        story.append((route(state), state.phase))
    approved = replace(given, approved_digest=V2.digest)
    state = decide(approved, state, seen(), START + 5 * MINUTE).state
    assert [*story, (route(state), state.phase)] == [
        ("v1, v2 at 10%", Phase.PROGRESSING),
        ("v1, v2 at 50%", Phase.PROGRESSING),
        ("v1, v2 at 50%", Phase.AWAITING_APPROVAL),
        ("v1, v2 at 50%", Phase.AWAITING_APPROVAL),
        ("v2", Phase.STABLE),
    ]


def test_the_old_stable_stays_for_those_who_are_on_it() -> None:
    """Until no conversation can have it warm: the cache's life, and the kubelets' lag."""
    promoted = decide(plan(V2), trying(V2, 50, step=1), seen(GOOD), START).state
    assert [item.revision for item in promoted.retained] == [V1]
    until = promoted.retained[0].until
    assert until == START + 5 * MINUTE + MOUNT_LAG
    assert look_again(plan(V2), promoted, START) == until - START

    gone = decide(plan(V2), promoted, seen(), until).state
    assert (gone.retained, gone.epoch) == ((), promoted.epoch + 1)
    used = seen(used={V1.digest: until - MINUTE})
    kept = decide(plan(V2), promoted, used, until).state
    assert kept.retained[0].until == until + 4 * MINUTE
    assert kept.epoch == promoted.epoch, "the route is the same"


def test_nothing_is_retained_for_ever() -> None:
    """A conversation that never pauses pays for one write after a day."""
    state = decide(plan(V2), trying(V2, 50, step=1), seen(GOOD), START).state
    now = START
    while state.retained:
        now = state.retained[0].until
        state = decide(plan(V2), state, seen(used={V1.digest: now}), now).state
    assert timedelta(hours=24) <= now - START < timedelta(hours=24, minutes=10)


def test_what_went_back_is_left_at_once() -> None:
    """A candidate that had a share, and a version that was gone back from, are not retained."""
    failed = decide(plan(V2), trying(V2, 10), seen(BAD), START).state
    assert failed.retained == ()
    assert failed.withdrawn == Withdrawn(failed.epoch, START)
    returned = decide(plan(V1, rollback_window=1), AFTER_V1, seen(), START).state
    assert returned.retained == ()
    assert returned.withdrawn == Withdrawn(returned.epoch, START)
    unseen = decide(plan(V1), trying(V2, 0), seen(), START).state
    assert unseen.withdrawn is None, "nobody had it"


def test_a_retained_version_that_is_tried_again_is_retained_no_longer() -> None:
    """It is offered: a revision has one part in a route."""
    state = decide(plan(V2), trying(V2, 50, step=1), seen(GOOD), START).state
    state = decide(plan(V1), state, seen(), START).state
    assert (route(state), state.retained) == ("v2, v1 at 10%", ())


def test_the_error_of_going_back_is_shared_by_all_weights() -> None:
    """What would take a candidate back in a plan of one weight may not in a plan of ten."""
    misses = {OPUS: Counts(misses=4)}
    short = canary_of(V2, weight(10), models=(OPUS,), max_error_rate_increase=None)
    long = canary_of(V2, *map(weight, range(10, 60)), models=(OPUS,), max_error_rate_increase=None)
    assert decide(short, trying(V2, 10), seen(misses), START).state.candidate is None
    assert decide(long, trying(V2, 10), seen(misses), START).state.candidate is not None
