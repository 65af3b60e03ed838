"""Edits of a manifest's text that change one field: every other byte stays as it was.

The places come from the YAML scanner. Whoever edits reads the result back, because a place may
lie in what an alias shares with another field.
"""

from collections.abc import Sequence
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from headwater.cli._yaml import ManifestError

Edit = tuple[int, int, str]
"""Start and end in characters, and what stands there from now on."""
Value = str | bool | int

_DEFAULT_INDENT: Final = 2


def replaced(source: str, path: str, key: Node, old: Node, text: str, value: Value) -> Edit:
    """The value of a key that is there; its quotes stay.

    Raises:
        ManifestError: it is not one line of text.
    """
    start, end = old.start_mark.index, old.end_mark.index
    if start == end:  # nothing behind the colon, but perhaps a comment
        start = text.index(":", key.end_mark.index) + 1
        return start, start, f" {_written(value)}"
    if not isinstance(old, ScalarNode) or "\n" in text[start:end]:
        raise ManifestError(
            f"{source}:{old.start_mark.line + 1}: {path} is not one line of text: remove it, and"
            " run this again."
        )
    quote = text[start] if isinstance(value, str) and text[start] in "'\"" else ""
    return start, end, f"{quote}{_written(value)}{quote}"


def placed(source: str, root: Node, path: Sequence[str], text: str, value: Value) -> Edit:
    """The edit that gives the field at `path` a value, whether it is there already or not.

    What is missing is put first into the mapping it belongs to.

    Raises:
        ManifestError: there is no place that could be edited safely.
    """
    node, above = root, root
    for depth, name in enumerate(path):
        if not isinstance(node, MappingNode):
            raise ManifestError(
                f"{source}:{node.start_mark.line + 1}: {'.'.join(path[:depth])} is no mapping:"
                f" write {'.'.join(path)} by hand."
            )
        entry = next((entry for entry in node.value if entry[0].value == name), None)
        if entry is None:
            return _inserted(node, above, path[depth:], text, value)
        above, node = entry
    return replaced(source, ".".join(path), above, node, text, value)


def _inserted(
    mapping: MappingNode, above: Node, path: Sequence[str], text: str, value: Value
) -> Edit:
    """`above` is the key that the mapping is the value of."""
    if mapping.flow_style or not mapping.value:
        at = mapping.start_mark.index + 1
        quote = '"' if text[above.start_mark.index] == '"' else ""  # JSON
        new = f"{quote}{_written(value)}{quote}" if isinstance(value, str) else _written(value)
        for depth, name in enumerate(reversed(path)):
            new = f"{quote}{name}{quote}: " + (f"{{{new}}}" if depth else new)
        return at, at, f"{new}, " if mapping.value else new
    newline = "\r\n" if "\r\n" in text else "\n"
    at = text.index("\n", above.end_mark.index) + 1
    column = mapping.value[0][0].start_mark.column
    step = max(column - above.start_mark.column, _DEFAULT_INDENT)
    lines = [f"{' ' * (column + depth * step)}{name}:" for depth, name in enumerate(path)]
    return at, at, newline.join(lines) + f" {_written(value)}{newline}"


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
