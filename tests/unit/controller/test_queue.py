"""The work queue: one reconcile of a key at a time, on a clock that jumps instead of waiting."""

import asyncio
import logging
import selectors
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from headwater.contract.errors import HeadwaterError
from headwater.controller.queue import WorkQueue


class _JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready, time goes on to the next timer at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits, and no timer runs: this would hang for ever")
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def in_jumping_time(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        runner.run(story)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def working(
    queue: WorkQueue[str], story: Callable[[], Awaitable[None]], workers: int = 3
) -> None:
    """Run the queue for as long as the story takes."""
    run = asyncio.create_task(queue.run(workers))
    try:
        await story()
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


def test_asking_often_before_it_begins_is_asking_once() -> None:
    """A burst of events about one object is one reconcile."""
    begun: list[str] = []

    async def handler(key: str) -> None:
        begun.append(key)

    async def story() -> None:
        queue = WorkQueue[str](handler)
        for key in ("a", "a", "b", "a", "b"):
            queue.add(key)
        await working(queue, lambda: asyncio.sleep(1))

    in_jumping_time(story())
    assert begun == ["a", "b"]


def test_asking_while_it_runs_is_one_more_reconcile() -> None:
    """What happened since it read is looked at, once, and only after it has ended."""
    spans: list[tuple[float, float]] = []

    async def handler(_: str) -> None:
        began = now()
        await asyncio.sleep(10)
        spans.append((began, now()))

    async def story() -> None:
        queue = WorkQueue[str](handler)
        queue.add("a")

        async def ask() -> None:
            await asyncio.sleep(3)
            queue.add("a")
            queue.add("a")
            await asyncio.sleep(100)

        await working(queue, ask)

    in_jumping_time(story())
    assert spans == [(0, 10), (10, 20)]


def test_one_key_at_a_time_and_many_keys_at_once() -> None:
    """A key never runs beside itself; others do not wait for it."""
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    together = 0

    async def handler(key: str) -> None:
        nonlocal together
        running[key] += 1
        most[key] = max(most[key], running[key])
        together = max(together, running.total())
        await asyncio.sleep(1)
        running[key] -= 1

    async def story() -> None:
        queue = WorkQueue[str](handler)

        async def ask() -> None:
            for _ in range(40):
                for key in "abcdef":
                    queue.add(key)
                await asyncio.sleep(0.3)

        await working(queue, ask, workers=4)

    in_jumping_time(story())
    assert set(most.values()) == {1}
    assert together == 4


def test_a_failure_comes_back_after_a_pause_that_doubles_and_success_resets_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """0.5 s, 1 s, 2 s … up to 15 s; after a success it begins at 0.5 s again."""
    times: list[float] = []
    good = 8

    async def handler(_: str) -> timedelta | None:
        times.append(now())
        if len(times) == good:
            return timedelta(seconds=100)
        raise HeadwaterError("the API server is away.")

    async def story() -> None:
        queue = WorkQueue[str](handler)
        queue.add("a")
        await working(queue, lambda: asyncio.sleep(163))

    with caplog.at_level(logging.WARNING):
        in_jumping_time(story())
    pauses = [round(after - before, 1) for before, after in pairwise(times)]
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 100, 0.5, 1, 2, 4, 8]
    assert all("the API server is away." in record.message for record in caplog.records)
    assert not any(record.exc_info for record in caplog.records)


