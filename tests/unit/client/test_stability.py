"""A builder that is not the same everywhere is found, with what makes it so and where."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import headwater
from tests.cluster.waiting import scaled, wait_until
from tests.unit.client import unstable

FILE = Path(unstable.__file__)
ROOT = FILE.parents[3]


def line_of(text: str) -> str:
    lines = FILE.read_text().splitlines()
    return f"{FILE}:{next(at for at, line in enumerate(lines, 1) if text in line)}"


def test_what_is_stable_passes() -> None:
    """In each of the processes; by name it is found in the tests below."""
    headwater.assert_stable(unstable.stable)


@pytest.mark.parametrize(
    ("name", "cause", "where", "line"),
    [
        ("now", "clock", "system[].text", "dt.datetime.now("),
        ("today", "clock", "system", "date.today()"),
        ("seconds", "clock", "system", "time.time()"),
        ("identifier", "chance", "metadata.user_id", "uuid.uuid4()"),
        ("address", "chance", "system", None),
        ("unsorted", "set order", "tools[].name", "NAMES = {"),
        ("keys", "set order", "tools[].input_schema (keys)", "NAMES = {"),
        ("listing", "directory order", "documents[]", "for path in HERE.iterdir()"),
        ("person", "user name or path", "system", "getpass.getuser()"),
        ("zone", "time zone", "system", "time.localtime(0)"),
        ("local", "locale", "system", None),
    ],
)
def test_a_habit_is_found_with_its_place(
    name: str, cause: str, where: str, line: str | None
) -> None:
    with pytest.raises(headwater.UnstableError) as error:
        headwater.assert_stable(getattr(unstable, name))
    found = error.value
    assert (found.cause, re.sub(r"\[\d+\]", "[]", found.where)) == (cause, where)
    assert found.lines == ([line_of(line)] if line else [])
    assert all(line in str(found) for line in found.lines)
    assert f"byte {found.offset}" in str(found)
    assert isinstance(found, AssertionError)


def test_the_programs_own_modules_are_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one has the name of one of ours."""
    (tmp_path / "tools.py").write_text("MINE = 'found'\n")
    (tmp_path / "app.py").write_text(
        "import tools\n\ndef build():\n    raise KeyError(tools.MINE)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(headwater.HeadwaterError, match="KeyError: 'found'"):
        headwater.assert_stable("app:build")


def test_a_builder_that_cannot_be_run_is_no_verdict() -> None:
    with pytest.raises(headwater.HeadwaterError, match="ValueError: no catalogue"):
        headwater.assert_stable(unstable.broken)
    with pytest.raises(headwater.HeadwaterError, match="no function of a module"):
        headwater.assert_stable(lambda: 1)


def test_a_call_at_the_top_of_a_module_ends_after_one_process(tmp_path: Path) -> None:
    """The process that runs the builder imports the module, and would start another one."""
    program, started = tmp_path / "app.py", tmp_path / "started"
    program.write_text(
        f"import headwater\n\nopen({str(started)!r}, 'a').write('x')\n\n"
        "def build():\n    return {}\n\nheadwater.assert_stable(build)\n"
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, timeout=scaled(60)
    )
    assert "call assert_stable in a test, and not where the module is imported" in done.stderr
    assert done.returncode == 1
    assert started.read_text() == "xx"


def test_what_a_builder_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes too long is ended, and so are its children: they would hold its output."""
    monkeypatch.setattr("headwater.client.stability._SECONDS", scaled(2))
    (tmp_path / "slow.py").write_text(
        "import pathlib, subprocess, sys\n\ndef build():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    pathlib.Path(__file__).with_name('pid').write_text(str(child.pid))\n"
        "    child.wait()\n"
    )
    with pytest.raises(headwater.HeadwaterError, match="did not end within"):
        headwater.assert_stable(f"{tmp_path / 'slow.py'}:build")
    process = Path("/proc", (tmp_path / "pid").read_text())
    wait_until(lambda: not (process / "exe").exists(), 10, "the builder's child has ended")


def test_the_pytest_plugin_makes_tests_of_the_builders_that_are_named(tmp_path: Path) -> None:
    """Nothing has to be written but their names."""
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.pytest.ini_options]\nheadwater_builders = ["{FILE}:stable", "{FILE}:address"]\n'
    )
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    left_out = ("anyio", "asyncio", "cacheprovider", "hypothesispytest", "timeout", "xdist")
    options = [f"-pno:{name}" for name in left_out]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-pheadwater.client.pytest_plugin",
            *options,
            "-q",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "where only the chance differs" in done.stdout
    assert "Traceback" not in done.stdout
