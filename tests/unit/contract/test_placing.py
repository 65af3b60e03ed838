"""Where the markers go that a prefix declares: a table, the library's own places, and laws."""

import json
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.client.placing import mark
from headwater.contract.assembly import PreparedContract, Request, prepare, splice
from headwater.contract.content import canonical_bytes, content
from headwater.contract.markers import MARKER_LIMIT
from headwater.contract.placing import NOWHERE, Placing, Point, Strategy
from headwater.contract.reasons import Reason, RefusalError

MODEL: Final = "claude-opus-4-8"
CONTRACT: Final = prepare(
    canonical_bytes(
        content(
            tools=[{"name": "search", "input_schema": {"type": "object"}}],
            system=[{"text": "Be kind."}],
            ttl="5m",
        )
    )
)
NO_TOOLS: Final = prepare(canonical_bytes(content(tools=[], system=[{"text": "x"}], ttl="5m")))
FIVE: Final = {"type": "ephemeral", "ttl": "5m"}
HOUR: Final = {"type": "ephemeral", "ttl": "1h"}
ASKED: Final[list[dict[str, Any]]] = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "text", "text": ""}]},
]


def sent(
    placing: Placing, contract: PreparedContract = CONTRACT, **fields: Any
) -> tuple[dict[str, Any], int]:
    body = json.dumps({"model": MODEL, "messages": ASKED, **fields}).encode()
    spliced = splice(Request.read(body), contract, (MODEL,), placing)
    return json.loads(spliced.body), spliced.own_markers


def marked(body: dict[str, Any]) -> list[str]:
    """The places of all markers that are not the contract's."""
    found = [f"system[{at}]" for at, each in enumerate(body["system"]) if "cache_control" in each]
    for at, message in enumerate(body["messages"]):
        blocks = message["content"] if isinstance(message["content"], list) else []
        found += [f"{at}.{nth}" for nth, each in enumerate(blocks) if "cache_control" in each]
    return found[1:]


AGENT: Final = {"system": [{"type": "text", "text": "mine"}]}
LONG: Final = [
    *ASKED[:1],
    {"role": "assistant", "content": [{"type": "tool_use"}] * 19},
    {"role": "user", "content": [{"type": "tool_result"}]},
]


