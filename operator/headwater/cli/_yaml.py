"""YAML as kubectl reads it, with the place of every value in the text.

A digest is only worth something if the command line sees the very values that the API server
will hold. kubectl reads YAML by rules that are neither 1.1 nor 1.2 (`yes` and the key `y` are
true, `012` is 10, `0o14` is 12, `12:30` and dates stay text), so the library's own resolution
is switched off, and its scanner and composer alone are used. What kubectl might read in another
way, such as a tag, is refused rather than guessed.

Source: sigs.k8s.io/yaml in kubectl 1.34; `tests/integration/test_crds.py` compares.
"""

import io
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.main import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from headwater.contract.errors import HeadwaterError

_PLAIN: Final = "tag:headwater.dev,2026:plain"
_TEXT: Final = "tag:yaml.org,2002:str"
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_WORDS: Final[dict[str, bool | None]] = {
    variant: value
    for words, value in (
        (("true", "yes", "on", "y"), True),
        (("false", "no", "off", "n"), False),
        (("null",), None),
    )
    for word in words
    for variant in (word, word.capitalize(), word.upper())
} | {"~": None, "": None}
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INT64: Final = 1 << 63


class ManifestError(HeadwaterError):
    """A file is not YAML, or not YAML that kubectl and this command surely read alike."""


class _Resolver(VersionedResolver):
    """Tells plain scalars from quoted ones, and resolves nothing else."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode and implicit[0]:
            return Tag(suffix=_PLAIN)
        return super().resolve(kind, value, (False, False))


class _Composer(Composer):
    warn_double_anchors = False  # YAML allows it, and so does kubectl

    def compose_scalar_node(self, anchor: Any) -> Any:
        event = self.parser.peek_event()
        if event.tag == "!":  # a resolver is not told of it
            problem = "the tag ! is not read: write the value without it"
            raise ComposerError(None, None, problem, event.start_mark)
        return super().compose_scalar_node(anchor)


def compose(text: str, source: str) -> Iterator[Node]:
    """The root node of every document that is not empty.

    Raises:
        ManifestError: not YAML; names `source`, line and column.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _Resolver
    yaml.Composer = _Composer
    try:
        for node in yaml.compose_all(text):
            if node is not None:
                yield node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ManifestError(f"{source}{place}: {error.problem or error.context}.") from error
    except YAMLError as error:
        raise ManifestError(f"{source}: {' '.join(str(error).split())}.") from error


def value_of(node: Node, source: str) -> Any:
    """What kubectl would send as JSON.

    Raises:
        ManifestError: a tag, a repeated key, or a number that JSON does not have.
    """
    return _Reader(source).value(node)


class _Representer(SafeRepresenter):
    """Quotes each text that kubectl would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def text(self, data: str) -> ScalarNode:
        style = None
        if data in _WORDS or _NOT_FINITE.fullmatch(data) or _number(data) != data:
            style = '"'
        elif not data.replace("\n", "").replace("\t", "").isprintable():
            style = '"'  # unescaped, a CR or U+2028 would come back as a newline
        elif "\n" in data:
            style = "|"
        node: ScalarNode = self.represent_scalar(_TEXT, data, style=style)
        return node


_Representer.add_representer(str, _Representer.text)


def dump(value: Any) -> str:
    """What JSON holds, as YAML that kubectl and `value_of` read as the same."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 1 << 16  # a folded line is hard to search in
    written = io.StringIO()
    yaml.dump(value, written)
    return written.getvalue()


def member(node: Node, *path: str) -> Node | None:
    """The node of a field, by its plain text keys; None where it is absent."""
    for key in path:
        found = None
        if isinstance(node, MappingNode):
            found = next((value for name, value in node.value if name.value == key), None)
        if found is None:
            return None
        node = found
    return node


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source

    def value(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if isinstance(node, SequenceNode):
            self._refuse_tag(node, "tag:yaml.org,2002:seq")
            return [self.value(item) for item in node.value]
        assert isinstance(node, MappingNode)  # noqa: S101 - there are three kinds of node
        self._refuse_tag(node, "tag:yaml.org,2002:map")
        return self._mapping(node)

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        read: dict[str, Any] = {}
        seen = set()
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                read |= self._merged(value_node)  # in place: kubectl lets it win over keys above
                continue
            key = self._key(key_node)
            if key in seen:
                raise self._error(key_node, f"the key {key!r} stands twice: remove one of them")
            seen.add(key)
            read[key] = self.value(value_node)
        return read

    def _merged(self, node: Node) -> dict[str, Any]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                raise self._error(node, "`<<` takes an alias of a mapping, or a list of them")
            merged = {**self._mapping(part), **merged}
        return merged

    def _key(self, node: Node) -> str:
        key = self.value(node) if isinstance(node, ScalarNode) else None
        match key:
            case str():
                return key
            case bool():
                return "true" if key else "false"
            case int():
                return str(key)
            case _:
                raise self._error(node, "a key is a text: put it into quotes")

    def _scalar(self, node: ScalarNode) -> Any:
        text = node.value
        if node.tag != _PLAIN:
            self._refuse_tag(node, _TEXT)
            # JSON writes what is beyond the first 65,536 characters as a pair of escapes.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._error(node, f"{text} is no number that JSON has: put it into quotes")
        return _number(text)

    def _refuse_tag(self, node: Node, expected: str) -> None:
        if node.tag != expected:
            raise self._error(node, f"the tag {node.tag} is not read: write the value without it")

    def _error(self, node: Node, problem: str) -> ManifestError:
        mark = node.start_mark
        return ManifestError(f"{self._source}:{mark.line + 1}:{mark.column + 1}: {problem}.")


def _number(text: str) -> str | int | float:
    """A plain scalar as a number where kubectl sees one; else the text itself."""
    if re.match(r"[-+0-9]|\.[0-9]", text) is None:
        return text
    digits = text.replace("_", "")
    if whole := _INTEGER.fullmatch(digits):
        value = _integer(whole[2]) * (-1 if whole[1] == "-" else 1)
        if -_INT64 <= value < 2 * _INT64:
            return value
    if _FLOAT.fullmatch(digits) and math.isfinite(number := float(digits)):
        # As JSON carries it: 1.0 is sent as 1, and 1e20 as its digits.
        return int(number) if number.is_integer() and abs(number) < 1e21 else number  # noqa: PLR2004 - where JSON goes over to exponents
    return text


def _integer(digits: str) -> int:
    if digits[:2].lower() in ("0x", "0b", "0o"):
        return int(digits, 0)
    return int(digits, 8 if digits[0] == "0" else 10)
