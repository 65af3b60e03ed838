"""`headwater why`: the sentences, and what each state makes of them."""

import copy
from typing import Any

import pytest

from headwater.cli.why import paragraphs, reasons
from tests.unit.cli.conftest import Printed
from tests.unit.cli.prefixes import DIGESTS, NOW, PROGRESSING, ROLLED_BACK, SETTLED, UNSEEN, body

A_CANARY = """\
help-desk is Progressing: v2 at 10%: on claude-haiku-4-5 no eligible request yet

v2 has 10% of new conversations (step 1 of 4: 10%, begun 20m ago); everyone else
has v1.

What the evidence says
  claude-opus-4-8: 148 of 150 eligible requests read the cache (98.67%): enough
  evidence that it is above the floor of 90% (e-value against it 0.0078 of 800,
  for it 2,760 of 20)
  claude-opus-4-8: 1 of 181 requests failed (0.5525%): no evidence that it is
  more than 2 points above stable's, which is at most 1.2% (e-value against it
  0.0047 of 1,600)
  claude-haiku-4-5: no eligible request yet

It goes on when
  each model has at least 50 eligible requests
  each model is above the floor of 90%, with 95% confidence (an e-value of 20)
  the query p95 answers at most 0.5

It goes back when
  any model is below the floor of 90%, with 99% confidence (an e-value of 800)
  any model is more than 2 points above stable's, with 99% confidence (an
  e-value of 1,600)
  3 answers of the query p95 fail in one step
  it is declared no longer: `git revert`, or `headwater abort help-desk`

Not as it should be
  Cacheable is Unknown (NearMinimum): too near the minimum for an estimate:
  claude-haiku-4-5 has about 2,470 tokens of at least 4,096

The last decisions
  20m ago, v2, WeightRaised: 10%: the first step
  20m ago, v2, CanaryStarted: v2 is tried
  3d ago, v1, FirstVersion: v1 is served to everyone: the first version (asked
  for by kubectl)
"""
WENT_BACK = """\
help-desk is RolledBack: v2 went back

Everyone has v1.
v2 went back 10m ago: on claude-opus-4-8 3 of 60 eligible requests read the
cache (5%); that is below the floor of 90%, with 99% confidence. It is not tried
again until spec.retry is above 0: `headwater retry help-desk`, or publish a
better version.

The last decisions
  10m ago, v2, HitRateBelowFloor: on claude-opus-4-8 3 of 60 eligible requests
  read the cache (5%); that is below the floor of 90%, with 99% confidence
  20m ago, v2, WeightRaised: 10%: the first step
  20m ago, v2, CanaryStarted: v2 is tried
  3d ago, v1, FirstVersion: v1 is served to everyone: the first version (asked
  for by kubectl)
"""
NOTHING = """\
help-desk is Stable: v1 is stable

Everyone has v1.

The last decisions
  3d ago, v1, FirstVersion: v1 is served to everyone: the first version (asked
  for by kubectl)
"""
UNKNOWN = """\
help-desk is Pending: the controller has not looked at it yet: does it run?
"""


def test_a_canary(printed: Printed) -> None:
    """The numbers, what would let it go on or back, and what happened."""
    assert printed(paragraphs(reasons(PROGRESSING, NOW))) == A_CANARY


def test_a_version_that_went_back(printed: Printed) -> None:
    """Why, and what gives it another chance."""
    assert printed(paragraphs(reasons(ROLLED_BACK, NOW))) == WENT_BACK


def test_there_is_little_to_say(printed: Printed) -> None:
    """Then little is said."""
    assert printed(paragraphs(reasons(SETTLED, NOW))) == NOTHING
    assert printed(paragraphs(reasons(UNSEEN, NOW))) == UNKNOWN


def canary(spec: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    changed = copy.deepcopy(PROGRESSING)
    changed["spec"].update(spec)
    changed["status"]["candidate"].update(candidate)
    return changed


APPROVAL = f"spec.rollout.approvedDigest names {DIGESTS['v2']}: `headwater approve help-desk`"
APPROVED = {"rollout": {**PROGRESSING["spec"]["rollout"], "approvedDigest": DIGESTS["v2"]}}
ON_DEADLINE = {"rollout": {**PROGRESSING["spec"]["rollout"], "onDeadline": "RollBack"}}


def condition(kind: str, status: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 3,
        "lastTransitionTime": "2026-11-21T11:00:00Z",
        "reason": "Reason",
        "message": message,
    }


FIRST_VERSION = body(
    status={
        "phase": "AwaitingApproval",
        "message": "v2 waits",
        "conditions": [
            condition("Ready", "False", "v2 waits"),
            condition("Stalled", "False", "v2 waits"),
            condition("DigestVerified", "False", "it hashes otherwise"),
            condition("Cacheable", "True", "all of them"),
            condition("Reconciling", "True", "on its way"),
        ],
    }
)
STATES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "in a pause": (
        canary({}, step=1, stepStartedAt="2026-11-21T11:55:00Z"),
        ["step 2 of 4: wait 10m", "the pause is over, in 5m"],
        [APPROVAL],
    ),
    "in a pause that is over": (canary({}, step=1), ["the pause was long enough"], []),
    "in a pause for the approval": (
        canary({}, step=3, weight=50),
        ["50% of new conversations (step 4 of 4: wait for the approval", APPROVAL],
        [],
    ),
    "in such a pause, approved": (canary(APPROVED, step=3, weight=50), [], [APPROVAL]),
    "behind the last step": (canary({}, step=4, weight=50), ["behind the last step", APPROVAL], []),
    "before the last weight": (canary({}, step=0), [], [APPROVAL]),
    "at the last weight": (canary({}, step=2, weight=50), [APPROVAL], []),
    "before the first version": (
        FIRST_VERSION,
        [APPROVAL, "DigestVerified is False (Reason): it hashes otherwise"],
        ["Ready is", "Stalled is", "Cacheable is", "Reconciling is", "Everyone has"],
    ),
    "suspended": (
        canary({"suspend": True}),
        ["it is no longer suspended: `headwater resume help-desk`"],
        [],
    ),
    "with a deadline that takes it back": (
        canary(ON_DEADLINE),
        ["there is no verdict for 100m more"],
        [],
    ),
    "whose clock stands": (
        canary(ON_DEADLINE, clockStoppedAt="2026-11-21T11:50:00Z"),
        [],
        ["there is no verdict"],
    ),
}


@pytest.mark.parametrize(("prefix", "said", "unsaid"), STATES.values(), ids=STATES)
def test_what_comes_next(
    printed: Printed, prefix: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    """What is asked for before the next step, and nothing that is not."""
    text = printed(paragraphs(reasons(prefix, NOW)), 1000)
    assert all(sentence in text for sentence in said), text
    assert not any(sentence in text for sentence in unsaid), text
