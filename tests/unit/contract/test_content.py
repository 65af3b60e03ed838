"""Canonical bytes: one contract has one digest, and another contract has another."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import canonical_bytes, content, content_of, digest_of
from headwater.contract.digest import Digest
from headwater.contract.errors import ContentError, DigestError

TOOLS: list[dict[str, Any]] = [
    {
        "name": f"tool_{number}",
        "description": "Looks things up.\r\nÉ, e\u0301 and 😀.  ",
        "input_schema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "description": "What to look for"},
                "limit": {"type": "integer", "default": 10, "maximum": 50},
                "filter": {"type": "object", "properties": {"y": {}, "ö": {}, "\ufb33": {}}},
            },
            "required": ["query"],
        },
    }
    for number in range(3)
]
SYSTEM = [{"type": "text", "text": "One.\n"}, {"text": "Two.", "type": "text"}]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
texts = st.text(min_size=1)


def shuffled(value: Any, order: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    match value:
        case Mapping():
            keys = list(value)
            order.shuffle(keys)
            return {key: shuffled(value[key], order) for key in keys}
        case list():
            return [shuffled(item, order) for item in value]
        case _:
            return value


def test_shuffles_of_one_contract_have_one_digest() -> None:
    """The order of keys, at whatever depth, is no part of a contract."""
    order = random.Random(20_261_121)
    expected = digest_of(content(tools=TOOLS, system=SYSTEM, ttl="5m"))
    written = set()
    for _ in range(100):
        tools, system = shuffled(TOOLS, order), shuffled(SYSTEM, order)
        written.add(repr((tools, system)))
        assert digest_of(content(tools=tools, system=system, ttl="5m")) == expected
    assert len(written) > 99, "the shuffles were no shuffles"


def test_the_order_of_tools_and_blocks_is_part_of_the_contract() -> None:
    """The provider caches by order, so another order is another contract."""
    straight = digest_of(content(tools=TOOLS, system=SYSTEM, ttl="5m"))
    assert digest_of(content(tools=TOOLS[::-1], system=SYSTEM, ttl="5m")) != straight
    assert digest_of(content(tools=TOOLS, system=SYSTEM[::-1], ttl="5m")) != straight


@given(first=st.lists(texts, min_size=1), second=st.lists(texts, min_size=1))
def test_other_texts_are_another_digest(first: list[str], second: list[str]) -> None:
    """Nothing is normalised away: texts are the same exactly when digests are."""

    def digest(blocks: list[str]) -> Digest:
        return digest_of(content(tools=[], system=[{"text": text} for text in blocks], ttl="5m"))

    assert (digest(first) == digest(second)) == (first == second)


@given(schema=json_values)
def test_any_json_in_a_tool_has_canonical_bytes_in_any_key_order(schema: Any) -> None:
    """Tools are the provider's business: what JSON can say, a contract can carry."""
    tool = {"name": "t", "input_schema": schema}
    turned = {"input_schema": shuffled(schema, random.Random(1)), "name": "t"}
    assert canonical_bytes(content(tools=[tool], system=[], ttl="5m")) == canonical_bytes(
        content(tools=[turned], system=[], ttl="5m")
    )


@given(blocks=st.lists(texts))
def test_canonical_bytes_are_read_as_what_they_were_made_of(blocks: list[str]) -> None:
    """Whoever has the bytes alone has the content, markers included."""
    system = [*SYSTEM, *({"text": text} for text in blocks)]
    declared = content(tools=TOOLS, system=system, ttl="1h")
    assert content_of(canonical_bytes(declared)) == declared


def test_the_authors_content_is_not_changed() -> None:
    """Markers are placed in copies: an author's objects may be used again."""
    tools, system = [{"name": "a"}], [{"text": "x"}]
    content(tools=tools, system=system, ttl="5m")
    assert (tools, system) == ([{"name": "a"}], [{"text": "x"}])


@pytest.mark.parametrize(
    "value",
    ["\ud800", float("nan"), float("inf"), 2**53],
    ids=["lone-surrogate", "nan", "infinity", "2^53"],
)
def test_what_json_cannot_carry_between_languages_is_refused(value: Any) -> None:
    """Rather no digest than one that another language cannot find again."""
    declared = content(tools=[{"name": "t", "x": value}], system=[], ttl="5m")
    with pytest.raises(ContentError, match=r"content: .*use integers up to"):
        canonical_bytes(declared)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "0" * 64,
        "sha256:" + "0" * 64 + "\n",
    ],
)
def test_a_digest_has_one_form(text: str) -> None:
    """The error shows what was given, and how to get the right one."""
    with pytest.raises(DigestError, match="headwater digest"):
        Digest(text)


def test_a_digest_is_what_sha256sum_prints() -> None:
    """The sha256 of the empty input, as everybody knows it."""
    digest = Digest.of(b"")
    assert digest.hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest == f"sha256:{digest.hex}"
    assert digest.short == "e3b0c44298fc"
