"""What `kubectl wait`, kstatus and people read of each phase, and when a condition is news."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headwater.contract.digest import Digest
from headwater.contract.route import Revision
from headwater.controller.conditions import Finding, findings, stamp
from headwater.controller.store import Objections, Resolution
from headwater.providers.models import lookup
from headwater.providers.tokens import ESTIMATE_MARGIN
from headwater.resources import PromptPrefix
from headwater.resources.schema import Condition
from headwater.rollout.state import Phase, State
from tests.unit.controller.bodies import TWO, prompt_prefix
from tests.unit.rollout.stories import START, V1, serving, trying

MODEL, OTHER = "claude-opus-4-8", "claude-haiku-4-5"
FACTS = lookup(MODEL)
assert FACTS is not None
MINIMUM = FACTS.min_cacheable_tokens
DECLARED = Revision("v2", Digest.of(TWO))
GOOD = Resolution(digest=DECLARED.digest, tokens={MODEL: 10 * MINIMUM, OTHER: 50_000})
MISMATCH = Resolution(reason="DigestMismatch", message="hashes otherwise", tokens={MODEL: 9_000})
MISSING = Resolution(reason="ContentMissing", message="no such ConfigMap", missing=True)


def conditions(
    state: State = State(),  # noqa: B008 - immutable
    resolution: Resolution = GOOD,
    served: int = 3,
    unpublished: dict[str, str] | None = None,
    counted: dict[str, int] | None = None,
    **spec: Any,
) -> dict[str, Finding]:
    found = findings(
        PromptPrefix.model_validate(prompt_prefix(**spec)),
        resolution,
        state,
        served=served,
        unpublished=unpublished or {},
        counted=counted or {},
    )
    assert len({finding.type for finding in found}) == len(found)
    return {finding.type: finding for finding in found}


def kstatus(found: dict[str, Finding]) -> str:
    """What kstatus makes of it: sigs.k8s.io/cli-utils, pkg/kstatus/status/generic.go."""
    if found["Reconciling"].status == "True":
        return "InProgress"
    if found["Stalled"].status == "True":
        return "Failed"
    return "Current" if found["Ready"].status == "True" else "InProgress"


@pytest.mark.parametrize(
    ("phase", "suspended", "means"),
    [
        (Phase.PENDING, False, "InProgress"),
        (Phase.PROGRESSING, False, "InProgress"),
        (Phase.PAUSED, False, "InProgress"),
        (Phase.PAUSED, True, "InProgress"),
        (Phase.AWAITING_APPROVAL, False, "InProgress"),
        (Phase.PROMOTING, False, "InProgress"),
        (Phase.STABLE, False, "Current"),
        (Phase.STABLE, True, "Current"),
        (Phase.ROLLED_BACK, False, "Failed"),
        (Phase.ROLLED_BACK, True, "Failed"),
        (Phase.DEGRADED, False, "Failed"),
    ],
)
def test_what_a_phase_means(phase: Phase, means: str, *, suspended: bool) -> None:
    """Ready is True in one phase alone, and never more than one of the three is True."""
    found = conditions(State(phase=phase, message="a sentence"), suspend=suspended)
    three = [found[name] for name in ("Ready", "Reconciling", "Stalled")]
    assert kstatus(found) == means
    assert [one.status for one in three].count("True") <= 1
    assert (found["Ready"].status == "True") == (phase is Phase.STABLE)
    assert {(one.reason, one.message) for one in three} == {(phase.value, "a sentence")}


def test_a_suspended_rollout_is_not_worked_on() -> None:
    """Nothing will happen by itself, and nothing is wrong."""
    found = conditions(State(phase=Phase.PAUSED), suspend=True)
    assert [found[name].status for name in ("Ready", "Reconciling", "Stalled")] == ["False"] * 3


@pytest.mark.parametrize(
    ("resolution", "means"),
    [(MISMATCH, "Failed"), (MISSING, "InProgress")],
)
def test_content_that_does_not_verify(resolution: Resolution, means: str) -> None:
    """A reference may yet appear; anything else waits for a commit. The reason is said twice."""
    found = conditions(serving(V1, phase=Phase.DEGRADED), resolution)
    assert kstatus(found) == means
    for name in ("Ready", "DigestVerified"):
        finding = found[name]
        assert finding.status == "False"
        assert (finding.reason, finding.message) == (resolution.reason, resolution.message)


def test_a_namespace_that_cannot_have_the_bundle_holds_up_nobody_else() -> None:
    """The contract is served, so it is ready; who lacks it, and why, is a condition of its own."""
    lacking = {"b": "quota", "a": "denied by a policy"}
    found = conditions(serving(DECLARED, phase=Phase.STABLE), served=10, unpublished=lacking)
    assert kstatus(found) == "Current"
    told = found["ConsumersServed"]
    assert (told.status, told.reason) == ("False", "BundleNotWritten")
    assert told.message == (
        "10 of 12 namespaces have the bundle; a: denied by a policy, and 1 more lack it"
    )


def test_what_nobody_has_is_not_ready() -> None:
    """Nor is it where nobody has it yet, as before its first publication."""
    found = conditions(serving(DECLARED, phase=Phase.STABLE), served=0, unpublished={"a": "quota"})
    assert kstatus(found) == "InProgress"
    message = "0 of 1 namespaces have the bundle; a: quota"
    assert (found["Ready"].reason, found["Ready"].message) == ("BundleNotWritten", message)
    assert found["ConsumersServed"].message == message


def test_everybody_is_served() -> None:
    """Also where it is for nobody."""
    for served in (0, 3):
        told = conditions(served=served)["ConsumersServed"]
        assert (told.status, told.reason) == ("True", "AllServed")
        assert told.message == f"{served} of {served} namespaces have the bundle"


def test_verified_content_names_its_digest() -> None:
    """Whoever reads it can compare."""
    finding = conditions()["DigestVerified"]
    assert (finding.status, finding.reason) == ("True", "DigestMatches")
    assert DECLARED.digest in finding.message


@pytest.mark.parametrize(
    ("objections", "status", "reason", "message"),
    [
        (None, "Unknown", "ContentNotResolved", "lint has not seen it"),
        (Objections(), "True", "NothingFound", "no errors and no warnings"),
        (Objections(0, 2, "[crlf] …"), "False", "WarningsFound", "0 errors, 2 warnings: [crlf] …"),
        (Objections(1, 0, "[today] …"), "False", "ErrorsFound", "1 errors, 0 warnings: [today] …"),
    ],
)
def test_what_lint_says_is_no_failure(
    objections: Objections | None, status: str, reason: str, message: str
) -> None:
    """It stands beside Ready, which says whether the version is served."""
    serving_it = serving(DECLARED, phase=Phase.STABLE)
    found = conditions(serving_it, replace(GOOD, objections=objections))
    assert (found["Linted"].status, found["Linted"].reason) == (status, reason)
    assert message in found["Linted"].message
    assert kstatus(found) == "Current"


LOW, HIGH = int(MINIMUM * (1 - ESTIMATE_MARGIN)), int(MINIMUM * (1 + ESTIMATE_MARGIN))


@pytest.mark.parametrize(
    ("estimate", "counted", "status", "reason"),
    [
        (HIGH, None, "True", "AboveMinimum"),
        (HIGH - 1, None, "Unknown", "NearMinimum"),
        (LOW, None, "Unknown", "NearMinimum"),
        (LOW - 1, None, "False", "BelowMinimum"),
        (LOW - 1, MINIMUM, "True", "AboveMinimum"),
        (HIGH, MINIMUM - 1, "False", "BelowMinimum"),
    ],
)
def test_cacheable(estimate: int, counted: int | None, status: str, reason: str) -> None:
    """An estimate near the minimum is no answer; the provider's own count is one."""
    finding = conditions(
        resolution=replace(GOOD, tokens={MODEL: estimate}),
        counted={} if counted is None else {MODEL: counted},
    )["Cacheable"]
    assert (finding.status, finding.reason) == (status, reason)


