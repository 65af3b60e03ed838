"""From a request to the prompt that caching sees: its order, its lanes, what invalidates what."""

from typing import Any

import pytest

from headwater.simulator.tokens import MEDIA_TOKENS, block_tokens
from tests.unit.invalidation import TABLE, Row
from tests.unit.simulator.prompts import MODEL, Provider, assistant, body, read, text, tool, user

MARK = {"type": "ephemeral"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
WEB = {"type": "web_search_20250305", "name": "web_search"}
LATER = tool("later", defer_loading=True)
QUESTION = text(10, "hi")


def sections(**fields: Any) -> dict[str, Any]:
    """A prompt marked at the end of tools, of system, and of messages, in three known sizes."""
    messages = fields.pop("messages", [user(text(1200, "history", "5m"), QUESTION)])
    return body(
        *messages,
        **{"tools": [tool("t", "5m")], "system": [text(1100, "s", "5m")]} | fields,
    )


def kept(before: dict[str, Any], after: dict[str, Any], **given: Any) -> list[str]:
    """Which sections the second request reads of what the first wrote."""
    provider = Provider()
    provider.ask(before, version="2023-06-01")
    found = provider.ask(after, **given).cache_read
    ends = [block_tokens(tool("t"), MODEL)]
    ends += [ends[0] + 1100, ends[0] + 2300]
    return ["tools", "system", "messages"][: sum(found >= end for end in ends)]


ALL = ["tools", "system", "messages"]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({}, ALL),
        # Of the prompt itself.
        ({"tools": [tool("u", "5m")]}, []),
        ({"tools": [tool("new"), tool("t", "5m")]}, []),
        ({"tools": []}, []),
        ({"tools": [tool("t", "5m", strict=True)]}, []),
        ({"system": [text(1100, "other", "5m")]}, ["tools"]),
        ({"messages": [user(text(1200, "other", "5m"))]}, ["tools", "system"]),
        ({"messages": [user(text(1200, "history", "5m"), text(9, "?"))]}, ALL),
        # A tool that is found only by a search is not in the prefix.
        ({"tools": [tool("t", "5m"), LATER]}, ALL),
        # A web tool changes the system prompt and leaves the tools.
        ({"tools": [tool("t", "5m"), WEB]}, ["tools"]),
        ({"tools": [WEB, tool("t", "5m")]}, ["tools"]),
    ],
)  # fmt: skip
def test_invalidation(change: dict[str, Any], left: list[str]) -> None:
    """What a change loses begins at its own section."""
    assert kept(sections(), sections(**change)) == left


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_invalidation_table(row: Row) -> None:
    """As the sidecar sees it, from the same source."""
    messages = [user(text(1200, "history", "5m"), *map(dict, row.blocks), QUESTION)]
    betas = frozenset(row.headers.get("anthropic-beta", "").split(",")) - {""}
    workspace = row.headers.get("anthropic-workspace-id") or row.headers.get("x-api-key") or "w"
    after = sections(messages=messages, **row.fields)
    assert kept(sections(), after, betas=betas, workspace=workspace) == ALL[: row.kept]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"workspace": "other"}, []),
        ({"betas": frozenset({"a-beta"})}, []),
        ({"version": "2026-10-21"}, ALL),
    ],
)
def test_what_the_headers_key(given: dict[str, Any], left: list[str]) -> None:
    """Workspace and betas key a lane, the API's version does not."""
    assert kept(sections(), sections(), **given) == left


@pytest.mark.parametrize(
    "same",
    [
        {"model": "claude-opus-4-5"},
        {"model": "claude-opus-4-5-20251101"},
    ],
)
def test_a_dated_name_is_the_same_lane(same: dict[str, Any]) -> None:
    """One model by two names."""
    big = {"system": [text(5000, "s", "5m")]}
    provider = Provider()
    provider.ask(body(**big, model="claude-opus-4-5"))
    assert provider.ask(body(**big, **same)).cache_read == 5000


def test_moving_a_marker_changes_no_bytes() -> None:
    """The marker is no part of the prompt: the last turn's is found by the next one's."""
    provider = Provider()
    turn = [user(text(2000, "one", "5m")), assistant(text(20, "re"))]
    provider.ask(body(turn[0]))
    bare = [user(text(2000, "one")), turn[1], user(text(30, "two", "5m"))]
    assert provider.ask(body(*bare)).cache_read == 2000


def test_a_string_is_a_text_block() -> None:
    """Written either way, it is the same prompt."""
    words = "word " * 1500
    provider = Provider()
    block = {"type": "text", "text": words, "cache_control": MARK}
    provider.ask(body(system=[block]))
    same = body(user({"type": "text", "text": "hi", "cache_control": MARK}), system=words)
    assert provider.ask(same).cache_read > 1500


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_tool_result_is_marked_from_inside_or_outside(place: str) -> None:
    """A marker on the last block of its content counts for the whole result."""
    content = [text(50, "a"), text(1500, "b", "5m" if place == "inside" else None)]
    result = {"type": "tool_result", "tool_use_id": "t", "content": content}
    outside = result | ({"cache_control": MARK} if place == "outside" else {})
    call = {"type": "tool_use", "id": "t", "name": "t", "input": {}}
    request = body(user(text(10)), assistant(call), user(outside, QUESTION))
    provider = Provider()
    assert provider.ask(request).uncached == 10
    assert provider.ask(request).cache_read > 1550


