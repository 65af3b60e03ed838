"""A provider that goes away, refuses, resets and comes back, thousands of times under load."""

import asyncio
import os
import random
from collections import Counter

from tests.integration.relay.test_answers import reset
from tests.integration.relay.wire import OK, Reader, Writer, message, wired

CLIENTS = 16
REQUESTS = 150


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


async def moody(reader: Reader, writer: Writer) -> None:
    """Answers three of seven, and leaves the others in every way there is."""
    while True:
        mood = random.randrange(7)
        if mood == 0:
            reset(writer)
            return
        await message(reader)
        if mood == 1:
            reset(writer)
            return
        if mood == 2:
            return
        if mood == 3:
            writer.write(OK[:30])
            return
        writer.write(OK)
        if mood == 4:
            return


async def test_every_request_is_answered_and_nothing_is_left_behind() -> None:
    """One answer for each, right or 502; then all is well, with no descriptor more than before."""
    got: Counter[bytes] = Counter()
    async with wired(moody) as wire:
        origin = wire.relay.origin
        assert origin is not None
        there = origin._port

        async def client() -> None:
            reader, writer = await wire.open()
            for _ in range(REQUESTS):
                writer.write(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
                head, _ = await message(reader)
                got[head.split()[1]] += 1
            writer.close()
            await writer.wait_closed()

        async def away() -> None:
            while True:
                origin._port = 1  # nobody listens there
                await asyncio.sleep(0.01)
                origin._port = there
                await asyncio.sleep(0.03)

        before = descriptors()
        outages = asyncio.create_task(away())
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
        outages.cancel()
        assert set(got) == {b"200", b"502"}
        assert got.total() == CLIENTS * REQUESTS
        assert len(wire.desk.seen) == got.total()
        assert all(seen.ending is not None for seen in wire.desk.seen)
        origin._port = there
        reader, writer = await wire.open()
        while True:
            writer.write(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            if b" 200 " in (await message(reader))[0]:
                break
        assert len(origin.connections) <= CLIENTS
        # Both ends of what is open are in this process, and the provider's may linger.
        assert descriptors() <= before + 4 * CLIENTS
