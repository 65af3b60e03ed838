"""A wish to warm a lane is granted where it is worth something, and not too often."""

from headwater.contract.digest import Digest
from headwater.contract.lane import Lane
from headwater.sidecar.trigger import Triggers

LANE = Lane("0123456789ab", "claude-opus-4-8", Digest.of(b"v1"))
OTHER = Lane("0123456789ab", "claude-haiku-4-5", Digest.of(b"v1"))
TTL = 300.0


def test_what_is_warm_is_left_alone() -> None:
    """Whether a request used it, or an earlier wish."""
    triggers = Triggers()
    assert triggers.decide(LANE, 1000, used=800, ttl=TTL) == "warm"
    assert triggers.decide(LANE, 1000, used=700, ttl=TTL) == "granted"
    assert triggers.decide(LANE, 1299, used=None, ttl=TTL) == "warm"
    assert triggers.decide(LANE, 1300, used=None, ttl=TTL) == "granted"


def test_wishes_are_rate_limited() -> None:
    """All lanes together; what was refused does not count."""
    triggers = Triggers()
    assert triggers.decide(LANE, 0, used=None, ttl=TTL) == "granted"
    assert triggers.decide(OTHER, 9, used=None, ttl=TTL) == "limited"
    assert triggers.decide(OTHER, 10, used=None, ttl=TTL) == "granted"


def test_a_failure_may_be_tried_again() -> None:
    """Though not at once."""
    triggers = Triggers()
    triggers.decide(LANE, 0, used=None, ttl=TTL)
    triggers.failed(LANE)
    assert triggers.decide(LANE, 5, used=None, ttl=TTL) == "limited"
    assert triggers.decide(LANE, 10, used=None, ttl=TTL) == "granted"


def test_memory_is_bounded() -> None:
    """Credentials and models come from requests."""
    triggers = Triggers()
    for number in range(300):
        lane = Lane("0123456789ab", f"m{number}", Digest.of(b"v1"))
        assert triggers.decide(lane, number * 10.0, used=None, ttl=10_000) == "granted"
    first = Lane("0123456789ab", "m0", Digest.of(b"v1"))
    assert triggers.decide(first, 3000, used=None, ttl=10_000) == "granted"
