"""What became of tools and blocks, where two contracts part, and what the cache still has."""

# ruff: noqa: E501 - the tables below are read by their rows
import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import canonical_bytes, content
from headwater.contract.diff import Change, difference, unified

A: dict[str, Any] = {"name": "a", "description": "first", "input_schema": {"type": "object"}}
B: dict[str, Any] = {"name": "b", "description": "second"}
C: dict[str, Any] = {"name": "c", "description": "third"}


def contract(*tools: dict[str, Any], texts: Sequence[str] = ("one", "two"), **more: Any) -> bytes:
    return canonical_bytes(
        content(tools=tools, system=[{"text": text} for text in texts], ttl="5m", **more)
    )


BEFORE = contract(A, B)
CHANGES: dict[str, tuple[bytes, bytes, list[Change]]] = {
    "nothing": (BEFORE, BEFORE, []),
    "a tool more, in front": (BEFORE, contract(C, A, B), [Change("added", "tools", "c", None, 0)]),
    "a tool less": (contract(A, B, C), contract(B, C), [Change("removed", "tools", "a", 0, None)]),
    "a tool another": (BEFORE, contract({**A, "description": "1st", "x": None}, B), [Change("changed", "tools", "a", 0, 0, ("description", "x"))]),
    "true is not one": (contract({**A, "x": 1}), contract({**A, "x": True}), [Change("changed", "tools", "a", 0, 0, ("x",))]),
    "a tool elsewhere": (contract(A, B, C), contract(B, A, C), [Change("moved", "tools", "b", 1, 0)]),
    "a marker elsewhere": (contract(A, B), contract(A, C, B), [Change("added", "tools", "c", None, 1)]),
    "a block another": (BEFORE, contract(A, B, texts=("one", "2")), [Change("changed", "system", "", 1, 1, ("text",))]),
    "a block more, in front": (BEFORE, contract(A, B, texts=("zero", "one", "two")), [Change("added", "system", "", None, 0)]),
    "a block less": (BEFORE, contract(A, B, texts=("two",)), [Change("removed", "system", "", 0, None)]),
    "a tool for a text": (contract(A, texts=()), contract(texts=("one",)), [Change("removed", "tools", "a", 0, None), Change("added", "system", "", None, 0)]),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "changes"), CHANGES.values(), ids=CHANGES)
def test_every_change_is_named(before: bytes, after: bytes, changes: list[Change]) -> None:
    """Tools by their names, blocks by their places; what is the same is not mentioned."""
    assert list(difference(before, after).changes) == changes


def test_another_ttl_is_a_change_of_the_markers() -> None:
    """The text is the same, and the cache is not asked to forget it."""
    later = canonical_bytes(
        content(tools=[A, B], system=[{"text": "one"}, {"text": "two"}], ttl="1h")
    )
    found = difference(BEFORE, later)
    assert [(c.part, c.after, c.fields) for c in found.changes] == [
        ("tools", 1, ("cache_control",)),
        ("system", 1, ("cache_control",)),
    ]
    assert (found.kept_tools, found.kept_blocks) == (2, 2)
    assert found.parting is not None
    assert found.parting.path == "tools[1].cache_control.ttl"


PARTINGS: dict[str, tuple[bytes, bytes, str, str, str]] = {
    "a text": (contract(texts=("Be brief.\nBe kind.",)), contract(texts=("Be brief.\nBe fair.",)), "system[0].text", 'kind.","type":"text"}', 'fair.","type":"text"}'),
    "deep in a tool": (contract({"name": "a", "s": {"x": [1, {"y": 2}]}}), contract({"name": "a", "s": {"x": [1, {"y": 3}]}}), "tools[0].s.x[1].y", "2}]}}", "3}]}}"),
    "a key more": (contract({"name": "a", "z": 1}), contract({"name": "a", "k": 1, "z": 1}), "tools[0].k", 'name":"a","z":1}', 'k":1,"name":"a","z":1}'),
    "an item more": (contract({"name": "a", "s": [1]}), contract({"name": "a", "s": [1, 2]}), "tools[0].s[1]", "]}", ",2]}"),
    "a tool first, though a block lies before it in the file": (BEFORE, contract(A, {**B, "description": "2nd"}, texts=("1", "2")), "tools[1].description", 'second","name":"b"}', '2nd","name":"b"}'),
    "a block more": (contract(texts=("a",)), contract(texts=("a", "b")), "system[0].cache_control", "", ""),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "path", "old", "new"), PARTINGS.values(), ids=PARTINGS)
