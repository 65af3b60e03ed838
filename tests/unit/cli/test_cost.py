"""`headwater cost`: what a prefix costs, in a table, for programs, and as a picture."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from headwater.cli.cost import command
from headwater.providers.models import models

ROOT = Path(__file__).parents[3]
QUICKSTART = str(ROOT / "examples" / "quickstart")
PREFIX = ("--model", "claude-opus-4-8", "--tokens", "20000")
QUIET = (*PREFIX, "--requests-per-minute", "0.03")
ONE = '[[models]]\nid = "claude-opus-4-8"\n'
AT_80 = """\
0.03 requests a minute (43 a day), US dollars a day

MODEL            TTL  TOKENS   HITS  NO CACHE  CACHED  WARMED
claude-opus-4-8  5m   20,000  13.9%      4.32    4.71    4.00
claude-opus-4-8  1h   20,000  83.5%      4.32    1.79    0.63

MODEL            TTL  PAYS FROM  HITS OVER  PINGS  A WARMER PAYS AT
claude-opus-4-8  5m   request 2      21.7%     11  0.024-0.8/min
claude-opus-4-8  1h   request 3      52.6%     18  0.0019-0.14/min

claude-opus-4-8: provider's documentation,
platform.claude.com/docs/en/about-claude/pricing, as of 2026-08-22.
claude-opus-4-8: provider's documentation,
platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22.
"""


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=given, env={"COLUMNS": "80"})


def data(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments, "-o", "json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_on_a_terminal() -> None:
    """Days and break-evens of both TTLs, and where the prices come from."""
    assert run(*QUIET).stdout == AT_80


def test_a_warmer_that_leaves_no_run_out_is_dearer() -> None:
    """And pays for sparser traffic alone: `skipWhenTraffic: false`."""
    usual, every = (data(*QUIET, "--ttl", "1h", *options)[0] for options in ((), ("--every-run",)))
    assert every["perDayUsd"]["warming"] == "0.4824"
    assert float(usual["perDayUsd"]["warming"]) < 0.25
    assert every["warmer"]["paysPerMinute"][1] < usual["warmer"]["paysPerMinute"][1]


def test_the_page_shows_what_is_printed() -> None:
    """docs/economics.md begins with it."""
    assert f"\n{AT_80}```\n" in (ROOT / "docs" / "economics.md").read_text("utf-8")


def test_a_manifest_says_what_to_price() -> None:
    """Its models, its TTL, and its tokens, which are an estimate and said to be."""
    done = run("-f", QUICKSTART, "--requests-per-minute", "2")
    assert done.exit_code == 0, done.output
    assert "Tokens are an estimate, good to 25% or so." in done.stdout
    found = data("-f", QUICKSTART, "--requests-per-minute", "2")
    assert {case["ttl"] for case in found} == {"5m"}
    assert all(case["tokens"] > 1_024 for case in found)
    (other,) = data("-f", QUICKSTART, "--model", "claude-haiku-5-5", "--tokens", "9000",
                    "--ttl", "1h", "--requests-per-minute", "2")  # fmt: skip
    assert (other["model"], other["tokens"], other["ttl"]) == ("claude-haiku-5-5", 9_000, "1h")


def test_measured_hit_rate() -> None:
    """It takes the place of what the traffic would make."""
    found = data(*QUIET, "--hit-rate", "0.5", "--ttl", "5m")
    (layer,) = found[0]["perRequestUsd"]["layers"]
    assert layer["hitRate"] == 0.5
    assert Decimal(layer["usd"]) == Decimal("0.0675")


def test_measured_arrivals(tmp_path: Path) -> None:
    """Bursts hit more often than the same number of requests at random."""
    start = datetime(2026, 11, 21, 9, tzinfo=UTC)
    times = [start + timedelta(hours=hour, seconds=each) for hour in range(9) for each in range(5)]
    file = tmp_path / "arrivals"
    file.write_text("".join(f"{time.isoformat()}\n" for time in times))
    (found,) = data(*PREFIX, "--arrivals", str(file), "--ttl", "5m")
    assert found["perRequestUsd"]["layers"][0]["hitRate"] == pytest.approx(36 / 44)
    assert ", as measured)" in run(*PREFIX, "--arrivals", str(file)).stdout


def test_layers_of_tenants() -> None:
    """Each way to share has its layers, and one that is too short is cached with the next."""
    arguments = ("--model", "claude-opus-4-8", "--tokens", "600", "--ttl", "5m")
    tenants = ("--tenants", "50", "--tenant-tokens", "3000", "--requests-per-minute", "9")
    shared, hybrid, dedicated = data(*arguments, *tenants)
    cached = [
        [layer["cachedTokens"] for layer in case["perRequestUsd"]["layers"]]
        for case in (shared, hybrid, dedicated)
    ]
    assert cached == [[0], [0, 3_600], [0, 3_600]]
    assert "minimum: 1,024" in run(*arguments, *tenants).stdout


def test_a_conversation() -> None:
    """Beside the day, what its turns cost together."""
    asked = (*QUIET, "--turns", "8", "--growth", "600", "--ttl", "5m")
    assert data(*asked)[0]["conversationUsd"] == {"uncached": "0.884", "cached": "0.22755"}
    assert "A conversation of 8 turns, US dollars" in run(*asked).stdout


def test_programs_get_the_same_as_yaml() -> None:
    """Both are one structure."""
    as_yaml = run(*QUIET, "-o", "yaml").stdout
    assert YAML(typ="safe").load(as_yaml) == data(*QUIET)


def test_prices_of_ones_own(tmp_path: Path) -> None:
    """A file lies over the facts, by option or by environment."""
    file = tmp_path / "facts.toml"
    file.write_text(
        '[sources.contract]\nkind = "our contract"\npage = "order form"\nas_of = 2026-11-01\n'
        '[[models]]\nid = "claude-opus-4-8"\n[[models.prices]]\nsource = "contract"\n'
        'input = "1"\nwrite_5m = "1.25"\nwrite_1h = "2"\nread = "0.1"\noutput = "5"\n'
    )
    done = run(*QUIET, "--facts", str(file))
    assert "our contract, order form, as of 2026-11-01" in done.stdout
    ours, theirs = (
        Decimal(data(*QUIET, *option)[0]["perDayUsd"]["uncached"])
        for option in (("--facts", str(file)), ())
    )
    assert theirs == 5 * ours
    environment = {"HEADWATER_FACTS": str(file), "COLUMNS": "80"}
    assert CliRunner().invoke(command, QUIET, env=environment).stdout == done.stdout


def test_a_picture(tmp_path: Path) -> None:
    """Drawn, and the table printed all the same."""
    picture = tmp_path / "cost.png"
    assert run(*QUIET, "--plot", str(picture)).stdout == AT_80
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_the_page_is_this_one(tmp_path: Path) -> None:
    """docs/images/cost.svg has the regions and break-evens that are drawn today."""
    picture = tmp_path / "cost.svg"
    run(*QUIET, "--plot", str(picture))
    drawn, shown = (
        re.findall(r"<text [^>]*>([^<]+)</text>", file.read_text("utf-8"))
        for file in (picture, ROOT / "docs" / "images" / "cost.svg")
    )
    assert drawn == shown
    assert {"no cache", "1h, warmed", "0.0034", "0.15"} <= set(drawn)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is named, with the way to have it, and nothing is written."""
    monkeypatch.delitem(sys.modules, "headwater.cli._plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run(*QUIET, "--plot", str(tmp_path / "cost.svg"))
    assert done.exit_code == 1
    assert "pip install 'headwater[plot]'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "give either --requests-per-minute or --arrivals"),
        ((*QUIET, "--arrivals", "x"), "give either --requests-per-minute or --arrivals"),
        (("--tokens", "5", "--requests-per-minute", "1"), "both --model and --tokens"),
        ((*QUIET, "--tenant-tokens", "5"), "--tenant-tokens needs --tenants"),
        ((*PREFIX, "--requests-per-minute", "-1"), "give 0 or more"),
        ((*PREFIX, "--requests-per-minute", "NaN"), "give 0 or more"),
        ((*PREFIX, "--requests-per-minute", "many"), "is no number: write one like 0.5"),
        ((*QUIET, "--tokens", "-5"), "-5 is not in the range"),
        ((*QUIET, "--hit-rate", "95"), "give 1 or less"),
        ((*QUIET, "--ttl", "24h"), "'24h' is not one of '5m', '1h'"),
        ((*QUIET, "--plot", "cost.gif"), "ends in .svg or .png"),
        ((*QUIET, "--plot", "no/such/folder.png"), "No such file or directory"),
        ((*QUIET, "--facts", "no-such-file"), "no-such-file"),
        ((*PREFIX, "--arrivals", "no-such-file"), "no-such-file"),
        ((*QUIET, "-f", "no-such-file"), "no-such-file"),
        ((*QUIET, "--model", "gpt-9"), "nothing is known of the model 'gpt-9' (facts of 2026-"),
        ((*QUIET, "--model", "gpt-9"), models()[-1].id),
        ((*QUIET, "--model", "claude-mythos-preview"), "no price of claude-mythos-preview"),
        (("--model", "claude-opus-4-8", "--tokens", "9", "--requests-per-minute", "1",
          "--plot", "a.svg"), "there is nothing to draw"),
    ],
)  # fmt: skip
def test_what_cannot_be_priced(arguments: tuple[str, ...], part: str) -> None:
    """A sentence says what was wrong and what to do; nothing is printed."""
    done = run(*arguments)
    assert done.exit_code != 0
    assert part in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("--facts", "= 5", "not TOML"),
        ("--facts", '[[models]]\nid = "x"\nline = "y"', "missing required field"),
        ("--facts", '[[models]]\nline = "y"', "'id' is missing"),
        ("--facts", f"{ONE}increment_source = 'z'", "'z' is missing"),
        ("--facts", f"{ONE}[[models.prices]]\ninput = '1'", "'source' is missing"),
        ("--facts", '[[models]]\nid = "claude-opus-4-8"\nminimum = 5', "minimum"),
        ("--facts", "models = 5", "not of the form"),
        ("--arrivals", "2026-11-21T09:00:00Z\nnoon", "line 2: 'noon' is no time"),
        ("--arrivals", "2026-11-21T09:00:00Z", "two requests at different times"),
        ("--arrivals", "2026-11-21T09:00:00Z\n2026-11-21T08:00:00Z", "in order"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str, part: str) -> None:
    """The message names what is wrong in them."""
    file = tmp_path / "file"
    file.write_text(text)
    traffic = () if name == "--arrivals" else ("--requests-per-minute", "1")
    done = run(*PREFIX, *traffic, name, str(file))
    assert done.exit_code == 1
    assert part in " ".join(done.stderr.split())


def test_measured_gaps_are_of_one_lane(tmp_path: Path) -> None:
    """They cannot be shared out to tenants."""
    file = tmp_path / "file"
    file.write_text("2026-11-21T09:00:00Z\n2026-11-21T09:01:00Z\n")
    done = run(*PREFIX, "--arrivals", str(file), "--tenants", "3")
    assert "for several tenants give a rate instead" in done.stderr
