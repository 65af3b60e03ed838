"""Why a request was a miss."""

import json

import pytest
from msgspec.structs import replace

from headwater.contract.digest import Digest
from headwater.contract.lane import Lane
from headwater.providers.usage import SseUsageParser, Usage, diagnosis_from_json
from headwater.sidecar.lanes import Lanes, Turn
from headwater.sidecar.misses import MissReason, miss_reason
from tests.unit.sidecar import bundles

LANE = Lane("credential", bundles.MODEL, Digest.of(b"contract"))
WRITTEN = Usage(cache_write_5m=100)


def turn(age: float | None) -> Turn:
    """That of a request which comes so long after the one before, on a TTL of 300 s."""
    lanes, route = Lanes(), bundles.make().route
    if age is not None:
        lanes.enter_alone(LANE, route, ttl=300, now=1000).began()
    return lanes.enter_alone(LANE, route, ttl=300, now=1000 + (age or 0))


@pytest.mark.parametrize(
    ("age", "usage", "reason"),
    [
        (None, Usage(uncached=100), MissReason.BELOW_MINIMUM),
        (10, Usage(uncached=100), MissReason.BELOW_MINIMUM),
        (None, WRITTEN, MissReason.COLD),
        (301, WRITTEN, MissReason.EXPIRED),
        (295, WRITTEN, MissReason.UNKNOWN),
        (10, WRITTEN, MissReason.EVICTED),
        (10, Usage(cache_read=50, cache_write_5m=50), MissReason.PREFIX_CHANGED),
    ],
)
def test_what_the_lane_and_the_usage_say(
    age: float | None, usage: Usage, reason: MissReason
) -> None:
    """Without diagnostics, in a conversation that kept to its lane."""
    assert miss_reason(turn(age), usage, LANE, "") is reason


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (replace(LANE, model="another"), MissReason.MODEL_CHANGED),
        (replace(LANE, thinking="another"), MissReason.THINKING_CHANGED),
        (replace(LANE, effort="low"), MissReason.EFFORT_CHANGED),
        (replace(LANE, speed="fast"), MissReason.SPEED_CHANGED),
        (replace(LANE, format="another"), MissReason.FORMAT_CHANGED),
        (replace(LANE, citations=True), MissReason.CITATIONS_CHANGED),
        (replace(LANE, betas=("another",)), MissReason.BETAS_CHANGED),
        (replace(LANE, credential="another"), MissReason.COLD),
    ],
)
def test_a_conversation_that_left_its_lane(before: Lane, reason: MissReason) -> None:
    """What differs is named, but only where the lane that it came to was not warm."""
    assert miss_reason(turn(None), WRITTEN, before, "") is reason
    assert miss_reason(turn(10), WRITTEN, before, "") is MissReason.EVICTED


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"cache_miss_reason": {"type": "system_changed"}}, MissReason.PREFIX_CHANGED),
        ({"cache_miss_reason": {"type": "tools_changed"}}, MissReason.PREFIX_CHANGED),
        ({"cache_miss_reason": {"type": "model_changed"}}, MissReason.MODEL_CHANGED),
        ({"cache_miss_reason": {"type": "messages_changed"}}, MissReason.EVICTED),
        ({"cache_miss_reason": None}, MissReason.EVICTED),
        (None, MissReason.EVICTED),
        ("nonsense", MissReason.EVICTED),
    ],
)
def test_what_the_provider_says_comes_first(said: object, reason: MissReason) -> None:
    """Whole and streaming alike, where it is about the contract."""
    message = {"diagnostics": said, "usage": {"cache_creation_input_tokens": 100}}
    stream = SseUsageParser()
    start = json.dumps({"type": "message_start", "message": message})
    stream.feed(f"event: message_start\ndata: {start}\n\n".encode())
    whole = diagnosis_from_json(json.dumps(message).encode())
    assert whole == stream.diagnosis
    assert miss_reason(turn(10), WRITTEN, None, whole) is reason
