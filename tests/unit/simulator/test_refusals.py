"""What the provider refuses, in its own words where they are known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.simulator.errors import ApiError
from tests.unit.simulator.prompts import assistant, body, read, text, tool, user

MARK = {"type": "ephemeral"}
FIVE = [text(5, f"{i}", "5m") for i in range(5)]
EMPTY = {"type": "text", "text": ""}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
ORDER = (
    "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that"
    " blocks are processed in the following order: `tools`, `system`, `messages`."
)
FOUND_5 = "A maximum of 4 blocks with cache_control may be provided. Found 5."
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [text(9, "a", "5m"), text(9, "b")]}
CASES: list[tuple[str, dict[str, Any], str]] = [
    # Markers, in words that are publicly known.
    ("a fifth marker", body(system=FIVE), FOUND_5),
    ("a fifth at the top", body(system=FIVE[:4], cache_control=MARK), FOUND_5),
    ("four, one inside a result, and a fifth", body(
        user(text(5)), assistant(text(5)),
        user({**RESULT, "content": [text(9, "a", "5m")], "cache_control": MARK}),
        system=FIVE[:3]), FOUND_5),
    ("1h after 5m", body(user(text(5), text(5, "b", "1h")), system=[text(5, "a", "5m")]),
     f"messages.0.content.1.cache_control.ttl: {ORDER}"),
    ("1h after 5m among tools", body(tools=[
        {"type": "web_search_20250305", "name": "w", "cache_control": MARK}, tool("t", "1h")]),
     f"tools.1.cache_control.ttl: {ORDER}"),
    ("1h at the top after 5m", body(system=FIVE[:1], cache_control=MARK | {"ttl": "1h"}),
     f"cache_control.ttl: {ORDER}"),
    ("marked empty system", body(system=[EMPTY | {"cache_control": MARK}]),
     "system.0: cache_control cannot be set for empty text blocks"),
    ("marked empty text", body(user(text(5), EMPTY | {"cache_control": MARK})),
     "messages.0.content.1.text: cache_control cannot be set for empty text blocks"),
    # Markers, in ours.
    ("not the last block of a result", body(user(RESULT)), "messages.0.content.0.content.0."),
    ("marked thinking", body(user(text(5)), assistant(THOUGHT | {"cache_control": MARK})),
     "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted"),
    ("another TTL", body(system=[text(5) | {"cache_control": MARK | {"ttl": "30m"}}]),
     "system.0.cache_control.ephemeral.ttl: Input should be '5m' or '1h'"),
    ("another type", body(system=[text(5) | {"cache_control": {"type": "permanent"}}]),
     "system.0.cache_control: Input should"),
    ("automatic with another TTL", body(user(text(5, "a", "1h")), cache_control=MARK),
     "already has cache_control with ttl='1h'"),
    ("deferred and marked", body(tools=[tool("t", "5m", defer_loading=True)]),
     "cannot have both defer_loading=true and cache_control set"),
    # The rest of a request.
    ("no model", {"messages": [user(text(5))], "max_tokens": 1}, "model: Field required"),
    ("no max_tokens", {k: v for k, v in body().items() if k != "max_tokens"},
     "max_tokens: Field required"),
    ("negative max_tokens", body(max_tokens=-1), "max_tokens: Input should be greater"),
    ("max_tokens as text", body(max_tokens="5"), "max_tokens: Input should be a valid integer"),
    ("no messages", body(messages=[]), "at least one message is required"),
    ("unknown field", body(cach_control=MARK), "cach_control: Extra inputs are not permitted"),
    ("assistant first", body(assistant(text(5))), 'first message must use the "user" role'),
    ("empty content", body({"role": "user", "content": ""}), "messages.0: all messages must have"),
    ("no content", body(user()), "messages.0: all messages must have non-empty content"),
    ("empty text", body(user(EMPTY)), "messages: text content blocks must be non-empty"),
    ("blank text", body(user(EMPTY | {"text": " \n"})), "must contain non-whitespace text"),
    ("empty system text", body(system=[EMPTY]), "system: text content blocks must be non-empty"),
    ("an image as system", body(system=[{"type": "image"}]), "system.0.type: Input should be"),
    ("two tools of a name", body(tools=[tool("t"), tool("t")]), "Tool names must be unique."),
    ("a nameless tool", body(tools=[{}]), "tools.0.name: Field required"),
    ("system first", body({"role": "system", "content": "x"}),
     "role 'system' is not supported on this model"),
    ("system after an answer", body(user(text(5)), assistant(text(5)), {
        "role": "system", "content": "x"}), "role 'system' is not supported on this model"),
    ("system before a question", body(user(text(5)), {"role": "system", "content": "x"},
                                      user(text(5))), "role 'system' is not supported"),
    # A request that only warms asks for nothing that an answer would have.
    ("warm and stream", body(max_tokens=0, stream=True), "stream: not supported with max_tokens=0"),
    ("warm and think", body(max_tokens=0, thinking={"type": "enabled", "budget_tokens": 1024}),
     "thinking.type: not supported"),
    ("warm and format", body(max_tokens=0, output_config={"format": {"type": "json_schema"}}),
     "output_config.format: not supported"),
    ("warm and any tool", body(max_tokens=0, tool_choice={"type": "any"}),
     "tool_choice.type: not supported"),
    ("warm and one tool", body(max_tokens=0, tool_choice={"type": "tool", "name": "t"}),
     "tool_choice.type: not supported"),
    ("warm with a blank", body(user(EMPTY | {"text": " "}), max_tokens=0), "non-whitespace"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "words"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_refused(request_: dict[str, Any], words: str) -> None:
    """With a 400 that names the place."""
    with pytest.raises(ApiError) as refused:
        read(request_)
    assert refused.value.status == 400
    assert words in refused.value.message


def test_an_unknown_model_is_not_found() -> None:
    """404, as the provider has it."""
    with pytest.raises(ApiError, match=r"^model: claude-none$") as refused:
        read(body(model="claude-none"))
    assert refused.value.status == 404


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize(
    "change",
    [{"temperature": 1.0}, {"top_p": 1.0}, {"top_k": 5}],
    ids=lambda change: next(iter(change)),
)
def test_sampling_parameters_are_refused_by_the_newer_version(
    change: dict[str, Any],
    counting: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Even at their defaults, and in a count too; the older version takes them."""
    read(body(**change), counting=counting, version="2023-06-01")
    with pytest.raises(ApiError, match=next(iter(change))):
        read(body(**change), counting=counting, version="2026-10-21")


