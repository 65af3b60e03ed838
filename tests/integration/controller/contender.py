"""A process that contends for the lease, and writes down when it led.

    python -m tests.integration.controller.contender IDENTITY LOG [FROZEN]

Its work is to append the time to LOG, over and over: a line is a write that only a leader may do.
The monotonic clock is the machine's, so the lines of several processes can be compared.

With FROZEN it writes to the cluster instead, twice into a ConfigMap of its own name. Before the
second time, when all is decided and nothing asked any more, it stops itself as SIGSTOP does.
"""

import asyncio
import logging
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

TIMING: Final = Timing(duration=4, renew_deadline=2.5, retry_period=0.3)
LOST: Final = 3
"""The exit code after a loss."""


async def _contend(identity: str, log: Path, *, frozen: bool) -> None:
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
        elector = Elector(cluster, "default", identity, lambda: datetime.now(UTC), timing=TIMING)
        writer = await KubernetesCluster.connect(before_write=elector.assert_leads)
        stack.push_async_callback(writer.close)
        contending = asyncio.create_task(elector.lead(write_late if frozen else work))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, contending.cancel)
        with suppress(asyncio.CancelledError):
            await contending


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(_contend(sys.argv[1], Path(sys.argv[2]), frozen="FROZEN" in sys.argv))
    except LeadershipLostError as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 - a script; the message says it all
        sys.exit(LOST)
