"""Tells at once that something in a directory was renamed, where the system can.

The kubelet swaps all files of a ConfigMap by renaming one link. Linux tells of that by a signal
(dnotify, fcntl(2)), which Python's own library can ask for: no thread, no memory, no library as
for inotify. What is written in place is left to polling, since a half of it would be read.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def renames(directories: Iterable[Path], told: Callable[[], None]) -> Iterator[None]:
    """Call `told` after each rename in a directory that is there and can be watched.

    To be entered in the main thread's event loop, which owns the signal SIGIO from here on.
    """
    if not hasattr(fcntl, "F_NOTIFY"):  # another system than Linux
        yield
        return
    watched: list[int] = []

    def arm(descriptor: int) -> None:
        # For one signal. The kernel may be built without it, and so may a sandbox.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_NOTIFY, fcntl.DN_RENAME)

    def signalled() -> None:
        for descriptor in watched:
            arm(descriptor)
        told()

    # First, because the signal would end a process that does not take it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGIO, signalled)
    try:
        for directory in directories:
            with contextlib.suppress(OSError):
                watched.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                arm(watched[-1])
        yield
    finally:
        for descriptor in watched:
            os.close(descriptor)
