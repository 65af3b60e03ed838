"""Which verbs a change takes, as the log has it: the same as the policy asks for."""

import json
import logging
import re
from typing import Any

import msgspec
import pytest

from headwater.webhook.changes import log, verbs
from headwater.webhook.review import GroupVersionKind, Request, User
from tests.integration.deployed import deployed

ZERO, ONE = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
DEFAULTS = {
    "strategy": "Canary",
    "firstVersion": "Immediate",
    "approval": "Automatic",
    "progressDeadline": "2h",
    "onDeadline": "Hold",
}
"""What the API server fills in as soon as anything stands in `rollout`."""
SPEC: dict[str, Any] = {
    "owner": {"team": "ai-platform"},
    "version": "v1",
    "digest": ZERO,
    "content": {"system": [{"text": "x"}]},
    "suspend": False,
    "retry": 0,
}
REQUIRED = {**SPEC, "rollout": {**DEFAULTS, "approval": "Required"}}


def with_rollout(before: dict[str, Any] = SPEC, **changes: Any) -> dict[str, Any]:
    return {**before, "rollout": {**DEFAULTS, **before.get("rollout", {}), **changes}}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a new prefix": ({}, SPEC, ["publish"]),
    "a new prefix that takes its time": ({}, with_rollout(strategy="Canary"), ["publish"]),
    "a new prefix with its approval": (
        {},
        with_rollout(approvedDigest=ZERO),
        ["publish", "approve"],
    ),
    "nothing": (SPEC, SPEC, []),
    "another version": (SPEC, {**SPEC, "version": "v2", "digest": ONE}, ["publish"]),
    "its owner": (SPEC, {**SPEC, "owner": {"team": "other"}}, ["publish"]),
    "a field that this release does not know": (SPEC, {**SPEC, "novelty": 1}, ["publish"]),
    "an approval": (SPEC, with_rollout(approvedDigest=ZERO), ["approve"]),
    "another approval": (
        with_rollout(approvedDigest=ZERO),
        with_rollout(approvedDigest=ONE),
        ["approve"],
    ),
    "an approval taken back": (with_rollout(approvedDigest=ZERO), with_rollout(), []),
    "no need for one any more": (REQUIRED, SPEC, ["approve", "steer"]),
    "a need for one": (SPEC, REQUIRED, ["steer"]),
    "defaults that are written down": (SPEC, with_rollout(), []),
    "a pause": (SPEC, {**SPEC, "suspend": True}, ["steer"]),
    "a retry": (SPEC, {**SPEC, "retry": 1}, ["steer"]),
    "a floor": (SPEC, with_rollout(analysis={"minHitRate": 0.5}), ["steer"]),
    "a version and its pause": (
        SPEC,
        {**SPEC, "version": "v2", "suspend": True},
        ["publish", "steer"],
    ),
    "what an earlier release took": ({**SPEC, "rollout": {"strategy": "Gone"}}, SPEC, []),
}


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=CHANGES)
def test_the_verbs_of_a_change(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    """What is published, that it is, and when and how."""
    assert verbs(before, after) == expected


def test_the_policy_counts_the_same_fields() -> None:
    """A field that steers in one of the two and publishes in the other would be told wrongly."""
    (policy,) = (
        policy
        for policy in deployed("ValidatingAdmissionPolicy")
        if policy["metadata"]["name"] == "headwater-ownership"
    )
    said = {item["name"]: item["expression"] for item in policy["spec"]["variables"]}
    for verb, name in (("publish", "publishes"), ("steer", "steers")):
        for field in re.findall(r"variables\.after\.\?(\w+)", said[name]):
            assert verbs(SPEC, {**SPEC, field: "changed"}) == [verb], field


def asked(before: dict[str, Any], after: dict[str, Any], *, dry_run: bool = False) -> Request:
    return Request(
        uid="7d1c",
        kind=GroupVersionKind("headwater.dev", "v1alpha1", "PromptPrefix"),
        operation="UPDATE",
        namespace="ai-platform",
        user_info=User("ari"),
        object=msgspec.Raw(json.dumps(after).encode()),
        old_object=msgspec.Raw(json.dumps(before).encode()),
        dry_run=dry_run,
    )


def prefix(spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "org-core"}, "spec": spec}


def test_a_line_says_who_asked_for_what(caplog: pytest.LogCaptureFixture) -> None:
    """User, verbs, version, digest, the approval, the request; nothing of the content."""
    before, after = prefix(SPEC), prefix(with_rollout(approvedDigest=ZERO))
    with caplog.at_level(logging.INFO, "headwater.webhook.changes"):
        log(asked(before, after), before, after, "")
        log(asked(before, after), before, after, "DigestMismatch: no")
    admitted, refused = caplog.records
    assert admitted.message == "a prefix was admitted"
    said = {name: getattr(admitted, name) for name in ("prefix", "verbs", "user", "request")}
    assert said == {
        "prefix": "ai-platform/org-core",
        "verbs": ["approve"],
        "user": "ari",
        "request": "7d1c",
    }
    assert [getattr(admitted, name) for name in ("version", "digest", "approved_digest")] == [
        *("v1", ZERO, ZERO)
    ]
    assert refused.message == "a prefix was refused"
    assert getattr(refused, "why", "") == "DigestMismatch: no"


def test_what_changes_nothing_has_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """A dry run, and an edit that no verb is needed for."""
    before, after = prefix(SPEC), prefix({**SPEC, "version": "v2"})
    with caplog.at_level(logging.INFO, "headwater.webhook.changes"):
        log(asked(before, after, dry_run=True), before, after, "")
        log(asked(before, before), before, before, "")
    assert caplog.records == []