def test_the_first_difference_is_found(
    before: bytes, after: bytes, path: str, old: str, new: str
) -> None:
    """In the provider's order: the tools, then the blocks."""
    found = difference(before, after).parting
    assert found is not None
    assert found.path == path
    assert found.before.endswith(old)
    assert found.after.endswith(new)
    rest = before[found.offset :].decode()
    assert rest.startswith(found.before)
    assert before[: found.offset].decode().endswith(found.shared)


def test_a_part_that_only_one_has_is_the_first_difference() -> None:
    """It is named, and so is the place where it would be in the other."""
    marked = {"type": "ephemeral", "ttl": "5m"}
    first = canonical_bytes(
        content(tools=[], system=[{"text": "a", "cache_control": marked}], ttl="5m")
    )
    second = canonical_bytes(
        content(tools=[], system=[{"text": "a", "cache_control": marked}, {"text": "b"}], ttl="5m")
    )
    found = difference(first, second).parting
    assert found is not None
    assert (found.path, found.shared, found.before) == ("system[1]", "", "")
    assert found.after == '{"text":"b","type":"text"}'
    assert first[found.offset :] == b'],"tools":[]}'


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (contract(A, B), (2, 2)),
        (contract(A, B, texts=("one", "2")), (2, 0)),
        (contract(A, B, texts=("one", "two", "three")), (2, 2)),
        (contract(A, {**B, "x": 1}), (0, 0)),
        (contract(A, B, C), (2, 0)),
        (contract(C, A, B), (0, 0)),
        (contract(texts=("one", "two")), (0, 0)),
    ],
)
def test_what_the_cache_still_has_ends_at_a_marker(after: bytes, kept: tuple[int, int]) -> None:
    """A block that is the same behind the last such marker is written anew with the others."""
    found = difference(BEFORE, after)
    assert (found.kept_tools, found.kept_blocks) == kept
    assert found.shared.startswith(found.kept)


def test_a_unified_diff_of_a_text() -> None:
    """Line by line; U+2028 ends no line, and a missing line end is told."""
    before = contract(texts=("a\nb\u2028c\nd\n",))
    after = contract(texts=("a\nb\u2028x\nd",))
    (change,) = difference(before, after).changes
    assert list(unified(before, after, change, ("v1", "v2"))) == [
        "--- v1 system[0]",
        "+++ v2 system[0]",
        "@@ -1,3 +1,3 @@",
        " a",
        "-b\u2028c",
        "-d",
        "+b\u2028x",
        "+d",
        "\\ No newline at the end",
    ]


def test_a_unified_diff_of_a_tool() -> None:
    """As indented JSON; what was not there comes from nothing."""
    after = contract(A, B, C)
    change = Change("added", "tools", "c", None, 2)
    lines = list(unified(BEFORE, after, change, ("v1", "v2")))
    assert lines[:2] == ["--- /dev/null", "+++ v2 tools[2]"]
    assert '+  "name": "c"' in lines


names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)
tools = st.builds(
    lambda names, versions: [
        {"name": name, "v": version} for name, version in zip(names, versions, strict=False)
    ],
    names,
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
texts = st.lists(st.sampled_from(["x", "yy", "zß", "😀"]), max_size=4)
contracts = st.builds(lambda tools, texts: contract(*tools, texts=texts), tools, texts.filter(bool))


@given(contracts, contracts)
def test_changes_are_complete_and_true(before: bytes, after: bytes) -> None:
    """Whoever applies the changes to the first contract gets the second; none are for nothing."""
    found = difference(before, after)
    assert (not found.changes) == (found.parting is None) == (before == after)
    old, new = json.loads(before), json.loads(after)
    built = {
        part: applied(old[part], new[part], part, found.changes) for part in ("tools", "system")
    }
    assert built == {part: new[part] for part in ("tools", "system")}
    if found.parting is not None:
        head = before[: found.parting.offset].decode()
        assert head.endswith(found.parting.shared)
        assert before.decode()[len(head) :].startswith(found.parting.before)


def applied(old: list[Any], new: list[Any], part: str, changes: tuple[Change, ...]) -> list[Any]:
    """The old list with the changes in it: what is not mentioned comes from the old one."""
    mine = [change for change in changes if change.part == part]
    gone = {c.before for c in mine if c.before is not None}
    put = {c.after for c in mine if c.after is not None}
    rest = iter([copy.deepcopy(item) for index, item in enumerate(old) if index not in gone])
    return [
        new[index] if index in put else next(rest)
        for index in range(len(put) + len(old) - len(gone))
    ]
