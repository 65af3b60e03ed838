"""A process that contends for the lease, and writes down when it led.

    python -m tests.integration.controller.contender IDENTITY LOG

Its work is to append the time to LOG, over and over: a line is a write that only a leader may do.
The monotonic clock is the machine's, so the lines of several processes can be compared.
"""

import asyncio
import logging
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.lease import Elector, LeadershipLostError, Timing

TIMING: Final = Timing(duration=4, renew_deadline=2.5, retry_period=0.3)
LOST: Final = 3
"""The exit code after a loss."""


async def _contend(identity: str, log: Path) -> None:
    async def work() -> None:
        with log.open("a", buffering=1) as output:
            while True:
                output.write(f"{time.monotonic()}\n")
                await asyncio.sleep(0.01)

    cluster = await KubernetesCluster.connect(connections=1)
    try:
        elector = Elector(cluster, "default", identity, lambda: datetime.now(UTC), timing=TIMING)
        contending = asyncio.create_task(elector.lead(work))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, contending.cancel)
        with suppress(asyncio.CancelledError):
            await contending
    finally:
        await cluster.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(_contend(sys.argv[1], Path(sys.argv[2])))
    except LeadershipLostError as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 - a script; the message says it all
        sys.exit(LOST)
