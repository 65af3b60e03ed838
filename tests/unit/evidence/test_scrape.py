"""Reading sidecars: what an exposition says, and targets that hang, lie or send rubbish."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.reasons import Reason
from headwater.contract.route import Revision, Route
from headwater.evidence import scrape as module
from headwater.evidence.ledger import Sample, Series
from headwater.evidence.scrape import Sidecars, parse
from headwater.evidence.source import SourceUnavailableError
from headwater.providers.cost import cost
from headwater.providers.models import lookup
from headwater.providers.usage import Charge, Statement, Usage
from headwater.rollout.state import Counts
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics, Outcome

SERIES = Series("help-desk", "0123456789ab", "claude-opus-5")
START = "process_start_time_seconds 1.7955e+09\n"
STARTED = datetime.fromtimestamp(1.7955e9, UTC)
LABELS = 'prefix="help-desk",digest12="0123456789ab",model="claude-opus-5"'


def requests(outcome: str, eligible: str, value: str, labels: str = LABELS) -> str:
    return (
        f'headwater_requests_total{{{labels},outcome="{outcome}",eligible="{eligible}"}} {value}\n'
    )


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", {}),
        (requests("hit", "true", "12"), {SERIES: Counts(hits=12, answers=12)}),
        (requests("miss", "true", "3"), {SERIES: Counts(misses=3, answers=3)}),
        (requests("miss", "false", "3"), {SERIES: Counts(answers=3)}),
        (requests("hit", "false", "3"), {SERIES: Counts(answers=3)}),
        (requests("error", "true", "2"), {SERIES: Counts(errors=2)}),
        (requests("error", "false", "2"), {SERIES: Counts(errors=2)}),
        (requests("refused", "true", "2"), {SERIES: Counts(errors=2)}),
        (requests("refused", "false", "2"), {SERIES: Counts()}),
        (requests("aborted", "true", "9"), {SERIES: Counts()}),
        (requests("rejected", "true", "9"), {SERIES: Counts()}),
        (
            requests("hit", "true", "5")
            + requests("hit", "true", "7", LABELS + ',team="sales"')
            + requests("miss", "true", "1"),
            {SERIES: Counts(hits=12, misses=1, answers=13)},
        ),
        (requests("hit", "true", "1.2e3"), {SERIES: Counts(hits=1200, answers=1200)}),
        (f"headwater_cost_usd_total{{{LABELS}}} 0.0051949\n", {SERIES: Counts(cost_micros=5195)}),
        (
            (
                f"headwater_time_to_first_byte_seconds_sum{{{LABELS}}} 1.2345\n"
                f"headwater_time_to_first_byte_seconds_count{{{LABELS}}} 3\n"
                f'headwater_time_to_first_byte_seconds_bucket{{{LABELS},le="+Inf"}} 3\n'
            ),
            {SERIES: Counts(first_bytes=3, first_byte_ms=1234)},
        ),
        ('http_requests_total{outcome="hit",eligible="true"} 9\n', {}),
        ('headwater_requests_created{outcome="hit",eligible="true"} 9\n', {}),
        ("# TYPE up gauge\nup 1\n", {}),
    ],
)
def test_counts_of_an_exposition(text: str, counts: dict[Series, Counts]) -> None:
    """Only eligible answers are hits or misses; teams and surfaces are added up."""
    sample = parse("pod", START + text)
    assert (sample.target, sample.started_at, sample.counts) == ("pod", STARTED, counts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no process_start_time_seconds"),
        (requests("hit", "true", "1"), "no process_start_time_seconds"),
        (START + requests("hit", "true", "NaN"), "nothing that headwater_requests_total can"),
        (START + requests("hit", "true", "+Inf"), "nothing that headwater_requests_total can"),
        (START + requests("hit", "true", "-1"), "nothing that headwater_requests_total can"),
        (START + requests("hit", "true", "1.1e12"), "nothing that headwater_requests_total can"),
        (START + requests("hit", "true", "twelve"), "could not convert"),
        (START + f"headwater_cost_usd_total{{{LABELS}}} -0.1\n", "nothing that headwater_cost"),
        (START + f"headwater_cost_usd_total{{{LABELS}}} 1e7\n", "nothing that headwater_cost"),
        (
            START + f"headwater_time_to_first_byte_seconds_sum{{{LABELS}}} NaN\n",
            "nothing that headwater_time_to_first_byte_seconds_sum",
        ),
        ("process_start_time_seconds NaN\n", "no time"),
        ("process_start_time_seconds +Inf\n", "no time"),
        ("process_start_time_seconds 1e300\n", "no time"),
        ("<html><body>not found</body></html>", None),
        ('headwater_requests_total{prefix="help-desk', None),
    ],
)
def test_half_a_reading_is_no_reading(text: str, why: str | None) -> None:
    """One value that cannot be, and nothing of that target is believed."""
    with pytest.raises(ValueError, match=why and re.escape(why)):
        parse("pod", text)


_NAMES = ("headwater_requests_total", "process_start_time_seconds", "outcome", "eligible")
_MARKS = ("# TYPE ", "counter", *'{}="\\,#\n ', "1e999", "NaN", "-1", "7", "é", "\x00")
_PIECES = st.sampled_from(_NAMES + _MARKS)


@given(st.lists(_PIECES, max_size=20).map("".join) | st.text())
def test_rubbish_is_a_value_error(text: str) -> None:
    """Nothing that a target sends may end the controller."""
    with suppress(ValueError):
        parse("pod", text)


def test_what_a_sidecar_says_is_bounded() -> None:
    """It ends up in a status and in Events: no line breaks, no reasons and places of its own."""
    use = f'{{prefix="p",team="a\\nb{"c" * 100}",reason="%s",at="%s"}}'
    sample = parse(
        "pod",
        "process_start_time_seconds 1\n"
        f"headwater_off_contract_timestamp_seconds{use % ('own_tools', 'tools[1] kubectl')} 5\n"
        f"headwater_contract_violations_total{use % ('of_its_own', '')} 7\n",
    )
    found = sample.uses["p"]
    assert found.served.team == "ab" + "c" * 61
    assert set(found.breaks) == {Reason.OWN_TOOLS}
    assert found.breaks[Reason.OWN_TOOLS].place == ""


def test_what_a_sidecar_exposes_is_what_is_read(tmp_path: Path) -> None:
    """The names and labels of both sides agree, on the sidecar's real exposition."""
    canonical = canonical_bytes(content(tools=[], system=[{"text": "Be brief."}], ttl="5m"))
    stable = Revision("v1", Digest.of(canonical))
    route = Route(
        namespace="ai-platform",
        prefix="help-desk",
        epoch=1,
        salt="",
        stable=stable,
        models=("claude-opus-5",),
        ttl="5m",
    )
    for name, data in encode(Bundle(route, {stable.digest: canonical})).items():
        (tmp_path / name).write_bytes(data)
    bundles = BundleFollower(tmp_path)
    bundles.poll()
    identity = Identity("support", "sales", "chat", "web", "6d5f7")
    metrics = Metrics(identity, bundles, Lanes(), time.monotonic)
    counted = metrics.of(stable, "claude-opus-5")
    for outcome, eligible, times in (
        (Outcome.HIT, True, 5),
        (Outcome.MISS, True, 2),
        (Outcome.MISS, False, 7),
        (Outcome.ERROR, False, 1),
        (Outcome.ABORTED, True, 3),
    ):
        for _ in range(times):
            counted.ended(outcome, eligible=eligible)
    counted.used("claude-opus-5", Statement((Charge(Usage(1_000, 0, 0, 0, 100)),)))
    counted.first_byte.add(0.25)
    counted.first_byte.add(0.5)
    before = datetime.now(UTC).replace(microsecond=0)
    for model in ("claude-opus-5", "another"):
        metrics.of(stable, model).violated(Reason.TOOLS_ORDER)
        metrics.violations.note(Reason.TOOLS_ORDER, "tools[3]", time.monotonic())
        metrics.of(stable, model).uncached_system()
        metrics.uncached_at = time.monotonic()

    sample = parse("pod", metrics.exposition().decode())

    series = Series("help-desk", stable.digest.short, "claude-opus-5")
    facts = lookup("claude-opus-5")
    assert facts is not None
    price = cost(Usage(1_000, 0, 0, 0, 100), facts)
    assert price is not None
    use = sample.uses["help-desk"]
    assert (use.served, use.epoch) == (("sales", "chat", "web", "6d5f7"), 1)
    broke = use.breaks[Reason.TOOLS_ORDER]
    assert (broke.count, broke.place) == (2, "tools[3]")
    assert broke.at is not None
    # It is read to the nearest second.
    assert before <= broke.at <= datetime.now(UTC) + timedelta(seconds=1)
    assert use.uncached.count == 2
    assert use.uncached.at is not None
    assert before <= use.uncached.at <= datetime.now(UTC) + timedelta(seconds=1)
    assert sample.counts == {
        series: Counts(
            hits=5,
            misses=2,
            errors=1,
            answers=14,
            cost_micros=round(price.actual * 1_000_000),
            first_bytes=2,
            first_byte_ms=750,
        )
    }
    age = datetime.now(UTC) - sample.started_at
    assert timedelta(0) <= age < timedelta(days=1), f"the start of process {os.getpid()}"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[dict[str, str]]:
    """Real servers, one path for each handler; yields the targets."""
    application = web.Application()
    for name, handler in handlers.items():
        application.router.add_get(f"/{name}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield {name: f"http://127.0.0.1:{port}/{name}" for name in handlers}
    finally:
        await runner.cleanup()


async def good(_: web.Request) -> web.Response:
    return web.Response(text=START + requests("hit", "true", "12"))


async def read(targets: Mapping[str, str]) -> list[Sample]:
    samples: list[Sample] = []
    await Sidecars(lambda: targets).read(samples.append)
    return samples


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


PATIENT = aiohttp.ClientTimeout(total=None)
"""Whoever answers is not too late, whatever else the machine does meanwhile."""
IMPATIENT = aiohttp.ClientTimeout(total=0.05)
"""For those who never answer."""


async def test_nobody_is_waited_for_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for the beginning of an answer nor for its end."""
    monkeypatch.setattr(module, "_TIMEOUT", IMPATIENT)

    async def trickles(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(START.encode())
        await asyncio.Event().wait()
        return response

    caplog.set_level("DEBUG", module.__name__)
    async with serving(hangs=hangs, trickles=trickles) as targets:
        with pytest.raises(SourceUnavailableError):
            await read(targets)
    for name in ("hangs", "trickles"):
        assert f"{name} at {targets[name]} did not answer in" in caplog.text


async def test_targets_that_fail_are_left_out(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """Some send rubbish, others nothing: the good one is read."""
    monkeypatch.setattr(module, "_TIMEOUT", PATIENT)

    async def html(_: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>")

    async def binary(_: web.Request) -> web.Response:
        return web.Response(body=bytes(range(256)))

    async def fails(_: web.Request) -> web.Response:
        return web.Response(status=500, text=START)

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/good")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"# rubbish\n" * 10_000)
        except ConnectionError:
            return response

    async with serving(
        html=html,
        binary=binary,
        fails=fails,
        elsewhere=elsewhere,
        endless=endless,
        good=good,
    ) as targets:
        refused = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        samples = await read({**targets, "refuses": refused, "nonsense": "no-url"})
    assert [sample.target for sample in samples] == ["good"]


async def test_an_exposition_in_many_pieces_is_read_whole() -> None:
    """A large one comes in many packets; a part of it would look like counters that vanished."""
    many = 3_000

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(START.encode())
        for number in range(many):
            labels = f'prefix="p{number}",digest12="0123456789ab",model="claude-opus-5"'
            await response.write(requests("hit", "true", "1", labels).encode())
        return response

    async with serving(large=large) as targets:
        (sample,) = await read(targets)
    assert len(sample.counts) == many


async def test_an_exposition_that_is_cut_is_left_out() -> None:
    """The connection ends before the answer does."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write((START + requests("hit", "true", "12")).encode())
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(cut=cut, good=good) as targets:
        assert [sample.target for sample in await read(targets)] == ["good"]


async def test_nothing_to_read_is_no_outage() -> None:
    """A cluster without consumers."""
    assert await read({}) == []


async def test_none_that_can_be_read_is_an_outage(unused_tcp_port: int) -> None:
    """The message says of one of them why."""
    refused = f"http://127.0.0.1:{unused_tcp_port}/metrics"

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="")

    async with serving(empty=empty) as targets:
        with pytest.raises(SourceUnavailableError, match=r"none of 2 sidecars .* empty at http"):
            await read({**targets, "refuses": refused})


