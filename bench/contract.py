"""How long a digest takes."""

import statistics
import time

from bench.rows import Row
from headwater.contract.content import content, digest_of

_ROUNDS = 30


def measure() -> list[Row]:
    """Content to digest, 100 KB of tools and prose, median."""
    tools = [
        {
            "name": f"tool_{number}",
            "description": "Looks something up for the person who asks. " * 8,
            "input_schema": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
            },
        }
        for number in range(100)
    ]
    system = [{"text": "Answer in whole sentences, and name your source.\n" * 1000}]
    timed = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        digest_of(content(tools=tools, system=system, ttl="5m"))
        timed.append((time.perf_counter() - started) * 1000)
    return [Row("contract.digest_100kb", round(statistics.median(timed), 3), "ms", "<= 5")]
