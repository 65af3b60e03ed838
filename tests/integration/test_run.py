"""A run of the tests leaves no process and no file, however it ends, and says what it found."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.cluster import janitor
from tests.cluster.waiting import scaled, wait_until

ROOT: Final = Path(__file__).parents[2]
STARTS_AND_WAITS: Final = """
import os, pathlib, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).parent

def test_it():
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    sleeps = "import time; time.sleep(600)"
    processes = [
        subprocess.Popen([sys.executable, "-c", grandchild, sleeps]),
        subprocess.Popen([sys.executable, "-c", sleeps], start_new_session=True),
    ]
    tempfile.mkstemp()
    (HERE / "pids.part").write_text(f"{os.getppid()} {os.getpid()}")
    (HERE / "pids.part").rename(HERE / "pids")
    time.sleep(600)
"""


def pytest_command(directory: Path, *arguments: str) -> list[str]:
    """Return the command that runs the tests in a directory as the project's are run."""
    plugins = ("no:cacheprovider", "xdist", "tests.cluster.run")
    options = [part for plugin in plugins for part in ("-p", plugin)]
    return [sys.executable, "-m", "pytest", "-q", *options, *arguments, str(directory)]


def environment(directory: Path) -> dict[str, str]:
    """Return an environment whose temporary files are easily counted."""
    (directory / "temporary").mkdir()
    away = {janitor.VARIABLE, "KEEP", *(name for name in os.environ if name.startswith("PYTEST"))}
    inherited = {name: value for name, value in os.environ.items() if name not in away}
    own = {"TMPDIR": str(directory / "temporary"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**inherited, **own}


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run pytest on `STARTS_AND_WAITS`, and hand it over while the test waits."""
    (directory / "test_it.py").write_text(STARTS_AND_WAITS)
    with subprocess.Popen(
        pytest_command(directory, *arguments),
        cwd=ROOT,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            wait_until((directory / "pids").exists, 60, "the test has begun")
            yield process
        finally:
            process.kill()


def working_in(directory: Path) -> list[str]:
    """Return the command lines of the processes whose temporary files lie in the directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={directory}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def await_nothing(directory: Path) -> None:
    """Wait until neither a process nor a file of the run is left."""
    temporary = directory / "temporary"
    wait_until(lambda: not working_in(temporary), 30, f"no process works in {temporary}")
    wait_until(lambda: not [*temporary.iterdir()], 30, f"{temporary} is empty")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_and_no_file_is_left_when_pytest_is_ended(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Ctrl-C, a CI's end of patience, a violent death."""
    with running(tmp_path, "-n", "1") as process:
        process.send_signal(number)
        process.wait(scaled(60))
        await_nothing(tmp_path)


def test_no_process_is_left_when_a_worker_crashes(tmp_path: Path) -> None:
    """The run goes on, fails, and what the worker's test had started is gone."""
    with running(tmp_path, "-n", "1", "--max-worker-restart", "0") as process:
        _, worker = map(int, (tmp_path / "pids").read_text().split())
        os.kill(worker, signal.SIGKILL)
        said, _ = process.communicate(timeout=scaled(60))
        assert process.returncode == pytest.ExitCode.TESTS_FAILED, said
        assert "crashed while running" in said
        await_nothing(tmp_path)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_test_that_leaves_a_process_fails_its_run(workers: str, tmp_path: Path) -> None:
    """All tests pass, but the run does not: it names the process, and ends it."""
    leaves = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(599)'])"
    (tmp_path / "test_it.py").write_text(
        f"import subprocess, sys\ndef test_it():\n    {leaves}.returncode = 0\n"
    )
    done = subprocess.run(
        pytest_command(tmp_path, "-n", workers),
        cwd=ROOT,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=scaled(120),
    )
    assert "1 passed" in done.stdout
    assert "A test left this process running:" in done.stdout
    assert "time.sleep(599)" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    await_nothing(tmp_path)
