"""`headwater history`: what a person sees, to the letter."""

# ruff: noqa: E501 - what is printed stands as it is
from headwater.cli._cluster import typed
from headwater.cli.history import table
from tests.unit.cli.conftest import Printed
from tests.unit.cli.prefixes import NOW, ROLLED_BACK

AT_80 = """\
AGE   VERSION   DIGEST         EVENT               REASON
10m   v2        97143cb605c3   HitRateBelowFloor   on claude-opus-4-8 3 of 60
                                                   eligible requests read the
                                                   cache (5%); that is below the
                                                   floor of 90%, with 99%
                                                   confidence
20m   v2        97143cb605c3   WeightRaised        10%: the first step
20m   v2        97143cb605c3   CanaryStarted       v2 is tried
3d    v1        e5062fb7a683   FirstVersion        v1 is served to everyone: the
                                                   first version (asked for by
                                                   kubectl)
"""
AT_120 = """\
AGE   VERSION   DIGEST         EVENT               REASON
10m   v2        97143cb605c3   HitRateBelowFloor   on claude-opus-4-8 3 of 60 eligible requests read the cache (5%);
                                                   that is below the floor of 90%, with 99% confidence
20m   v2        97143cb605c3   WeightRaised        10%: the first step
20m   v2        97143cb605c3   CanaryStarted       v2 is tried
3d    v1        e5062fb7a683   FirstVersion        v1 is served to everyone: the first version (asked for by kubectl)
"""
WIDE = """\
AGE   TIME                   VERSION   DIGEST                                                                    EVENT               REASON
10m   2026-11-21 11:50:00Z   v2        sha256:97143cb605c3e7cfde50376bb297a24d50e97ae1947002cc38f17c9c2f3197d0   HitRateBelowFloor   on claude-opus-4-8 3 of 60 eligible requests read the cache (5%); that is below the floor of 90%, with 99% confidence
20m   2026-11-21 11:40:00Z   v2        sha256:97143cb605c3e7cfde50376bb297a24d50e97ae1947002cc38f17c9c2f3197d0   WeightRaised        10%: the first step
20m   2026-11-21 11:40:00Z   v2        sha256:97143cb605c3e7cfde50376bb297a24d50e97ae1947002cc38f17c9c2f3197d0   CanaryStarted       v2 is tried
3d    2026-11-18 11:00:00Z   v1        sha256:e5062fb7a68303208e16636c06ad197e3f6838b35d9e82cf4223d0f06aade140   FirstVersion        v1 is served to everyone: the first version (asked for by kubectl)
"""


def test_the_newest_comes_first(printed: Printed) -> None:
    """A reason takes the lines that it needs."""
    assert printed(table(typed(ROLLED_BACK), NOW)) == AT_80
    assert printed(table(typed(ROLLED_BACK), NOW), 120) == AT_120


def test_wide_has_times_and_full_digests(printed: Printed) -> None:
    """In one line each, however narrow the terminal is."""
    assert printed(table(typed(ROLLED_BACK), NOW, wide=True), wide=True) == WIDE