def test_the_order_of_keys_in_a_tool_call_matters() -> None:
    """As it does to the provider, whatever a client's language makes of maps."""
    provider = Provider()
    for given, written in (({"a": 1, "b": 2}, True), ({"b": 2, "a": 1}, True)):
        call = {"type": "tool_use", "id": "t", "name": "t", "input": given}
        result = {"type": "tool_result", "tool_use_id": "t", "content": "ok", "cache_control": MARK}
        request = body(user(text(1500)), assistant(call), user(result))
        assert bool(provider.ask(request).cache_write_5m) is written


def test_a_key_named_like_a_marker_in_data_is_data() -> None:
    """A tool's input and schema are the caller's own: nothing is taken out of them."""
    calls = [
        {"type": "tool_use", "id": "t", "name": "t", "input": {"cache_control": value}}
        for value in (1, 2)
    ]
    first, second = (read(body(user(QUESTION), assistant(call))).positions[-1] for call in calls)
    assert first.digest != second.digest


def test_parallel_calls_and_their_results_are_one_position_each() -> None:
    """Twenty-five calls at once leave the earlier history within the window."""
    history = user(text(1500, "history", "5m"))
    calls = [{"type": "tool_use", "id": f"t{i}", "name": "t", "input": {}} for i in range(25)]
    results = [{"type": "tool_result", "tool_use_id": f"t{i}", "content": "ok"} for i in range(25)]
    provider = Provider()
    provider.ask(body(history))
    request = body(history, assistant(*calls), user(*results[:-1], results[-1] | {
        "cache_control": MARK}))  # fmt: skip
    del history["content"][0]["cache_control"]
    assert provider.ask(request).cache_read == 1500


@pytest.mark.parametrize(
    ("model", "kept_thinking"), [("claude-opus-4-8", True), ("claude-haiku-4-5", False)]
)
def test_thinking_of_earlier_turns(model: str, kept_thinking: bool) -> None:  # noqa: FBT001 - a table's column
    """Newer models keep it in the prompt; older ones drop it when a question follows."""
    thought = {"type": "thinking", "thinking": "hm" * 200, "signature": "s"}
    call = {"type": "tool_use", "id": "t", "name": "t", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
    loop = [user(text(10)), assistant(thought, call), user(result)]
    with_question = [*loop, assistant(text(10)), user(text(10))]
    assert len(read(body(*loop, model=model)).positions) == 4
    assert len(read(body(*with_question, model=model)).positions) == (6 if kept_thinking else 5)


def test_automatic_caching_marks_the_last_block_that_can_be() -> None:
    """Turn by turn: each reads what the last one wrote, with no marker in any block."""
    provider = Provider()
    first = [user(text(1500, "a"))]
    second = [*first, assistant(text(20, "b")), user(text(30, "c"))]
    assert provider.ask(body(*first, cache_control=MARK)).cache_write_5m == 1500
    usage = provider.ask(body(*second, cache_control=MARK))
    assert (usage.cache_read, usage.cache_write_5m, usage.uncached) == (1500, 50, 0)


def test_automatic_caching_walks_back_from_what_cannot_be_marked() -> None:
    """A thinking block at the end is passed over in silence."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    request = body(user(text(1500)), assistant(thought), cache_control=MARK | {"ttl": "1h"})
    usage = Provider().ask(request)
    assert usage.cache_write_1h == 1500
    assert usage.uncached > 0


def test_an_explicit_marker_of_the_same_ttl_is_enough() -> None:
    """Automatic caching then adds nothing."""
    ttls = [
        position.ttl
        for position in read(body(user(text(9, "a"), text(9, "b", "5m")), cache_control=MARK))
        .positions
    ]  # fmt: skip
    assert ttls == [None, "5m"]


def test_an_instruction_in_mid_conversation_keeps_the_prefix() -> None:
    """A system message after a user's turn is appended like any other."""
    provider = Provider()
    provider.ask(body(user(text(1500, "a", "5m"))))
    later = body(user(text(1500, "a")), {"role": "system", "content": [text(20, "now", "5m")]})
    assert provider.ask(later).cache_read == 1500


def test_who_says_it_is_part_of_the_prompt() -> None:
    """The same words of a user and of the assistant are two prompts."""
    said = [read(body(user(text(10)), turn)).positions[-1]
            for turn in (user(text(20)), assistant(text(20)))]  # fmt: skip
    assert said[0].digest != said[1].digest
    assert said[0].tokens == said[1].tokens


def test_tokens_follow_the_stated_rule() -> None:
    """A quarter of the canonical text's bytes; media are flat; markers cost nothing."""
    assert block_tokens(text(100), MODEL) == 100
    assert block_tokens(text(100, ttl="1h"), MODEL) == 100
    assert block_tokens(IMAGE, MODEL) == MEDIA_TOKENS
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text(100), IMAGE]}
    frame = {"type": "tool_result", "tool_use_id": "t"}
    assert block_tokens(result, MODEL) == block_tokens(frame, MODEL) + 100 + MEDIA_TOKENS
    assert read(body(user(text(70)), system=[text(30)])).tokens == 100
