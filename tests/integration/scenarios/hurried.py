"""The controller with a clock that a test moves.

    python -m tests.integration.scenarios.hurried CLOCK PROVIDER_URL TARGET

CLOCK is a file that says what time it is. TARGET is the metrics URL of the one sidecar.
"""

import asyncio
import logging
import sys
from datetime import datetime, timedelta
from pathlib import Path

from headwater.controller.app import Options, run

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    time, provider, target = sys.argv[1:]

    def clock() -> datetime:
        return datetime.fromisoformat(Path(time).read_text())

    options = Options(
        image="headwater:test",
        targets=(target,),
        scrape_interval=timedelta(milliseconds=100),
        provider_url=provider,
    )
    asyncio.run(run(options, clock))