def test_a_bug_is_logged_with_its_traceback_and_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What we did not raise on purpose is to be found; other keys go on."""
    begun: list[str] = []

    async def handler(key: str) -> None:
        begun.append(key)
        if key == "bad":
            raise KeyError("oops")

    async def story() -> None:
        queue = WorkQueue[str](handler)
        queue.add("bad")
        queue.add("good")
        await working(queue, lambda: asyncio.sleep(0.4), workers=1)

    in_jumping_time(story())
    assert begun == ["bad", "good"]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_key_that_wants_to_be_looked_at_again_is() -> None:
    """After as long as its reconcile said, and for as long as it says so."""
    times: list[float] = []

    async def handler(_: str) -> timedelta | None:
        times.append(now())
        return timedelta(seconds=30) if len(times) < 3 else None

    async def story() -> None:
        queue = WorkQueue[str](handler)
        queue.add("a")
        await working(queue, lambda: asyncio.sleep(1000))

    in_jumping_time(story())
    assert times == [0, 30, 60]


@pytest.mark.parametrize("delays", [(5, 50), (50, 5)])
def test_the_earlier_of_two_timers_counts_and_the_later_is_gone(delays: tuple[int, int]) -> None:
    """One key has one timer."""
    times: list[float] = []

    async def handler(_: str) -> None:
        times.append(now())

    async def story() -> None:
        queue = WorkQueue[str](handler)
        for delay in delays:
            queue.add_after("a", timedelta(seconds=delay))
        await working(queue, lambda: asyncio.sleep(1000))

    in_jumping_time(story())
    assert times == [5]


def test_a_reconcile_that_comes_first_takes_the_timer_with_it() -> None:
    """Its answer says anew when to look again."""
    times: list[float] = []

    async def handler(_: str) -> timedelta | None:
        times.append(now())
        return timedelta(seconds=60) if len(times) == 1 else None

    async def story() -> None:
        queue = WorkQueue[str](handler)
        queue.add("a")

        async def ask() -> None:
            await asyncio.sleep(10)
            queue.add("a")
            await asyncio.sleep(1000)

        await working(queue, ask)

    in_jumping_time(story())
    assert times == [0, 10]


def test_every_key_is_reached() -> None:
    """More keys than workers, each failing twice: all succeed in the end."""
    tries: dict[str, int] = defaultdict(int)

    async def handler(key: str) -> None:
        tries[key] += 1
        await asyncio.sleep(0.1)
        if tries[key] < 3:
            raise HeadwaterError("not yet.")

    async def story() -> None:
        queue = WorkQueue[str](handler)
        for number in range(100):
            queue.add(f"key-{number}")
        await working(queue, lambda: asyncio.sleep(60))

    in_jumping_time(story())
    assert len(tries) == 100
    assert set(tries.values()) == {3}


def test_one_group_with_much_to_do_leaves_a_worker_to_others() -> None:
    """A hundred slow keys of one tenant: another's single key waits for none of them."""
    ended: dict[str, float] = {}

    async def handler(key: str) -> None:
        await asyncio.sleep(10 if key.startswith("loud") else 1)
        ended[key] = now()

    async def story() -> None:
        queue = WorkQueue[str](handler, group=lambda key: key.split("-")[0])
        for number in range(100):
            queue.add(f"loud-{number}")

        async def ask() -> None:
            await asyncio.sleep(5)
            queue.add("quiet-1")
            await asyncio.sleep(300)

        await working(queue, ask, workers=5)

    in_jumping_time(story())
    assert ended.pop("quiet-1") == 6
    assert max(ended.values()) == 250, "four of five workers are the loud one's"


def test_groups_take_turns() -> None:
    """However much one of them had asked for before."""
    begun: list[str] = []

    async def handler(key: str) -> None:
        begun.append(key)
        await asyncio.sleep(1)

    async def story() -> None:
        queue = WorkQueue[str](handler, group=lambda key: key[0])
        for key in ("a1", "a2", "a3", "b1", "b2", "c1"):
            queue.add(key)
        await working(queue, lambda: asyncio.sleep(100), workers=1)

    in_jumping_time(story())
    assert begun == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_other_tasks_go_on_while_many_keys_need_nothing() -> None:
    """A renewal of the lease, for one, must not wait until thousands of keys were looked at."""
    looked_at: list[int] = []

    async def look(key: int) -> None:
        looked_at.append(key)

    queue = WorkQueue(look)
    for key in range(1_000):
        queue.add(key)
    working = asyncio.create_task(queue.run(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 0 < len(looked_at) < 20
    working.cancel()
