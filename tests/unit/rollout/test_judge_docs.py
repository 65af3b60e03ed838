"""docs/judge.md is about this release: its sentences, its settings and its numbers are ours."""

import re
from pathlib import Path

from headwater.resources.rollout import Analysis as SpecAnalysis
from headwater.rollout.eprocess import _RATIOS
from headwater.rollout.state import Analysis, Counts
from tests.unit.rollout.test_judge import verdict

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "judge.md").read_text("utf-8")
OPUS = "claude-opus-5"


def test_the_sentences_are_what_the_judge_says() -> None:
    """Word for word."""
    said = [
        verdict({OPUS: Counts(38, 0)}, min_requests=50),
        verdict({OPUS: Counts(60, 2)}, min_requests=50),
        verdict({OPUS: Counts(17, 23)}),
        verdict(
            {OPUS: Counts(820, 180, errors=40, answers=500)},
            {OPUS: Counts(1000, 20, errors=1, answers=2000)},
            min_hit_rate=0.5,
            max_error_rate_increase=0.02,
        ),
    ]
    (block,) = re.findall(r"^```\n(on claude.*?)```$", TEXT, re.MULTILINE | re.DOTALL)
    assert block.splitlines() == [verdict.message for verdict in said]


def test_the_settings_are_those_of_the_resource() -> None:
    """Each that the judge honours is told, under the name that authors write."""
    aliases = {field.alias for field in SpecAnalysis.model_fields.values()}
    table = TEXT.partition("## What is asked")[2].partition("## How sure")[0]
    asked = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    limits = {alias for alias in aliases if alias and alias.startswith("max")}
    assert asked == limits | {"minHitRate", "queries"}
    assert {"minRequests", "confidence", "rollbackConfidence", "unusedModels"} <= aliases & set(
        re.findall(r"`(\w+)", TEXT)
    )


def test_the_numbers_are_those_of_the_code() -> None:
    """The alternatives, the share of the doubt in the example, and the picture are there."""
    assert ", ".join(f"{ratio:g}" for ratio in _RATIOS) in TEXT
    analysis = Analysis()
    questions = (analysis.min_hit_rate > 0) + (analysis.max_error_rate_increase is not None)
    assert f"goes back at {2 * 2 * questions / (1 - analysis.rollback_confidence):.0f}\n" in TEXT
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", TEXT)
    assert (DOCS / picture).read_text("utf-8").startswith("<svg ")