@pytest.mark.parametrize(
    ("placing", "fields", "places"),
    [
        (Placing("B"), AGENT, []),
        (Placing("A"), AGENT, ["2.0"]),
        (Placing("C"), AGENT, ["system[1]", "2.0"]),
        (Placing("C"), {}, ["2.0"]),
        (Placing("C"), {"system": "mine"}, ["system[1]", "2.0"]),
        (Placing("A"), {"messages": LONG}, ["0.0", "2.0"]),
        (Placing("C"), {"messages": LONG, **AGENT}, ["0.0", "2.0"]),
        (Placing(points=(Point("user", -2),)), {}, ["0.0"]),
        (Placing(points=(Point("user", 0), Point("user", 1))), {}, ["0.0", "2.0"]),
        (Placing(points=(Point("user", 2), Point(None, 3), Point(None, -4))), {}, []),
        (Placing(points=(Point("assistant"),)), {}, ["1.0"]),
        (Placing(points=(Point(None, 1), Point("assistant", 0))), {}, ["1.0"]),
        (Placing(points=(Point("system", -1),)), AGENT, ["system[1]"]),
        (Placing(points=(Point("system", 3),)), AGENT, []),
        (Placing(points=(Point(None, 0), Point(None, 1), Point(None, 2))), {}, ["0.0", "1.0"]),
        (Placing("A"), {"cache_control": FIVE}, []),
        (Placing("A"), {"messages": []}, []),
        (Placing("A"), {"messages": [{"role": "user", "content": ""}]}, []),
        (Placing("A"), {"messages": [{"role": "user", "content": [{"type": "thinking"}]}]}, []),
        (Placing("C"), {"system": [{"type": "text", "text": "a", "cache_control": FIVE}]},
         ["system[1]", "2.0"]),
        (Placing("A"), {"system": [{"type": "text", "text": "a", "cache_control": FIVE}] * 2},
         ["system[1]", "system[2]"]),
        (Placing("A"), {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": FIVE}]}]},
         ["0.1"]),
    ],
)  # fmt: skip
def test_where_markers_go(placing: Placing, fields: dict[str, Any], places: list[str]) -> None:
    """By role and index, from the end too; while there is room; never on what takes none."""
    body, count = sent(placing, **fields)
    assert marked(body) == places
    assert count == len(places) + ("cache_control" in fields)


def test_a_block_that_says_null_is_left_alone() -> None:
    """The key must not stand there twice, so the block before it gets the marker."""
    said: dict[str, Any] = {"type": "text", "text": "b", "cache_control": None}
    blocks = [{"type": "text", "text": "a"}, said]
    messages = [{"role": "user", "content": blocks}]
    body, count = sent(Placing("C"), messages=messages, system=[said])
    assert body["messages"][0]["content"] == [{**blocks[0], "cache_control": FIVE}, said]
    assert (body["system"][-1], count) == (said, 1)


def test_an_hour_of_the_programs_own_is_left_alone() -> None:
    """A marker of five minutes before it would be refused."""
    contract = prepare(canonical_bytes(content(tools=[], system=[{"text": "x"}], ttl="1h")))
    own = [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": HOUR}]}]
    assert marked(sent(Placing("C"), contract, messages=own, **AGENT)[0]) == ["0.0"]


def test_a_contract_with_one_marker_leaves_room_for_three() -> None:
    """And three are placed."""
    places = marked(sent(Placing("C"), NO_TOOLS, messages=LONG, **AGENT)[0])
    assert places == ["system[1]", "0.0", "2.0"]


def test_no_byte_but_the_markers_is_another_one() -> None:
    """Escapes, numbers, blanks, unknown fields, the order of keys, repeated strings."""
    first = b'{ "role" : "user",\t"content": "caf\\u00e9 {\\"[1.0]}" }'
    last = b'{"x": 1.0, "content": [{"text": "a\\/b" , "type":"text"} ], "role":"user"}'
    body = b'{"model":"%b", "messages": [%b , \n%b\n]}' % (MODEL.encode(), first, last)
    marker = b'"cache_control":{"type":"ephemeral","ttl":"5m"}'
    for index, old, new in (
        (
            0,
            first,
            b'{"role":"user","content":[{"type":"text","text":"caf\\u00e9 {\\"[1.0]}",%b}]}',
        ),
        (1, last, b'{"x":1.0,"content":[{"text": "a\\/b" , "type":"text",%b}],"role":"user"}'),
    ):
        spliced = splice(
            Request.read(body), CONTRACT, (MODEL,), Placing(points=(Point(None, index),))
        )
        plain = splice(Request.read(body), CONTRACT, (MODEL,))
        assert spliced.body == plain.body.replace(old, new % marker)


@pytest.mark.parametrize("messages", [7, "x", [1], ["}"], [{"content": 5}, {"content": [3]}], None])
def test_what_is_no_message_is_left_to_the_provider(messages: object) -> None:
    """It says what is wrong with it, in its own words."""
    body, count = sent(Placing("A"), messages=messages)
    assert (body["messages"], count) == (messages, 0)


def test_too_many_of_ones_own_are_still_refused() -> None:
    """Placing hides nothing."""
    own = {"type": "text", "text": "a", "cache_control": FIVE}
    with pytest.raises(RefusalError) as refused:
        sent(Placing("C"), messages=[{"role": "user", "content": [own] * 3}])
    assert refused.value.reason is Reason.TOO_MANY_MARKERS


_BLOCKS: Final = st.sampled_from(
    [
        {"type": "text", "text": 'a "}" b'},
        {"type": "tool_use", "input": {"cache_control": 1}},
        {"type": "tool_result", "content": [{"type": "text", "text": "r"}]},
        {"type": "thinking", "thinking": "t"},
    ]
)
_MESSAGES: Final = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.text('ab"\\{}]', min_size=1) | st.lists(_BLOCKS, min_size=1, max_size=25),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(messages=_MESSAGES, strategy=st.sampled_from(get_args(Strategy)), own=st.booleans())
def test_the_sidecar_marks_what_the_library_marks(
    messages: list[dict[str, Any]], strategy: Strategy, *, own: bool
) -> None:
    """A strategy means the same wherever it is declared."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "mine"}] if own else []
    body, _ = sent(Placing(strategy), messages=messages, system=blocks)
    theirs = msgspec.to_builtins(messages)
    mark(theirs, blocks, strategy=strategy, ttl="5m")
    assert body["messages"] == theirs
    assert body["system"][1:] == blocks


_POINTS: Final = st.lists(
    st.builds(Point, st.sampled_from([None, "user", "assistant", "system"]), st.integers(-4, 4)),
    max_size=3,
)


@given(messages=_MESSAGES, points=_POINTS, own=st.integers(0, 2))
def test_never_a_fifth_marker_nor_another_text(
    messages: list[dict[str, Any]], points: list[Point], own: int
) -> None:
    """Whatever is declared: without the markers, it is what came."""
    system = [{"type": "text", "text": "s", "cache_control": FIVE}] * own + [
        {"type": "text", "text": "s"}
    ]
    placing = Placing(points=tuple(points))
    body, count = sent(placing, messages=messages, system=system)
    assert CONTRACT.markers + count <= MARKER_LIMIT
    assert len(marked(body)) == count
    plain, _ = sent(NOWHERE, messages=messages, system=system)
    for each in (body, plain):
        each["messages"] = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if isinstance(message["content"], str)
            else message
            for message in each["messages"]
        ]
        for block in [*each["system"], *(b for m in each["messages"] for b in m["content"])]:
            block.pop("cache_control", None)
    assert body == plain
