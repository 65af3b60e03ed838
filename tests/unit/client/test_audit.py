"""Each known way to lose a cache is found, named, placed and priced; what is stable is left be."""

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import headwater
from headwater.cli.audit import command
from headwater.client.audit import Cause, Report, audit, hashed
from tests.unit.client.test_request import MARKER, assistant, user

TEXT = "You are the billing assistant. Answer in whole sentences. " * 300
TOOLS = [
    {"name": name, "input_schema": {"type": "object", "properties": {}}} for name in ("a", "b", "c")
]

SWAPPED = dict(reversed(TOOLS[0].items()))


def request(question: str = "a question", **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-4-8",
        "tools": TOOLS,
        "system": [{"type": "text", "text": TEXT}],
        "messages": [user(question)],
        **fields,
    }


def system(text: str) -> dict[str, Any]:
    return {"system": [{"type": "text", "text": text}]}


def found(*requests: dict[str, Any], **options: Any) -> Report:
    return audit((json.dumps(each).encode() + b"\n" for each in requests), **options)


def test_a_stable_program_is_left_be() -> None:
    """Other questions, markers that move, and a history that grows are as they should be."""
    marked = [{"type": "text", "text": "a question", "cache_control": MARKER}]
    talk = [user("x"), assistant("y"), user("z")]
    report = found(
        request(),
        request(system=TEXT),
        request("another"),
        request(messages=[user("x")]),
        request(messages=talk[:1]),
        request(messages=talk),
        request(messages=[{"role": "user", "content": marked}]),
    )
    assert report.findings == []
    assert report.groups[0].reuse > 0.8


@pytest.mark.parametrize(
    ("other", "cause", "place"),
    [
        (request(**system(f"{TEXT} Today is Monday.")), Cause.SYSTEM_CHANGED, "system[0]"),
        (request(tools=TOOLS[::-1]), Cause.TOOLS_ORDER, "tools[0]"),
        (request(tools=TOOLS[:2]), Cause.TOOLS_CHANGED, "tools[2]"),
        (request(tools=[*TOOLS, {"name": "d"}]), Cause.TOOLS_CHANGED, "tools[3]"),
        (request(tools=[SWAPPED, *TOOLS[1:]]), Cause.KEY_ORDER, "tools[0]"),
        (request(**system(TEXT.replace("Answer", "Reply", 1))), Cause.SYSTEM_CHANGED, "system[0]"),
        (request(**system(TEXT + "\n")), Cause.WHITESPACE, "system[0]"),
        (request(model="claude-opus-4-7"), Cause.MODEL_CHANGED, "model"),
        (request(thinking={"type": "adaptive"}), Cause.THINKING_CHANGED, "thinking"),
        (request(output_config={"effort": "low"}), Cause.THINKING_CHANGED, "thinking"),
    ],
)
def test_each_cache_killer_has_its_name_and_place(
    other: dict[str, Any], cause: Cause, place: str
) -> None:
    (finding,) = found(request(), other).findings
    assert (finding.cause, finding.place) == (cause, place)
    assert finding.example == (1, 2)
    assert finding.times == 1


@pytest.mark.parametrize(
    "dynamic",
    [
        "It is 2026-11-21 10:0{}.",
        "Request 123e4567-e89b-42d3-a456-42661417400{}.",
        "At 0x7f00{}.",
        "Visitor {}",
    ],
)
def test_what_changes_with_each_request_is_named_volatile(dynamic: str) -> None:
    """At the start, where it costs everything behind it."""
    said = [request(**system(dynamic.format(number) + TEXT)) for number in range(5)]
    (finding,) = found(*said).findings
    assert (finding.cause, finding.times) == (Cause.VOLATILE, 4)
    assert finding.tokens > 4 * 4000


def test_a_rewritten_history_is_found() -> None:
    talk = [user("x"), assistant("y " * 999), user("z")]
    changed = copy.deepcopy(talk)
    changed[1]["content"] = "summed up"
    (finding,) = found(request(messages=talk), request(messages=changed)).findings
    assert (finding.cause, finding.place) == (Cause.HISTORY_REWRITTEN, "messages[1]")
    assert "y y y y y" in finding.before


def test_the_price_is_that_of_writing_again() -> None:
    (finding,) = found(request(), request(tools=TOOLS[::-1])).findings
    assert finding.usd == finding.tokens * Decimal("5.75") / 1_000_000
    (unknown,) = found(request(model="m"), request(model="m", tools=TOOLS[::-1])).findings
    assert unknown.usd is None


def test_groups_are_judged_apart_and_the_worst_comes_first() -> None:
    """By any field; what one team breaks is not laid to another."""
    lines = []
    for number in range(6):
        lines.append({"surface": "good", "request": request(), "time": number})
        volatile = request(**system(f"{number} {TEXT}"))
        lines.append({"surface": "bad", "request": volatile, "time": number})
        few = request(tools=TOOLS[: 2 + number % 2], **system("short"))
        lines.append({"surface": "small", "request": few, "time": number})
    report = found(*lines, by="surface")
    assert (report.groups[0].name, report.groups[0].unstable) == ("bad", True)
    assert {group.name for group in report.groups if not group.unstable} >= {"good"}
    assert report.findings[0].group == "bad"
    assert not [each for each in report.findings if each.group == "good"]


