"""`headwater advise`: what to do, and the inequality behind it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headwater.cli.advise import command

ROOT = Path(__file__).parents[3]
QUIET = ("--model", "claude-opus-4-8", "--tokens", "20000", "--requests-per-minute", "0.03")
AT_80 = """\
claude-opus-4-8, 20,000 tokens, 0.03 requests a minute (43 a day): 0.6311 USD a
day instead of 4.32 USD (85.4% less)

Cache?     yes  hit rate 83.5% > (w - 1) ÷ (w - r) = 52.6%; otherwise 4.32 USD a
                day
5m or 1h?  1h   0.6311 USD with 1h < 4.00 USD with 5m (hit rates 83.5% and 13.9%
                without a warmer)
Warm?      yes  λ·e^(-λ·TTL)·(w - r): 7.1 cold starts = 1.36 USD > ping ÷
                interval: 20 pings = 0.1991 USD; otherwise 1.79 USD a day
Pad?       no   20,000 tokens ≥ 1,024, the minimum

claude-opus-4-8: provider's documentation,
platform.claude.com/docs/en/about-claude/pricing, as of 2026-08-22.
claude-opus-4-8: provider's documentation,
platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22.
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "80"})


def advice(*arguments: str) -> dict[str, Any]:
    """The choices of the only model, by question."""
    done = run(*arguments, "-o", "json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    return {choice.pop("question"): choice for choice in found["choices"]}


def test_on_a_terminal() -> None:
    """Each answer stands beside the inequality and the numbers that decided."""
    assert run(*QUIET).stdout == AT_80


def test_the_page_shows_what_is_printed() -> None:
    """docs/economics.md begins with it."""
    assert f"\n{AT_80}```\n" in (ROOT / "docs" / "economics.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("tokens", "rate", "answers"),
    [
        (20_000, "0", ("no", "none", "no")),
        (20_000, "0.001", ("no", "none", "no")),
        (20_000, "0.03", ("yes", "1h", "yes")),
        (20_000, "0.5", ("yes", "1h", "no")),
        (20_000, "100", ("yes", "5m", "no")),
    ],
)
def test_from_no_traffic_to_much(tokens: int, rate: str, answers: tuple[str, str, str]) -> None:
    """One-off requests are not cached, rare ones warmed, frequent ones keep it warm themselves."""
    found = advice(
        "--model", "claude-opus-4-8", "--tokens", str(tokens), "--requests-per-minute", rate
    )
    assert tuple(found[name]["answer"] for name in ("cache", "ttl", "warm")) == answers


@pytest.mark.parametrize(("tokens", "answer"), [(3_500, "to 4,096"), (300, "no"), (4_096, "no")])
def test_padding(tokens: int, answer: str) -> None:
    """A little below the minimum it pays, far below it does not."""
    found = advice(
        "--model", "claude-haiku-4-5", "--tokens", str(tokens), "--requests-per-minute", "5"
    )
    assert found["pad"]["answer"] == answer


TENANTS = ("--model", "claude-opus-4-8", "--tokens", "1500", "--tenants", "500")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("--requests-per-minute", "35"), "hybrid"),
        (("--requests-per-minute", "0.05"), "shared"),
        (("--requests-per-minute", "35", "--isolated"), "dedicated"),
    ],
)
def test_who_shares(arguments: tuple[str, ...], answer: str) -> None:
    """A tenant's part is cached where its own requests come often enough."""
    found = advice(*TENANTS, "--tenant-tokens", "3000", *arguments)
    assert found["tenancy"]["answer"] == answer


def test_programs_get_the_numbers() -> None:
    """Dollars as text, so that nobody adds floats; shares and counts as numbers."""
    choice = advice(*QUIET)["warm"]
    assert choice["answer"] == "yes"
    assert isinstance(choice["numbers"]["savedUsd"], str)
    assert float(choice["numbers"]["savedUsd"]) > float(choice["numbers"]["pingsUsd"])
    assert choice["numbers"]["paysAbovePerMinute"] < 0.03 < choice["numbers"]["paysBelowPerMinute"]
    assert "λ·e^(-λ·TTL)·(w - r)" in choice["inequality"]
