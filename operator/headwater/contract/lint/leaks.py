"""What must not be shared: every consumer sends these bytes, and every model sees them.

All patterns run on RE2, in time that grows with the text alone: neither a hostile text nor a
careless tenant pattern can hold up an admission.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import re2  # type: ignore[import-untyped]
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from headwater.contract.errors import HeadwaterError
from headwater.contract.lint.findings import Hit, Subject
from headwater.contract.lint.texts import Text

_DETECTORS: Final = (
    AWSKeyDetector,
    BasicAuthDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    JwtTokenDetector,
    MailchimpDetector,
    NpmDetector,
    PrivateKeyDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TwilioKeyDetector,
)
"""Those that know a token by its form. The ones that go by entropy or by words such as `password`
find much in prose that is none."""
_FURTHER: Final = (
    r"\bsk-ant-[a-z0-9]{2,10}-[A-Za-z0-9_-]{20,}",
    r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bgl(?:pat|dt|rt|cbt)-[A-Za-z0-9_-]{20,}",
    r"\bAccountKey=[A-Za-z0-9+/]{86}==",
    r"\bAIza[A-Za-z0-9_-]{35}\b",
)
"""Keys of the providers of models, and forms that the detectors lack or know only by context."""
FORMS: Final = (
    *(
        f"(?i:{form.pattern})" if form.flags & re.IGNORECASE else form.pattern
        for form in chain.from_iterable(detector.denylist for detector in _DETECTORS)
    ),
    *_FURTHER,
)
"""What a secret looks like, as RE2 takes it."""
_STAND_IN: Final = re.compile(
    r"example|placeholder|redacted|change.?me|your|password|passwd|pass@|secret@|x{4}|\*{3}|<|\.\.\.",
    re.IGNORECASE,
)
"""What documents write in place of a secret."""
_MEMORY: Final = 1 << 20
"""Bytes that one expression may take: who writes a larger one is told so."""


class PatternError(HeadwaterError):
    """A tenant pattern is not a regular expression that RE2 knows."""


def secrets(subject: Subject) -> Iterator[Hit]:
    """Keys, tokens and passwords, by their form."""
    there = [pattern for pattern in _patterns() if pattern.search(subject.values)]
    for text in subject.texts if there else ():
        matches = _matches(text, there)
        yield from _hit(text, [match for match in matches if not _STAND_IN.search(match[0])])


def tenant_names(subject: Subject) -> Iterator[Hit]:
    """What a tenant pattern matches."""
    patterns = [_compiled(pattern) for pattern in subject.facts.tenants]
    for text in subject.texts:
        yield from _hit(text, [match for match in _matches(text, patterns) if match[0]])


def check_patterns(patterns: Iterable[str]) -> None:
    """Do nothing where all of them can be searched for.

    Raises:
        PatternError: one of them is no regular expression.
    """
    for pattern in patterns:
        _compiled(pattern)


def _matches(text: Text, patterns: Iterable[Any]) -> Iterator[Any]:
    return chain.from_iterable(pattern.finditer(text.value) for pattern in patterns)


def _hit(text: Text, matches: list[Any]) -> Iterator[Hit]:
    if matches:
        start, end = min(match.span() for match in matches)
        yield Hit(text.path, "", text.value, start, end, len(matches))


@functools.cache
def _patterns() -> tuple[Any, ...]:
    return tuple(map(_compiled, FORMS))


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "it is not one"
        raise PatternError(
            f"{pattern!r} is no regular expression as RE2 has them ({reason}): correct it, without"
            " look-around and back-references."
        ) from error
