"""Where the provider's cache would not do what an author expects of it.

Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22.
"""

from collections.abc import Iterator
from typing import Final

from headwater.contract.content import MARKER_KEY
from headwater.contract.lint.findings import Hit, Size, Subject
from headwater.contract.lint.texts import CONTENT

LOOK_BACK: Final = 20
"""Blocks, the marked one included, in which the provider looks for an older entry."""


def blank_text(subject: Subject) -> Iterator[Hit]:
    """A block of nothing but blanks."""
    for text in subject.texts:
        if text.is_block and not text.value.strip():
            yield Hit(text.path, "", text.value, 0, len(text.value))


def below_minimum(subject: Subject) -> Iterator[Hit]:
    """Models that surely cache nothing."""
    return _small(size for size in subject.facts.sizes if _share(size) < 1 - size.margin)


def near_minimum(subject: Subject) -> Iterator[Hit]:
    """Models of which an estimate cannot tell."""
    return _small(
        size for size in subject.facts.sizes if 1 - size.margin <= _share(size) < 1 + size.margin
    )


def _share(size: Size) -> float:
    return size.tokens / max(size.minimum, 1)


def _small(sizes: Iterator[Size]) -> Iterator[Hit]:
    for size in sizes:
        tokens = f"{'about ' if size.margin else ''}{size.tokens:,}"
        says = f"{size.model} caches from {size.minimum:,} tokens on and sees {tokens}"
        yield Hit(("spec", "models"), says)


def look_back(subject: Subject) -> Iterator[Hit]:
    """A marker with more blocks before it than the provider looks back over."""
    since = 0
    for index, block in enumerate(subject.content.system):
        since += 1
        if MARKER_KEY in block:
            if since > LOOK_BACK:
                says = f"{since} blocks stand since the marker before this one"
                yield Hit((*CONTENT, "system", index), says)
            since = 0


def behind_markers(subject: Subject) -> Iterator[Hit]:
    """The first part behind the last marker."""
    parts = [
        ((*CONTENT, kind, index), part)
        for kind, listed in (("tools", subject.content.tools), ("system", subject.content.system))
        for index, part in enumerate(listed)
    ]
    marked = [number for number, (_, part) in enumerate(parts) if MARKER_KEY in part]
    if marked and marked[-1] + 1 < len(parts):
        yield Hit(parts[marked[-1] + 1][0])
