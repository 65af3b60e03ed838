"""Usage: read from whole answers and from streams cut anywhere; nothing sent ever raises."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.providers.usage import SseUsageParser, Usage, usage_from_json

CREATION = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}
START = {
    "input_tokens": 5,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 100,
    "cache_creation": CREATION,
    "output_tokens": 1,
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


STREAM = b"".join(
    [
        event("message_start", message={"id": "msg_1", "content": [], "usage": START}),
        event("ping"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": '"usage": ☃'}),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 15}),
        event("message_stop"),
    ]
)
STREAMED = Usage(uncached=5, cache_read=2000, cache_write_5m=30, cache_write_1h=70, output=15)


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        ({}, Usage()),
        ({"input_tokens": 7, "output_tokens": 2}, Usage(uncached=7, output=2)),
        (START, Usage(5, 2000, 30, 70, 1)),
        # An old answer has the total alone: five minutes is the provider's default.
        ({"cache_creation_input_tokens": 100}, Usage(cache_write_5m=100)),
        ({"cache_creation": CREATION}, Usage(cache_write_5m=30, cache_write_1h=70)),
        # A tool's own write is in the total and not in the split.
        (
            {"cache_creation_input_tokens": 120, "cache_creation": CREATION},
            Usage(cache_write_5m=50, cache_write_1h=70),
        ),
        # Never more by the hour than was written at all.
        ({"cache_creation_input_tokens": 50, "cache_creation": CREATION}, Usage(cache_write_1h=50)),
        (
            {
                "input_tokens": None,
                "cache_read_input_tokens": None,
                "cache_creation": None,
                "cache_creation_input_tokens": None,
                "output_tokens": None,
            },
            Usage(),
        ),
        (
            {
                "input_tokens": -5,
                "cache_read_input_tokens": -1,
                "cache_creation_input_tokens": -9,
                "output_tokens": -2,
            },
            Usage(),
        ),
        ({"input_tokens": 1, "a_field_of_tomorrow": {"x": [1]}}, Usage(uncached=1)),
    ],
    ids=[
        "empty",
        "no cache",
        "all kinds",
        "total alone",
        "split alone",
        "total above the split",
        "split above the total",
        "nulls",
        "negative",
        "unknown field",
    ],
)
def test_a_whole_answer(wire: dict[str, Any], usage: Usage) -> None:
    """Every kind of token, disjoint."""
    assert usage_from_json(json.dumps({"type": "message", "usage": wire}).encode()) == usage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"usage"',
        b'{"type":"error"}',
        b'{"usage":null}',
        b'{"usage":"many"}',
        b'{"usage":{"input_tokens":"5"}}',
        b'{"usage":{"input_tokens":1.5}}',
        b'{"usage":{"input_tokens":1e400}}',
        b"\xff\xfe",
        b'{"usage":"\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_has_no_usage_counts_for_nothing(body: bytes) -> None:
    """None, and no error: the answer reaches its caller whatever we can read of it."""
    assert usage_from_json(body) is None


def test_prompt_is_all_input() -> None:
    """Output is not part of it."""
    assert Usage(1, 20, 300, 4000, 50_000).prompt == 4321


def read(*chunks: bytes) -> Usage | None:
    parser = SseUsageParser()
    for chunk in chunks:
        parser.feed(chunk)
    return parser.usage


def test_a_stream() -> None:
    """Input figures from its start, the split by TTL too, output from its end."""
    assert read(STREAM) == STREAMED


@given(st.lists(st.integers(0, len(STREAM)), max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_chunking_gives_the_same_usage(cuts: list[int], ending: bytes) -> None:
    """Cut anywhere, also within a character, and with any of the three line endings."""
    bounds = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b].replace(b"\n", ending) for a, b in itertools.pairwise(bounds)]
    assert read(*chunks) == STREAMED


ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'


@given(st.lists(st.integers(0, len(ERROR)), max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_chunking_gives_the_same_failure(cuts: list[int], ending: bytes) -> None:
    """The error with which a stream ends is seen however it is cut."""
    bounds = [0, *sorted(cuts), len(ERROR)]
    parser = SseUsageParser()
    parser.feed(STREAM)
    for a, b in itertools.pairwise(bounds):
        parser.feed(ERROR[a:b].replace(b"\n", ending))
    assert parser.failure == "overloaded_error"


def test_an_error_whose_line_has_no_end_is_seen() -> None:
    """Whoever writes it may leave before."""
    parser = SseUsageParser()
    parser.feed(ERROR.rstrip())
    assert parser.failure == "overloaded_error"


def test_byte_by_byte() -> None:
    """The finest chunking of all."""
    assert read(*(bytes([byte]) for byte in STREAM)) == STREAMED


def test_what_was_read_so_far_is_known_when_a_stream_is_cut() -> None:
    """Its prompt was billed although its answer never came whole."""
    start = event("message_start", message={"usage": START})
    assert read(start, b'event: message_delta\ndata: {"type":"message_delta","us') == Usage(
        5, 2000, 30, 70, 1
    )


@pytest.mark.parametrize(
    ("delta", "usage"),
    [
        ({"output_tokens": 15, "input_tokens": 9}, Usage(9, 2000, 30, 70, 15)),
        ({"output_tokens": 15, "input_tokens": None}, STREAMED),
        # A server tool wrote more in a later iteration: the total grows, the split stays.
        ({"output_tokens": 15, "cache_creation_input_tokens": 150}, Usage(5, 2000, 80, 70, 15)),
    ],
    ids=["newer wins", "null tells nothing", "a later write is a five minutes' one"],
)
def test_cumulative_figures_of_the_delta(delta: dict[str, Any], usage: Usage) -> None:
    """What the delta gives replaces what the start gave."""
    start = event("message_start", message={"usage": START})
    assert read(start, event("message_delta", delta={}, usage=delta)) == usage


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_garbage_in_a_stream_is_passed_over(chunks: list[bytes]) -> None:
    """Before a whole stream, it changes nothing and raises nothing."""
    assert read(*chunks, b"\n", STREAM) == STREAMED


@given(st.binary(max_size=200))
def test_garbage_raises_nothing(data: bytes) -> None:
    """Whether it comes as an answer or as an event."""
    usage_from_json(data)
    read(b"data: ", data, b'"usage"\n')


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"message_start","usage":{"input_tokens":1}}',
        b'{"type":"message_start","message":{"usage":"x"}}',
        b'{"type":"content_block_delta","usage":{"output_tokens":99}}',
        b'{"usage":{"output_tokens":99}}',
        b'{"type":"message_delta","usage":',
        b'{"usage":' * 50_000,
        b'{"usage":"' + b"x" * (2 << 20) + b'"}',
    ],
    ids=[
        "start without message",
        "usage is text",
        "another event",
        "no type",
        "cut",
        "deep",
        "above a mebibyte",
    ],
)
def test_an_event_without_usable_usage_is_passed_over(line: bytes) -> None:
    """What comes after it still counts."""
    assert read(b"data: " + line + b"\n\n") is None
    assert read(b"data: " + line + b"\n\n", STREAM) == STREAMED


def test_memory_is_bounded_by_a_line() -> None:
    """However long a line without an end grows."""
    parser = SseUsageParser()
    for _ in range(8):
        parser.feed(b"x" * (1 << 20))
        assert len(parser._line) <= 1 << 20
