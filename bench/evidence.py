"""What it costs the controller to read five hundred sidecars, a fifth of which may hang."""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Final, TextIO, cast

from bench.rows import Row
from headwater.evidence.ledger import Ledger, Sample
from headwater.evidence.scrape import Sidecars

_SIDECARS: Final = 500
_HANGING: Final = 100
_SERVERS: Final = 4
_ROUNDS: Final = 5


def measure() -> list[Row]:
    """Whole rounds over real connections, on the loopback."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_server()) for _ in range(_SERVERS)]
        return asyncio.run(_measure(servers))


async def _measure(servers: list[str]) -> list[Row]:
    each = _SIDECARS // _SERVERS
    well = {
        f"{server}/{number}": f"{server}/sidecar/{number}"
        for server in servers
        for number in range(each)
    }
    # Those that hang come first: the worst order for the others.
    hanging = {f"hanging {number}": f"{servers[0]}/hanging/{number}" for number in range(_HANGING)}
    others = dict(list(well.items())[_HANGING:])
    rounds, blocked = [], []
    for _ in range(_ROUNDS):
        samples: list[Sample] = []
        async with _loop_watched() as late:
            rounds.append(await _round(Sidecars(lambda: well), _SIDECARS, samples))
        blocked.append(max(late))
    delayed = await _round(Sidecars(lambda: hanging | others), len(others), [])
    return [
        Row("evidence.scrape_500", round(statistics.median(rounds), 2), "s", "<= 5"),
        Row("evidence.scrape_500_hanging_100", round(delayed, 2), "s", "<= 5"),
        Row("evidence.loop_blocked", round(statistics.median(blocked) * 1000), "ms", "<= 100"),
        Row("evidence.record_500", round(_recorded(samples) * 1000, 1), "ms"),
    ]


async def _round(sidecars: Sidecars, count: int, samples: list[Sample]) -> float:
    """Seconds until the last of `count` samples is there."""
    arrived: list[float] = []
    started = time.perf_counter()

    def take(sample: Sample) -> None:
        arrived.append(time.perf_counter())
        samples.append(sample)

    await sidecars.read(take)
    if len(arrived) != count:
        raise RuntimeError(f"{len(arrived)} of {count} sidecars were read")
    return arrived[-1] - started


@asynccontextmanager
async def _loop_watched() -> AsyncIterator[list[float]]:
    """By how much a timer of the event loop came late, each time, in seconds."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.01
            await asyncio.sleep(0.01)
            late.append(time.perf_counter() - due)

    task = asyncio.create_task(watch())
    try:
        yield late
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _recorded(samples: list[Sample]) -> float:
    """Seconds to take in a round of which all is new."""
    ledger = Ledger(datetime.fromtimestamp(0, UTC))
    now = datetime.now(UTC)
    started = time.perf_counter()
    for sample in samples:
        ledger.record(sample, now)
    return time.perf_counter() - started


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.metrics_server", str(_SIDECARS // _SERVERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield cast("TextIO", process.stdout).readline().strip()
        finally:
            process.terminate()
