"""The split of conversations: stable, monotone in the weight, and as large as the weight says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.digest import Digest
from headwater.contract.route import (
    Revision,
    Route,
    Weight,
    credential_fingerprint,
    pick,
    salt_for,
)

STABLE = Revision("v1", Digest.of(b"one"))
CANDIDATE = Revision("v2", Digest.of(b"two"))
ROUTE = Route(
    namespace="platform",
    prefix="handbook",
    epoch=1,
    salt=salt_for("platform", "handbook", CANDIDATE.digest),
    stable=STABLE,
    candidate=CANDIDATE,
    models=("claude-opus-5",),
    ttl="5m",
)
FORMER = Revision("v0", Digest.of(b"zero"))
weights = st.integers(0, Weight.WHOLE).map(Weight)


@given(conversation=st.text(), first=weights, second=weights)
def test_more_weight_takes_no_conversation_back(
    conversation: str, first: Weight, second: Weight
) -> None:
    """Who has the candidate at a weight has it at every greater one."""
    lower, higher = sorted((first, second))
    if pick(replace(ROUTE, weight=lower), conversation) == CANDIDATE:
        assert pick(replace(ROUTE, weight=higher), conversation) == CANDIDATE


@given(conversation=st.text())
def test_nobody_has_the_candidate_at_0_and_all_have_it_at_100_percent(conversation: str) -> None:
    """The ends of the scale are exact."""
    assert pick(replace(ROUTE, weight=Weight(0)), conversation) == STABLE
    assert pick(replace(ROUTE, weight=Weight(Weight.WHOLE)), conversation) == CANDIDATE
    assert pick(replace(ROUTE, candidate=None), conversation) == STABLE


@given(conversation=st.text(), weight=weights, candidate=st.sampled_from([None, CANDIDATE]))
def test_a_retained_revision_changes_no_draw(
    conversation: str, weight: Weight, candidate: Revision | None
) -> None:
    """So no new conversation ever gets it."""
    route = replace(ROUTE, candidate=candidate, weight=weight)
    retaining = replace(route, retained=(FORMER,))
    assert pick(retaining, conversation) == pick(route, conversation) != FORMER


def test_a_route_names_what_it_offers_and_what_it_retains() -> None:
    """The stable revision first; the bundle holds the bytes of all."""
    route = replace(ROUTE, retained=(FORMER,))
    assert route.offered == (STABLE, CANDIDATE)
    assert route.revisions == (STABLE, CANDIDATE, FORMER)
    assert replace(route, candidate=None).revisions == (STABLE, FORMER)


@pytest.mark.parametrize("offered", [STABLE, CANDIDATE])
def test_what_is_offered_is_not_retained_as_well(offered: Revision) -> None:
    """Else an aborted candidate would keep its conversations; a version label changes nothing."""
    with pytest.raises(ValueError, match="is retained, and offered to new conversations"):
        replace(ROUTE, retained=(FORMER, replace(offered, version="again")))


@pytest.mark.parametrize("percent", [1, 5, 50, 95])
def test_the_share_is_the_weight(percent: int) -> None:
    """Within four standard deviations of 20,000 conversations."""
    route = replace(ROUTE, weight=Weight.percent(percent))
    count = 20_000
    share = sum(pick(route, f"conversation-{n}") == CANDIDATE for n in range(count)) / count
    expected = percent / 100
    assert abs(share - expected) < 4 * (expected * (1 - expected) / count) ** 0.5


def test_each_rollout_draws_anew() -> None:
    """The same few conversations are not the first to try everything."""
    route = replace(ROUTE, weight=Weight.percent(10))
    other = replace(route, salt=salt_for("platform", "handbook", Digest.of(b"three")))
    conversations = [f"conversation-{n}" for n in range(2000)]
    both = sum(
        pick(route, key) == CANDIDATE and pick(other, key) == CANDIDATE for key in conversations
    )
    assert both < 60, "independent draws would share some 20 of 200"
    assert salt_for("platform", "handbook", CANDIDATE.digest) == ROUTE.salt


@pytest.mark.parametrize("parts", [-1, 10_001])
def test_a_weight_is_a_share(parts: int) -> None:
    """Below nothing and above everything there is none."""
    with pytest.raises(ValueError, match="a weight is 0 to 10000 parts"):
        Weight(parts)


def test_a_fingerprint_names_a_credential_and_does_not_show_it() -> None:
    """Warmer and sidecar come to the same name; another key has another."""
    name = credential_fingerprint("sk-one")
    assert name == credential_fingerprint("sk-one") != credential_fingerprint("sk-two")
    assert len(name) == 12
    assert "one" not in name
