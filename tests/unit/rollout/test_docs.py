"""docs/rollouts.md is about this release: its manifest is valid, its words are ours."""

import io
import re
from datetime import timedelta
from pathlib import Path

from ruamel.yaml import YAML

from headwater.resources import PromptPrefix
from headwater.rollout.state import Phase, Reason, Result

TEXT = (Path(__file__).parents[3] / "docs/rollouts.md").read_text("utf-8")


def test_the_manifest_is_valid() -> None:
    """And shows every kind of step, and an approval of the bytes that it declares."""
    (manifest,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    spec = PromptPrefix.model_validate(YAML(typ="safe").load(io.StringIO(manifest))).spec
    steps = spec.rollout.steps
    assert steps is not None
    pauses = [step.pause.duration for step in steps if step.pause is not None]
    assert [step.set_weight for step in steps if step.set_weight is not None] == [10, 50]
    assert pauses == [timedelta(minutes=10), None]
    assert spec.rollout.approved_digest == spec.digest


def test_every_phase_event_and_verdict_is_told() -> None:
    """In the tables, under the names that the cluster shows, and no others."""
    table = TEXT.partition("## What happens when")[2].partition("## Phases")[0]
    events = set(re.findall(r"\*([A-Z]\w+)\*", table))
    phases = set(re.findall(r"^\| (\w+) \| (?:True|False)", TEXT, re.MULTILINE))
    verdicts = set(re.findall(r"^\| (Pass|RollBack|Waiting) \|", TEXT, re.MULTILINE))
    told_of_commits = {"Published", "Approved"}
    assert events == set(Reason) | told_of_commits
    assert phases | {"Pending"} == set(Phase)
    assert verdicts == set(Result)
