"""Who is named for what stands in a prefix, whatever the API server or its clients left there."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.controller.authors import Authors, Who, attributed, authors_of, facts, told, who_set
from headwater.rollout.state import Decision, Entry, Reason, State
from tests.unit.rollout.stories import START, V1, V2, plan

Fields = dict[str, Any]

VERSION = ("spec", "version")
APPROVAL = ("spec", "rollout", "approvedDigest")
NINE, TEN = "2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z"


def entry(manager: Any, fields: Any, at: Any = NINE, **more: Any) -> dict[str, Any]:
    found = {"manager": manager, "operation": "Update", "apiVersion": "headwater.dev/v1alpha1"}
    return {**found, "time": at, "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


SPEC: Fields = {"f:spec": {".": {}, "f:version": {}, "f:content": {".": {}, "f:system": {}}}}
APPROVED: Fields = {"f:spec": {"f:rollout": {".": {}, "f:approvedDigest": {}}}}
STATUS: Fields = {"f:status": {"f:phase": {}, "f:published": {'k:{"version":"v1"}': {".": {}}}}}
LISTS: Fields = {"f:spec": {'k:{"name":"version"}': {}, 'v:"version"': {}, "i:0": {}, ".": {}}}
WHO: dict[str, tuple[Any, tuple[str, ...], Who | None]] = {
    "kubectl apply": (
        [entry("kubectl-client-side-apply", SPEC)],
        VERSION,
        Who("kubectl-client-side-apply", NINE),
    ),
    "Argo CD": (
        [entry("argocd-controller", SPEC, operation="Apply")],
        VERSION,
        Who("argocd-controller", NINE),
    ),
    "Flux": (
        [entry("kustomize-controller", SPEC, operation="Apply")],
        VERSION,
        Who("kustomize-controller", NINE),
    ),
    "another one approved": (
        [entry("argocd-controller", SPEC), entry("kubectl-edit", APPROVED, TEN)],
        APPROVAL,
        Who("kubectl-edit", TEN),
    ),
    "and has nothing to do with the version": (
        [entry("argocd-controller", SPEC), entry("kubectl-edit", APPROVED, TEN)],
        VERSION,
        Who("argocd-controller", NINE),
    ),
    "two applied the same: the latest": (
        [entry("flux", SPEC, TEN), entry("argocd-controller", SPEC, NINE)],
        VERSION,
        Who("flux", TEN),
    ),
    "a part of it": ([entry("a", SPEC)], ("spec", "content"), Who("a", NINE)),
    "the whole that it is a part of": ([entry("a", {"f:spec": {}})], VERSION, Who("a", NINE)),
    "the object itself": ([entry("a", {"f:metadata": {}, ".": {}})], VERSION, None),
    "another field": ([entry("a", {"f:spec": {"f:versions": {}}})], VERSION, None),
    "items of lists": ([entry("a", LISTS)], VERSION, None),
    "the status": ([entry("headwater", STATUS, subresource="status")], ("status", "phase"), None),
    "by way of a subresource": ([entry("a", SPEC, subresource="scale")], VERSION, None),
    "without a time": ([entry("a", SPEC, None)], VERSION, Who("a", "")),
    "a time goes before none": (
        [entry("a", SPEC, None), entry("b", SPEC)],
        VERSION,
        Who("b", NINE),
    ),
    "without a name": ([entry("", SPEC), entry(None, SPEC)], VERSION, None),
    "without fields": ([entry("a", None), entry("a", {}), {"manager": "a"}], VERSION, None),
    "no object at all": ([entry("a", {"f:spec": ["version"]}), "a", None], VERSION, None),
    "a leaf that is none": ([entry("a", {"f:spec": {"f:version": None}})], VERSION, None),
    "nobody": ([], VERSION, None),
    "stripped": (None, VERSION, None),
    "of another kind": ({"manager": "a"}, VERSION, None),
}


@pytest.mark.parametrize(("managed", "path", "who"), WHO.values(), ids=WHO)
def test_who_set_a_field(managed: Any, path: tuple[str, ...], who: Who | None) -> None:
    """The tool that owns it, the latest of several, and nobody rather than a guess."""
    assert who_set(managed, path) == who


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["f:spec", "f:version", ".", "manager", "time", "fieldsV1"]), inner
        )
    ),
)


@given(JSON)
def test_no_shape_is_an_error(managed: Any) -> None:
    """What cannot be read names nobody: telling never stands in the way of doing."""
    who = who_set(managed, VERSION)
    assert who is None or who.manager


def test_version_digest_and_content_are_one_publication() -> None:
    """Whoever set one of them last published it."""
    digest: Fields = {"f:spec": {"f:digest": {}}}
    managed = [entry("argocd-controller", SPEC), entry("kubectl-patch", digest, TEN)]
    assert authors_of({"managedFields": managed}) == Authors(Who("kubectl-patch", TEN), None)
    assert authors_of({}) == Authors()


AUTHORS = Authors(Who("argocd-controller", NINE), Who("kubectl-edit", TEN))
APPROVED_PLAN = replace(plan(V2), approval_required=True, approved_digest=V2.digest)
ASKED: list[tuple[Reason, dict[str, Any], str]] = [
    (Reason.CANARY_STARTED, {}, "argocd-controller"),
    (Reason.RELABELLED, {}, "argocd-controller"),
    (Reason.ABORTED, {}, "argocd-controller"),
    (Reason.SUPERSEDED, {}, "argocd-controller"),
    (Reason.FIRST_VERSION, {}, "kubectl-edit"),
    (Reason.FIRST_VERSION, {"approved_digest": None}, "argocd-controller"),
    (Reason.RETURNED, {"approved_digest": V1.digest}, "argocd-controller"),
    (Reason.PROMOTED, {}, "kubectl-edit"),
    (Reason.PROMOTED, {"approved_digest": None}, ""),
    (Reason.PROMOTED, {"approved_digest": V1.digest, "strategy": "Immediate"}, "argocd-controller"),
    (Reason.WEIGHT_RAISED, {}, ""),
    (Reason.HIT_RATE_BELOW_FLOOR, {}, ""),
    (Reason.PROGRESS_DEADLINE_EXCEEDED, {}, ""),
    (Reason.RECOVERED, {}, ""),
]


@pytest.mark.parametrize(("reason", "changes", "by"), ASKED)
def test_who_asked_for_what_happened(reason: Reason, changes: dict[str, Any], by: str) -> None:
    """A commit, an approval that names the bytes, or nobody: then evidence or time decided."""
    earlier = Entry(V1, Reason.FIRST_VERSION, "v1", START, by="somebody")
    news = Entry(V2, reason, "v2", START)
    decision = Decision(State(history=(earlier, news)), (news,))
    found = attributed(decision, replace(APPROVED_PLAN, **changes), AUTHORS)
    assert found.events == (replace(news, by=by),)
    assert found.state.history == (earlier, *found.events)


def test_nothing_happened() -> None:
    """Then nothing is changed."""
    state = State(history=(Entry(V1, Reason.FIRST_VERSION, "v1", START),))
    assert attributed(Decision(state), APPROVED_PLAN, AUTHORS) == Decision(state)


def test_the_sentence_names_who_is_known() -> None:
    """And does not speak of nobody."""
    assert told("v2 is tried", "flux") == "v2 is tried (asked for by flux)"
    assert told("v2 is tried", "") == told("v2 is tried", None) == "v2 is tried"


def test_a_record_says_what_is_known() -> None:
    """The approval only where it names these bytes."""
    assert facts(V2, APPROVED_PLAN, AUTHORS, "flux") == {
        "version": "v2",
        "digest": V2.digest,
        "by": "flux",
        "publishedBy": "argocd-controller",
        "publishedAt": NINE,
        "approvedBy": "kubectl-edit",
        "approvedAt": TEN,
    }
    assert facts(V1, APPROVED_PLAN, Authors(), "") == {"version": "v1", "digest": V1.digest}
