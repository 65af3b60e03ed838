"""Which revision a conversation is on, from turn to turn."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.route import Route, Weight, pick
from headwater.sidecar.pinning import Pins
from tests.unit.sidecar import bundles

BEFORE = bundles.make("v1").route
CANARY = bundles.make("v1", "v2", weight=5_000).route
ABORTED = replace(CANARY, weight=Weight(0))
V1, V2 = CANARY.offered
PROMOTED = bundles.make("v2").route
RETAINING = replace(PROMOTED, retained=(V1,))
ON_V2 = next(str(n) for n in range(100) if pick(CANARY, str(n)).version == "v2")
ON_V1 = next(str(n) for n in range(100) if pick(CANARY, str(n)).version == "v1")


def version(pins: Pins, route: Route, conversation: str, now: float) -> str:
    return pins.choose(route, conversation, ttl=300, now=now).version


def test_a_running_conversation_stays_when_a_canary_starts() -> None:
    """Its history is cached behind v1; a new conversation is drawn."""
    pins = Pins()
    assert version(pins, BEFORE, ON_V2, 0) == "v1"
    assert version(pins, CANARY, ON_V2, 300) == "v1"
    assert version(Pins(), CANARY, ON_V2, 300) == "v2"


def test_every_request_prolongs_the_pin_and_the_ttl_ends_it() -> None:
    """Counted from the last request's start, as the provider counts."""
    pins = Pins()
    version(pins, BEFORE, ON_V2, 0)
    assert version(pins, CANARY, ON_V2, 299) == "v1"
    assert version(pins, CANARY, ON_V2, 598) == "v1"
    assert version(pins, CANARY, ON_V2, 899) == "v2"


def test_an_abort_reaches_running_conversations() -> None:
    """With the candidate out of the bundle, or still in it without traffic."""
    for aborted in (BEFORE, ABORTED):
        pins = Pins()
        assert version(pins, CANARY, ON_V2, 0) == "v2"
        assert version(pins, aborted, ON_V2, 1) == "v1"


def test_promotion_moves_the_conversations_of_what_is_gone() -> None:
    """Bytes that are not in the bundle cannot be sent."""
    pins = Pins()
    assert version(pins, CANARY, ON_V1, 0) == "v1"
    assert version(pins, PROMOTED, ON_V1, 1) == "v2"


def test_a_conversation_stays_on_a_retained_revision() -> None:
    """Its history is cached behind v1; only new conversations are given v2."""
    pins = Pins()
    assert version(pins, CANARY, ON_V1, 0) == "v1"
    assert version(pins, RETAINING, ON_V1, 1) == "v1"
    assert version(pins, RETAINING, "new", 1) == "v2"


def test_a_conversation_of_the_promoted_candidate_stays_on_it() -> None:
    """Whatever it is called in the route."""
    pins = Pins()
    assert version(pins, CANARY, ON_V2, 0) == "v2"
    assert version(pins, RETAINING, ON_V2, 1) == "v2"


def test_an_abort_after_a_promotion_leaves_retained_conversations_alone() -> None:
    """The next candidate goes; what it was compared with, and what came before, stay."""
    pins = Pins()
    v3 = replace(V2, version="v3", digest=bundles.make("v3").route.stable.digest)
    aborted = replace(RETAINING, candidate=v3)
    assert version(pins, CANARY, ON_V1, 0) == "v1"
    assert version(pins, replace(aborted, weight=Weight.percent(100)), "new", 1) == "v3"
    assert version(pins, aborted, "new", 2) == "v2"
    assert version(pins, aborted, ON_V1, 2) == "v1"


@given(gaps=st.lists(st.integers(0, 600), min_size=1), dropped=st.integers(0, 20))
def test_a_pin_on_a_retained_revision_lasts_while_it_is_warm_and_held(
    gaps: list[int], dropped: int
) -> None:
    """Turn after turn: it ends with the first gap over the TTL or with the bytes, for good."""
    pins, now, warm = Pins(), 0, True
    assert version(pins, BEFORE, "conversation", now) == "v1"
    for turn, gap in enumerate(gaps):
        held = turn < dropped
        warm = warm and held and gap <= 300
        now += gap
        route = RETAINING if held else PROMOTED
        assert version(pins, route, "conversation", now) == ("v1" if warm else "v2")


def test_memory_is_bounded_and_keeps_the_latest() -> None:
    """The least recently used conversation is forgotten first."""
    pins = Pins(capacity=2)
    for conversation in ("a", ON_V2, "b", ON_V2, "c"):
        version(pins, BEFORE, conversation, 0)
    assert len(pins) == 2
    assert version(pins, CANARY, ON_V2, 1) == "v1"


def test_what_is_forgotten_too_early_is_counted() -> None:
    """A full table gives up the least recently used; of a cold one nothing is lost."""
    pins = Pins(capacity=1)
    version(pins, BEFORE, "a", 0)
    version(pins, BEFORE, "b", 301)
    assert pins.forgotten == 0
    version(pins, BEFORE, "c", 601)
    assert (pins.forgotten, len(pins)) == (1, 1)
