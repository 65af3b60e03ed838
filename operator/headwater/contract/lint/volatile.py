"""Text that is another one each time: what a template, a clock or a counter put there.

The provider's cache is by exact bytes. One date in the first line, and no request reads what
yesterday's wrote. The rules know phrases of English; what they miss, the canary's hit rate
shows. A date as a fact ("effective 1 January 2025") is no finding, nor are examples and code.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from headwater.contract.lint.findings import Hit, Subject

_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY: Final = r"[0-9]{1,2}(?:st|nd|rd|th)?\b\.?"
_DATE: Final = (
    r"(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}"
    rf"|{_DAY}\ (?:of\ )?{_MONTH}|{_MONTH}\ (?:{_DAY}|[0-9]{{4}}\b))"
)
_MOMENT: Final = (
    rf"(?:{_DATE}|(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|[0-9]{{1,2}}:[0-9]{{2}}"
    r"|[0-9]{1,2}\ ?[ap]\.?m\b|20[0-9]{2}\b|[0-9]{10,13}\b)"
)
_OPENING: Final = r"""[\s*_"'(,:]{0,6}(?:the\ )?"""
TODAY: Final = re.compile(
    r"\b(?=[acginprst])(?:"
    r"today(?: is|,? the date is| ?[:=(])"
    "|(?:today['\u2019]s|current|present|system)[ _](?:local |system |utc |server )?"
    r"(?:date(?:[ _]?(?:and[ _]|& )?time)?|time(?:stamp)?|day|weekday|month|year)"
    r"(?: \([^()\n]{1,20}\))?(?: is| ?[:=])"
    r"|now is|it is (?:now|currently)|as of (?:today|now)|(?:generated|rendered) (?:on|at)"
    rf"){_OPENING}{_MOMENT}"
    rf"|^[^\w\n\0]{{0,4}}(?:date|date and time|datetime|timestamp) ?[:=]{_OPENING}{_DATE}",
    re.IGNORECASE | re.MULTILINE,
)
_SUPPOSED: Final = re.compile(r"\b(?:if|when|whether|unless)\s\Z", re.IGNORECASE)
# Each of these begins with the characters that it can begin with: that halves the time.
TIMESTAMP: Final = re.compile(
    r"(?=[0-9mtwfseu])(?:"
    r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?!00:00:00)[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:[.,][0-9]{1,9})?(?:Z\b|[+-][0-9]{2}:?[0-9]{2}\b)?"
    rf"|\b(?:mon|tue|wed|thu|fri|sat|sun), [0-9]{{1,2}} {_MONTH} [0-9]{{4}}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|\b(?:timestamp|epoch|unix[ _]time)\b[^\w\n]{1,4}[0-9]{10,13}\b)",
    re.IGNORECASE,
)
RANDOM: Final = re.compile(
    r"(?=[0-9a-f])\b(?<!sha256:)"
    r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[0-9]*+[a-f])(?=[a-f]*+[0-9])[0-9a-f]{32,128}+)\b",
    re.IGNORECASE,
)
NONCE: Final = re.compile(
    r"(?=[bcdinrst])\b"
    r"(?:(?:request|session|trace|correlation|conversation|invocation|run|build|deploy(?:ment)?"
    r"|thread|render)[ _-]?(?:id|uuid|token|hash)|nonce|cache[ _-]?bust(?:er|ing)?|random[ _-]seed)"
    r"(?: is|[ ]?[:=#])[\s\"'(]{0,3}(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{4,128}",
    re.IGNORECASE,
)
COUNTER: Final = re.compile(
    r"(?=[bcdirsv])\b(?:(?:request|build|run|invocation|session|conversation|deployment|visit)"
    r" ?(?:number|no\.|count(?:er)?|\#)(?: is)? ?[:=\#]? ?|counter ?[:=] ?)[0-9]{1,12}\b",
    re.IGNORECASE,
)
PLACEHOLDER: Final = re.compile(
    r"\{\{[^{}\n]{1,200}\}\}|\{%[^{}\n]{1,200}%\}|<%[^%\n]{1,200}%>|\$\{[A-Za-z_][^{}\n]{0,200}\}"
)
FORMAT_FIELD: Final = re.compile(
    r"(?=[{%])(?:(?<![\w/\\$^@{}=.&?\[-])\{[A-Za-z_][A-Za-z0-9_.]{1,60}(?:\[\w{1,40}\])?(?:![rsa])?"
    r"(?::[-+<>^.,%0-9dfsxYmbHMS]{1,16})?\}(?![\w/}])"
    r"|(?<![\w%])%(?:\([A-Za-z_]\w{0,60}\))?[sdr](?!\w))"
)
_EXAMPLE: Final = re.compile(
    r"\be\.g\.|\bexamples?\b(?!\.\w)|\bfor instance\b|\bsuch as\b|\blike\b|\bsamples?\b"
    r"|\bform(?:at|atted)?\b|\biso 8601\b|\brfc 3339\b|\blooks\b",
    re.IGNORECASE,
)
_NEAR: Final = 60
"""How many characters before a value a word may say that it is an example."""

_ADDRESS: Final = 200
"""How many characters before an identifier an address may have begun."""


def _never(prose: str, start: int) -> bool:
    del prose, start
    return False


def _is_supposed(prose: str, start: int) -> bool:
    return _SUPPOSED.search(prose, max(0, start - 10), start) is not None


def _is_example(prose: str, start: int) -> bool:
    line = prose.rfind("\n", 0, start) + 1
    return _EXAMPLE.search(prose, max(line, start - _NEAR), start) is not None


def _is_example_or_linked(prose: str, start: int) -> bool:
    word = prose[max(0, start - _ADDRESS) : start].rpartition(" ")[2].rpartition("\n")[2]
    return "://" in word or _is_example(prose, start)


def today(subject: Subject) -> Iterator[Hit]:
    """What day or time it is."""
    return _found(subject, TODAY, _is_supposed)


def timestamp(subject: Subject) -> Iterator[Hit]:
    """A moment to the second."""
    return _found(subject, TIMESTAMP, _is_example)


def random_id(subject: Subject) -> Iterator[Hit]:
    """A UUID or a long hexadecimal number; in an address it is where something stays."""
    return _found(subject, RANDOM, _is_example_or_linked)


def nonce(subject: Subject) -> Iterator[Hit]:
    """An identifier with a name that says that it is another one each time."""
    return _found(subject, NONCE, _is_example)


def counter(subject: Subject) -> Iterator[Hit]:
    """A number that counts requests, builds or sessions."""
    return _found(subject, COUNTER, _is_example)


def placeholder(subject: Subject) -> Iterator[Hit]:
    """What a template engine or a shell would have replaced."""
    return _found(subject, PLACEHOLDER)


def format_field(subject: Subject) -> Iterator[Hit]:
    """What Python's or C's formatting would have replaced."""
    return _found(subject, FORMAT_FIELD)


def _found(
    subject: Subject, pattern: re.Pattern[str], unless: Callable[[str, int], bool] = _never
) -> Iterator[Hit]:
    """A hit for each text; `unless` tells from what stands before a match that it is meant so."""
    for text in subject.texts:
        matches = [
            match for match in pattern.finditer(text.prose) if not unless(text.prose, match.start())
        ]
        if matches:
            start, end = matches[0].span()
            yield Hit(text.path, "", text.value, start, end, len(matches))
