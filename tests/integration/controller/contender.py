"""A process that contends for the lease, and writes down when it led.

    python -m tests.integration.controller.contender IDENTITY LOG SLOWNESS [FROZEN]

Its work is to append the time to LOG, over and over: a line is a write that only a leader may do.
The monotonic clock is the machine's, so the lines of several processes can be compared. All times
of the lease are multiplied by SLOWNESS, 1 on a machine with nothing else to do.

With FROZEN it writes to the cluster instead, twice into a ConfigMap of its own name. Before the
second time, when all is decided and nothing asked any more, it stops itself as SIGSTOP does.
"""

import asyncio
import logging
import math
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headwater.cluster import CONFIG_MAP
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.lease import Elector, LeadershipLostError, Timing

LOST: Final = 3
"""The exit code after a loss."""


def timing(slowness: float) -> Timing:
    """Return the times of the lease on a machine that is so slow."""
    return Timing(
        duration=math.ceil(4 * slowness),
        renew_deadline=2.5 * slowness,
        retry_period=0.3 * slowness,
    )


async def _contend(identity: str, log: Path, times: Timing, *, frozen: bool) -> None:
    async def write_late() -> None:
        body = {"metadata": {"namespace": "default", "name": identity}}
        await writer.apply(CONFIG_MAP, {**body, "data": {"written": "in time"}})
        os.kill(os.getpid(), signal.SIGSTOP)
        await writer.apply(CONFIG_MAP, {**body, "data": {"written": "late"}})

    async def work() -> None:
        with log.open("a", buffering=1) as output:
            while True:
                output.write(f"{time.monotonic()}\n")
                await asyncio.sleep(0.01)

    async with AsyncExitStack() as stack:
        cluster = await KubernetesCluster.connect(connections=1)
        stack.push_async_callback(cluster.close)
        elector = Elector(cluster, "default", identity, lambda: datetime.now(UTC), timing=times)
        writer = await KubernetesCluster.connect(before_write=elector.assert_leads)
        stack.push_async_callback(writer.close)
        contending = asyncio.create_task(elector.lead(write_late if frozen else work))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, contending.cancel)
        with suppress(asyncio.CancelledError):
            await contending


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        identity, log, slowness, *words = sys.argv[1:]
        times = timing(float(slowness))
        asyncio.run(_contend(identity, Path(log), times, frozen="FROZEN" in words))
    except LeadershipLostError as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 - a script; the message says it all
        sys.exit(LOST)
