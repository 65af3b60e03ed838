"""docs/warming.md shows figures and a report that are true."""

import re
from decimal import Decimal
from pathlib import Path

from headwater.providers.cost import cost
from headwater.providers.models import lookup
from headwater.providers.usage import Usage
from headwater.warmer.report import decode
from headwater.warmer.schedule import auto

TEXT = (Path(__file__).parents[3] / "docs/warming.md").read_text("utf-8")
TOKENS = 20_000
RUNS_A_DAY = {"5m": 24 * 15, "1h": 24 * 2}


def dollars(model: str, usage: Usage) -> Decimal:
    facts = lookup(model)
    assert facts is not None
    found = cost(usage, facts)
    assert found is not None
    return found.actual


def test_costs() -> None:
    """Every figure of the table is what the model facts say for 20,000 tokens."""
    rows = re.findall(r"^\| (claude-\S+) \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for model, cells in rows:
        read = dollars(model, Usage(cache_read=TOKENS))
        expected = [
            f"{read:.4f}",
            f"{read * RUNS_A_DAY['5m']:.2f}",
            f"{read * RUNS_A_DAY['1h']:.2f}",
            f"{dollars(model, Usage(cache_write_5m=TOKENS)):.4f}",
            f"{dollars(model, Usage(cache_write_1h=TOKENS)):.4f}",
        ]
        assert cells.split(" | ") == expected, model


def test_writes_that_a_day_costs() -> None:
    """The sentence that compares a day's reads with writes."""
    day = dollars("claude-opus-4-8", Usage(cache_read=TOKENS)) * RUNS_A_DAY["5m"]
    writes = round(day / dollars("claude-opus-4-8", Usage(cache_write_5m=TOKENS)))
    assert f"as much a day as {writes} writes" in TEXT


def test_schedules() -> None:
    """The table of schedules is what Auto gives."""
    assert f"| 5m | `{auto('5m')}` | 4 minutes |" in TEXT
    assert f"| 1h | `{auto('1h')}` | 30 minutes |" in TEXT


def test_the_report_decodes() -> None:
    """The example is a report, and its lanes are as the text says."""
    (example,) = re.findall(r"^\{\"format\".*$", TEXT, re.MULTILINE)
    report = decode(example)
    assert [(lane.model, lane.state) for lane in report.lanes] == [
        ("claude-opus-4-8", "Warm"),
        ("claude-haiku-4-5", "Cold"),
    ]
    assert report.lanes[1].message.startswith("the provider cached nothing")
