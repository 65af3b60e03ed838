"""`headwater simulate-rollout`: what an author reads before anyone's traffic finds out."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from headwater.cli.simulate_rollout import command

QUICKSTART = str(Path(__file__).parents[3] / "examples" / "quickstart" / "prompt-prefix.yaml")


def manifest(rollout: str) -> str:
    return f"""\
apiVersion: headwater.dev/v1alpha1
kind: PromptPrefix
metadata: {{name: help-desk, namespace: platform}}
spec:
  owner: {{team: platform}}
  version: v7
  digest: sha256:{"0" * 64}
  models: [claude-opus-5]
  content: {{system: [{{textFrom: {{configMapKeyRef: {{name: elsewhere, key: a.md}}}}}}]}}
  consumers: {{namespaceSelector: {{matchLabels: {{help-desk: "true"}}}}}}
  rollout: {rollout}
"""


def run(*arguments: str, given: str | None = None, rollouts: int = 10) -> Result:
    arguments = ("-f", "-", *arguments) if given is not None else arguments
    wide = {"COLUMNS": "120"}
    return CliRunner().invoke(
        command, [*arguments, "--rollouts", str(rollouts)], input=given, env=wide
    )


DECLARED = manifest("{steps: [{setWeight: 20}], analysis: {minHitRate: 0.8}}")


def test_the_table_tells_where_the_verdict_turns() -> None:
    """Below the floor it goes back, above it is promoted; bars show the same as time passes."""
    done = run("--rate", "600/min", "--hit-rate", "0.99", given=DECLARED)
    assert done.exit_code == 0, done.output
    title, _, *rest = done.stdout.splitlines()
    assert title == "help-desk v7: 10 rollouts at 600/min"
    rows = {line.split()[0]: line.split() for line in rest[: rest.index("")] if line[0] == " "}
    assert list(rows) == ["0.5", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95", "0.99", "1"]
    assert rows["0.5"][1:5] == ["0.0%", "-", "-", "100.0%"]
    assert rows["0.99"][1] == "100.0%"
    assert rows["0.99"][-1] == "█" * 40
    assert rows["0.5"][-1] == "▒" * 40
    assert "at a hit rate of 0.99, as time passes:" in rest
    assert rest[-1].endswith("█" * 40)


def test_a_narrow_terminal_keeps_the_figures() -> None:
    """The bars give way."""
    done = CliRunner().invoke(
        command,
        ["-f", QUICKSTART, "--rate", "9/s", "--rollouts", "2"],
        env={"COLUMNS": "80"},
    )
    rows = [line for line in done.stdout.splitlines() if "%" in line]
    assert len(rows) >= 8
    assert all("…" not in row and "█" not in row and len(row) <= 80 for row in rows)


def test_programs_get_rows() -> None:
    """As JSON and as YAML the same, with nulls where nothing ended so."""
    asked = ("--rate", "10/s", "--hit-rate", "1", "--seed", "3")
    as_json, as_yaml = (
        run(*asked, "-o", form, given=DECLARED, rollouts=2).stdout for form in ("json", "yaml")
    )
    found = json.loads(as_json)
    assert found == YAML(typ="safe").load(as_yaml)
    assert (found["requestsPerMinute"], found["rollouts"], found["seed"]) == (600, 2, 3)
    best = found["rows"][-1]
    assert best["hitRate"] == 1
    assert best["promoted"]["chance"] == 1
    assert 0 < best["promoted"]["medianSeconds"] <= best["promoted"]["p90Seconds"] < 600
    assert best["rolledBack"] == {"chance": 0, "medianSeconds": None, "p90Seconds": None}


def test_the_same_seed_draws_the_same() -> None:
    """And another one does not."""

    def drawn(seed: str) -> object:
        asked = ("--rate", "60/min", "--seed", seed, "-o", "json")
        return json.loads(run(*asked, given=DECLARED, rollouts=3).stdout)["rows"]

    first = drawn("1")
    assert drawn("1") == first
    assert drawn("2") != first


@pytest.mark.parametrize(
    ("rate", "a_minute"), [("2/s", 120), ("120/min", 120), ("120", 120), ("90/h", 1.5)]
)
def test_rates_have_units(rate: str, a_minute: float) -> None:
    """A second, a minute or an hour; a bare number is a minute's."""
    done = run("--rate", rate, "-o", "json", given=DECLARED, rollouts=1)
    assert json.loads(done.stdout)["requestsPerMinute"] == a_minute


@pytest.mark.parametrize(
    ("given", "arguments", "part"),
    [
        (DECLARED, ("--rate", "fast"), "write a number and a unit, such as 2/s"),
        (DECLARED, ("--rate", "0/s"), "write a number and a unit, such as 2/s"),
        (DECLARED, ("--rate", "1/s", "--hit-rate", "95"), "--hit-rate"),
        ("kind: Other\n", ("--rate", "1/s"), "hold 0 PromptPrefixes: give the file of one"),
        (f"{DECLARED}---\n{DECLARED}", ("--rate", "1/s"), "hold 2 PromptPrefixes"),
        (manifest("{steps: nine}"), ("--rate", "1/s"), "PromptPrefix 'help-desk': spec.rollout"),
        (manifest("{strategy: Immediate}"), ("--rate", "1/s"), "promotes without evidence"),
        ("a: [", ("--rate", "1/s"), "standard input"),
    ],
)
def test_what_cannot_be_played_is_refused(
    given: str, arguments: tuple[str, ...], part: str
) -> None:
    """With a sentence that says what to do, and no table."""
    done = run(*arguments, given=given)
    assert done.exit_code != 0
    assert part in done.stderr
    assert done.stdout == ""
