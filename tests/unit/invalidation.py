"""The provider's invalidation table, row by row: what a changed request loses of its cache.

The one source for the simulator (`simulator/test_prompt.py`) and the sidecar
(`sidecar/test_invalidation.py`). Each row changes one thing of a request whose tools, system text
and history are cached. Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of
2026-08-22, and the pages on structured outputs, effort, fast mode and extended thinking of the
same day.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple


class Kept(IntEnum):
    """How many sections are read after the change, in the provider's order."""

    NOTHING = 0
    TOOLS = 1
    SYSTEM = 2
    ALL = 3


class Row(NamedTuple):
    """A change: fields of the body, blocks that are added to the last message, headers."""

    name: str
    kept: Kept
    fields: Mapping[str, Any] = {}
    blocks: tuple[Mapping[str, Any], ...] = ()
    headers: Mapping[str, str] = {}
    told: str = "extended"
    """What the sidecar says of the conversation that goes on so; its refusal of a setting."""


IMAGE: Final = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
}
CITED: Final = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
    "citations": {"enabled": True},
}
UNCITED: Final = {**CITED, "citations": {"enabled": False}}


def result(*content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool's result."""
    return {"type": "tool_result", "tool_use_id": "t", "content": [*content]}


def schema(*names: str) -> dict[str, Any]:
    """An output format with these properties, in this order."""
    properties = {name: {"type": "string"} for name in names}
    return {"type": "json_schema", "schema": {"type": "object", "properties": properties}}


def output(**config: Any) -> dict[str, Any]:
    """An `output_config`."""
    return {"output_config": config}


SEARCHED: Final = {
    "type": "search_result",
    "source": "https://example.com",
    "title": "t",
    "content": [{"type": "text", "text": "x"}],
    "citations": {"enabled": True},
}
BUDGET: Final = {"type": "enabled", "budget_tokens": 1024}

TABLE: Final = (
    Row("nothing", Kept.ALL),
    # The model, and what has to be treated as one with it.
    Row("model", Kept.NOTHING, {"model": "claude-sonnet-4-5"}, told="model_changed"),
    Row("thinking", Kept.NOTHING, {"thinking": BUDGET}, told="thinking_changed"),
    Row(
        "adaptive thinking",
        Kept.NOTHING,
        {"thinking": {"type": "adaptive"}},
        told="thinking_changed",
    ),
    Row("thinking disabled", Kept.ALL, {"thinking": {"type": "disabled"}}),
    Row("thinking null", Kept.ALL, {"thinking": None}),
    Row("effort", Kept.NOTHING, output(effort="low"), told="effort_changed"),
    Row("default effort", Kept.ALL, output(effort="high")),
    Row("no effort", Kept.ALL, output(effort=None)),
    Row("empty output_config", Kept.ALL, output()),
    Row("output_config null", Kept.ALL, {"output_config": None}),
    Row("format", Kept.NOTHING, output(format=schema("a")), told="format_changed"),
    Row(
        "format beside the default effort",
        Kept.NOTHING,
        output(effort="high", format=schema("a")),
        told="format_changed",
    ),
    Row("no format", Kept.ALL, output(format=None)),
    Row("speed", Kept.NOTHING, {"speed": "fast"}, told="speed_changed"),
    Row("default speed", Kept.ALL, {"speed": "standard"}),
    Row("speed null", Kept.ALL, {"speed": None}),
    Row(
        "beta",
        Kept.NOTHING,
        headers={"anthropic-beta": "a-beta"},
        told="betas_changed",
    ),
    # Two keys may be of one workspace: nothing is said that is not known.
    Row("workspace", Kept.NOTHING, headers={"anthropic-workspace-id": "w2"}),
    Row("credential", Kept.NOTHING, headers={"x-api-key": "other"}),
    # System and messages.
    Row("citations", Kept.TOOLS, blocks=(CITED,), told="citations_changed"),
    Row("citations of a search result", Kept.TOOLS, blocks=(SEARCHED,), told="citations_changed"),
    Row(
        "citations in a tool's result",
        Kept.TOOLS,
        blocks=(result(SEARCHED),),
        told="citations_changed",
    ),
    Row("citations off", Kept.ALL, blocks=(UNCITED,)),
    # Messages alone.
    Row("tool_choice", Kept.SYSTEM, {"tool_choice": {"type": "any"}}, told="tool_choice_changed"),
    Row(
        "no parallel tools",
        Kept.SYSTEM,
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        told="tool_choice_changed",
    ),
    Row("default tool_choice", Kept.ALL, {"tool_choice": {"type": "auto"}}),
    Row(
        "parallel tools spelled out",
        Kept.ALL,
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
    ),
    Row("tool_choice null", Kept.ALL, {"tool_choice": None}),
    Row("image", Kept.SYSTEM, blocks=(IMAGE,), told="images_changed"),
    Row("image in a tool's result", Kept.SYSTEM, blocks=(result(IMAGE),), told="images_changed"),
    # What keys nothing.
    Row("max_tokens", Kept.ALL, {"max_tokens": 5000}),
    Row("stream", Kept.ALL, {"stream": True}),
    Row("metadata", Kept.ALL, {"metadata": {"user_id": "u"}}),
    Row("stop_sequences", Kept.ALL, {"stop_sequences": ["x"]}),
    Row("service_tier", Kept.ALL, {"service_tier": "standard_only"}),
    Row("diagnostics", Kept.ALL, {"diagnostics": {"previous_message_id": None}}),
)
"""What is of the contract itself (tools, system text, web tools) is in the simulator's own table:
a request cannot change it through the sidecar."""
