"""Statements: iterations, terms, server tools, and what cannot be true."""

import json
from typing import Any

import pytest

from headwater.providers.usage import (
    FLAWED,
    STANDARD,
    Charge,
    SseUsageParser,
    Statement,
    Terms,
    Usage,
    statement_from_json,
    usage_from_json,
)
from tests.unit.providers.test_usage import event


def wire(
    uncached: int = 0, read: int = 0, write_5m: int = 0, write_1h: int = 0, output: int = 0
) -> dict[str, Any]:
    """Counts as the provider writes them."""
    return {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": write_5m,
            "ephemeral_1h_input_tokens": write_1h,
        },
        "output_tokens": output,
    }


def step(kind: str, *counts: int, **more: Any) -> dict[str, Any]:
    """An iteration."""
    return {"type": kind, **wire(*counts), **more}


def statement(usage: Any) -> Statement | None:
    return statement_from_json(json.dumps({"type": "message", "usage": usage}).encode())


def read(*usages: dict[str, Any]) -> Statement | None:
    """Of a stream whose start has the first usage, and its deltas the others."""
    parser = SseUsageParser()
    parser.feed(event("message_start", message={"usage": usages[0]}))
    for usage in usages[1:]:
        parser.feed(event("message_delta", delta={}, usage=usage))
    return parser.statement


SEARCHED = wire(70, 3_000, 200, 0, 90) | {
    "iterations": [
        step("message", 30, 1_000, 100, 0, 20),
        step("message", 30, 1_000, 100, 0, 30),
        step("message", 10, 1_000, 0, 0, 40),
    ],
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
}


def test_the_first_iteration_is_known_apart_and_every_token_counts_once() -> None:
    """The sum over three iterations says nothing of whether the first found the cache warm."""
    found = statement(SEARCHED)
    assert found is not None
    assert found.first == Usage(30, 1_000, 100, 0, 20)
    assert found.usage == Usage(70, 3_000, 200, 0, 90)
    assert len(found.charges) == 3
    assert found.web_searches == 2
    assert not found.unknown


def test_without_iterations_the_whole_is_the_first() -> None:
    """An answer of one iteration need not name it."""
    found = statement(wire(5, 2_000, 30, 70, 15))
    usage = Usage(5, 2_000, 30, 70, 15)
    assert found == Statement(charges=(Charge(usage),), first=usage)
    assert found.terms is STANDARD


@pytest.mark.parametrize(
    ("whole", "iterations", "charges"),
    [
        # A compaction's tokens are not in the answer's own counts.
        (
            wire(23, 0, 0, 0, 10),
            [step("compaction", 180_000, 0, 0, 0, 3_500), step("message", 23, 0, 0, 0, 10)],
            [Charge(Usage(180_000, output=3_500)), Charge(Usage(23, output=10))],
        ),
        # An advisor's are another model's, and neither.
        (
            wire(20, 0, 0, 0, 9),
            [
                step("message", 10, 0, 0, 0, 4),
                step("advisor_message", 500, 0, 0, 0, 60, model="claude-opus-5"),
                step("message", 10, 0, 0, 0, 5),
            ],
            [
                Charge(Usage(10, output=4)),
                Charge(Usage(500, output=60), "claude-opus-5"),
                Charge(Usage(10, output=5)),
            ],
        ),
        # Where the whole has more than its iterations, the rest is billed, too.
        (
            wire(100, 0, 0, 50, 9),
            [step("message", 60, 0, 0, 20, 9)],
            [Charge(Usage(60, 0, 0, 20, 9)), Charge(Usage(40, 0, 0, 30))],
        ),
        # Where the iterations have more (the whole has the first one's input), they are believed.
        (
            wire(60, 0, 0, 0, 9),
            [step("message", 60, 0, 0, 0, 4), step("message", 70, 0, 0, 0, 5)],
            [Charge(Usage(60, output=4)), Charge(Usage(70, output=5))],
        ),
        (
            wire(5, 0, 0, 0, 2),
            [
                step("message", 5, 0, 0, 0, 0),
                step("fallback_message", 0, 0, 0, 0, 2, model="claude-opus-5"),
            ],
            [Charge(Usage(5)), Charge(Usage(output=2), "claude-opus-5")],
        ),
        # The kinds of writing differ: what the iterations call 5m stays 5m.
        (
            wire(0, 0, 100, 0, 0),
            [step("message", 0, 0, 100, 0, 0)],
            [Charge(Usage(cache_write_5m=100))],
        ),
        (wire(5), [], [Charge(Usage(5))]),
    ],
    ids=["compaction", "advisor", "beyond", "more", "fallback", "writes", "none"],
)
def test_what_is_billed(
    whole: dict[str, Any], iterations: list[dict[str, Any]], charges: list[Charge]
) -> None:
    """Each iteration apart, by its model."""
    found = statement(whole | {"iterations": iterations})
    assert found is not None
    assert list(found.charges) == charges


def test_the_first_iteration_may_be_a_compaction() -> None:
    """It reads the same prefix, and what comes after it reads what it wrote."""
    found = statement(
        wire(9)
        | {"iterations": [step("compaction", 0, 900, 0, 0, 5), step("message", 9, 0, 0, 0, 1)]}
    )
    assert found is not None
    assert found.first == Usage(0, 900, 0, 0, 5)


