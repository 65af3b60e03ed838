"""What holds of all rules on any content: no alarm without a cause, no crash, no long wait."""

import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.content import Content, canonical_bytes
from headwater.contract.lint import IGNORABLE, RULES, Facts, Size, lint
from headwater.contract.lint.findings import Subject
from tests.unit.contract.lint.prompts import prompt

FACTS: Final = Facts(
    sizes=(Size("claude-opus-4-8", 5_000, 1_024, 0.25),),
    tenants=(r"(?i)\b(acme|umbrella)\b", r"(a|aa)+\$"),
    previous_tools=("get_0", "search_1"),
)
TEXT: Final = st.text(st.characters(exclude_categories=())) | st.text(
    "{}$%<>`=:-'\"()#@/ \r\n\tTodayisDate0aFé\u0301\u200b\u202e\ufeff"
)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS: Final = st.sampled_from(["name", "type", "input_schema", "cache_control", "text"]) | TEXT
PARTS: Final = st.lists(st.dictionaries(KEYS, JSON, max_size=4), max_size=3).map(tuple)


def test_prompts_as_people_write_them_are_clean() -> None:
    """200 of them, every one different, full of what is near to a rule: not one finding."""
    prompts = [prompt(seed) for seed in range(200)]
    assert len({canonical_bytes(one) for one in prompts}) == len(prompts)
    found = {
        f"{seed} {finding.rule} {finding.where}: {finding.excerpt}"
        for seed, one in enumerate(prompts)
        for finding in lint(one, FACTS)
    }
    assert not found


LINES: Final = {
    "today": "Today is Monday, 3 March 2025.",
    "nonce": "Session ID: 8f3a91c2",
    "placeholder": "You talk to {{ user.name }}.",
    "secret": "The key is AKIAIOSFODNN7QWERTYU.",
    "tenant-name": "Be kind to Acme.",
    "bidi": "a\u202eb",
}


@pytest.mark.parametrize("rule", LINES)
def test_one_line_among_them_is_found(rule: str) -> None:
    """Such prompts with a line too much, anywhere: that, and nothing else."""
    for seed in range(20):
        declared = prompt(seed)
        block = dict(declared.system[-1])
        block["text"] = f"{LINES[rule]}\n{block['text']}" if seed % 2 else block["text"]
        block["text"] += "" if seed % 2 else f"{LINES[rule]}\n"
        system = (*declared.system[:-1], block)
        found = lint(Content("anthropic", declared.tools, system), FACTS)
        assert [finding.rule for finding in found] == [rule]


@given(PARTS, PARTS, st.frozensets(st.sampled_from([*RULES, "nothing"])))
def test_nothing_makes_it_raise(tools: Any, system: Any, ignore: frozenset[str]) -> None:
    """Whatever stands where tools and blocks should; each finding has its text's bytes."""
    facts = Facts(FACTS.sizes, FACTS.previous_tools, FACTS.tenants, ignore)
    for finding in lint(Content("anthropic", tools, system), facts):
        assert finding.rule not in ignore & IGNORABLE
        assert finding.where
        assert finding.sentence.isprintable()


@given(TEXT)
def test_offsets_are_bytes_of_the_text(text: str) -> None:
    """They lie within it, and at the borders of its characters."""
    data = text.encode(errors="replace")
    for finding in lint(Content("anthropic", (), ({"type": "text", "text": text},)), Facts()):
        cut = data[finding.offset : finding.offset + finding.length]
        assert len(cut) == finding.length
        cut.decode()


@given(TEXT, TEXT)
def test_a_text_has_the_findings_that_it_has_alone(one: str, other: str) -> None:
    """The rules look at all texts at once first: that hides nothing and adds nothing."""

    def of(*texts: str) -> list[tuple[str, str, int]]:
        system = tuple({"type": "text", "text": text} for text in texts)
        found = lint(Content("anthropic", (), system), Facts())
        return sorted((finding.rule, finding.excerpt, finding.offset) for finding in found)

    assert of(one, other) == sorted(of(one) + of(other))


WORDS: Final = (
    *(
        "Today is",
        "today\u2019s date:",
        "The current date (UTC) is",
        "as of now",
        "Date:",
        "rendered at",
    ),
    *("2026-11-21", "21 November 2026", "Mon, 02 Jan 2006 15:04:05", "14:30", "T08:15:42Z", "٢٠٢٦"),
    *("7d9f2c1e-52ab-4c0d-9b1e-0f6a3c2d8e44", "9fceb02d0ae598e95dc970b74767f193", "sha256:"),
    *("session id", "Nonce", "build number", "request count", ": 8f3a91c2", "#", "=", "12", "e.g."),
    *("{{ user }}", "{% if %}", "<%= a %>", "${HOME}", "{name!r:>8}", "%(a)s", "%s", "/{id}"),
    *("AKIAIOSFODNN7QWERTYU", "https://a:b3dE5gH@c", "sk-ant-api03-aB3dE5gHaB3dE5gHaB3dE5gH"),
    *(
        " ",
        "\n",
        " \n",
        "\t\r\n",
        "\r",
        "\u00a0",
        "é",
        "e\u0301",
        "\u200b",
        "\u202e",
        "👩\u200d",
        "\0",
    ),
)


@given(TEXT | st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
def test_the_first_look_hides_nothing(text: str) -> None:
    """It leaves out those rules alone that would have found nothing."""
    declared = Content("anthropic", (), ({"type": "text", "text": text},))
    subject = Subject.of(declared, Facts())
    exact = {rule.id for rule in RULES.values() if any(True for _ in rule.check(subject))}
    assert {finding.rule for finding in lint(declared, Facts())} == exact


def grows_with_its_length(short: Content, long: Content) -> bool:
    """Return whether what is eight times as long takes less than thirty times as long.

    Work that grows with the square takes 64 times as long. What else the machine does makes a
    measurement too high, never too low: the least of several counts.
    """

    def spent(declared: Content) -> float:
        started = time.process_time()
        lint(declared, FACTS)
        return time.process_time() - started

    least = max(min(spent(short) for _ in range(3)), 0.001)
    return any(spent(long) < 30 * least for _ in range(5))


HOSTILE: Final = (
    "a",
    " ",
    "\t \r",
    "{",
    "{{",
    "{% ",
    "<%",
    "${a",
    "%(a",
    "`",
    "```\n",
    "<example>",
    "<example></example>",
    "eyJ",
    "://a:",
    "xoxb-1-",
    "-----BEGIN PRIVATE KEY-----",
    "today is ",
    "current date ",
    "Date:\n",
    "request id: ",
    "sk-ant-",
    "0123456789abcdef",
    "aws secret key ",
    "1-",
    "e\u0301",
    "👩\u200d",
    "timestamp: 1",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_no_longer_than_its_length(piece: str) -> None:
    """Up to 100 KB of whatever a pattern might try again and again."""

    def hostile(size: int) -> Content:
        text = piece * (size // len(piece)) + "!</example>"
        return Content("anthropic", (), ({"type": "text", "text": text},))

    assert grows_with_its_length(hostile(12_500), hostile(100_000))


def test_a_deep_schema_is_no_trouble() -> None:
    """Deeper than Python recurses, and its paths are not written out to the end."""

    def deep(levels: int) -> Content:
        schema: dict[str, Any] = {"type": "string"}
        for _ in range(levels):
            schema = {"type": "object", "properties": {"a": schema}}
        return Content("anthropic", ({"name": "deep", "input_schema": schema},), ())

    assert {finding.rule for finding in lint(deep(5_000), Facts())} == {"tool-schema"}
    assert grows_with_its_length(deep(625), deep(5_000))
