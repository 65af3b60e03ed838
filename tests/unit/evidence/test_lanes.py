"""When real requests used a lane: what a sidecar's word is worth."""

from datetime import UTC, datetime, timedelta

from headwater.evidence.lanes import LaneId, LaneUses, Use

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LANE = LaneId("house", "3f0c9a1b7e52", "claude-opus-4-8", "0123456789ab")
OTHER = LANE._replace(credential="ba9876543210")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_a_use_is_seen_once() -> None:
    """However often a sidecar tells of it, and whichever of several sidecars does."""
    uses = LaneUses()
    assert uses.last(LANE) is None
    assert uses.see({LANE: ago(60)}, NOW) == [Use(LANE, ago(60), None)]
    assert uses.see({LANE: ago(60)}, NOW) == []
    assert uses.see({LANE: ago(59.6)}, NOW) == []  # the same one, reckoned anew
    assert uses.see({LANE: ago(90)}, NOW) == []  # an older one, of another sidecar
    assert uses.see({LANE: ago(10)}, NOW) == [Use(LANE, ago(10), ago(60))]
    assert uses.last(LANE) == ago(10)
    assert uses.last(OTHER) is None


def test_uses_are_those_of_a_day() -> None:
    """Each lane's own, in order."""
    uses = LaneUses()
    for seconds in (2 * 86_400, 90_000, 600, 300, 290):
        uses.see({LANE: ago(seconds)}, ago(seconds))
    uses.see({OTHER: ago(5)}, NOW)
    assert [NOW - at for at in uses.times(LANE, NOW)] == [
        timedelta(seconds=seconds) for seconds in (600, 300, 290)
    ]
    assert uses.times(OTHER, NOW) == (ago(5),)
    assert uses.since == ago(2 * 86_400)


def test_the_future_keeps_nothing_warm() -> None:
    """A clock that is ahead, or a lie, counts as now."""
    uses = LaneUses()
    uses.see({LANE: NOW + timedelta(days=9)}, NOW)
    assert uses.last(LANE) == NOW


def test_memory_is_bounded() -> None:
    """Lanes come with credentials and settings, which come from requests."""
    uses = LaneUses()
    for number in range(1_200):
        uses.see({LANE._replace(model=f"m{number}"): NOW}, NOW)
    assert uses.last(LANE._replace(model="m1")) is None
    assert uses.last(LANE._replace(model="m1199")) == NOW
