"""A keyed work queue: one reconcile of a key at a time, however often it is asked for.

The same contract as client-go's workqueue, in asyncio. It knows nothing of what a key means.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from headwater.contract.errors import HeadwaterError

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MOST: Final = 15.0


class WorkQueue(Generic[K]):
    """Keys waiting for a reconcile.

    `handler` gets a key and may return when the key wants to be looked at again. Where it
    raises, the key comes back after a pause that doubles each time.
    """

    def __init__(self, handler: Callable[[K], Awaitable[timedelta | None]]) -> None:
        """Make an empty queue; nothing runs before `run`."""
        self._handler = handler
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._running: dict[K, float] = {}
        """Since when, in the event loop's seconds."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Ask for a reconcile. Asking again before it has begun changes nothing."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._running:
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay: timedelta) -> None:
        """Ask for a reconcile later; the earlier of two such wishes counts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, delay.total_seconds())
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    @property
    def busy_for(self) -> float:
        """Seconds for which the oldest of the present reconciles has been at it; 0 for none."""
        now = asyncio.get_running_loop().time()
        return now - min(self._running.values(), default=now)

    @property
    def failing(self) -> int:
        """Keys whose last reconcile failed."""
        return len(self._failures)

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())
            await self._ready.join()
            _log.info("all that was known at the start has been looked at")

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running[key] = asyncio.get_running_loop().time()
            timer = self._timers.pop(key, None)
            if timer is not None:
                timer.cancel()
            try:
                again = await self._handler(key)
            except Exception as error:  # noqa: BLE001 - one key's failure must not stop the others
                again = self._failed(key, error)
            else:
                self._failures.pop(key, None)
            del self._running[key]
            if key in self._waiting:
                self._ready.put_nowait(key)
            elif again is not None:
                self.add_after(key, again)
            self._ready.task_done()
            # A reconcile that finds nothing to do waits for nothing: thousands of them would keep
            # the lease from being renewed.
            await asyncio.sleep(0)

    def _failed(self, key: K, error: Exception) -> timedelta:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2 ** min(failures - 1, 10))
        _log.warning(
            "reconcile of %s failed, again in %.1f s: %s",
            key,
            pause,
            error,
            # What we raise on purpose explains itself; anything else is a bug to be found.
            exc_info=None if isinstance(error, HeadwaterError) else error,
        )
        return timedelta(seconds=pause)