@pytest.mark.parametrize(
    "message",
    [
        user(text(5) | {"citations": [{"type": "char_location"}]}),
        assistant({"type": "document", "source": {"type": "text", "data": "x"}}),
    ],
    ids=["citations on a user's text", "an assistant's document"],
)
def test_blocks_that_the_newer_version_refuses(message: dict[str, Any]) -> None:
    """The older version takes them."""
    request = body(user(text(5)), message)
    read(request, version="2023-06-01")
    with pytest.raises(ApiError):
        read(request, version="2026-10-21")


@pytest.mark.parametrize(
    "request_",
    [
        body(system=FIVE[:4]),
        body(max_tokens=0, tool_choice={"type": "auto"}, thinking={"type": "adaptive"}),
        body(user(text(5)), assistant()),
        body({"role": "user", "content": "hi"}, system=""),
        body(system=[text(5, "a", "1h"), text(5, "b", "5m"), text(5, "c", "5m")]),
        body(user(text(5)), {"role": "system", "content": "x"}, assistant(text(5))),
        body(tools=[{"type": "mcp_toolset", "mcp_server_name": "m"}]),
    ],
)
def test_taken(request_: dict[str, Any]) -> None:
    """What stands just inside each limit."""
    read(request_)


def test_a_beta_may_add_fields() -> None:
    """What they mean is the beta's affair."""
    read(body(context_management={}), betas=frozenset({"context-management-2025-06-27"}))


def test_a_count_needs_no_max_tokens_and_refuses_markers_alike() -> None:
    """The provider raises the same about their order there."""
    counted = {"model": "claude-opus-4-8", "messages": [user(text(5))]}
    assert read(counted, counting=True).tokens > 0
    with pytest.raises(ApiError, match="must not come after"):
        read(counted | {"system": [text(5, "a", "5m"), text(5, "b", "1h")]}, counting=True)


def test_nested_too_deeply_is_refused() -> None:
    """Not a crash."""
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(ApiError, match="nested too deeply"):
        read(body(user(text(5) | {"x": deep})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5000) | st.sampled_from(["", " ", "text", "5m"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "cache_control", "ttl"]),
            inner,
        )
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking",
     "output_config", "cache_control", "speed", "stream"]
)  # fmt: skip


@given(st.dictionaries(FIELDS, JSON, max_size=4), st.none() | JSON)
def test_whatever_comes_is_read_or_refused(change: dict[str, Any], block: Any) -> None:
    """Any JSON at any place: a prompt, or an error of the provider's, and nothing else."""
    messages = [user(text(5)), {"role": "user", "content": [block]}] if block else [user(text(5))]
    try:
        prompt = read(body(**{"messages": messages} | change))
    except ApiError:
        return
    assert prompt.tokens > 0
