"""What one decision costs, and what a whole canary costs at the provider."""

import asyncio
import contextlib
import itertools
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import aiohttp

from bench.cluster import until
from bench.processes import headwater
from bench.rows import Row
from bench.sidecar import address
from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, Weight, salt_for
from headwater.rollout.decide import decide
from headwater.rollout.state import Counts, Observed, Phase, Plan, SetWeight, State
from tests.cluster.volumes import write_atomically

_MODELS: Final = ("claude-opus-4-8", "claude-sonnet-4-6")
_DECISIONS: Final = 2_000
_TEAMS: Final = 3
"""Each with a key, that is, with a cache, of its own."""
_TALKS: Final = 240
"""Conversations of each team at each weight."""
_AT_ONCE: Final = 16
_VERSIONS: Final = ("v1", "v2")
_WEIGHTS: Final = (10, 50, 100)
_numbers = itertools.count()


def decision() -> Row:
    """In the middle of a canary, with new evidence on two models each time, median."""
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    v1, v2 = (Revision(name, Digest.of(name.encode())) for name in ("v1", "v2"))
    steps = tuple(SetWeight(Weight.percent(weight)) for weight in (10, 50))
    plan = Plan(v2, _MODELS, steps)
    plan = replace(plan, analysis=replace(plan.analysis, min_requests=10 * _DECISIONS))
    state = decide(plan, State(phase=Phase.STABLE, stable=v1), Observed(), now).state
    answer = Counts(answers=1, cost_micros=900, first_bytes=1, first_byte_ms=40)
    hit = dict.fromkeys(_MODELS, replace(answer, hits=1))
    miss = dict.fromkeys(_MODELS, replace(answer, misses=1))
    timed = []
    for number in range(_DECISIONS):
        seen = Observed(candidate=miss if number % 50 == 10 else hit, stable=hit)
        now += timedelta(seconds=1)
        started = time.perf_counter()
        state = decide(plan, state, seen, now).state
        timed.append((time.perf_counter() - started) * 1e6)
    if state.phase is not Phase.PROGRESSING:
        raise RuntimeError(f"the canary did not stay where it was: {state.message}")
    return Row("rollout.decide", round(statistics.median(timed), 1), "us", "<= 100")


def excess_writes() -> Row:
    """Cold caches, a sidecar for each team, a canary to its promotion, many requests at once.

    Every lane has to be written once for each version: what is counted is what comes on top.
    """
    with TemporaryDirectory() as name:
        return asyncio.run(_canary(Path(name)))


async def _canary(directory: Path) -> Row:
    mounted, writes = directory / "bundle", 0
    mounted.mkdir()
    with contextlib.ExitStack() as stack:
        silent = ("--latency-base-ms", "5", "--port", "0")
        _start(stack, directory / "simulator.log", "simulator", *silent)
        upstream = address(directory / "simulator.log", "listening on ")
        ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
        logs = [directory / f"{number}.log" for number in range(_TEAMS)]
        for log in logs:
            to = ("--bundle", str(mounted), "--upstream", upstream)
            _start(stack, log, "sidecar", *to, *ports)
        async with aiohttp.ClientSession() as session:
            for bundle in _stages():
                write_atomically(mounted, encode(bundle))
                for log in logs:
                    metrics = f"{address(log, 'metrics on ')}/metrics"
                    await until(partial(_follows, session, metrics, bundle.route.epoch), 0.05)
                teams = (_team(session, address(log, "listening on "), log.name) for log in logs)
                writes += sum(await asyncio.gather(*teams))
    needed = _TEAMS * len(_MODELS) * len(_VERSIONS)
    return Row("rollout.excess_writes", writes - needed, "writes", "<= 0")


def _start(stack: contextlib.ExitStack, log: Path, *arguments: str) -> None:
    stack.enter_context(headwater(*arguments, environment={}, log=log))


def _stages() -> Iterator[Bundle]:
    """The bundles of a canary: v1 alone, v2 by its weights, v2 alone with v1 retained."""
    contracts = {}
    for version in _VERSIONS:
        text = f"{version}: answer in whole sentences, and name your source.\n" * 400
        canonical = canonical_bytes(content(tools=(), system=[{"text": text}], ttl="5m"))
        contracts[Revision(version, Digest.of(canonical))] = canonical
    v1, v2 = contracts
    stable = Route(
        namespace="bench",
        prefix="bench",
        epoch=1,
        salt=salt_for("bench", "bench", v2.digest),
        stable=v1,
        models=_MODELS,
        ttl="5m",
    )
    raised = (replace(stable, candidate=v2, weight=Weight.percent(each)) for each in _WEIGHTS)
    routes = (stable, *raised, replace(stable, stable=v2, retained=(v1,)))
    for epoch, route in enumerate(routes, 1):
        served = {each.digest: contracts[each] for each in route.revisions}
        yield Bundle(replace(route, epoch=epoch), served)


async def _follows(session: aiohttp.ClientSession, metrics: str, epoch: int) -> bool:
    async with session.get(metrics) as answer:
        return re.search(rf"headwater_bundle_epoch\S* {epoch}\.0", await answer.text()) is not None


async def _team(session: aiohttp.ClientSession, url: str, key: str) -> int:
    """How many answers to a team's new conversations say that the cache was written."""
    gate = asyncio.Semaphore(_AT_ONCE)
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}

    async def ask(number: int) -> bool:
        request = {
            "model": _MODELS[number % len(_MODELS)],
            "max_tokens": 4,
            "messages": [{"role": "user", "content": f"{next(_numbers)}: how do I file this?"}],
        }
        async with (
            gate,
            session.post(f"{url}/v1/messages", json=request, headers=headers) as answer,
        ):
            answer.raise_for_status()
            usage = (await answer.json())["usage"]
            return bool(usage["cache_creation_input_tokens"])

    return sum(await asyncio.gather(*map(ask, range(_TALKS))))
