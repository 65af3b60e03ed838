"""From a path in a manifest to the line and column that a person would look at.

Text in a block scalar is found exactly. In other styles (folded, quoted with escapes) the file
holds other characters than the value: what is looked for is searched in them, and where it is not
to be found, the place is where the text begins.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from headwater.cli._manifests import Document, Source
from headwater.cli._yaml import ManifestError, compose, member
from headwater.contract.lint import Finding

_REFERENCE: Final = ("configMapKeyRef",)


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both from 1 on, the column in characters."""

    source: Source
    line: int
    column: int

    @property
    def order(self) -> tuple[str, int, int]:
        """By this, places are sorted."""
        return self.source.name, self.line, self.column


@dataclass(frozen=True, slots=True)
class _Spot:
    """A node, the text that it was composed from, and how to get from there to the file."""

    source: Source
    text: str
    node: Node
    outer: "_Spot | None" = None

    def index(self, offset: int = 0, length: int = 0) -> int:
        """Where in the file a part of this node's value stands."""
        index = _within(self.text, self.node, offset, length)
        return index if self.outer is None else self.outer.index(index, 1)


def place(finding: Finding, document: Document, given: Iterable[Document]) -> Place:
    """Where a finding about this document is, in it or in a ConfigMap that it refers to."""
    spot, whole = _walk(document, finding.path, list(given))
    offset = length = 0
    if whole and isinstance(spot.node, ScalarNode):
        data = spot.node.value.encode()
        offset = len(data[: finding.offset].decode())
        end = finding.offset + finding.length
        length = len(data[finding.offset : end].decode())
    index = spot.index(offset, length)
    before = spot.source.text[:index]
    return Place(spot.source, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


def _walk(
    document: Document, path: Sequence[str | int], given: Sequence[Document]
) -> tuple[_Spot, bool]:
    """The innermost node that is there, and whether it is the path's own."""
    spot = _Spot(document.source, document.source.text, document.node)
    for key in path:
        node = _child(spot.node, key)
        if node is not None:
            spot = replace(spot, node=node)
            continue
        referred = _child(spot.node, f"{key}From")
        if referred is None:
            return spot, False
        found = _referred(replace(spot, node=referred), document, given)
        if found is None:
            return replace(spot, node=referred), False
        spot = found if key == "text" else _parsed(found)
    return spot, True


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(key, str):
        return member(node, key)
    inside = isinstance(node, SequenceNode) and key < len(node.value)
    return node.value[key] if inside else None


def _referred(spot: _Spot, document: Document, given: Sequence[Document]) -> _Spot | None:
    """The value of a ConfigMap's key."""
    name, key = (member(spot.node, *_REFERENCE, field) for field in ("name", "key"))
    if name is None or key is None:
        return None
    for other in given:
        same = other.body["kind"] == "ConfigMap" and other.name == name.value
        if same and other.namespace in (document.namespace, ""):
            node = member(other.node, "data", str(key.value))
            return None if node is None else _Spot(other.source, other.source.text, node)
    return None


def _parsed(spot: _Spot) -> _Spot:
    """A JSON text's own nodes: JSON is YAML."""
    text = str(spot.node.value)
    try:
        return _Spot(spot.source, text, next(iter(compose(text, spot.source.name))), spot)
    except (ManifestError, StopIteration):
        return spot


def _within(text: str, node: Node, offset: int, length: int) -> int:
    """Where the characters of a scalar's value stand in the text that it was composed from."""
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    if not isinstance(node, ScalarNode) or not (offset or length):
        return start
    if node.style == "|":
        return _within_block(text, node, offset)
    wanted = node.value[offset : offset + length]
    index = start
    for _ in range(node.value.count(wanted, 0, offset) + 1 if wanted else 0):
        index = text.find(wanted, index, end)
        if index < 0:
            return start
        index += 1
    return max(start, index - 1)


def _within_block(text: str, node: ScalarNode, offset: int) -> int:
    value = str(node.value)
    number = value.count("\n", 0, offset)
    column = offset - (value.rfind("\n", 0, offset) + 1)
    index = int(node.start_mark.index)
    for _ in range(number + 1):
        index = text.find("\n", index) + 1
    line = text[index:].partition("\n")[0].removesuffix("\r")
    written = value.split("\n")[number]
    return index + (len(line) - len(written) if line.endswith(written) else 0) + column
