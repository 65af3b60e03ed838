"""The table of the rules, and what applies them."""

import functools
import re
from collections.abc import Iterator
from typing import Final

from headwater.contract.content import Content
from headwater.contract.errors import ContentError
from headwater.contract.lint import caching, characters, leaks, tools, volatile
from headwater.contract.lint.characters import in_texts
from headwater.contract.lint.findings import IGNORE_ANNOTATION, Facts, Finding, Hit, Rule, Subject
from headwater.contract.lint.first_look import FirstLook, loosened
from headwater.contract.lint.texts import CONTENT, Path

_MISS: Final = "Each new value is a new prefix: nothing is read from the cache, all is written."
_MOVE: Final = "Move it behind the contract, into the team's system block or the message"


def _unknown(subject: Subject) -> Iterator[Hit]:
    for name in sorted(subject.facts.ignore - IGNORABLE):
        what = "cannot be" if name in RULES else "is no rule"
        yield Hit(
            ("metadata", "annotations", IGNORE_ANNOTATION),
            f"{name!r} shall be ignored and {what}",
        )


def _nothing(subject: Subject) -> Iterator[Hit]:
    """Of what is no contract there is no subject: `refused` tells."""
    del subject
    return iter(())


_ALL: Final = (
    Rule(
        "today",
        "error",
        "it says what day or time it is",
        _MISS,
        f"{_MOVE}; or tell the model to ask a tool for the date.",
        volatile.today,
        in_prose=loosened(volatile.TODAY),
    ),
    Rule(
        "timestamp",
        "warning",
        "it holds a moment to the second, as a clock writes it",
        _MISS,
        "Leave it out, or write it as an example if it is one (`e.g.` before it).",
        volatile.timestamp,
        in_prose=loosened(volatile.TIMESTAMP),
    ),
    Rule(
        "random-id",
        "warning",
        "it holds an identifier as a generator makes it",
        _MISS,
        "Leave it out, or write it as an example if it is one (`e.g.` before it, or as code).",
        volatile.random_id,
        in_prose=loosened(volatile.RANDOM),
    ),
    Rule(
        "nonce",
        "error",
        "it holds an identifier that names one request, run or session",
        _MISS,
        f"{_MOVE}; for tracing, send it as metadata.",
        volatile.nonce,
        in_prose=loosened(volatile.NONCE),
    ),
    Rule(
        "counter",
        "warning",
        "it holds a count of requests, builds or sessions",
        _MISS,
        f"{_MOVE}.",
        volatile.counter,
        in_prose=loosened(volatile.COUNTER),
    ),
    Rule(
        "placeholder",
        "error",
        "a template's placeholder stands there, and nothing fills it",
        "The model reads the braces; once something fills it, each value is a new prefix.",
        f"{_MOVE}; write it as code if the model is meant to see it.",
        volatile.placeholder,
        in_prose=loosened(volatile.PLACEHOLDER),
    ),
    Rule(
        "format-field",
        "warning",
        "a field of a format string stands there, and nothing fills it",
        "The model reads the braces; once something fills it, each value is a new prefix.",
        f"{_MOVE}; write it as code if the model is meant to see it.",
        volatile.format_field,
        in_prose=loosened(volatile.FORMAT_FIELD),
    ),
    Rule(
        "crlf",
        "warning",
        "it holds carriage returns",
        "They are bytes like all others: the next editor that drops them makes another contract.",
        "Save the file with plain newlines (`dos2unix`, or `text eol=lf` in .gitattributes).",
        in_texts(characters.carriage_returns),
        in_values=loosened(characters.CR),
    ),
    Rule(
        "trailing-blank",
        "note",
        "blanks stand at the end of a line",
        "Nobody sees them, and the next editor that trims them makes another contract.",
        "Remove them; a line break in Markdown can be written as a backslash.",
        in_texts(characters.trailing_blanks),
        in_values=r"[ \t](?:\r?\n|\z)",
    ),
    Rule(
        "final-newline",
        "note",
        "it does not end with exactly one newline",
        "Editors and YAML's block styles differ about it, and each way is another contract.",
        "End it with one newline, as a literal block of YAML does.",
        characters.final_newline,
    ),
    Rule(
        "decomposed",
        "warning",
        "it holds characters that are not composed (not NFC)",
        "It looks the same and is another contract; it takes more tokens, too.",
        "Normalise the file to NFC (`uconv -x any-nfc`).",
        in_texts(characters.decomposed),
        in_values="[^[:ascii:]]",
    ),
    Rule(
        "invisible",
        "warning",
        "it holds a character that cannot be seen",
        "Pasted text brings them: nobody can review them, and they can hide instructions.",
        "Remove it.",
        in_texts(characters.invisible),
        in_values=loosened(characters.INVISIBLE),
    ),
    Rule(
        "bidi",
        "error",
        "it holds a character that changes the direction of text",
        "What a reviewer reads stands in another order than what the model reads.",
        "Remove it: text in right-to-left scripts needs none.",
        in_texts(characters.bidirectional),
        in_values=loosened(characters.BIDI),
    ),
    Rule(
        "secret",
        "error",
        "it looks like a key, a token or a password",
        "Every consumer sends it, the ConfigMaps hold it in clear, and a model may repeat it.",
        "Take it out and revoke it: what was committed is known.",
        leaks.secrets,
        secret=True,
        in_values="|".join(leaks.FORMS),
    ),
    Rule(
        "tenant-name",
        "error",
        "it names a tenant",
        "The contract is shared: one tenant's words would be read by all, and cached for all.",
        "Move it into the tenant's own system block, behind the contract.",
        leaks.tenant_names,
    ),
    Rule(
        "tool-order",
        "warning",
        "tools stand in another order than in the version before",
        "Order is bytes: from the first tool that moved on, all is written anew, for no gain.",
        "Keep the order, and put new tools behind the others.",
        tools.order,
    ),
    Rule(
        "tool-name",
        "error",
        "a tool's name is not 1 to 128 letters, digits, _ and -",
        "The provider refuses every request that has it.",
        "Rename the tool.",
        tools.name,
    ),
    Rule(
        "tool-schema",
        "error",
        "a tool's input_schema is not what the provider takes",
        "The provider refuses every request that has it.",
        "Write a JSON Schema (draft 2020-12) of type object, without a combination at its top.",
        tools.schema,
    ),
    Rule(
        "blank-text",
        "error",
        "a system block holds blanks alone",
        "The provider refuses every request that has it.",
        "Remove the block.",
        caching.blank_text,
    ),
    Rule(
        "below-minimum",
        "warning",
        "a model does not cache so short a prefix",
        "The provider says nothing: every request pays for the whole prefix.",
        "Move stable content into the contract, or drop the model.",
        caching.below_minimum,
    ),
    Rule(
        "near-minimum",
        "note",
        "the prefix is near a model's minimum",
        "Tokens are estimated here: below the minimum, nothing is cached.",
        "Add stable content, or look at the condition Cacheable, which comes to know the count.",
        caching.near_minimum,
    ),
    Rule(
        "look-back",
        "warning",
        f"more than {caching.LOOK_BACK} system blocks stand before a marker",
        "The provider looks for an older entry that far back, so an edit loses all of them.",
        "Join blocks, or put the other marker in between.",
        caching.look_back,
    ),
    Rule(
        "behind-markers",
        "warning",
        "it stands behind the last marker",
        "Unless a team's own marker covers it, every request pays for it in full.",
        "Move the marker to the end.",
        caching.behind_markers,
    ),
    Rule(
        "no-contract",
        "error",
        "the content is no contract",
        "It has no digest and is never published.",
        "Correct it; what else there may be is looked for then.",
        _nothing,
    ),
    Rule(
        "unknown-rule",
        "warning",
        "a rule shall be ignored that there is not",
        "What was meant to be ignored is not, or not any more.",
        "Correct the name; `headwater lint --help` tells where they are listed.",
        _unknown,
    ),
)

