"""Requests that hold the contract themselves: which block is the first that differs, and how."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.content import canonical_bytes, content
from headwater.contract.reasons import Reason, RefusalError

MODEL: Final = "claude-opus-4-8"
MARKER: Final = {"cache_control": {"type": "ephemeral"}}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **fields}


def block(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **fields}


A, B, C = tool("a"), tool("b"), tool("c")
MINE, DEFERRED = tool("mine"), tool("later", defer_loading=True)
ONE, TWO = (
    block("The first part of what all of us say. "),
    block("And this is the second of them. "),
)
OWN: Final = block("The team's own.")
CONTRACT: Final = prepare(canonical_bytes(content(tools=[A, B, C], system=[ONE, TWO], ttl="5m")))


def sent(**fields: Any) -> dict[str, Any]:
    """The request that leaves."""
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": MODEL, "max_tokens": 5, "messages": messages, **fields}
    found: dict[str, Any] = json.loads(
        splice(Request.read(json.dumps(body).encode()), CONTRACT, (MODEL,)).body
    )
    return found


@pytest.mark.parametrize(
    ("tools", "reason", "place"),
    [
        ([B, A, C], Reason.TOOLS_ORDER, "tools[0]"),
        ([A, C, B], Reason.TOOLS_ORDER, "tools[1]"),
        ([A, A, B, C], Reason.TOOLS_ORDER, "tools[1]"),
        ([DEFERRED, A, C, B], Reason.TOOLS_ORDER, "tools[2]"),
        ([A, B], Reason.TOOLS_MISSING, "tools[2]"),
        ([A, C], Reason.TOOLS_MISSING, "tools[1]"),
        ([A, B, DEFERRED], Reason.TOOLS_MISSING, "tools[2]"),
        ([A, tool("b", description="newer"), C], Reason.TOOLS_CHANGED, "tools[1]"),
        ([A, B, C, MINE], Reason.OWN_TOOLS, "tools[3]"),
        ([A, MINE, B, C], Reason.OWN_TOOLS, "tools[1]"),
        ([MINE], Reason.OWN_TOOLS, "tools[0]"),
        ([DEFERRED, MINE], Reason.OWN_TOOLS, "tools[1]"),
        ([{"input_schema": {}}], Reason.OWN_TOOLS, "tools[0]"),
    ],
)
def test_tools(tools: list[Any], reason: Reason, place: str) -> None:
    """The place is where the client has it; the sentence says what to do."""
    with pytest.raises(RefusalError) as refused:
        sent(tools=tools)
    assert (refused.value.reason, refused.value.place) == (reason, place)
    assert "defer_loading" in str(refused.value) or "leave the contract out" in str(refused.value)


@pytest.mark.parametrize(
    ("system", "reason", "place"),
    [
        ([TWO, ONE], Reason.SYSTEM_ORDER, "system[0]"),
        ([OWN, ONE, TWO], Reason.SYSTEM_BEFORE, "system[0]"),
        ([ONE, OWN, TWO], Reason.SYSTEM_BEFORE, "system[1]"),
        ([ONE], Reason.SYSTEM_MISSING, "system[1]"),
        ([ONE, OWN], Reason.SYSTEM_CHANGED, "system[1]"),
        ([ONE, block("And this was the second of them. ")], Reason.SYSTEM_CHANGED, "system[1]"),
        ([block("2026-11-21 " + ONE["text"]), TWO], Reason.SYSTEM_CHANGED, "system[0]"),
        (ONE["text"] + TWO["text"], Reason.SYSTEM_CHANGED, "system[0]"),
    ],
)
def test_system(system: Any, reason: Reason, place: str) -> None:
    """Of a text no word is repeated: it may be a secret."""
    with pytest.raises(RefusalError) as refused:
        sent(system=system)
    assert (refused.value.reason, refused.value.place) == (reason, place)
    assert "2026" not in str(refused.value)
    assert "leave the contract out" in str(refused.value)


def test_tools_are_told_first() -> None:
    """What the provider reads first is what breaks the rest, too."""
    with pytest.raises(RefusalError) as refused:
        sent(tools=[B, A, C], system=[TWO, ONE])
    assert refused.value.place == "tools[0]"


@pytest.mark.parametrize(
    ("fields", "tools", "system"),
    [
        ({"tools": [A, B, C]}, [], []),
        ({"tools": [A, B, {**C, **MARKER}], "system": [ONE, {**TWO, **MARKER}]}, [], []),
        ({"tools": [A, DEFERRED, B, C], "system": [ONE, TWO, OWN]}, [DEFERRED], [OWN]),
        ({"tools": [tool("a", defer_loading=False), B, C], "system": "Own."}, [], [block("Own.")]),
        ({"system": [ONE, TWO]}, [], []),
    ],
)
def test_a_right_copy_gives_way(fields: dict[str, Any], tools: Any, system: Any) -> None:
    """The published bytes go out once, and a copy's markers cost nothing of the budget."""
    body = sent(**fields)
    ours = json.loads(b"[" + CONTRACT.tools + b"]"), json.loads(b"[" + CONTRACT.system + b"]")
    assert body["tools"] == [*ours[0], *tools]
    assert body["system"] == [*ours[1], *system]


@pytest.mark.parametrize(
    "system",
    [
        "The first part is ours.",
        [OWN, block("And this is the second")],
        [TWO],
        [block("x" * 10_000)] * 200,
        [{"type": "text"}, {"type": "image", "source": {}}],
        "\\ud800" * 100,
    ],
)
def test_a_suffix_is_the_teams_own(system: Any) -> None:
    """It may quote the contract, and be long, and be of a kind that is not known here."""
    blocks = [block(system)] if isinstance(system, str) else system
    assert sent(system=system)["system"][2:] == blocks


@given(
    system=st.lists(st.builds(block, st.text(min_size=1)), max_size=5) | st.text(min_size=1),
    tools=st.lists(st.sampled_from([A, B, C, MINE, DEFERRED]), max_size=5),
)
def test_laws(system: Any, tools: list[dict[str, Any]]) -> None:
    """No suffix is ever refused, and of tools all but the contract's own in their order are."""
    own = [each for each in tools if each is not DEFERRED]
    if own in ([], [A, B, C]):
        assert sent(system=system, tools=tools)["tools"][:3] == sent()["tools"]
        return
    with pytest.raises(RefusalError) as refused:
        sent(system=system, tools=tools)
    reason, place = refused.value.reason, refused.value.place
    index = int(place.removeprefix("tools[").removesuffix("]"))
    assert reason is not Reason.OWN_TOOLS or tools[index] in own
    assert index <= len(tools)