async def test_a_target_that_hangs_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that it holds up no round; one that answers again is asked each time again."""
    monkeypatch.setattr(module, "_TIMEOUT", IMPATIENT)
    now, hanging = 0.0, True

    async def sometimes(asked: web.Request) -> web.StreamResponse:
        return await (hangs if hanging else good)(asked)

    async with serving(sometimes=sometimes) as targets:
        sidecars = Sidecars(lambda: targets, lambda: now)
        waited = []
        while now < 1000:
            with pytest.raises(SourceUnavailableError) as error:
                await sidecars.read(lambda _: None)
            waited += [now] if "did not answer in" in str(error.value) else []
            now += 10
        assert waited == [0, 30, 90, 210, 450, 750]
        monkeypatch.setattr(module, "_TIMEOUT", PATIENT)
        hanging, now = False, 1050.0
        samples: list[Sample] = []
        for _ in range(3):
            await sidecars.read(samples.append)
            now += 1
        assert len(samples) == 3


async def test_a_pod_at_another_address_is_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is another process, whatever the one before it under that name did."""
    monkeypatch.setattr(module, "_TIMEOUT", IMPATIENT)
    async with serving(hangs=hangs, good=good) as targets:
        addresses = iter((targets["hangs"], targets["good"]))
        sidecars = Sidecars(lambda: {"pod": next(addresses)}, lambda: 0.0)
        with pytest.raises(SourceUnavailableError):
            await sidecars.read(lambda _: None)
        monkeypatch.setattr(module, "_TIMEOUT", PATIENT)
        samples: list[Sample] = []
        await sidecars.read(samples.append)
    assert [sample.target for sample in samples] == ["pod"]


