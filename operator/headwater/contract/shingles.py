"""Measure how much of one text stands in another, however the other is laid out.

Texts are compared by the runs of a few words that they have in common: w-shingling, and containment
rather than resemblance, because what stands around a copy says nothing about it (A. Z. Broder, "On
the resemblance and containment of documents", 1997). Case, white space, line ends, punctuation,
kinds of quotation marks and Unicode forms are no part of a word. That is for recognition alone:
nothing that is sent is ever normalised. Pure.

Shingles are Python's own hashes, which differ from one process to the next: they are neither
written nor sent.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

REACH: Final = 1 << 17
"""Characters at the start and at the end of a text that are looked at, so that the largest text
that a request may hold takes no longer than one of twice this length."""
_LENGTH: Final = 5
"""Words of a shingle. One edited word breaks as many of them; shorter ones are common phrases."""
_SAMPLE: Final = 2048
"""Shingles kept of a text, evenly spaced: 0.2 MB. It is right to 1.1 points (one standard
deviation) where half of a larger text is held, and exact for a text of no more than these."""
_MARKS: Final = re.compile(r"[^\w\s\x00-\x7f]{8,}")
"""Long runs of combining marks take quadratic time to normalise, and are in no writing. What else
is no word is none afterwards, either."""
_PIECE: Final = 1 << 12
"""Characters that are normalised at a time: one may become eighteen."""
_UNSPACED: Final = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, where a line may be wrapped anywhere: Thai, Lao, Burmese,
Khmer, Chinese, Japanese. Each character counts as a word."""
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

Sketch: TypeAlias = frozenset[int]
"""A sample of the shingles of a text."""


def sketch_of(text: str) -> Sketch:
    """Return the shingles by which copies of a text are recognised; none for one without words."""
    found = list(dict.fromkeys(_shingles(text)))
    return frozenset(found[:: -(-len(found) // _SAMPLE) or 1])


def in_common(sketch: Sketch, text: str) -> Sketch:
    """Return the part of a sketch that stands in a text, too."""
    return sketch.intersection(_shingles(text))


def _shingles(text: str) -> Iterator[int]:
    words = _words(text)
    # One with fewer words is a single shingle.
    length = min(_LENGTH, len(words)) or 1
    return map(hash, zip(*(islice(words, start, None) for start in range(length)), strict=False))


def _words(text: str) -> list[str]:
    if len(text) > 2 * REACH:
        text = f"{text[:REACH]} {text[-REACH:]}"
    text = text.casefold()
    return _WORD.findall(text if text.isascii() else _normal(_MARKS.sub(" ", text)))


def _normal(text: str) -> str:
    """One form for what Unicode can write in several, of no more than is looked at."""
    pieces: list[str] = []
    room = 2 * REACH
    for start in range(0, len(text), _PIECE):
        pieces.append(unicodedata.normalize("NFKC", text[start : start + _PIECE])[:room])
        room -= len(pieces[-1])
        if room <= 0:
            break
    return "".join(pieces)
