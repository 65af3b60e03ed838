"""Waiting for conditions: the one place in the tests where time is allowed to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Final, TypeVar

T = TypeVar("T")
INTERVAL_SECONDS: Final = 0.05


def wait_until(
    condition: Callable[[], T],
    timeout: float,
    message: str,
    interval: float = INTERVAL_SECONDS,
) -> T:
    """The condition's first truthy value.

    Args:
        condition: asked every `interval` seconds; an AssertionError of it counts as "not yet".
        timeout: seconds.
        message: what was awaited, for the error: "the pod of job warm-1 exists".
        interval: longer where asking is work for the machine that is being watched.

    Raises:
        TimeoutError: with the message, and what the condition said last.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            if value := condition():
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            raise TimeoutError(_said(message, timeout, last))
        time.sleep(interval)


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    timeout: float,  # noqa: ASYNC109 - the twin of wait_until
    message: str,
) -> T:
    """`wait_until` for async tests: the event loop runs on, and the condition may be async."""
    deadline = time.monotonic() + timeout
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
        if time.monotonic() >= deadline:
            raise TimeoutError(_said(message, timeout, last))
        await asyncio.sleep(INTERVAL_SECONDS)


def _said(message: str, timeout: float, last: object) -> str:
    return f"waited {timeout:g} s in vain: {message} (last answer: {last!r})"
