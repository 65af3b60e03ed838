"""References: followed to the byte, or refused with the name of what is wrong."""

import json
from typing import Any

import pytest

from headwater.contract.content import content, digest_of
from headwater.contract.errors import ContentError
from headwater.resources import BadReferenceError, MissingReferenceError, resolve
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import ConfigMapData, config_map_data

MAPS: dict[str, ConfigMapData] = {
    "prompts": {
        "a.md": "A\r\n  ",
        "b.md": "é".encode(),
        "latin": b"caf\xe9",
        "tools.json": '[{"name": "t"}]',
        "empty": "",
    }
}


def reference(name: str, key: str) -> dict[str, Any]:
    return {"configMapKeyRef": {"name": name, "key": key}}


def resolved(**source: Any) -> Any:
    return resolve(ContentSource.model_validate(source), MAPS.get, ttl="5m", provider="anthropic")


def test_referred_and_inline_content_are_the_same_contract() -> None:
    """Where the text lies is no part of it."""
    referred = resolved(
        toolsFrom=reference("prompts", "tools.json"),
        system=[
            {"textFrom": reference("prompts", "a.md")},
            {"textFrom": reference("prompts", "b.md")},
        ],
    )
    inline = content(tools=[{"name": "t"}], system=[{"text": "A\r\n  "}, {"text": "é"}], ttl="5m")
    assert digest_of(referred) == digest_of(inline)


def test_markers_of_blocks_are_kept() -> None:
    """Beside a text and beside a reference."""
    marker = {"type": "ephemeral", "ttl": "1h"}
    found = resolved(
        system=[
            {"text": "x", "cache_control": marker},
            {"textFrom": reference("prompts", "b.md"), "cache_control": {"type": "ephemeral"}},
        ]
    )
    assert [block["cache_control"]["ttl"] for block in found.system] == ["1h", "5m"]


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("none", "a.md", "there is no ConfigMap 'none'"),
        ("prompts", "c.md", "has no key 'c.md'; it has a.md, b.md"),
    ],
)
def test_a_reference_that_leads_nowhere_may_yet_be_mended(
    name: str, key: str, message: str
) -> None:
    """The error carries name and key, so that the controller can watch for them."""
    with pytest.raises(MissingReferenceError, match=message) as missing:
        resolved(system=[{"text": "x"}, {"textFrom": reference(name, key)}])
    assert (missing.value.name, missing.value.key) == (name, key)
    assert "content.system[1].textFrom" in str(missing.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("latin", r"is not UTF-8 \(byte 3\)"),
        ("a.md", "is not a JSON list of tools"),
        ("empty", "is not a JSON list of tools"),
    ],
)
def test_what_cannot_be_tools_is_refused(key: str, message: str) -> None:
    """It is there, and it is wrong: waiting would not help."""
    with pytest.raises(BadReferenceError, match=message) as refused:
        resolved(toolsFrom=reference("prompts", key))
    assert not isinstance(refused.value, MissingReferenceError)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "tools and system are both empty"),
        ({"system": [{}]}, "either text or textFrom"),
        ({"system": [{"textFrom": reference("prompts", "empty")}]}, "the text is empty"),
        ({"tools": [], "toolsFrom": reference("prompts", "tools.json")}, "keep one of them"),
    ],
)
def test_what_is_no_content_is_refused(source: dict[str, Any], message: str) -> None:
    """Also where no API server has looked at it before."""
    with pytest.raises(ContentError, match=message):
        resolved(**source)


def test_a_config_map_is_read_as_the_api_has_it() -> None:
    """Text as text, binary data decoded, absent parts as nothing."""
    body = json.loads('{"data": {"a": "x"}, "binaryData": {"b": "/w=="}}')
    assert config_map_data(body) == {"a": "x", "b": b"\xff"}
    assert config_map_data({"data": None}) == {}
