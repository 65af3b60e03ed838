"""Waiting for conditions: the one place in the tests where time is allowed to pass.

A limit here tells a hang from work: it is never what a test is about. It is given for a quiet
machine, is at least `PATIENCE`, and grows with how slow the machine is, which is measured when the
run starts and once more whenever a limit is reached.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Final, TypeVar

from tests.cluster.speed import slowness

T = TypeVar("T")
INTERVAL_SECONDS: Final = 0.05
PATIENCE: Final = 30.0
"""The shortest limit of a wait, in seconds: a wait that ends well costs nothing of it."""
SLOWNESS: Final = "HEADWATER_TEST_SLOWNESS"
"""The environment variable by which a run tells its processes how slow the machine was."""


def scaled(seconds: float) -> float:
    """Return a limit for this machine from one for a quiet machine.

    The factor is at least 1. A run measures it once; a process outside of a run measures it when
    it first asks.
    """
    if SLOWNESS not in os.environ:
        os.environ[SLOWNESS] = f"{slowness():.2f}"
    return seconds * float(os.environ[SLOWNESS])


def wait_until(
    condition: Callable[[], T],
    timeout: float,
    message: str,
    interval: float = INTERVAL_SECONDS,
    *,
    promised: bool = False,
) -> T:
    """Return the condition's first truthy value.

    Args:
        condition: asked every `interval` seconds; an AssertionError of it counts as "not yet".
        timeout: seconds on a quiet machine; at least `PATIENCE` passes.
        message: what was awaited, for the error: "the pod of job warm-1 exists".
        interval: longer where asking is work for the machine that is being watched.
        promised: the timeout is what users are promised, and nothing is added to it but for the
            machine's slowness.

    Raises:
        TimeoutError: with the message, and what the condition said last.
    """
    limit = Limit(timeout if promised else max(timeout, PATIENCE))
    while True:
        last: object
        try:
            if value := condition():
                return value
            last = value
        except AssertionError as error:
            last = error
        if limit.passed():
            raise TimeoutError(limit.said(message, last))
        time.sleep(interval)


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    timeout: float,  # noqa: ASYNC109 - the twin of wait_until
    message: str,
) -> T:
    """Do as `wait_until` in an async test: the event loop runs on; the condition may be async."""
    limit = Limit(max(timeout, PATIENCE))
    while True:
        last: object
        try:
            answer = condition()
            value: T = await answer if isawaitable(answer) else answer
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if limit.passed():
            raise TimeoutError(limit.said(message, last))
        await asyncio.sleep(INTERVAL_SECONDS)


class Limit:
    """A limit that begins now, and is measured again where the machine has become slower meanwhile.

    Attributes:
        seconds: its present length.
    """

    def __init__(self, seconds: float) -> None:
        self._nominal = seconds
        self.seconds = scaled(seconds)
        self._began = time.monotonic()

    def passed(self) -> bool:
        """Return whether even the machine's present speed explains the wait no longer."""
        if time.monotonic() - self._began < self.seconds:
            return False
        self.seconds = max(self.seconds, self._nominal * slowness())
        return time.monotonic() - self._began >= self.seconds

    def said(self, message: str, last: object) -> str:
        """Return the error's words."""
        return f"waited {self.seconds:.0f} s in vain: {message} (last answer: {last!r})"
