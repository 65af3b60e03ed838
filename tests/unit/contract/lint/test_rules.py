"""Every rule: what it finds, and the nearest thing to it that it must leave alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from headwater.contract.content import Content, content
from headwater.contract.errors import ContentError
from headwater.contract.lint import (
    IGNORABLE,
    RULES,
    Facts,
    Finding,
    PatternError,
    Size,
    lint,
    refused,
)

SCHEMA: Final = {"type": "object"}


@dataclass(frozen=True)
class Case:
    """What an author declares, and what of it is objected to; nothing, in a near miss."""

    text: str = "Be brief.\n"
    excerpt: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    system: tuple[Mapping[str, Any], ...] = ()
    facts: Facts = field(default_factory=Facts)

    def findings(self) -> tuple[Finding, ...]:
        system = self.system or ({"text": self.text},)
        try:
            return lint(content(tools=self.tools, system=system, ttl="5m"), self.facts)
        except ContentError as error:
            return (refused(error),)


def tool(name: str = "search", **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": SCHEMA, **more}


def described(description: str) -> Case:
    return Case(tools=(tool(description=description),))


def with_schema(schema: Any, excerpt: str | None = None) -> Case:
    return Case(excerpt=excerpt, tools=({"name": "search", "input_schema": schema},))


def sized(tokens: int, minimum: int = 1024, margin: float = 0.25) -> Case:
    return Case(facts=Facts(sizes=(Size("claude-opus-4-8", tokens, minimum, margin),)))


def named(pattern: str, text: str) -> Case:
    return Case(text, facts=Facts(tenants=(pattern,)))


MARK: Final = {"cache_control": {"type": "ephemeral"}}
HOUR: Final = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
UUID: Final = "7d9f2c1e-52ab-4c0d-9b1e-0f6a3c2d8e44"
SHA: Final = "9fceb02d0ae598e95dc970b74767f19372d61af8"


def blocks(count: int, **last: Any) -> tuple[Mapping[str, Any], ...]:
    return (*({"text": f"Rule {i}.\n"} for i in range(count - 1)), {"text": "The end.\n", **last})


FINDS: Final[dict[str, list[Case]]] = {
    "today": [
        Case("Today is Friday.\n", "Today is Friday"),
        Case("Today's date: 2026-11-21\n", "Today's date: 2026-11-21"),
        Case("Note that the current date and time is 21 November 2026.\n"),
        Case("You help people.\n\nDate: Nov 21, 2026\n", "Date: Nov 21"),
        Case("<env>\nToday’s date is **11/21/2026**.\n</env>\n"),  # noqa: RUF001 - as typed on a phone
        Case("The current year is 2026.\n"),
        Case("<examples><example>a</example></examples>\nNow is 10:30.\n", "Now is 10:30"),
        Case("It is now 10:32 in Berlin.\n"),
        Case("current_time = 1795256400\n"),
        Case("Current time (UTC): 10:32\n"),
        described("Finds orders. As of today, 2026-11-21, there are 12 shops."),
    ],
    "timestamp": [
        Case("Prompt of 2026-11-21T10:32:11Z.\n", "2026-11-21T10:32:11Z"),
        Case("Compiled Sat, 21 Nov 2026 10:32:11 GMT\n"),
        Case("timestamp: 1795256400\n"),
        described("Index of 2026-11-21 10:32:11."),
    ],
    "random-id": [
        Case(f"You serve {UUID}.\n", UUID),
        Case(f"Prompt made from commit {SHA}.\n", SHA),
        described(f"Instance {UUID}."),
    ],
    "nonce": [
        Case("Session ID: 8f3a91c2\n", "Session ID: 8f3a91c2"),
        Case("Write to help@example.com. nonce=a8f5f167\n"),
        Case("(cache-bust: 17a9)\n"),
        Case("Your trace_id is 4bf92f3577b34da6.\n"),
    ],
    "counter": [
        Case("This is request #1042.\n", "request #1042"),
        Case("Build number: 4711\n"),
        Case("counter=17\n"),
        described("Conversation no. 12 of this tool."),
    ],
    "placeholder": [
        Case("Today is {{now}}.\n", "{{now}}"),
        Case("You work for ${COMPANY}.\n"),
        Case("{% if vip %}Be kind.{% endif %}\n"),
        Case("Hello <%= user.name %>.\n"),
        described("Searches {{ index }}."),
        with_schema({"type": "object", "properties": {"format": {"title": "As {{ this }}"}}}),
    ],
    "format-field": [
        Case("You talk to {user_name}.\n", "{user_name}"),
        Case("You talk to ({user.name!r}).\n", "{user.name!r}"),
        Case("You talk to %s.\n", "%s"),
        Case("You work for %(company)s.\n"),
    ],
    "crlf": [Case("One.\r\nTwo.\r\n", r"\r\n"), described("One.\rTwo.")],
    "trailing-blank": [Case("One.  \nTwo.\n", r"\x20\x20"), described("Searches. ")],
    "final-newline": [Case("One.\nTwo.", ""), Case("One.\nTwo.\n\n", r"\n\n")],
    "decomposed": [Case("Cafe\u0301.\n", r"e\u0301"), described("u\u0308ber")],
    "invisible": [
        Case("Ze\u200bro.\n", r"\u200b"),
        Case("\ufeffYou help.\n"),
        Case("in\u00advisible\n"),
        Case("Hi\U000e0049\U000e0067.\n"),
        Case("a\u200db\n"),
        Case("\u200dक"),
        Case("bell\x07\n"),
    ],
    "bidi": [Case("a\u202eb\u202c\n", r"\u202e"), described("x\u2066y\u2069")],
    "secret": [
        Case("Use sk-ant-api03-aB3dE5gH7jK9mN1pQ3sT5vW7.\n", "sk-a…"),
        Case("Use sk-proj-aB3dE5gH7jK9mN1pQ3sT5vW7.\n"),
        Case("The key is AKIAIOSFODNN7QWERTYU.\n"),
        Case("ghp_aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA1cE3gI5\n"),
        Case("postgres://app:tR4f9k2Lq@db.internal/orders\n", "://a…"),
        Case(f"AccountKey={'zQ3w' * 21}zQ==;EndpointSuffix=core.windows.net\n"),
        described("Token: glpat-aB3dE5gH7jK9mN1pQ3sT"),
    ],
    "tenant-name": [
        named(r"(?i)\bacme\b", "Acme has its own rules.\n"),
        Case(
            facts=Facts(tenants=("acme",)),
            tools=(tool(input_schema={"type": "object", "properties": {"acme_id": {}}}),),
        ),
    ],
    "tool-order": [
        Case(tools=(tool("b"), tool("a")), facts=Facts(previous_tools=("a", "b"))),
        Case(tools=(tool("c"), tool("x"), tool("a")), facts=Facts(previous_tools=("a", "b", "c"))),
    ],
    "tool-name": [Case(tools=(tool("a.b"),), excerpt="a.b"), Case(tools=(tool("x" * 129),))],
    "tool-schema": [
        with_schema({"type": "object", "properties": {"a": {"type": "str"}}}),
        with_schema({"type": "string"}),
        with_schema({"type": "object", "oneOf": [{}]}),
        with_schema({"type": "object", "required": "a"}),
        Case(tools=({"name": "search"},)),
        with_schema({"type": "object", "properties": []}),
    ],
    "blank-text": [Case(" \n"), Case("\t")],
    "below-minimum": [sized(700), sized(1023, margin=0)],
    "near-minimum": [sized(800), sized(1200)],
    "look-back": [Case(system=blocks(21, **MARK))],
    "behind-markers": [Case(system=({"text": "One.\n", **MARK}, {"text": "Two.\n"}))],
    "no-contract": [
        Case(tools=(tool("a"), tool("a"))),
        Case(""),
        Case(system=({"text": "a\n", **MARK}, {"text": "b\n", **MARK}, {"text": "c\n", **MARK})),
        Case(system=({"text": "a\n", **MARK}, {"text": "b\n", **HOUR})),
        Case(tools=(tool(defer_loading=True),)),
    ],
    "unknown-rule": [Case(facts=Facts(ignore=frozenset({"todya"})))],
}

LEAVES_ALONE: Final[dict[str, list[Case]]] = {
    "today": [
        Case("If today is Monday, say that the office opens at 10:00.\n"),
        Case("Today's date is given in the message.\n"),
        Case("The policy is effective 1 January 2025, and the company was founded in 1998.\n"),
        Case("As of 1 March 2025 the price is $12. Call before 10:30.\n"),
        Case("Ask for the date: the person may not know it. Knowledge ends in January 2026.\n"),
        Case("Opening hours (local time): 9:00 to 17:30.\n\n- Time: 14:00\nDate: a Monday.\n"),
        Case("An order from today can be cancelled until 18:00.\n"),
        Case("Answer like this:\n```\nToday is Friday.\n```\n"),
        Case("<example>\nDate: 2026-11-21\n</example>\n"),
        described("The current time in a zone, such as 10:32."),
    ],
    "timestamp": [
        Case("Write moments as in ISO 8601, e.g. 2026-11-21T10:32:11Z.\n"),
        Case("Write YYYY-MM-DDTHH:MM:SSZ.\n"),
        Case(
            "Prices hold from 2025-01-01T00:00:00Z on; the window is 2025-03-01 02:00 to 04:00.\n"
        ),
        with_schema({"type": "object", "examples": [{"at": "2026-11-21T10:32:11Z"}]}),
    ],
    "random-id": [
        Case(f"An order number looks like {UUID}.\n"),
        Case(f"Run `git show {SHA}`.\n"),
        Case(f"See https://git.fjord.net/rules/blob/{SHA}/rules.md for all.\n"),
        Case(f"The image is pinned: app@sha256:{SHA}{SHA[:24]}.\n"),
        Case("The nil one is 00000000-0000-0000-0000-000000000000.\n"),
        Case(f"{'1' * 40} {'deadbeef'} {'abcdefab' * 4}\n"),
    ],
    "nonce": [
        Case("Ask for the session ID: it stands in the footer.\n"),
        Case("The request ID has twelve digits, for example request ID: 123456789012.\n"),
        Case("A nonce is a number used once.\n"),
    ],
    "counter": [
        Case("Follow step 3 of 5. Room number 12, rule #3, and never more than 20 requests.\n"),
        Case("Ask for the build number; it looks like build number 4711.\n"),
        Case("Build 3 sentences.\n"),
    ],
    "placeholder": [
        Case("Templates say `{{now}}`, shells `${HOME}`.\n"),
        Case("```yaml\nname: ${{ github.sha }}\n```\n"),
        Case('Answer {"a": {"b": 1}}, and costs of $5.\n'),
        Case("<example>Dear {{first_name}}</example>\n"),
        with_schema({"type": "object", "pattern": "{{x}}"}),
    ],
    "format-field": [
        Case("GET /users/{id}/orders?limit={count} takes {a,b} and x{2,3}.\n"),
        Case("A discount of 20%. 100% sure, 50 %; see \\frac{a}{bc}.\n"),
        Case("Use `{user_name}`, or @{upstream}.\n"),
        Case("Markers are {type: ephemeral}; an empty {} is fine.\n"),
    ],
    "crlf": [Case("One.\nTwo.\n"), Case("Escape it as \\r\\n.\n")],
    "trailing-blank": [Case("  One.\n\n  Two  words.\n")],
    "final-newline": [Case("One.\nTwo.\n"), Case("One."), Case("One.\r\nTwo.\r\n")],
    "decomposed": [Case("Café, über, 東京, हिन्दी, ✌️.\n")],
    "invisible": [
        Case("می\u200cشود, 👩\u200d💻, क\u094d\u200dष\n"),
        Case("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f\n"),
        Case("A tab\tand a no-break\u00a0space.\n"),
    ],
    "bidi": [Case("שלום, مرحبا, a\u200fb.\n")],
    "secret": [
        Case("Keys begin with sk-ant-, as in sk-ant-api03-YOUR-KEY-PLACEHOLDER-HERE.\n"),
        Case("AKIAIOSFODNN7EXAMPLE is the one of the documents.\n"),
        Case("git clone https://user:pass@git.example.com/a\n"),
        Case("postgres://user:password@localhost/db, mailto:a@example.com, https://example.com\n"),
        Case(f"integrity: sha512-{'zQ3w' * 21}zQ==\n"),
        Case("-----BEGIN PRIVATE KEY----- begins a key.\n"),
        Case("Never ask for a password: 4 digits are a PIN.\n"),
    ],
    "tenant-name": [named(r"(?i)\bacme\b", "The acmeist poets.\n"), Case("Acme is a name.\n")],
    "tool-order": [
        Case(
            tools=(tool("new"), tool("a"), tool("c"), tool("z")),
            facts=Facts(previous_tools=("a", "b", "c")),
        ),
        Case(tools=(tool("b"), tool("a"))),
    ],
    "tool-name": [Case(tools=(tool("Search_v2-beta"), tool("x" * 128)))],
    "tool-schema": [
        with_schema({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}]}}}),
        with_schema({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}),
        with_schema({"type": "object", "properties": {"oneOf": {"type": "string"}}}),
        Case(tools=({"name": "bash", "type": "bash_20250124"},)),
    ],
    "blank-text": [Case(" x\n")],
    "below-minimum": [sized(1300), sized(1024, margin=0), Case()],
    "near-minimum": [sized(1300), sized(1024, margin=0), sized(500)],
    "look-back": [
        Case(system=blocks(20, **MARK)),
        Case(system=(*blocks(20, **MARK), *blocks(20, **MARK))),
    ],
    "behind-markers": [Case(system=({"text": "One.\n"}, {"text": "Two.\n", **MARK}))],
    "no-contract": [Case(tools=(tool("a"), tool("b")), system=blocks(2, **HOUR))],
    "unknown-rule": [Case("A. \n", facts=Facts(ignore=frozenset({"trailing-blank"})))],
}


def test_every_rule_has_both() -> None:
    """A rule without a near miss is a rule of which nobody knows what it leaves alone."""
    assert list(FINDS) == list(RULES)
    assert list(LEAVES_ALONE) == list(RULES)
    assert all([*FINDS.values(), *LEAVES_ALONE.values()])


def each(table: Mapping[str, list[Case]]) -> list[Any]:
    return [
        pytest.param(rule, case, id=f"{rule}-{number}")
        for rule, cases in table.items()
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("rule", "case"), each(FINDS))
def test_what_is_found(rule: str, case: Case) -> None:
    """The rule objects once, says where, and what to do."""
    findings = case.findings()
    (found,) = [finding for finding in findings if finding.rule == rule]
    assert found.severity == RULES[rule].severity
    assert found.message
    assert found.remedy.endswith(".")
    assert found.where.startswith(("spec.", "metadata."))
    if case.excerpt is not None:
        assert found.excerpt == case.excerpt


@pytest.mark.parametrize(("rule", "case"), each(LEAVES_ALONE))
def test_what_is_left_alone(rule: str, case: Case) -> None:
    """No other rule objects to it either, but where it is the other's to."""
    others = {"final-newline": "crlf", "near-minimum": "below-minimum"}
    assert {finding.rule for finding in case.findings()} <= {others.get(rule)}


