"""Real processes, their memory, and their end by their own id."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

HEADWATER = Path(sys.executable).with_name("headwater")


@contextlib.contextmanager
def headwater(
    *arguments: str, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A role of ours as a process; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [HEADWATER, *arguments],
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


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} is gone")
    return int(found[1]) * 1024 / 1e6
