"""What a warmer earned: only the hits that nothing else explains."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.contract.digest import Digest
from headwater.controller.objects import Key
from headwater.controller.warmth import Kept, Warmth
from headwater.evidence.lanes import LaneId
from headwater.resources.warmer import Lane

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DIGEST = Digest.of(b"v1")
MODEL = "claude-opus-4-8"
LANE = LaneId("ai/house", DIGEST.short, MODEL, "0123456789ab")


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def kept(**given: Any) -> Kept:
    lane: dict[str, Any] = {
        "credential": "prod",
        "model": MODEL,
        "digest": DIGEST,
        "state": "Warm",
        "fingerprint": LANE.credential,
        "last_warm_at": at(8),
        "last_usage": {"cacheRead": 20_000},
    }
    return Kept("house", "5m", (Lane.model_validate(lane | given),))


def earned(warmth: Warmth) -> float:
    for line in warmth.exposition().decode().splitlines():
        if line.startswith("headwater_warm_saved_usd_total{"):
            return float(line.rpartition(" ")[2])
    return 0.0


@pytest.mark.parametrize(
    ("uses", "keeps", "saved"),
    [
        pytest.param([0, 10], {}, 0.115, id="ten minutes apart, warmed in between"),
        pytest.param([0, 4], {"last_warm_at": at(3)}, 0, id="traffic had kept it warm"),
        pytest.param([0, 10], {"last_warm_at": at(1)}, 0, id="it was cold all the same"),
        pytest.param([0, 7], {}, 0, id="warmed after it"),
        pytest.param([0, 10], {"last_warm_at": None}, 0, id="never warmed"),
        pytest.param([0, 10], {"fingerprint": "another"}, 0, id="another key's lane"),
        pytest.param([0, 10], {"model": "house"}, 0, id="without a price"),
        pytest.param([0, 10], {"last_usage": None}, 0, id="without a count"),
    ],
)
def test_what_was_saved(uses: list[float], keeps: dict[str, Any], saved: float) -> None:
    """20,000 tokens as a write, less the same as a read."""
    warmth = Warmth()
    # A use long before, so that the first of the row is not a first one.
    for minutes in (-1, *uses):
        warmth.keep(Key("ai", "warm"), kept(**keeps))
        warmth.see({LANE: at(minutes)}, at(minutes))
    assert earned(warmth) == pytest.approx(saved)


def test_a_warmer_that_is_gone_is_shown_no_more() -> None:
    """Its counters stay what they were: they only ever grow."""
    warmth = Warmth()
    warmth.keep(Key("ai", "warm"), kept())
    assert b'headwater_warm_lane_state{credential="prod"' in warmth.exposition()
    warmth.forget(Key("ai", "warm"))
    assert b'headwater_warm_lane_state{credential="prod"' not in warmth.exposition()
