"""The pytest plugin that makes a run leave nothing behind, and its limits fit the machine.

Each process of a run, the controlling one and every worker, has a janitor, which ends what that
process started once it is gone, by whatever way it went. All temporary files lie in one directory,
which goes with the run (`KEEP=1` keeps it). A process that a test left running is a fault of that
test: the run fails, and names it.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster import forks, janitor, waiting

KEEP: Final = "KEEP"
_HELD = pytest.StashKey["_Held"]()
_LEAKED = pytest.StashKey[list[str]]()
_LEFT: Final = "headwater_left_running"


class _Held:
    """A janitor that waits for the end of this process."""

    def __init__(self, mark: str, *directories: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, mark, *map(str, directories)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=janitor.unmarked(os.environ),
            start_new_session=True,  # a terminal's Ctrl-C is for us; it must live to clean up
        )
        os.environ[janitor.VARIABLE] = mark

    def release(self) -> list[str]:
        """Let it clean up now; return the command lines of the processes that it had to end."""
        if self._process.returncode is not None:
            return []
        said, _ = self._process.communicate()
        return [line for line in said.splitlines() if line]


@pytest.hookimpl(tryfirst=True)  # before pytest chooses its directory, and xdist starts workers
def pytest_configure(config: pytest.Config) -> None:
    """Start this process's janitor, and choose where the run's files lie."""
    if hasattr(config, "workerinput"):
        config.stash[_HELD] = _Held(f"{os.environ[janitor.VARIABLE]}/{secrets.token_hex(8)}")
        return
    directory = Path(tempfile.mkdtemp(prefix="headwater-run-"))
    kept = bool(os.environ.get(KEEP))
    config.stash[_HELD] = _Held(secrets.token_hex(8), *([] if kept else [directory]))
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    factor = waiting.scaled(1.0)
    if factor > 1:
        print(f"This machine is busy or slow: limits of waits are {factor:.1f} times as long.")
    if kept:
        print(f"KEEP is set: the run's files stay in {directory}.")


@pytest.hookimpl(trylast=True)  # the fixtures of the session are torn down by then
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Clean up after the tests of this process; fail the run where one left a process behind."""
    forks.end()
    config = session.config
    if (output := getattr(config, "workeroutput", None)) is not None:
        output[_LEFT] = config.stash[_HELD].release()
    elif not config.getoption("numprocesses", None):
        _complain(session, config.stash[_HELD].release())
    else:
        _complain(session, config.stash.get(_LEAKED, []))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker says of its tests' processes."""
    del error
    left = getattr(node, "workeroutput", {}).get(_LEFT, [])
    node.config.stash.setdefault(_LEAKED, []).extend(left)


@pytest.hookimpl(trylast=True)  # what the controlling process itself started has ended by then
def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's files."""
    if _HELD in config.stash:
        config.stash[_HELD].release()


def _complain(session: pytest.Session, commands: list[str]) -> None:
    for command in commands:
        print(f"\nA test left this process running: {command}", file=sys.stderr)
    if commands and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