@pytest.mark.parametrize(("rule", "case"), each(FINDS))
def test_what_is_ignored_is_not_found(rule: str, case: Case) -> None:
    """Whatever the rule, but for those that say why nothing is published."""
    if rule == "unknown-rule":
        return
    facts = Facts(
        case.facts.sizes, case.facts.previous_tools, case.facts.tenants, frozenset({rule})
    )
    silenced = Case(case.text, None, case.tools, case.system, facts)
    found = [finding.rule for finding in silenced.findings()]
    assert (rule in found) == (rule not in IGNORABLE)


def test_who_ignores_what_cannot_be_is_told() -> None:
    """Else a tenant's name would seem to be allowed, and would not be served."""
    (found,) = Case("A.\n", facts=Facts(ignore=frozenset({"tenant-name"}))).findings()
    assert (found.rule, found.message) == (
        "unknown-rule",
        "'tenant-name' shall be ignored and cannot be",
    )


def test_the_place_is_in_bytes() -> None:
    """Of UTF-8, in the text at the path; several in one text are one finding."""
    text = "Grüße!\nToday is Friday. Today is Monday.\n"
    (found,) = Case(text, tools=(tool(),)).findings()
    assert found.path == ("spec", "content", "system", 0, "text")
    assert found.where == "spec.content.system[0].text"
    assert text.encode()[found.offset :][: found.length] == b"Today is Friday"
    assert found.message.endswith("(2 times in this text, the first here)")


def test_a_secret_is_not_shown() -> None:
    """Neither in the excerpt nor in the sentence: reports are kept, and read by many."""
    (found,) = FINDS["secret"][0].findings()
    assert "aB3dE5gH" not in repr(found) + found.sentence


def test_what_is_no_contract_has_a_place() -> None:
    """That of the error, under the content."""
    (found,) = FINDS["no-contract"][0].findings()
    assert found.where == "spec.content.tools[1]"
    assert "was used by tools[0] already" in found.message
    (found,) = FINDS["no-contract"][2].findings()
    assert found.where == "spec.content"


def test_a_bad_tenant_pattern_is_told() -> None:
    """Also one that RE2 leaves out on purpose."""
    for pattern in ("(", r"(?=a)b", r"(a)\1"):
        with pytest.raises(PatternError, match="RE2"):
            named(pattern, "abc\n").findings()


def test_content_that_was_not_checked_is_linted_all_the_same() -> None:
    """Whoever has it need not know where it came from."""
    unchecked = Content("anthropic", ({"name": 3, "input_schema": float("nan")},), ({"text": 5},))
    assert [finding.rule for finding in lint(unchecked, Facts())] == ["tool-schema"]
