"""What a rule is, what it looks at, and what it says."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from headwater.contract.content import Content
from headwater.contract.lint.texts import Path, Text, texts

Severity = Literal["error", "warning", "note"]
"""`error`: no version should be published so; `warning`: it probably costs; `note`: it may one
day."""

IGNORE_ANNOTATION: Final = "headwater.dev/lint-ignore"
"""Where an author names rules to be ignored. A comment cannot: what is in a text is sent."""

_EXCERPT: Final = 40
"""Characters of an excerpt."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many tokens a model sees in the contract, and from how many on it caches.

    `margin` is how far off `tokens` may be, as a share of the minimum; 0 for a count.
    """

    model: str
    tokens: int
    minimum: int
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules need to know beside the content; each part is optional.

    `previous_tools` are the names of the version before, in its order, `tenants` regular
    expressions (RE2) that match tenants' names, `ignore` the ids of rules that shall be silent.
    """

    sizes: tuple[Size, ...] = ()
    previous_tools: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Subject:
    """What every rule gets: the content, its texts, and the facts.

    `values` and `prose` are those of all texts, joined by newlines. Most strings of a contract
    are short and most rules find nothing: one look at all of them is ten times as fast.
    """

    content: Content
    texts: tuple[Text, ...]
    values: str
    prose: str
    facts: Facts

    @classmethod
    def of(cls, content: Content, facts: Facts) -> Self:
        """Collect the texts."""
        found = tuple(texts(content))
        values = "\n".join(text.value for text in found)
        return cls(content, found, values, "\n".join(text.prose for text in found), facts)


@dataclass(frozen=True, slots=True)
class Hit:
    """A place that a rule objects to.

    `says` stands in for the rule's own sentence. Where the place is within a text, `text` is
    that text and `start` and `end` are characters of it; `count` is how many places like it that
    text has.
    """

    path: Path
    says: str = ""
    text: str = ""
    start: int = 0
    end: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is objected to, for one reason.

    Attributes:
        id: stable; authors write it down where they ignore the rule.
        severity: of each of its findings.
        says: what is wrong, to be continued by an excerpt.
        costs: why it matters.
        remedy: what to do, a sentence.
        check: finds the places.
        secret: whether an excerpt must not show what was found.
        in_prose: RE2 expressions that match where there is anything to find, and perhaps
        in_values: elsewhere; in the prose, in the values. Without either the check always runs.
    """

    id: str
    severity: Severity
    says: str
    costs: str
    remedy: str
    check: Callable[[Subject], Iterable[Hit]]
    secret: bool = False
    in_prose: str = ""
    in_values: str = ""

    def finding(self, hit: Hit) -> "Finding":
        """What is said of a place."""
        found = hit.text[hit.start : hit.end]
        before = hit.text[: hit.start]
        return Finding(
            rule=self.id,
            severity=self.severity,
            path=hit.path,
            offset=len(before.encode()),
            length=len(found.encode()),
            excerpt=visible(found[:4] + "…" if self.secret and found else found),
            message=(hit.says or self.says)
            + (f" ({hit.count} times in this text, the first here)" if hit.count > 1 else ""),
            remedy=self.remedy,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One objection, with its place.

    `offset` and `length` are bytes (UTF-8) in the text at `path`, both 0 where the finding is
    about a part as a whole. `excerpt` shows them with escapes for what cannot be seen; what looks
    like a secret is not shown.
    """

    rule: str
    severity: Severity
    path: Path
    offset: int
    length: int
    excerpt: str
    message: str
    remedy: str

    @property
    def where(self) -> str:
        """The path as people write it: `spec.content.system[0].text`."""
        return "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path
        ).removeprefix(".")

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, in one line."""
        shown = f': "{self.excerpt}"' if self.excerpt else ""
        return f"{self.message}{shown}. {self.remedy}"


def ignored(annotations: Mapping[str, Any]) -> frozenset[str]:
    """The rules that a prefix's annotations name, separated by commas."""
    names = str(annotations.get(IGNORE_ANNOTATION) or "").split(",")
    return frozenset(filter(None, map(str.strip, names)))


def visible(text: str) -> str:
    """The text, cut to an excerpt, with escapes for what a reader would not see as it is."""
    cut = text[:_EXCERPT]
    bare = not cut.strip(" ")
    return "".join(map(_escaped if bare else _shown, cut)) + ("…" if len(text) > len(cut) else "")


def _shown(character: str) -> str:
    seen = character.isprintable() and unicodedata.category(character) not in ("Mn", "Me")
    return character if seen else _escaped(character)


def _escaped(character: str) -> str:
    return r"\x20" if character == " " else character.encode("unicode_escape").decode()