@pytest.mark.parametrize(
    ("fields", "terms"),
    [
        ({"speed": "fast"}, Terms(speed="fast")),
        ({"speed": "standard"}, STANDARD),
        ({"speed": None, "inference_geo": None, "service_tier": None}, STANDARD),
        ({"inference_geo": "us"}, Terms(inference_geo="us")),
        ({"inference_geo": "global"}, STANDARD),
        ({"inference_geo": "not_available"}, STANDARD),
        ({"service_tier": "batch"}, Terms(service_tier="batch")),
        ({"service_tier": "standard"}, STANDARD),
        ({"service_tier": "priority", "speed": "warp"}, Terms("warp", "", "priority")),
    ],
)
def test_terms(fields: dict[str, Any], terms: Terms) -> None:
    """What is documented as the list price is the list price."""
    found = statement(wire(1) | fields)
    assert found is not None
    assert found.terms == terms
    if terms == STANDARD:
        assert found.terms is STANDARD


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        ({"server_tool_use": {"web_fetch_requests": 3}}, set()),
        ({"server_tool_use": {"moon_requests": 1}}, {"moon_requests"}),
        ({"server_tool_use": {"moon_requests": 0}}, set()),
        ({"server_tool_use": None}, set()),
        ({"fallback_credit": {"status": {"type": "redeemed"}}}, {"fallback_credit"}),
        ({"fallback_credit": {"status": {"type": "not_applied", "reason": "x"}}}, set()),
        ({"iterations": [step("dream", 1)]}, {"dream"}),
    ],
)
def test_what_is_not_known_is_named(fields: dict[str, Any], unknown: set[str]) -> None:
    """It may be billed in a way that nobody here can tell."""
    found = statement(wire(1) | fields)
    assert found is not None
    assert found.unknown == unknown


@pytest.mark.parametrize(
    "impossible",
    [
        {"input_tokens": -5},
        {"input_tokens": 10**30},
        {"cache_read_input_tokens": 10**9 + 1},
        {"cache_creation": {"ephemeral_1h_input_tokens": -1}},
        {"cache_creation": {"ephemeral_5m_input_tokens": 10**18}},
        {"output_tokens": -1},
        {"iterations": [step("message", -1)]},
        {"iterations": [step("message", 1)] * 1_001},
        {"server_tool_use": {"web_search_requests": -1}},
        {"server_tool_use": {"web_search_requests": 10**30}},
        {"server_tool_use": {f"tool_{number}": 1 for number in range(65)}},
    ],
)
def test_what_cannot_be_true_is_not_believed(impossible: dict[str, Any]) -> None:
    """Nothing of it: neither the part that cannot be, nor what stands beside it."""
    usage = wire(7, 2_000, 0, 0, 5) | impossible
    assert statement(usage) == FLAWED
    assert read(usage) == FLAWED
    assert usage_from_json(json.dumps({"usage": usage}).encode()) == Usage()
    assert read(wire(7), impossible) == FLAWED
    assert read(impossible, wire(7, 3_000, 9, 9, 9)) == FLAWED


@pytest.mark.parametrize(
    "usage",
    [
        b'{"input_tokens":1e30}',
        b'{"input_tokens":NaN}',
        b'{"input_tokens":Infinity}',
        b'{"input_tokens":"5"}',
        b'{"input_tokens":[5]}',
        b'{"iterations":5}',
        b'{"iterations":[5]}',
        b'{"iterations":[{"type":7}]}',
        b'{"speed":7}',
        b'{"server_tool_use":{"web_search_requests":"two"}}',
        b'{"iterations":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
        b'{"later":' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"}",
    ],
    ids=range(12),
)
def test_what_cannot_be_read_is_no_statement(usage: bytes) -> None:
    """It raises nothing, in a whole answer and in a stream."""
    found = statement_from_json(b'{"usage":' + usage + b"}")
    assert found is None or found == FLAWED
    parser = SseUsageParser()
    parser.feed(b'data: {"type":"message_start","message":{"usage":' + usage + b"}}\n\n")
    assert parser.statement is None or parser.statement == FLAWED


@pytest.mark.parametrize(
    "zeros",
    [
        {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
        wire(),
        wire() | {"iterations": [], "server_tool_use": {"web_search_requests": 0}},
        {"input_tokens": 3, "cache_read_input_tokens": 1},
    ],
)
def test_zeros_in_a_delta_erase_nothing(zeros: dict[str, Any]) -> None:
    """Cumulative counts never shrink: gateways send zeros where they know nothing."""
    start = wire(5, 2_000, 30, 70, 1) | {
        "speed": "fast",
        "server_tool_use": {"web_search_requests": 2},
        "iterations": [step("message", 5, 2_000, 30, 70, 1)],
    }
    found = read(start, zeros | {"output_tokens": 15}, {"output_tokens": 0})
    assert found is not None
    assert found.usage == Usage(5, 2_000, 30, 70, 15)
    assert found.first == Usage(5, 2_000, 30, 70, 1)
    assert found.terms == Terms(speed="fast")
    assert found.web_searches == 2


def test_iterations_come_with_the_delta() -> None:
    """A stream names them at its end, and its start is the first iteration's."""
    found = read(wire(30, 1_000, 100, 0, 1), SEARCHED)
    assert found == statement(SEARCHED)
