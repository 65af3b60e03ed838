"""What `explain` says of a request is what the provider's cache would do with it."""

import json
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner

import headwater
from headwater.cli.explain import command
from headwater.client.explain import Explanation, explain
from tests.unit.client.test_request import MARKER, blocks, user

LAST = {"type": "text", "text": "x", "cache_control": MARKER}
HOUR = {"type": "ephemeral", "ttl": "1h"}
CONTRACT = headwater.declare(
    tools=headwater.tools({"name": "look", "input_schema": {"type": "object"}}),
    system="You are helpful. " * 900,
)


def asked(**fields: Any) -> dict[str, Any]:
    given = {"model": "claude-opus-4-8", "messages": [user("a"), user("b")], **fields}
    return CONTRACT.request(**given)


def said(**fields: Any) -> Explanation:
    return explain(asked(**fields))


def test_segments_lie_between_markers_in_the_providers_order() -> None:
    found = said(system="Own. " * 400, strategy="C")
    assert [(each.first, each.last, each.cached) for each in found.segments] == [
        ("tools[0]", "tools[0]", False),
        ("system[0]", "system[0]", True),
        ("system[1]", "system[1]", True),
        ("messages[0].content", "messages[1].content[0]", True),
    ]
    assert found.segments[-1].prefix == sum(each.tokens for each in found.segments)


def test_prices_are_a_write_at_first_and_a_read_then() -> None:
    """A marker that is too short is covered by the next; behind the last nothing is cached."""
    tools, system, rest = said().segments
    for each in (tools, system):
        assert each.written == each.tokens * Decimal("6.25") / 1_000_000
        assert each.read == each.tokens * Decimal("0.5") / 1_000_000
    assert rest.written == rest.read == rest.tokens * Decimal(5) / 1_000_000


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ("a tool", []),
        ("the model", []),
        ("a system text", []),
        ("tool_choice", ["tools[0]", "system[0]", "system[1]"]),
        ("a message", ["tools[0]", "system[0]", "system[1]"]),
    ],
)
def test_a_change_loses_what_comes_after_it(what: str, kept: list[str]) -> None:
    found = said(system="Own. " * 400, strategy="C")
    change = next(each for each in found.changes if each.what.startswith(what))
    assert change.keeps == sum(each.tokens for each in found.segments if each.last in kept)
    lost = [each for each in found.segments if each.last not in kept]
    assert change.costs == sum((each.written or 0) - (each.read or 0) for each in lost)


@pytest.mark.parametrize(
    ("request_", "warning"),
    [
        ({"messages": [user()]}, "nothing is marked"),
        ({"system": [{"type": "text", "text": "x", "cache_control": MARKER}] * 5, "messages": []},
         "5 markers, and the provider takes 4"),
        ({"system": [{"type": "text", "text": "x" * 9000, "cache_control": MARKER},
                     {"type": "text", "text": "x", "cache_control": HOUR}], "messages": []},
         "1h stands behind one of 5m"),
        ({"system": [{"type": "text", "text": "x", "cache_control": MARKER}], "messages": []},
         "caches from 1,024 on: this marker does nothing"),
        ({"system": [{"type": "text", "text": "x" * 9000, "cache_control": MARKER}],
          "messages": [{"role": "user",
                        "content": [*blocks(21), LAST]}]},
         "22 blocks since the last marker"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_said(request_: dict[str, Any], warning: str) -> None:
    found = explain({"model": "claude-opus-4-8", **request_})
    assert any(warning in each for each in found.warnings)


def test_of_an_unknown_model_no_price_is_guessed() -> None:
    found = explain({**asked(), "model": "claude-none"})
    assert found.minimum is None
    assert {each.written for each in found.segments} == {None}
    assert {each.costs for each in found.changes} == {None}


def test_the_command_prints_it_and_gives_it_to_programs() -> None:
    given = json.dumps(asked())
    done = CliRunner().invoke(command, [], input=given, env={"COLUMNS": None})
    assert done.exit_code == 0, done.output
    assert "claude-opus-4-8 caches from 1,024 tokens on" in done.stdout
    assert "5m, too short" in done.stdout
    assert done.stdout.count("\n") > 12
    data = json.loads(CliRunner().invoke(command, ["-", "-o", "json"], input=given).stdout)
    assert [each["last"] for each in data["segments"]][:2] == ["tools[0]", "system[0]"]


@pytest.mark.parametrize(
    "given",
    ["", "[]", "{}", '{"model": "m", "messages": 3}', '{"model": "m", "tools": [1]}', "\udcff"],
)
def test_what_is_no_request_is_refused(given: str) -> None:
    data = given.encode("utf-8", "surrogateescape")
    done = CliRunner().invoke(command, [], input=data)
    assert done.exit_code == 1
    assert done.output.startswith("Error: the request: ")
