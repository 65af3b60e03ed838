"""Which revision a conversation is on, from turn to turn."""

from dataclasses import replace

from headwater.contract.route import Weight, pick
from headwater.sidecar.pinning import Pins
from tests.unit.sidecar import bundles

BEFORE = bundles.make("v1").route
CANARY = bundles.make("v1", "v2", weight=5_000).route
ABORTED = replace(CANARY, weight=Weight(0))
PROMOTED = bundles.make("v2").route
ON_V2 = next(str(n) for n in range(100) if pick(CANARY, str(n)).version == "v2")
ON_V1 = next(str(n) for n in range(100) if pick(CANARY, str(n)).version == "v1")


def version(pins: Pins, route: object, conversation: str, now: float) -> str:
    assert route in (BEFORE, CANARY, ABORTED, PROMOTED)
    assert isinstance(route, type(BEFORE))
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


def test_memory_is_bounded_and_keeps_the_latest() -> None:
    """The least recently used conversation is forgotten first."""
    pins = Pins(capacity=2)
    for conversation in ("a", ON_V2, "b", ON_V2, "c"):
        version(pins, BEFORE, conversation, 0)
    assert len(pins) == 2
    assert version(pins, CANARY, ON_V2, 1) == "v1"
