"""Bytes that nobody sees, and that another editor or platform would write in another way."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from headwater.contract.lint.findings import Hit, Subject

CR: Final = re.compile(r"\r\n?")
_TRAILING: Final = re.compile(r"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
INVISIBLE: Final = re.compile(
    "\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f"  # the flag of a part of a country
    "|([\u200b-\u200d\u2060-\u2064\ufeff\u00ad\u180e\u115f\u1160\u3164\uffa0"
    "\U000e0000-\U000e007f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f])"
)
_JOINERS: Final = "\u200c\u200d"
_JOINED: Final = frozenset({"So", "Sk", "Mn", "Mc", "Lo"})
"""What a joiner may follow: emoji, and letters of scripts in which it has a meaning."""
BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")

Spans = Iterable[tuple[int, int]]


def in_texts(spans: Callable[[str], Spans]) -> Callable[[Subject], Iterator[Hit]]:
    """A check of every text, one hit for each."""

    def check(subject: Subject) -> Iterator[Hit]:
        for text in subject.texts:
            found = list(spans(text.value))
            if found:
                start, end = found[0]
                yield Hit(text.path, "", text.value, start, end, len(found))

    return check


def carriage_returns(text: str) -> Spans:
    """CR LF and CR alone."""
    return (match.span() for match in CR.finditer(text))


def trailing_blanks(text: str) -> Spans:
    """Blanks and tabs before a line's end."""
    return (match.span() for match in _TRAILING.finditer(text))


def decomposed(text: str) -> Spans:
    """The first character that is not in NFC."""
    if unicodedata.is_normalized("NFC", text):
        return
    composed = unicodedata.normalize("NFC", text)
    pairs = enumerate(zip(text, composed, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), len(composed))
    yield start, min(start + 2, len(text))


def invisible(text: str) -> Spans:
    """Characters without width, and control characters; joiners where they join are not."""
    for match in INVISIBLE.finditer(text):
        joins = match[0] in _JOINERS and unicodedata.category(text[match.start() - 1]) in _JOINED
        if match[1] and not (joins and match.start()):
            yield match.span()


def bidirectional(text: str) -> Spans:
    """Characters that make text read in another order than it stands."""
    return (match.span() for match in BIDI.finditer(text))


def final_newline(subject: Subject) -> Iterator[Hit]:
    """A block of several lines that does not end with exactly one newline."""
    for text in subject.texts:
        kept = text.value.rstrip("\r\n")
        ends = text.value[len(kept) :].replace("\r\n", "\n")
        if not text.is_block or "\n" not in text.value.strip("\r\n") or len(ends) == 1:
            continue
        says = "it ends with several newlines" if ends else "it ends without a newline"
        yield Hit(text.path, says, text.value, len(kept), len(text.value))
