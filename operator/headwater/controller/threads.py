"""A coroutine in a thread of its own, and work that it has done in the loop that it came from.

What must be in time (a lease's renewal) then waits for no reconcile: the interpreter gives each
thread its turn, however long one turn of an event loop takes.
"""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


async def apart(main: Work) -> None:
    """Run `main` in a loop and a thread of its own, to its end or until cancelled.

    A cancellation is passed on, and its end is waited for. What `main` raises is raised here.
    """
    began: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]
    began = concurrent.futures.Future()

    def run() -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(main())
            began.set_result((loop, task))
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="apart") as executor:
        ended = asyncio.get_running_loop().run_in_executor(executor, run)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            began.add_done_callback(_cancel)
            # It may be cancelled once more, and ends no sooner for that.
            await _end_of(ended)
            raise


async def at_home(home: asyncio.AbstractEventLoop, work: Work) -> None:
    """Have another thread's loop do `work`, to its end or until cancelled, as `apart` does."""
    ended: concurrent.futures.Future[asyncio.Task[None]] = concurrent.futures.Future()
    tasks: list[asyncio.Task[None]] = []

    def begin() -> None:
        task = home.create_task(work())
        task.add_done_callback(ended.set_result)
        tasks.append(task)

    home.call_soon_threadsafe(begin)
    try:
        task = await asyncio.shield(asyncio.wrap_future(ended))
    except asyncio.CancelledError:
        # There is a task by the time that this is called, and may be none now.
        home.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108
        await _end_of(asyncio.wrap_future(ended))
        raise
    task.result()


def _cancel(
    began: "concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]",
) -> None:
    loop, task = began.result()
    with contextlib.suppress(RuntimeError):  # it has ended meanwhile
        loop.call_soon_threadsafe(task.cancel)


async def _end_of(future: "asyncio.Future[Any]") -> None:
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
