"""Ends what a test process started, and removes its files, however that process ended.

Its standard input is a pipe of which the test process holds the other end, so it closes with a
return, an exception, Ctrl-C, SIGTERM and SIGKILL alike. Then every process is killed whose
environment carries the mark, each by its own handle, until there are none. What works in the
directory without the mark ends by itself (see `supervisor`) and is waited for; then the directory
is removed. It prints the command line of each process that it had to end.

    python -I -S janitor.py MARK [DIRECTORY]

A mark is `<run>` or `<run>/<worker>`; the environment variable `HEADWATER_TEST_MARK` of a process
carries it. A run's mark covers those of its workers. It has a session of its own and no mark, so
neither a terminal's Ctrl-C nor another janitor ends it.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

VARIABLE = "HEADWATER_TEST_MARK"
_QUIET_ROUNDS = 3
"""So often must nobody be found: a process may be between a fork and its new environment."""
_PAUSE_SECONDS = 0.05
_OTHERS_SECONDS = 60
"""The longest wait for those that end by themselves."""


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark, *directories = sys.argv[1:]
    sys.stdin.buffer.read()
    ended = end_marked(mark)
    with suppress(BrokenPipeError):  # whoever was killed does not read it
        os.write(sys.stdout.fileno(), "\n".join(ended).encode())
    for directory in directories:
        _await_nobody_in(directory)
        shutil.rmtree(directory, ignore_errors=True)


def unmarked(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a process that ends by itself with the one that started it."""
    return {name: value for name, value in environment.items() if name != VARIABLE}


def end_marked(mark: str) -> list[str]:
    """Kill each process with the mark, and return their command lines."""
    ended: dict[int, str] = {}
    quiet = 0
    while quiet < _QUIET_ROUNDS:
        found = {process: command for process in _processes() if (command := _kill(process, mark))}
        quiet = 0 if found else quiet + 1
        ended.update(found)
        time.sleep(_PAUSE_SECONDS)
    return list(ended.values())


def _await_nobody_in(directory: str) -> None:
    deadline = time.monotonic() + _OTHERS_SECONDS
    while any(_works_in(process, directory) for process in _processes()):
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_SECONDS)


def _works_in(process: int, directory: str) -> bool:
    try:
        return f"{Path(f'/proc/{process}/cwd').readlink()}/".startswith(f"{directory}/")
    except OSError:  # it ended meanwhile, or is another user's
        return False


def _processes() -> list[int]:
    own = os.getpid()
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process != own]


def _kill(process: int, mark: str) -> str | None:
    """Kill a process if it carries the mark; return its command line, None for any other."""
    try:
        handle = os.pidfd_open(process)  # from here on the number cannot be somebody else's
    except OSError:
        return None
    try:
        if not _carries(process, mark):
            return None
        command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:  # it ended meanwhile, or is another user's
        return None
    finally:
        os.close(handle)
    return command.strip() or None  # a zombie has no command line, and is dead already


def _carries(process: int, mark: str) -> bool:
    for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name.decode(errors="replace") == VARIABLE:
            own = value.decode(errors="replace")
            return own == mark or own.startswith(f"{mark}/")
    return False


if __name__ == "__main__":
    main()
