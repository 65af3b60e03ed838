"""What warming costs, whether the formula knew, and what a job and an idle controller take.

Two hours and whole weeks are told by a clock of their own: the job's requests go to the simulator's
caches, the decisions are the controller's.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from aiohttp import web

from bench.cluster import label_namespaces, on_fresh_cluster, prefix, served, until
from bench.processes import HEADWATER, cpu_seconds, headwater, peak_mb
from bench.rows import Row
from headwater.cluster import CACHE_WARMER, PROMPT_PREFIX
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route
from headwater.controller.warming import LEAD, LaneKey, Lanes, skips
from headwater.controller.worth import schedule_of
from headwater.economics.bill import MILLION
from headwater.economics.traffic import Poisson
from headwater.economics.warming import Lane, daily_cost
from headwater.providers.models import lookup
from headwater.resources import CacheWarmer
from headwater.simulator.server import Settings, serving
from headwater.warmer import job
from headwater.warmer.schedule import timetable
from tests.cluster.control_plane import ControlPlane

_MODEL: Final = "claude-opus-4-8"
_BEGIN: Final = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
_STEP: Final = timedelta(minutes=4)
_TTL: Final = timedelta(minutes=5)
_TOKENS: Final = 20_000
_DAYS: Final = {"0.1": 30, "1": 10, "10": 4, "100": 1}
"""Of Poisson traffic at each rate in requests a minute: long enough for its chance to even out."""
_SCRAPE: Final = timedelta(seconds=15)
_JOBS: Final = 7
_IDLE_SECONDS: Final = 30


def measure() -> list[Row]:
    """All rows of the warmer."""
    weeks = [_week(rate, days) for rate, days in _DAYS.items()]
    first_byte, peak = asyncio.run(_jobs())
    return [
        Row("warm.excess_writes", asyncio.run(_two_hours()), "writes", "<= 0"),
        Row("warm.cost_error", round(max(week.error for week in weeks), 4), "", "<= 0.05"),
        Row("warm.needless_ticks", sum(week.needless for week in weeks), "ticks", "<= 0"),
        Row("warm.job_first_byte", round(first_byte), "ms", "<= 900"),
        Row("rss.warm_job", round(peak, 1), "MB", "<= 110"),
        *on_fresh_cluster(_idle),
    ]


def _contract(text: str) -> bytes:
    return canonical_bytes(content(tools=[], system=[{"text": text * 500}], ttl="5m"))


def _bundle(stable: bytes, candidate: bytes | None = None) -> Bundle:
    first = Revision("v1", Digest.of(stable))
    second = Revision("v2", Digest.of(candidate)) if candidate is not None else None
    route = Route("ai", "house", 1, "", first, (_MODEL, "claude-sonnet-5"), "5m", second)
    contracts = {first.digest: stable}
    if second is not None and candidate is not None:
        contracts[second.digest] = candidate
    return Bundle(route, contracts)


async def _two_hours() -> int:
    """Writes beyond one for each digest and lane, over 30 runs and one promotion."""
    seconds = 0.0
    chance = random.Random(1)  # noqa: S311 - no secret
    old, new = _contract("One thing is certain. "), _contract("Another thing is certain. ")
    writes: dict[tuple[str, str, Digest], int] = {}
    with TemporaryDirectory() as directory:
        accesses: dict[str, job.Access] = {}
        for name in ("prod", "batch"):
            path = Path(directory) / name
            path.write_text(f"sk-{name}")
            accesses[name] = path
        async with serving(Settings(latency_base_ms=0), clock=lambda: seconds) as url:
            for number in range(30):
                seconds = number * _STEP.total_seconds() + chance.uniform(3, 45)
                held = _bundle(old) if number < 13 else _bundle(old, new)
                bundle = held if number < 15 else _bundle(new)
                run = job.Run(bundle, "StableAndCandidate", lambda: _BEGIN, base_url=url)
                for lane in await job.warm(run, accesses, ()):
                    if lane.usage is None:
                        raise RuntimeError(f"the job failed: {lane.message}")
                    key = (lane.credential, lane.model, lane.digest)
                    writes[key] = writes.get(key, 0) + bool(lane.usage.cache_write_5m)
    return sum(count - 1 for count in writes.values())


@dataclass(frozen=True)
class _Week:
    error: float
    needless: int


def _week(rate: str, days: int) -> _Week:
    """Poisson traffic with a warmer that leaves out what it makes needless."""
    facts = lookup(_MODEL)
    if facts is None:
        raise RuntimeError(f"{_MODEL} is not known")
    lane = Lane(_TOKENS, facts, "5m")
    read = lane.cached * lane.prices.read / MILLION
    warmer = CacheWarmer.model_validate(
        {
            "metadata": {"name": "warm"},
            "spec": {
                "prefixRef": {"name": "house"},
                "credentials": [{"name": "prod", "secretRef": {"name": "s", "key": "k"}}],
            },
        }
    )
    times, key = timetable("Auto", "5m"), LaneKey("prod", _MODEL, "sha256:" + "0" * 64)
    chance, spent, needless = random.Random(f"{rate} {days}"), Decimal(0), 0  # noqa: S311
    lane_used = _BEGIN - _TTL
    requests = _arrivals(chance, float(rate), days)
    following, seen, told = next(requests), _BEGIN - timedelta(days=1), _BEGIN - timedelta(days=1)
    tick, scraped = _BEGIN, _BEGIN
    while tick < _BEGIN + timedelta(days=days):
        sent_at = tick + timedelta(seconds=chance.uniform(5, 30))
        skipped = None
        while following < sent_at or skipped is None:
            # Scrapes, the decision, and requests, in the order of their times.
            if skipped is None and following >= tick - LEAD:
                while scraped + _SCRAPE <= tick - LEAD:
                    scraped += _SCRAPE
                known = told if seen > scraped else seen
                lanes = Lanes(frozenset({key}), used={key: known})
                skipped = key in skips(warmer, "5m", times, lanes, tick - LEAD)
                still_warm = known + _TTL >= tick + _STEP + timedelta(seconds=40)
                needless += not skipped and still_warm
                continue
            spent += read if following - lane_used <= _TTL else read + lane.penalty
            lane_used = following
            if following > scraped + _SCRAPE:
                told, scraped = seen, scraped + _SCRAPE * ((following - scraped) // _SCRAPE)
            seen, following = following, next(requests)
        if not skipped:
            spent += lane.ping if sent_at - lane_used <= _TTL else lane.first_write
            lane_used = max(lane_used, sent_at)
        tick += _STEP
    traffic = Poisson(Decimal(rate))
    schedule = schedule_of(warmer, times, "5m")
    predicted = days * (traffic.per_day * read + daily_cost(schedule, lane, traffic).usd)
    return _Week(abs(float(spent / predicted) - 1), needless)


def _arrivals(chance: random.Random, per_minute: float, days: int) -> Iterator[datetime]:
    at = _BEGIN
    while at < _BEGIN + timedelta(days=days + 1):
        at += timedelta(minutes=chance.expovariate(per_minute))
        yield at


async def _jobs() -> tuple[float, float]:
    """Milliseconds from a job's start to its first byte, and the most memory it had, in MB."""
    took: list[float] = []
    peaks: list[float] = []
    usage = {"input_tokens": 8, "output_tokens": 0, "cache_read_input_tokens": 5000}
    running: asyncio.subprocess.Process | None = None
    started = 0.0

    async def answer(_: web.Request) -> web.Response:
        took.append((time.perf_counter() - started) * 1000)
        if running is not None:
            peaks.append(peak_mb(running.pid))
        return web.json_response({"usage": usage})

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with TemporaryDirectory() as directory:
        for name, data in encode(_bundle(_contract("One thing is certain. "))).items():
            (Path(directory) / name).write_bytes(data)
        key = Path(directory) / "api-key"
        key.write_text("sk-bench")
        for _ in range(_JOBS):
            started = time.perf_counter()
            running = await asyncio.create_subprocess_exec(
                *(str(HEADWATER), "warm", "--bundle", directory, "--credential", f"prod={key}"),
                *("--model", _MODEL, "--base-url", site.name),
                stdout=asyncio.subprocess.DEVNULL,
            )
            if await running.wait():
                raise RuntimeError("the job failed")
    await runner.cleanup()
    return statistics.median(took), max(peaks)


