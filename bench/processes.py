"""Real processes, their memory, and their end by their own id."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HEADWATER = Path(sys.executable).with_name("headwater")


@contextlib.contextmanager
def headwater(
    *arguments: str, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A role of ours as a process; its output goes to `log`."""
    with started(str(HEADWATER), *arguments, environment=environment, log=log) as process:
        yield process


@contextlib.contextmanager
def started(
    *command: str, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, its threads' too."""
    # The process's own clock (clock_getcpuclockid(3)): /proc counts in hundredths of a second.
    return time.clock_gettime(~pid << 3 | 2)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return _memory_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most that was resident of a process since its start, in MB (10^6 bytes)."""
    return _memory_mb(pid, "VmHWM")


def _memory_mb(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} is gone")
    return int(found[1]) * 1024 / 1e6
