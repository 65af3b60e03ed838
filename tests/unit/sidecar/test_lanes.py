"""When a hit is expected, who writes a cold lane, and what counts as a hit."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from headwater.contract.digest import Digest
from headwater.contract.lane import Lane
from headwater.contract.route import Route, WarmLane
from headwater.providers.usage import Usage
from headwater.sidecar.lanes import Lanes, Turn
from tests.unit.sidecar import bundles

ROUTE = bundles.make().route
LANE = Lane("credential", bundles.MODEL, ROUTE.stable.digest)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def enter(lanes: Lanes, clock: Clock, lane: Lane = LANE, route: Route = ROUTE) -> Turn:
    return await lanes.enter(lane, route, ttl=300, clock=clock)


@pytest.mark.parametrize(
    ("age", "eligible"), [(1, True), (289, True), (291, False), (300, False), (301, False)]
)
async def test_a_hit_is_expected_within_the_ttl_less_a_margin(
    age: float, *, eligible: bool
) -> None:
    """Near the end the provider's clock decides, not ours, so nothing is concluded."""
    clock, lanes = Clock(), Lanes()
    first = await enter(lanes, clock)
    assert not first.eligible
    clock.now += 50
    first.began()
    clock.now = 1000 + age
    assert (await enter(lanes, clock)).eligible is eligible, "counted from the request's start"


async def test_a_failed_answer_warms_nothing() -> None:
    """Only an answer that began with success shows that the prefix was processed."""
    clock, lanes = Clock(), Lanes()
    (await enter(lanes, clock)).leave()
    assert not (await enter(lanes, clock)).eligible
    assert list(lanes.last_used()) == []


async def test_a_lane_kept_warm_is_expected_to_hit_at_once() -> None:
    """For the same credential, model and digest, and settings that a warmer sends."""
    kept = WarmLane(LANE.digest, LANE.model, LANE.credential)
    route = replace(ROUTE, kept_warm=(kept,))
    clock = Clock()
    assert (await enter(Lanes(), clock, LANE, route)).eligible
    for other in (
        msgspec.structs.replace(LANE, credential="another"),
        msgspec.structs.replace(LANE, model="another"),
        msgspec.structs.replace(LANE, digest=Digest.of(b"")),
        msgspec.structs.replace(LANE, effort="low"),
    ):
        assert not (await enter(Lanes(), clock, other, route)).eligible


async def test_one_request_writes_a_cold_lane_and_the_others_read() -> None:
    """Fifty at once: one goes ahead, the rest when its answer begins, and expect hits."""
    clock, lanes = Clock(), Lanes()
    leader = await enter(lanes, clock)
    waiting = [asyncio.create_task(enter(lanes, clock)) for _ in range(49)]
    other_lane = await enter(lanes, clock, msgspec.structs.replace(LANE, model="another"))
    assert not other_lane.eligible
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    leader.began()
    assert all(turn.eligible for turn in await asyncio.gather(*waiting))


async def test_when_the_first_fails_the_next_leads() -> None:
    """One at a time, so that a provider that is down is not stormed, and nobody hangs."""
    clock, lanes = Clock(), Lanes()
    leader = await enter(lanes, clock)
    waiting = [asyncio.create_task(enter(lanes, clock)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.leave()
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert len(rest) == 2
    done.pop().result().began()
    assert all(turn.eligible for turn in await asyncio.gather(*rest))


async def test_the_wait_is_bounded() -> None:
    """A first answer may take minutes; then a second write is cheaper than waiting."""
    lanes = Lanes(gate_seconds=0.02)
    loop = asyncio.get_running_loop()
    await lanes.enter(LANE, ROUTE, ttl=300, clock=loop.time)
    turn = await lanes.enter(LANE, ROUTE, ttl=300, clock=loop.time)
    assert not turn.eligible


async def test_a_waiter_that_is_cancelled_harms_nobody() -> None:
    """An application may give up while it waits."""
    clock, lanes = Clock(), Lanes()
    leader = await enter(lanes, clock)
    gone, stays = (asyncio.create_task(enter(lanes, clock)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    leader.began()
    assert (await stays).eligible


async def test_memory_is_bounded() -> None:
    """Credentials come from requests."""
    clock, lanes = Clock(), Lanes(capacity=3)
    for number in range(10):
        (await enter(lanes, clock, msgspec.structs.replace(LANE, credential=str(number)))).began()
    assert [lane.credential for lane, _ in lanes.last_used()] == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("read", "written", "own_markers", "published", "hit"),
    [
        (100, 0, 0, None, True),
        (0, 100, 0, None, False),
        (0, 0, 0, None, False),  # silently not cached
        (40, 60, 0, None, False),  # tools read, system written
        (100, 500, 1, None, True),  # the contract read, the team's history written
        (40, 560, 1, 100, False),
        (100, 500, 1, 100, True),
        (700, 0, 1, 100, True),
        (0, 700, 1, 100, False),
        (90, 0, 0, 100, True),  # the provider's own count is the better one
    ],
)
async def test_a_hit_reads_at_least_the_contract(
    read: int, written: int, own_markers: int, published: int | None, *, hit: bool
) -> None:
    """A part of it, or nothing at all, is a miss."""
    turn = await enter(Lanes(), Clock())
    usage = Usage(uncached=7, cache_read=read, cache_write_5m=written)
    assert turn.hit(usage, own_markers=own_markers, published_tokens=published) is hit


async def test_a_request_without_own_markers_teaches_the_contracts_tokens() -> None:
    """Later ones with markers of their own are judged by it, in the same lane."""
    clock, lanes = Clock(), Lanes()
    first = await enter(lanes, clock)
    first.hit(Usage(cache_write_1h=100), own_markers=0, published_tokens=None)
    first.began()
    turn = await enter(lanes, clock)
    assert not turn.hit(Usage(cache_read=99), own_markers=1, published_tokens=None)
    assert turn.hit(Usage(cache_read=100), own_markers=1, published_tokens=None)
    assert not turn.hit(Usage(cache_read=99), own_markers=1, published_tokens=5000)
