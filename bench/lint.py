"""How long it takes to lint a contract."""

import statistics
import time
from typing import Final

from bench.rows import Row
from headwater.contract.content import content
from headwater.contract.lint import Facts, Size, lint

_ROUNDS: Final = 20
_PROSE: Final = (
    "## Refunds\n\nPolicy RF-7 is effective 1 January 2025: up to $49.90 is refunded at once,"
    " more needs a ticket. Read https://help.example.com/refunds/v2.3 (ISO 9001), call +49 30"
    " 5550123, and never promise a date.\n\n```python\nprint(f'{order.total:.2f}')\n```\n\n"
    "- Answer in whole sentences, and name your source: it is worth more than an opinion.\n"
)
_FACTS: Final = Facts(
    sizes=(Size("claude-opus-4-8", 32_000, 1024, 0.25),),
    previous_tools=tuple(f"tool_{number}" for number in range(100)),
    tenants=(r"(?i)\bacme\b", r"(?i)\bumbrella (?:corp|gmbh)\b"),
)


def measure() -> list[Row]:
    """100 tools and as much prose as makes 100 KB, every rule with its facts, median."""
    tools = [
        {
            "name": f"tool_{number}",
            "description": "Looks something up for the person who asks." * 8,
            "input_schema": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
            },
        }
        for number in range(100)
    ]
    declared = content(tools=tools, system=[{"text": _PROSE * 130}], ttl="5m")
    timed = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        lint(declared, _FACTS)
        timed.append((time.perf_counter() - started) * 1000)
    return [Row("lint.100kb", round(statistics.median(timed), 1), "ms", "<= 50")]
