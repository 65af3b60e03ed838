"""Which pods are told that a candidate left."""

from datetime import UTC, datetime, timedelta

import pytest

from headwater.controller.consumers import Consumer
from headwater.controller.nudge import pods_to_tell
from headwater.controller.objects import Key
from headwater.rollout.state import Withdrawn

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
WEB = Key("sales", "web")


@pytest.mark.parametrize(
    ("told", "created", "now", "expected"),
    [
        pytest.param("", -3600, 1, True, id="it runs and was never told"),
        pytest.param("6", -3600, 1, True, id="it was told of the abort before"),
        pytest.param("7", -3600, 1, False, id="it was told"),
        pytest.param("", 1, 2, True, id="it may have mounted what was being rewritten"),
        pytest.param("", 60, 61, False, id="it began with the route without the candidate"),
        pytest.param("", -3600, 179, True, id="a restart goes on"),
        pytest.param("", -3600, 181, False, id="the kubelet has synced meanwhile"),
    ],
)
def test_who_is_told(told: str, created: int, now: int, expected: bool) -> None:  # noqa: FBT001
    """Who may still route to the candidate, once, while it makes a difference."""
    consumer = Consumer(WEB, AT + timedelta(seconds=created), told)
    at = AT + timedelta(seconds=now)
    assert pods_to_tell([consumer], Withdrawn(7, AT), at) == ([WEB] if expected else [])