async def test_a_round_of_targets_that_are_not_asked_is_an_outage_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them hung, and their time has not come."""
    monkeypatch.setattr(module, "_TIMEOUT", IMPATIENT)
    async with serving(hangs=hangs) as targets:
        sidecars = Sidecars(lambda: targets, lambda: 0.0)
        for why in ("did not answer in", "none of 1 sidecars can be read$"):
            with pytest.raises(SourceUnavailableError, match=why):
                await sidecars.read(lambda _: None)


async def test_a_sample_is_there_before_the_round_is_over() -> None:
    """Those that hang delay nobody's evidence, however many they are."""
    released = asyncio.Event()

    async def hangs(request: web.Request) -> web.Response:
        await released.wait()
        return await good(request)

    many = {f"hangs{number}": hangs for number in range(100)}
    async with serving(**many, good=good) as targets:
        taken: list[str] = []

        def take(sample: Sample) -> None:
            taken.append(sample.target)
            released.set()

        await Sidecars(lambda: targets).read(take)
    assert taken[0] == "good"
    assert len(taken) == 101


@pytest.mark.parametrize(
    "line",
    [
        "headwater_requests_total{" + 20_000 * "x" + "\n",
        "headwater_requests_total{" + 20_000 * "x",
        "# rubbish\n" * 2_000_000,
        "headwater_requests_total 1\n" * 100_000,
    ],
    ids=["a long line", "no end of a line", "much rubbish", "much of ours"],
)
async def test_what_is_too_large_for_a_sidecar_is_left_out(line: str) -> None:
    """Neither memory nor time is spent on it."""

    async def large(_: web.Request) -> web.Response:
        return web.Response(text=START + line)

    async with serving(large=large, good=good) as targets:
        assert [sample.target for sample in await read(targets)] == ["good"]


async def test_what_cannot_be_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Two megabytes, or an absurd count: bounded, not believed, and the others are read."""

    async def large(_: web.Request) -> web.Response:
        labels = LABELS + ',team="' + "x" * 200 + '"'
        return web.Response(text=START + requests("hit", "true", "1", labels) * 9_000)

    async def absurd(_: web.Request) -> web.Response:
        return web.Response(text=START + requests("hit", "true", "1e30"))

    async with serving(large=large, absurd=absurd, good=good) as targets:
        samples: list[Sample] = []
        sidecars = Sidecars(lambda: targets)
        for _ in range(3):
            await sidecars.read(samples.append)
    assert {sample.target for sample in samples} == {"good"}
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 2
    assert all("counts as evidence" in said for said in warned)
