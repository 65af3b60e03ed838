"""Tools are the same bytes wherever they come from and in whatever order."""

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

import headwater
from headwater.contract.content import content, digest_of


def search(query: str, limit: Annotated[int, msgspec.Meta(ge=1)] = 10) -> str:
    """Search the orders."""
    return f"{query} {limit}"


class Refund(pydantic.BaseModel):
    """Give money back."""

    order: str
    reason: Literal["late", "broken"] = "late"


@dataclass
class Place:
    city: str


def deliver(place: Place) -> None:
    """Deliver somewhere."""


class Listed(pydantic.BaseModel):
    name: str
    description: str | None = None
    inputSchema: dict[str, Any]  # noqa: N815 - the protocol's name


SCHEMA = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b", "a"]}
LISTING = SimpleNamespace(tools=[Listed(name="weather", inputSchema=SCHEMA)])
PLAIN = {"name": "plain", "input_schema": {"type": "object"}}
SOURCES: list[Any] = [search, Refund, deliver, LISTING, PLAIN, {"name": "mcp", "inputSchema": {}}]


def test_each_source_becomes_a_tool() -> None:
    made = {tool["name"]: tool for tool in headwater.tools(*SOURCES)}
    assert list(made) == ["Refund", "deliver", "mcp", "plain", "search", "weather"]
    assert made["search"] == {
        "name": "search",
        "description": "Search the orders.",
        "input_schema": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1, "default": 10},
            },
            "required": ["query"],
        },
    }
    assert made["Refund"]["description"] == "Give money back."
    assert made["Refund"]["input_schema"]["required"] == ["order"]
    assert made["deliver"]["input_schema"]["$defs"]["Place"]["required"] == ["city"]
    assert made["weather"]["input_schema"]["required"] == ["a", "b"]
    assert made["mcp"] == {"name": "mcp", "input_schema": {}}


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same JSON with its keys, and `required`, in another order."""
    if not isinstance(value, dict):
        return value
    keys = chance.sample(list(value), len(value))
    return {
        key: chance.sample(value[key], len(value[key]))
        if key == "required"
        else shuffled(value[key], chance)
        for key in keys
    }


def test_shuffles_give_one_digest() -> None:
    """Servers list their tools as they come, and dictionaries as they were filled."""
    chance = random.Random(7)
    base = headwater.tools(*SOURCES)
    digests = set()
    for _ in range(100):
        arrived = [shuffled(tool, chance) for tool in chance.sample(base, len(base))]
        made = headwater.tools(arrived)
        assert repr(made) == repr(base)
        digests.add(digest_of(content(tools=made, system=[], ttl="5m")))
    assert len(digests) == 1


def test_deferred_tools_stay_out_of_the_prefix() -> None:
    """The form in which a program's own tools go with a contract."""
    (tool,) = headwater.tools(search, deferred=True)
    assert tool["defer_loading"] is True


def test_the_sources_are_not_changed() -> None:
    given = {"name": "x", "input_schema": {"required": ["b", "a"], "properties": {}}}
    headwater.tools(given, deferred=True)
    assert given == {"name": "x", "input_schema": {"required": ["b", "a"], "properties": {}}}


def bare(query):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - that is the case
    """Without annotations."""


def odd(query: complex) -> None:
    """With a type that JSON has not."""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ((PLAIN, PLAIN), "two tools are named 'plain'"),
        (({"input_schema": {}},), "without a name"),
        ((bare,), "tools.bare: its parameters cannot be described"),
        ((odd,), "tools.odd: its parameters cannot be described"),
        ((3,), "int is neither a function"),
        (({"name": "x", "input_schema": {"minimum": float("inf")}},), "inf is no JSON number"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(source: tuple[Any, ...], said: str) -> None:
    with pytest.raises(headwater.RequestError, match=said):
        headwater.tools(*source)
