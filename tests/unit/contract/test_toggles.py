"""What in messages changes what stands before them: found where it is, and only there."""

import json
from typing import Any

import msgspec
import pytest

from headwater.contract.assembly import Request
from headwater.contract.toggles import may_cite, may_show_image, shows_image

ON = {"enabled": True}
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "x"}, "citations": ON}
IMAGE = {"type": "image", "source": {"type": "base64", "data": "x"}}


def user(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*content]}]


def result(*content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": [*content]}


def request(messages: Any, indent: int | None = None) -> Request:
    return Request.read(json.dumps({"messages": messages}, indent=indent).encode())


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (user(DOCUMENT), True),
        (user({"type": "text", "text": "x"}, DOCUMENT), True),
        (user(result(DOCUMENT)), True),
        (user({"type": "document", "source": {"type": "content", "content": [DOCUMENT]}}), True),
        (user({**DOCUMENT, "citations": {"enabled": False}}), False),
        (user({**DOCUMENT, "citations": None}), False),
        # An answer's citations, as an SDK writes them.
        (user({"type": "text", "text": "x", "citations": None}), False),
        (user({"type": "text", "text": "x", "citations": [{"cited_text": "x"}]}), False),
        # Data that only looks like it.
        (user({"type": "text", "text": json.dumps(DOCUMENT)}), False),
        (user({"type": "tool_use", "id": "t", "name": "t", "input": DOCUMENT}), False),
        # What the provider will refuse.
        (user({**DOCUMENT, "citations": {"enabled": "yes"}}), False),
        (user({**DOCUMENT, "source": 5, "content": 5}), True),
        ([5], False),
        ({"citations": ON}, False),
        (None, False),
    ],
)
def test_citations(messages: Any, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Enabled in any block, however it is spaced or escaped."""
    assert request(messages).cites is expected
    assert request(messages, indent=2).cites is expected
    body = json.dumps({"messages": messages}).replace("citations", "cit\\u0061tions").encode()
    assert Request.read(body).cites is expected


@pytest.mark.parametrize(("depth", "expected"), [(0, True), (2, True), (3, False), (100, False)])
def test_blocks_within_blocks_are_looked_at_three_deep(
    depth: int,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """As deep as the provider takes them, so that no request makes it take long."""
    nested: dict[str, Any] = DOCUMENT
    for _ in range(depth):
        nested = result(nested)
    assert request(user(nested)).cites is expected


def test_lists_of_citations_without_end_are_not_looked_at_one_by_one() -> None:
    """A long history of cited answers is decoded instead, in a time that its length bounds."""
    block = {"type": "text", "text": "x", "citations": []}
    assert not may_cite(json.dumps(user(*[block] * 900)).encode())
    many = json.dumps(user(*[block] * 1100)).encode()
    assert may_cite(many)
    assert not Request.read(b'{"messages":%b}' % many).cites


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (user(IMAGE), True),
        (user(result({"type": "text", "text": "x"}, IMAGE)), True),
        (user({"type": "tool_use", "id": "t", "name": "t", "input": IMAGE}), False),
        (user({"type": "text", "text": json.dumps(IMAGE)}), False),
        (user({"type": 5}), False),
    ],
)
def test_images(messages: Any, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """A block, and not what a tool is given."""
    data = json.dumps(messages).encode()
    assert (may_show_image(data) and shows_image(msgspec.Raw(data))) is expected