def test_a_contract_below_the_minimum_names_model_tokens_and_minimum() -> None:
    """Of every model that would silently not cache it, and of no other."""
    tokens = {MODEL: 10 * MINIMUM, OTHER: 100}
    found = conditions(resolution=replace(GOOD, tokens=tokens), models=[MODEL, OTHER])
    message = found["Cacheable"].message
    assert "claude-haiku-4-5 has about 100 tokens of at least 4,096" in message
    assert MODEL not in message
    exact = conditions(resolution=replace(GOOD, tokens=tokens), counted={MODEL: 12})
    assert f"{MODEL} has 12 tokens of at least {MINIMUM:,}" in exact["Cacheable"].message


def test_cacheable_where_something_is_not_known() -> None:
    """A model without facts, or content without tokens: not known is not False."""
    unknown = conditions(
        resolution=replace(GOOD, tokens={"claude-next": 9}), models=["claude-next"]
    )
    assert (unknown["Cacheable"].status, unknown["Cacheable"].reason) == ("Unknown", "UnknownModel")
    missing = conditions(resolution=MISSING)["Cacheable"]
    assert (missing.status, missing.reason) == ("Unknown", "ContentNotResolved")


@pytest.mark.parametrize(
    ("rollout", "state", "status", "reason"),
    [
        ({}, trying(DECLARED, 10), None, None),
        ({"approval": "Required"}, trying(DECLARED, 10), "False", "NotApproved"),
        ({"approval": "Required"}, serving(DECLARED), "True", "NothingToApprove"),
        (
            {"approval": "Required", "approvedDigest": str(DECLARED.digest)},
            trying(DECLARED, 10),
            "True",
            "DigestApproved",
        ),
        ({"approvedDigest": str(DECLARED.digest)}, trying(DECLARED, 10), "True", "DigestApproved"),
        (
            {"approval": "Required", "approvedDigest": str(V1.digest)},
            trying(DECLARED, 10),
            "False",
            "OtherDigestApproved",
        ),
        (
            {"approval": "Required", "approvedDigest": str(V1.digest)},
            serving(DECLARED),
            "True",
            "NothingToApprove",
        ),
    ],
)
def test_approved(
    rollout: dict[str, str], state: State, status: str | None, reason: str | None
) -> None:
    """There only where somebody asked for an approval or gave one."""
    finding = conditions(state, rollout=rollout).get("Approved")
    assert (finding and finding.status, finding and finding.reason) == (status, reason)


def test_an_approval_of_other_bytes_names_both_digests() -> None:
    """So that the mistake can be seen."""
    rollout = {"approval": "Required", "approvedDigest": str(V1.digest)}
    message = conditions(trying(DECLARED, 10), rollout=rollout)["Approved"].message
    assert str(V1.digest) in message
    assert str(DECLARED.digest) in message


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    """A new reason or message alone is no transition."""
    later = START + timedelta(hours=1)
    before = [
        Condition(
            type=name, status="True", last_transition_time=START, reason="Before", message="before"
        )
        for name in ("Ready", "Stalled", "Gone")
    ]
    found = [
        Finding("Ready", "True", "Now", "now"),
        Finding("Stalled", "False", "Now", "now"),
        Finding("New", "True", "Now", "now"),
    ]
    stamped = stamp(found, before, generation=7, now=later)
    assert [(one.type, one.last_transition_time) for one in stamped] == [
        ("Ready", START),
        ("Stalled", later),
        ("New", later),
    ]
    assert {(one.observed_generation, one.reason) for one in stamped} == {(7, "Now")}
