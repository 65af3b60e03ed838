"""A coroutine in a thread of its own, and its work at home: ends, errors and cancellations."""

import asyncio
import threading
import time
from functools import partial

import pytest

from headwater.controller.threads import apart, at_home
from tests.cluster.waiting import eventually


async def test_it_runs_beside_a_loop_that_is_busy() -> None:
    """While one turn takes a second, the other one has many."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(apart(count))
    await eventually(lambda: turns, 10, "it has begun")
    before = turns
    ends = time.monotonic() + 1
    while time.monotonic() < ends:  # nobody else gets a turn of this loop
        pass
    assert turns - before > 3
    counting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await counting


async def test_the_work_is_done_at_home() -> None:
    """In the thread that asked; its end ends it all."""
    where = []

    async def work() -> None:
        where.append(threading.current_thread())

    await apart(partial(at_home, asyncio.get_running_loop(), work))
    assert where == [threading.current_thread()]


@pytest.mark.parametrize("at", ["apart", "home"])
async def test_what_goes_wrong_is_told(at: str) -> None:
    """Wherever it went wrong."""

    async def fail() -> None:
        raise LookupError(at)

    home = asyncio.get_running_loop()
    with pytest.raises(LookupError, match=at):
        await apart(fail if at == "apart" else partial(at_home, home, fail))


async def test_a_cancellation_ends_both_in_good_order() -> None:
    """The work first, to the end of its cleaning up, then whoever had it done."""
    ended: list[str] = []
    working = asyncio.Event()

    async def work() -> None:
        working.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            ended.append("work")

    async def main() -> None:
        try:
            await at_home(home, work)
        finally:
            ended.append("main")

    home = asyncio.get_running_loop()
    task = asyncio.create_task(apart(main))
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["work", "main"]
