"""`headwater warm`: what it refuses, and that a report is written even then."""

import json
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port
from click.testing import CliRunner, Result

from headwater.cli.warm import command
from headwater.contract import bundle
from headwater.warmer.report import Report, decode
from tests.unit.warmer import test_job

KEY = test_job.KEY


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A directory with a bundle, a key file, and room for a report."""
    (tmp_path / "bundle").mkdir()
    for name, data in bundle.encode(test_job.bundle()).items():
        (tmp_path / "bundle" / name).write_bytes(data)
    (tmp_path / "api-key").write_text(KEY)
    return tmp_path


def warm(mounted: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        command,
        [
            f"--bundle={mounted / 'bundle'}",
            f"--credential=prod={mounted / 'api-key'}",
            f"--report={mounted / 'report'}",
            f"--base-url=http://127.0.0.1:{unused_port()}",
            *arguments,
        ],
    )


def report(mounted: Path) -> Report:
    return decode((mounted / "report").read_bytes())


def test_failed_lanes_end_with_one_and_a_report(mounted: Path) -> None:
    """People read a line for each lane, the controller reads the report; no key in either."""
    (mounted / "api-key").write_text(f"{KEY} \n")
    done = warm(mounted)
    assert done.exit_code == 1
    (lane,) = report(mounted).lanes
    assert lane.state == "Failed"
    assert done.stdout == (
        f"Failed   prod  claude-opus-4-8  {test_job.STABLE.digest.short}  {lane.message}\n"
    )
    assert KEY not in done.output


def test_json(mounted: Path) -> None:
    """Programs get every lane whole."""
    done = warm(mounted, "--model=a", "--model=b", "--time-limit=0.001", "--output=json")
    assert done.exit_code == 1, done.exception
    assert [lane["model"] for lane in json.loads(done.stdout)] == ["a", "b"]


@pytest.mark.parametrize("damage", ["file", "directory"])
def test_a_bundle_that_cannot_be_used(mounted: Path, damage: str) -> None:
    """No byte is sent that does not verify, and the report says what is wrong."""
    contract = mounted / "bundle" / f"{test_job.STABLE.digest.hex}.json"
    if damage == "file":
        contract.write_bytes(contract.read_bytes().replace(b"one", b"0ne"))
    else:
        (mounted / "bundle").rename(mounted / "elsewhere")
    done = warm(mounted)
    assert done.exit_code == 1
    assert report(mounted).lanes == ()
    assert "cannot be used" in report(mounted).message
    assert report(mounted).message in done.stderr


def test_a_key_in_place_of_a_file_is_not_repeated(mounted: Path) -> None:
    """Whoever types the key itself does not find it in a log."""
    done = warm(mounted, f"--credential={KEY}")
    assert done.exit_code == 2
    assert "NAME=FILE" in done.stderr
    assert KEY not in done.output


def test_a_name_given_twice(mounted: Path) -> None:
    """Two keys of one name would be one lane in the report."""
    done = warm(mounted, f"--credential=prod={mounted / 'other'}")
    assert done.exit_code == 2
    assert "prod is given twice" in done.stderr


def test_a_dry_run_says_what_it_would_cost(mounted: Path) -> None:
    """As a read and as a write, lane by lane and in all; nothing is sent, and no key is read."""
    (mounted / "api-key").unlink()
    done = warm(mounted, "--dry-run")
    assert done.exit_code == 0
    lane, total = done.stdout.splitlines()
    assert lane.startswith(f"prod  claude-opus-4-8  v1 {test_job.STABLE.digest.short}  ")
    assert "USD  write 0.00" in lane
    assert total.startswith("a run costs 0.000")
    assert not (mounted / "report").exists()
    assert "no price of house is known" in warm(mounted, "--dry-run", "--model=house").stdout


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--identity=prod", "write NAME=FILE"),
        ("--identity=other=/token:rule", "write NAME=TOKEN_FILE:RULE:ORGANIZATION"),
        ("--identity=prod=/token:rule:org", "each needs its own"),
        ("--skip=prod/model", "write CREDENTIAL/MODEL/DIGEST"),
        ("--allowance=much", "no amount of US dollars"),
        ("--allowance=-1", "no amount of US dollars"),
        ("--allowance=NaN", "no amount of US dollars"),
    ],
)
def test_arguments_that_are_none(mounted: Path, argument: str, said: str) -> None:
    """Each is refused with how to write it."""
    done = warm(mounted, argument)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_nobody_to_warm_for(mounted: Path) -> None:
    """A key or an identity is needed."""
    done = CliRunner().invoke(command, [f"--bundle={mounted / 'bundle'}", "--once"])
    assert (done.exit_code, "give --credential" in done.stderr) == (2, True)


def test_a_run_without_budget_is_no_failure(mounted: Path) -> None:
    """What is left out for want of money is reported, and the job ends well."""
    done = warm(mounted, "--allowance=0", "--once")
    assert done.exit_code == 0
    assert [lane.state for lane in report(mounted).lanes] == ["Skipped"]