async def _idle(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    """1,000 warmers of 10 prefixes, outside of their hours: nobody has anything to do."""
    names = [f"one-{number}" for number in range(10)]
    await label_namespaces(client, names, "one")
    for name in names:
        await client.apply(PROMPT_PREFIX, prefix(name, 8_000, name))
    hour = (datetime.now(UTC).hour + 12) % 23
    hours = {"from": f"{hour:02}:00", "to": f"{hour + 1:02}:00"}
    gate = asyncio.Semaphore(20)

    async def declare(number: int) -> None:
        secret = {"name": f"keys-{number}", "key": "api-key"}
        async with gate:
            await client.apply(
                CACHE_WARMER,
                {
                    "metadata": {"name": f"warm-{number}", "namespace": "default"},
                    "spec": {
                        "prefixRef": {"name": f"one-{number % 10}"},
                        "credentials": [{"name": "prod", "secretRef": secret}],
                        "activeHours": hours,
                    },
                },
            )

    await asyncio.gather(*(declare(number) for number in range(1_000)))
    with headwater(
        "controller", environment=plane.environment, log=directory / "controller.log"
    ) as process:
        await served(client, 10)
        await until(partial(_all_ready, client, 1_000), 1)
        await asyncio.sleep(10)  # what follows from the last of them
        before, since = cpu_seconds(process.pid), time.perf_counter()
        await asyncio.sleep(_IDLE_SECONDS)
        share = (cpu_seconds(process.pid) - before) / (time.perf_counter() - since)
    return [Row("warm.idle_1000_cpu", round(share, 4), "cores", "<= 0.01")]


async def _all_ready(client: KubernetesCluster, count: int) -> bool:
    ready = 0
    async for body in client.list(CACHE_WARMER, "default"):
        conditions = body.get("status", {}).get("conditions", ())
        ready += any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready == count
