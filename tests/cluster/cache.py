"""The directory that keeps what the tests need and Python has not, for every checkout.

It says where that directory is, lets one process at a time add to it, and prints progress. It
knows nothing of what is kept.
"""

import fcntl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HEARTBEAT_SECONDS: Final = 15
_LOOK_SECONDS: Final = 0.5


class AssetsError(Exception):
    """An asset is not there, or could not be had; the message says what to do."""


def home(environ: Mapping[str, str]) -> Path:
    """Return the directory, which need not exist yet."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"


@contextmanager
def only_writer(directory: Path) -> Iterator[int]:
    """Wait until no other process adds to the directory, and keep the others out.

    Yields:
        A file descriptor: whoever inherits it keeps the others out as well, so a child that
        outlives its parent is not joined by a second one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        if not _lock(lock.fileno()):
            say(f"another process adds to {directory}: waiting for it …")
            started = heard = time.monotonic()
            while not _lock(lock.fileno()):
                time.sleep(_LOOK_SECONDS)
                if time.monotonic() - heard >= HEARTBEAT_SECONDS:
                    heard = time.monotonic()
                    say(f"{heard - started:6.0f} s  still waiting")
        yield lock.fileno()


def say(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
