"""The texts of a contract, each with its place, and what of it is prose.

A prompt teaches by example: code, samples and patterns hold dates, identifiers and braces that
are meant to be there. What is looked at for values that somebody forgot to fill in, or that
change by themselves, is the prose around them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from headwater.contract.content import Content

Path = tuple[str | int, ...]
"""A place in the manifest: keys and indices."""

CONTENT: Final[Path] = ("spec", "content")

_DEPTH: Final = 64
"""Keys of a path; what lies deeper has the place of what it is in."""
_BLANKED: Final = "\0"
_CODE: Final = re.compile(
    r"^[ \t]*+(?P<fence>`{3,}+|~{3,}+)[^\n]*+\n(?:.*?^[ \t]*+(?P=fence)[^\n]*+$|.*\Z)"
    r"|(?P<tick>`{1,2})[^`\n]++(?P=tick)",
    re.MULTILINE | re.DOTALL,
)
_EXAMPLE_TAG: Final = re.compile(r"<(examples?|sample|samples)\b[^<>\n]{0,100}>", re.IGNORECASE)
_SAMPLES: Final = frozenset({"pattern", "format", "example", "examples", "$schema", "$id", "$ref"})
"""Keys of a schema whose values are samples or syntax."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of the contract.

    `prose` is as long as `value`, with a NUL for every character of code and of examples.
    `is_block` tells a system block's text from a tool's strings.
    """

    path: Path
    value: str
    prose: str
    is_block: bool = False


def texts(content: Content) -> Iterator[Text]:
    """Every string in the provider's order; the keys of a tool's objects are strings, too."""
    for index, tool in enumerate(content.tools):
        for path, value in _strings((*CONTENT, "tools", index), tool):
            text = _whole(value)
            yield Text(path, text, _BLANKED * len(text) if _is_sample(path) else _prose(text))
    for index, block in enumerate(content.system):
        if isinstance(given := block.get("text"), str):
            text = _whole(given)
            yield Text((*CONTENT, "system", index, "text"), text, _prose(text), is_block=True)


def _whole(value: str) -> str:
    """With half surrogates replaced: what has one is no contract, and has no bytes."""
    return value if value.isascii() else value.encode(errors="replace").decode()


def _is_sample(path: Path) -> bool:
    """A property may have the name of a keyword."""
    return any(key in _SAMPLES and above != "properties" for above, key in pairwise(path))


def _strings(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    pending = [(path, value)]
    while pending:  # not by recursion: a schema may be nested deeper than Python likes
        path, value = pending.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, Mapping):
            pending += reversed([(_below(path, str(key)), part) for key, part in value.items()])
            yield from ((_below(path, str(key)), str(key)) for key in value)
        elif isinstance(value, list | tuple):
            pending += reversed([(_below(path, index), part) for index, part in enumerate(value)])


def _below(path: Path, key: str | int) -> Path:
    return (*path, key) if len(path) < _DEPTH else path


def _prose(value: str) -> str:
    if "`" in value or "~~~" in value:
        value = _CODE.sub(lambda match: _BLANKED * len(match[0]), value)
    parts, done = [], 0
    for start, end in _examples(value):
        parts += [value[done:start], _BLANKED * (end - start)]
        done = end
    return "".join([*parts, value[done:]])


def _examples(value: str) -> Iterable[tuple[int, int]]:
    """What stands between the tags of an example, `<example>` to `</example>`."""
    lower = value.lower()
    if len(lower) != len(value):  # some capitals have lower-case forms of two characters
        lower = value
    found = []
    end = 0
    unclosed = set()
    for tag in _EXAMPLE_TAG.finditer(value):
        name = tag[1].lower()
        if tag.start() < end or name in unclosed:
            continue
        closing = lower.find(f"</{name}>", tag.end())
        if closing < 0:
            unclosed.add(name)
            continue
        end = closing
        found.append((tag.end(), closing))
    return found
