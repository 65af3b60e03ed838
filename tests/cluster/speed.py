"""How slow this machine is at the moment: the factor by which the limits of waits grow.

Only the standard library is imported: the control plane's harness runs before anything else.
"""

import hashlib
import subprocess
import sys
import time
from typing import Final

NOMINAL_SECONDS: Final = 0.25
"""What `_known_work` takes on two quiet cores of 2024 (measured: 0.2 s)."""
LARGEST: Final = 20.0
"""A machine that is slower than this would hide a hang for hours."""
_ROUNDS: Final = 3
_BYTES: Final = b"x" * (1 << 20)


def slowness() -> float:
    """Measure how much longer a known piece of work takes now than on a quiet machine (1 to 20).

    The median of three: one look may meet the one moment in which others rest.
    """
    seconds = sorted(_known_work() for _ in range(_ROUNDS))[_ROUNDS // 2]
    return min(max(1.0, seconds / NOMINAL_SECONDS), LARGEST)


def _known_work() -> float:
    """Do what tests do, start a process and compute; return the seconds that it took."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    for _ in range(64):
        hashlib.sha256(_BYTES).digest()
    return time.perf_counter() - began
