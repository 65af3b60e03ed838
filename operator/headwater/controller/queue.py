"""A keyed work queue: one reconcile of a key at a time, however often it is asked for.

The same contract as client-go's workqueue, in asyncio, and fair: keys of one group wait for each
other, groups take turns. It knows nothing of what a key means.
"""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from headwater.contract.errors import HeadwaterError

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MOST: Final = 15.0
_SHARE: Final = 0.8
"""Of the workers, for one group at most: another group's key finds one that is free."""


def _alone(key: Hashable) -> Hashable:
    return key


class WorkQueue(Generic[K]):
    """Keys waiting for a reconcile.

    `handler` gets a key and may return when the key wants to be looked at again. Where it
    raises, the key comes back after a pause that doubles each time. `group` says whose a key is.
    """

    def __init__(
        self,
        handler: Callable[[K], Awaitable[timedelta | None]],
        group: Callable[[K], Hashable] = _alone,
    ) -> None:
        """Make an empty queue; nothing runs before `run`."""
        self._handler = handler
        self._group = group
        self._ready: OrderedDict[Hashable, deque[K]] = OrderedDict()
        """By group, whose turn is next first."""
        self._at_work: Counter[Hashable] = Counter()
        """Workers, by group."""
        self._most = 1
        """Workers that one group may have."""
        self._changed = asyncio.Event()
        self._unfinished = 0
        self._idle = asyncio.Event()
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
            self._put(key)

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
        self._most = max(1, int(workers * _SHARE))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())
            await self.rest()
            _log.info("all that was known at the start has been looked at")

    async def rest(self) -> None:
        """Wait until no key waits for a worker, nor is with one."""
        while self._unfinished:
            self._idle.clear()
            await self._idle.wait()

    def _put(self, key: K) -> None:
        self._ready.setdefault(self._group(key), deque()).append(key)
        self._unfinished += 1
        self._changed.set()

    async def _get(self) -> K:
        while True:
            for group, keys in self._ready.items():
                if self._at_work[group] < self._most:
                    key = keys.popleft()
                    self._at_work[group] += 1
                    if keys:
                        self._ready.move_to_end(group)
                    else:
                        del self._ready[group]
                    return key
            self._changed.clear()
            await self._changed.wait()

    def _done(self, key: K) -> None:
        group = self._group(key)
        self._at_work[group] -= 1
        if not self._at_work[group]:
            del self._at_work[group]
        self._unfinished -= 1
        self._changed.set()
        if not self._unfinished:
            self._idle.set()

    async def _work(self) -> None:
        while True:
            key = await self._get()
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
                self._put(key)
            elif again is not None:
                self.add_after(key, again)
            self._done(key)
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