def test_what_was_cold_anyway_is_no_loss() -> None:
    """An hour later nothing would have been found."""
    report = found(
        {"request": request(), "time": "2026-11-21T10:00:00Z"},
        {"request": request(tools=TOOLS[::-1]), "time": "2026-11-21T11:00:00Z"},
    )
    assert report.findings == []


def test_two_programs_that_take_turns_are_both_warm() -> None:
    """Both prefixes are in the cache: nothing is written again."""
    one, two = request(), request(tools=TOOLS[::-1])
    assert sum(each.times for each in found(one, two, one, two, one, two).findings) == 1


def test_with_privacy_nothing_of_a_prompt_is_shown() -> None:
    said = [request("secret question", **system(f"secret {number} {TEXT}")) for number in range(3)]
    given = "\n".join(map(json.dumps, said))
    for output in ("table", "json", "yaml", "sarif"):
        done = CliRunner().invoke(command, ["--privacy", "hash", "-o", output], input=given)
        assert done.exit_code == 1, done.output
        assert "volatile" in done.stdout
        assert "secret" not in done.stdout
    assert "secret" in CliRunner().invoke(command, [], input=given).stdout


def test_the_page_and_what_programs_read() -> None:
    given = "\n".join(json.dumps(request(**system(f"{n} {TEXT}"))) for n in range(3))
    page = CliRunner().invoke(command, [], input=given).stdout
    assert "unstable: below 50%" in page
    assert "1. volatile of claude-opus-4-8: 2 times" in page
    assert "system[0], as in line 2 after line 1; move it to the end of the messages" in page
    sarif = json.loads(CliRunner().invoke(command, ["-o", "sarif"], input=given).stdout)
    (result,) = sarif["runs"][0]["results"]
    assert result["ruleId"] == "volatile"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    data = json.loads(CliRunner().invoke(command, ["-o", "json"], input=given).stdout)
    assert data["groups"][0]["unstable"] is True
    assert CliRunner().invoke(command, [], input=json.dumps(request())).exit_code == 0


def test_what_was_really_read_is_shown_where_it_was_recorded() -> None:
    """From the answers' usage; a request that was refused touched no cache, and is left out."""
    usages = [
        {"input_tokens": 10, "cache_creation_input_tokens": 5000, "output_tokens": 9},
        {"input_tokens": 10, "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 0},
    ]
    lines: list[dict[str, Any]] = [
        {"request": request(), "status": 200, "usage": usage} for usage in usages
    ]
    lines.insert(1, {"request": request(tools=TOOLS[::-1]), "status": 429})
    report = found(*lines)
    assert report.findings == []
    assert (report.groups[0].requests, report.groups[0].read) == (2, 5000)
    given = "\n".join(map(json.dumps, lines))
    page = CliRunner().invoke(command, [], input=given).stdout
    assert page.splitlines()[1].split()[-1] == "50%"


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (request(**system(TEXT + "\n")), Cause.WHITESPACE),
        (request(tools=[SWAPPED, *TOOLS[1:]]), Cause.KEY_ORDER),
        (request(**system(f"Visitor 2 {TEXT}")), Cause.VOLATILE),
        (request(tools=TOOLS[::-1]), Cause.TOOLS_ORDER),
        (request(model="claude-opus-4-7"), Cause.MODEL_CHANGED),
        (request(thinking={"type": "adaptive"}), Cause.THINKING_CHANGED),
    ],
)
def test_hashes_tell_what_the_text_tells(other: dict[str, Any], cause: Cause) -> None:
    """Cause, place and price; nothing of the text, and under another salt no two alike."""
    first = request(**system(f"Visitor 1 {TEXT}")) if cause is Cause.VOLATILE else request()
    plain = found(first, other).findings[0]
    hidden = [hashed(json.dumps(each).encode(), b"salt") for each in (first, other)]
    (finding,) = found(*hidden).findings
    assert finding.cause is cause
    assert (finding.place, finding.tokens, finding.usd) == (plain.place, plain.tokens, plain.usd)
    assert "billing" not in json.dumps(hidden)
    assert hashed(json.dumps(first).encode(), b"other")["system"] != hidden[0]["system"]


@pytest.mark.parametrize("line", ["words", "{}", '{"request": 3}', '{"model": "m", "messages": 3}'])
def test_a_line_that_is_no_request_is_named(line: str) -> None:
    done = CliRunner().invoke(command, [], input=json.dumps(request()) + "\n" + line)
    assert done.exit_code == 1
    assert "Error: line 2: it is no recorded request" in done.output
    with pytest.raises(headwater.RequestError):
        audit([line.encode()])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"model": st.sampled_from(["claude-opus-4-8", "m"]),
             "messages": st.lists(st.fixed_dictionaries({"content": st.text("ab", max_size=3)}))},
            optional={"tools": st.lists(st.sampled_from(TOOLS), max_size=3),
                      "system": st.text("ab 1", max_size=9)},
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_was_recorded_is_read_and_no_share_is_over_one(recorded: list[Any]) -> None:
    report = found(*recorded)
    assert sum(group.requests for group in report.groups) == len(recorded)
    assert all(0 <= group.reuse <= 1 for group in report.groups)
    assert all(finding.tokens > 0 for finding in report.findings)
