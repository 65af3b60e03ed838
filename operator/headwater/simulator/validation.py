"""What the provider refuses in a request, apart from cache markers.

Not a full schema: the refusals that a change of caching, model or SDK can run into. Under
API version 2026-10-21 some once ordinary fields are refused.

Source: platform.claude.com/docs/en/api/messages and .../docs/en/api/versioning, as of
2026-08-22, and excerpts of October 2026 for the newer version.
"""

from collections.abc import Mapping
from typing import Any, Final

from headwater.simulator.errors import invalid

VERSIONS: Final = ("2023-06-01", "2026-10-21")
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_FIELDS: Final = frozenset(
    {
        *("cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages"),
        *("metadata", "model", "output_config", "service_tier", "speed", "stop_sequences"),
        *("stream", "system", "thinking", "tool_choice", "tools", *_SAMPLING),
    }
)


def check_fields(body: Mapping[str, Any], *, betas: frozenset[str]) -> None:
    """Refuse unknown fields; with a beta header they pass, since betas add fields."""
    for name in body:
        if name not in _FIELDS and not betas:
            raise invalid(f"{name}: Extra inputs are not permitted")


def check_sampling(body: Mapping[str, Any], *, version: str) -> None:
    """Refuse sampling parameters under the version that has dropped them."""
    if version == "2023-06-01":
        return
    for name in _SAMPLING:
        if name in body:
            raise invalid(f"{name}: not supported under anthropic-version {version}")


def as_blocks(content: Any, path: str) -> list[dict[str, Any]]:
    """Content as a list of blocks: a string is one text block, an empty one is none."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise invalid(f"{path}: Input should be a valid string or list")
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise invalid(f"{path}.{index}: Input should be an object")
        if not isinstance(block.get("type"), str):
            raise invalid(f"{path}.{index}.type: Field required")
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise invalid(f"{path}.{index}.text.text: Field required")
    return content


def check_tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools, refused where one has no name, shares it, or is deferred and marked."""
    tools = body.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{index}: Input should be an object")
        name = tool.get("name")
        if tool.get("type") != "mcp_toolset":
            if not isinstance(name, str):
                raise invalid(f"tools.{index}.name: Field required")
            if name in names:
                raise invalid("tools: Tool names must be unique.")
            names.add(name)
        if tool.get("defer_loading") is True and tool.get("cache_control") is not None:
            raise invalid(
                f"Tool '{name}' cannot have both defer_loading=true and cache_control set."
                " Tools with defer_loading cannot use prompt caching.",
            )
    return tools


def check_messages(body: Mapping[str, Any], *, version: str) -> list[dict[str, Any]]:
    """The messages, refused where roles or blocks stand where the provider takes none."""
    if "messages" not in body:
        raise invalid("messages: Field required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"messages.{index}: Input should be an object")
        if message.get("role") not in ("user", "assistant", "system"):
            raise invalid(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if content is None:
            raise invalid(f"messages.{index}.content: Field required")
        final_answer = message["role"] == "assistant" and index == len(messages) - 1
        if content in ("", []) and not final_answer:
            raise invalid(
                f"messages.{index}: all messages must have non-empty content except for the"
                " optional final assistant message"
            )
        _check_content(message, index, version)
    roles = [message["role"] for message in messages]
    if roles[0] == "assistant":
        raise invalid('messages: first message must use the "user" role')
    for index, role in enumerate(roles):
        follows_user = index > 0 and roles[index - 1] == "user"
        before_assistant = index == len(roles) - 1 or roles[index + 1] == "assistant"
        if role == "system" and not (follows_user and before_assistant):
            raise invalid("role 'system' is not supported on this model")
    return messages


def check_system(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The system blocks, refused where they are no text; an empty string is none."""
    system = as_blocks(body.get("system"), "system")
    for index, block in enumerate(system):
        if block["type"] != "text":
            raise invalid(f"system.{index}.type: Input should be 'text'")
        _check_text(block, "system")
    return system


def _check_text(block: Mapping[str, Any], section: str) -> None:
    # A marked empty text has a refusal of its own, see markers.
    if block["type"] != "text" or (block["text"] == "" and block.get("cache_control") is not None):
        return
    if block["text"] == "":
        raise invalid(f"{section}: text content blocks must be non-empty")
    if not block["text"].strip():
        raise invalid(f"{section}: text content blocks must contain non-whitespace text")


def _check_content(message: Mapping[str, Any], index: int, version: str) -> None:
    role = message["role"]
    for place, block in enumerate(as_blocks(message["content"], f"messages.{index}.content")):
        path = f"messages.{index}.content.{place}"
        _check_text(block, "messages")
        if version == "2023-06-01":
            continue
        if role == "assistant" and block["type"] == "document":
            raise invalid(f"{path}: document blocks are not supported in assistant messages")
        if role == "user" and block["type"] == "text" and block.get("citations"):
            raise invalid(f"{path}.citations: not supported on user text blocks")


def check_pre_warm(body: Mapping[str, Any]) -> None:
    """Refuse what cannot go with `max_tokens: 0`, which fills the cache and answers nothing."""
    thinking, output, choice = (
        value if isinstance(value, dict) else {}
        for value in (body.get("thinking"), body.get("output_config"), body.get("tool_choice"))
    )
    conflicts = {
        "stream": body.get("stream") is True,
        "thinking.type": thinking.get("type") == "enabled",
        "output_config.format": output.get("format") is not None,
        "tool_choice.type": choice.get("type") in ("any", "tool"),
    }
    for path, conflict in conflicts.items():
        if conflict:
            raise invalid(f"{path}: not supported with max_tokens=0")
