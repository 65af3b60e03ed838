"""The controller with a clock that a test moves.

    python -m tests.integration.scenarios.hurried OFFSET PROVIDER_URL TARGET

OFFSET is a file with the seconds by which its time is ahead of the machine's. TARGET is the
metrics URL of the one sidecar.
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headwater.controller.app import Options, run

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    offset, provider, target = sys.argv[1:]

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(Path(offset).read_text()))

    options = Options(
        image="headwater:test",
        targets=(target,),
        scrape_interval=timedelta(milliseconds=100),
        provider_url=provider,
    )
    asyncio.run(run(options, clock))
