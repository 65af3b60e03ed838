"""Reads the counters of sidecars over HTTP. A sidecar that does not answer is left out."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from headwater.evidence.ledger import Sample, Series
from headwater.rollout.state import Counts

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
_SIZE_LIMIT: Final = 4 << 20
"""Bytes of one exposition; a target that sends more is not one of ours."""
_COUNT_LIMIT: Final = 10**12
"""Requests in one series; more is nothing that was counted, and sums must stay exact."""


async def scrape(targets: Mapping[str, str]) -> list[Sample]:
    """Read every target once. `targets` maps a name that identifies the process to its URL."""
    gate = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:

        async def read(name: str, url: str) -> Sample | None:
            async with gate:
                try:
                    async with session.get(url, allow_redirects=False) as response:
                        response.raise_for_status()
                        return parse(name, await _text(response))
                except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                    _log.debug("no evidence from %s at %s: %s", name, url, error)
                    return None

        read_all = await asyncio.gather(*(read(name, url) for name, url in targets.items()))
    return [sample for sample in read_all if sample is not None]


async def _text(response: aiohttp.ClientResponse) -> str:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > _SIZE_LIMIT:
            raise ValueError(f"more than {_SIZE_LIMIT:,} bytes: this is no sidecar")
    return data.decode()


def parse(target: str, text: str) -> Sample:
    """A sample from a Prometheus exposition.

    Raises:
        ValueError: it is not an exposition, has no `process_start_time_seconds`, or has a value
            that cannot be. All of it is left out then: half a reading is no reading.
    """
    started: float | None = None
    counts: dict[Series, Counts] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "process_start_time_seconds":
                started = sample.value
            elif sample.name == "headwater_requests_total":
                labels = sample.labels
                gained = _counts(labels.get("outcome", ""), labels.get("eligible"), sample.value)
                series = Series(
                    prefix=labels.get("prefix", ""),
                    digest=labels.get("digest12", ""),
                    model=labels.get("model", ""),
                )
                counts[series] = counts.get(series, Counts()) + gained
    if started is None:
        raise ValueError("no process_start_time_seconds: whether counters restarted is unknown")
    try:
        return Sample(target, datetime.fromtimestamp(started, UTC), counts)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{started} is no time at which a process started") from error


def _counts(outcome: str, eligible: str | None, value: float) -> Counts:
    if not 0 <= value <= _COUNT_LIMIT:  # NaN fails this, too
        raise ValueError(f"{value} is no number of requests")
    number = int(value)
    if outcome == "error":
        return Counts(errors=number)
    if eligible != "true":
        return Counts()
    return Counts(hits=number if outcome == "hit" else 0, misses=number if outcome == "miss" else 0)
