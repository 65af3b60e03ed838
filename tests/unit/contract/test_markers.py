"""Whether a request can hold a marker at all: a no is certain."""

import pytest

from headwater.contract.markers import may_hold_marker

PROSE = b"word " * 20_000
CODE = b"a_b " * 20_000
MARKER = b'"cache_control"'


@pytest.mark.parametrize("text", [b"", b"short", PROSE, CODE, CODE[:300] + PROSE])
def test_a_marker_is_found_wherever_it_stands(text: bytes) -> None:
    """At either end and amidst, in prose and where underscores are many."""
    half = len(text) // 2
    for data in (MARKER + text, text + MARKER, text[:half] + MARKER + text[half:]):
        assert may_hold_marker(data)
        assert may_hold_marker(bytearray(data))
        assert not may_hold_marker(data.replace(b"control", b"contrel"))


def test_an_escaped_name_is_found() -> None:
    """JSON can spell it without the name standing there."""
    assert may_hold_marker(PROSE + rb'"cache\u005fcontrol"')
    assert not may_hold_marker(PROSE + rb'"\u0041"')
