"""A CI check: the request that this program builds is the same everywhere, to the byte."""

from typing import Any

import headwater

CONTRACT = headwater.declare(system="You are the billing team's assistant.")


def build_request() -> dict[str, Any]:
    """What the program sends, for any question."""
    return CONTRACT.request(
        model="claude-opus-4-8",
        max_tokens=1024,
        messages=[{"role": "user", "content": "A question."}],
    )


def test_the_prefix_is_stable() -> None:
    """Under other hash seeds, clocks, time zones, locales, listings and user names."""
    headwater.assert_stable(build_request)
