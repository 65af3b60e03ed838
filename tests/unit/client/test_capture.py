"""What requests really share becomes a contract that serves them; each team is told its part."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import headwater
from headwater.cli.capture import command
from headwater.client.capture import capture
from tests.unit.client.test_audit import TEXT, TOOLS, request, system
from tests.unit.client.test_request import MARKER

OWN = {"name": "own", "input_schema": {"type": "object"}}


def lines(*requests: dict[str, Any]) -> list[bytes]:
    return [json.dumps(each).encode() for each in requests]


def sent(team: str, **fields: Any) -> dict[str, Any]:
    return {"team": team, "request": request(**fields)}


def test_the_longest_beginning_that_most_have_is_the_contract() -> None:
    """Markers are not compared, a string is a block, and what one team has is its own."""
    own = [{"type": "text", "text": TEXT}, {"type": "text", "text": "Billing."}]
    marked = [{"type": "text", "text": TEXT, "cache_control": MARKER}]
    (found,) = capture(
        lines(
            sent("billing", system=own),
            sent("search", system=marked),
            sent("search", tools=[*TOOLS, OWN]),
            sent("search", system=TEXT),
            sent("shop", tools=[OWN]),
        )
    )
    assert [tool["name"] for tool in found.content.tools] == ["a", "b", "c"]
    assert [block["text"] for block in found.content.system] == [TEXT]
    told = {each.name: (each.on, each.requests, each.own_tools) for each in found.programs}
    assert told == {"billing": (1, 1, ()), "search": (2, 3, ("own",)), "shop": (0, 1, ("own",))}


def test_models_that_agree_are_one_contract() -> None:
    """Each has a cache of its own, and they have one digest."""
    found = capture(
        lines(request(), request(model="claude-opus-5"), request(model="m", **system("other")))
    )
    assert [each.models for each in found] == [("claude-opus-4-8", "claude-opus-5"), ("m",)]


def test_deferred_tools_are_no_part_of_it() -> None:
    (found,) = capture(lines(request(tools=[*TOOLS, {**OWN, "defer_loading": True}])))
    assert len(found.content.tools) == 3
    assert found.programs[0].own_tools == ()


def test_the_manifest_serves_what_was_recorded(tmp_path: Path) -> None:
    """Loaded, with the question alone, it gives the request that was recorded."""
    recorded = [request(f"question {number}") for number in range(3)]
    done = CliRunner().invoke(
        command, ["--name", "org-core", "--owner", "me"], input="\n".join(map(json.dumps, recorded))
    )
    assert done.exit_code == 0, done.output
    assert "# all: 3 of 3 requests begin with it" in done.stdout
    (tmp_path / "captured.yaml").write_text(done.stdout)
    contract = headwater.load(tmp_path / "captured.yaml")
    again = contract.request(model="claude-opus-4-8", messages=recorded[0]["messages"])
    for part in (again["tools"][-1], again["system"][-1]):
        del part["cache_control"]
    assert again == recorded[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lines(*(request(tools=[], **system(str(n))) for n in range(3))), "begin alike"),
        ([b""], "begin alike"),
        ([b"words"], "line 1: it is no recorded request"),
        (lines(request(tools=[{"input_schema": {}}])), "needs a name"),
    ],
)
def test_where_there_is_nothing_to_capture_it_says_why(given: list[bytes], said: str) -> None:
    done = CliRunner().invoke(command, [], input=b"\n".join(given))
    assert done.exit_code == 1
    assert said in done.output
