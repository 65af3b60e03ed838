"""Reads a file that somebody else has put there: all of it, or an error soon."""

import os
import stat
from pathlib import Path

from headwater.contract.errors import BundleError


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file, which a link may lead to.

    A pipe would be waited for until somebody writes into it, and a device may have no end.

    Raises:
        BundleError: it is no regular file, or larger than `limit` bytes.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError(f"{path.name} is no regular file.")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{path.name} is larger than {limit:,} bytes.")
    return data