RULES: Final = {rule.id: rule for rule in _ALL}
"""Every rule by its id."""

TENANT_NAME: Final = "tenant-name"
IGNORABLE: Final = RULES.keys() - {"no-contract", TENANT_NAME}
"""The others say why nothing is published: a tenant's expression is corrected, not ignored."""


def lint(content: Content, facts: Facts) -> tuple[Finding, ...]:
    """What the rules object to, in their order.

    Raises:
        PatternError: one of `facts.tenants` is no regular expression.
    """
    subject = Subject.of(content, facts)
    worth = _worth_a_search(subject) - (facts.ignore & IGNORABLE)
    return tuple(
        rule.finding(hit) for rule in _ALL if rule.id in worth for hit in rule.check(subject)
    )


def _worth_a_search(subject: Subject) -> frozenset[str]:
    prose, values = _first_looks()
    looked_for = {rule.id for rule in _ALL if rule.in_prose or rule.in_values}
    return prose.seen(subject.prose) | values.seen(subject.values) | (RULES.keys() - looked_for)


@functools.cache
def _first_looks() -> tuple[FirstLook, FirstLook]:
    return (
        FirstLook({rule.id: rule.in_prose for rule in _ALL if rule.in_prose}),
        FirstLook({rule.id: rule.in_values for rule in _ALL if rule.in_values}),
    )


def refused(error: ContentError) -> Finding:
    """The finding for what is no contract, with its place."""
    place: Path = tuple(
        int(part) if part.isdigit() else part for part in re.findall(r"\w+", error.where)
    )
    path = CONTENT if place[:1] == ("content",) else (*CONTENT, *place)
    return RULES["no-contract"].finding(Hit(path, str(error).removesuffix(".")))
