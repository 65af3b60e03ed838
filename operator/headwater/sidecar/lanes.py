"""What this process knows of the provider's cache lanes: warmth, first writes, expected tokens.

Eligibility for evidence is decided here before a request is sent, because a share of little
traffic finds a cold lane through no fault of its revision. The gate lets one request write a
cold lane while the others wait for it, bounded, since else each of them pays for a write.
No I/O; the clock is an argument, and waiting is asyncio's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from headwater.contract.lane import Lane
from headwater.contract.route import Route
from headwater.providers.models import one_name
from headwater.providers.usage import Usage

CAPACITY: Final = 256
"""Lanes remembered: credentials and settings come from requests, memory must not follow them."""
MARGIN: Final = 10.0
"""Seconds before the TTL's end from which a hit is no longer expected: the provider counts by its
own clock, and a job that runs every five minutes would else be judged by chance."""
GATE_SECONDS: Final = 10.0
"""How long a request waits for another to write its lane; a longer wait costs more than a write."""


@dataclass(slots=True)
class _State:
    used: float | None = None
    tokens: int | None = None
    leader: asyncio.Future[None] | None = None


class Turn:
    """One request's way through its lane."""

    __slots__ = ("_leads", "_state", "age", "eligible", "lane", "started", "warm")

    def __init__(
        self, lane: Lane, state: _State, started: float, *, warm: bool, eligible: bool
    ) -> None:
        """Made by `Lanes` alone."""
        self.age = None if state.used is None else started - state.used
        """Seconds since the lane was used; None where it never was."""
        self.lane = lane
        self.started = started
        self.warm = warm
        self.eligible = eligible
        self._state = state
        self._leads: asyncio.Future[None] | None = None

    @property
    def led(self) -> bool:
        """Whether another request is writing the lane now."""
        return self._state.leader is not None

    def lead(self) -> None:
        """Go ahead while others wait."""
        self._leads = self._state.leader = asyncio.get_running_loop().create_future()

    def began(self) -> None:
        """The answer began with success: what was written can be read from here on."""
        state = self._state
        if state.used is None or state.used < self.started:
            state.used = self.started
        self.leave()

    def leave(self) -> None:
        """Let the others go; where the answer did not begin, one of them leads next."""
        if self._leads is not None:
            if self._state.leader is self._leads:
                self._state.leader = None
            if not self._leads.done():
                self._leads.set_result(None)
            self._leads = None

    def hit(self, usage: Usage, *, own_markers: int, published_tokens: int | None) -> bool:
        """Whether the provider read at least the contract.

        Without markers of the team's own, read and written tokens together are the contract's;
        the least such sum counts, because server tools add markers. What the route publishes
        counts where it is less. With neither known, any read is a hit. Nothing read and
        nothing written is a contract that the provider silently does not cache: a miss.
        """
        cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
        if own_markers == 0 and cached > 0:
            self._state.tokens = min(cached, self._state.tokens or cached)
        learned = self._state.tokens
        least = min(learned, published_tokens) if learned and published_tokens else None
        return usage.cache_read >= (least or learned or published_tokens or 1)


class Lanes:
    """The lanes that were used lately."""

    def __init__(self, capacity: int = CAPACITY, gate_seconds: float = GATE_SECONDS) -> None:
        """Start with no lane known warm."""
        self._capacity = capacity
        self._gate_seconds = gate_seconds
        self._lanes: OrderedDict[Lane, _State] = OrderedDict()

    async def enter(
        self, lane: Lane, route: Route, *, ttl: float, clock: Callable[[], float]
    ) -> Turn:
        """Wait, if another request is about to write this lane; then it is this one's turn.

        `clock` gives seconds. The turn starts when the wait is over.
        """
        deadline = clock() + self._gate_seconds
        while True:
            now = clock()
            turn = self.enter_now(lane, route, ttl=ttl, now=now)
            if turn is not None:
                return turn
            state = self._state(lane)
            if state.leader is None or now >= deadline:
                return Turn(lane, state, now, warm=False, eligible=False)
            await asyncio.wait([state.leader], timeout=deadline - now)

    def enter_now(self, lane: Lane, route: Route, *, ttl: float, now: float) -> Turn | None:
        """The turn of a request that needs not wait; None where another one writes its lane."""
        state = self._state(lane)
        turn = _turn(lane, state, route, ttl=ttl, now=now)
        if turn.warm:
            return turn
        if state.leader is not None:
            return None
        turn.lead()
        return turn

    def enter_alone(self, lane: Lane, route: Route, *, ttl: float, now: float) -> Turn:
        """The turn of a request that neither waits for others nor makes them wait."""
        return _turn(lane, self._state(lane), route, ttl=ttl, now=now)

    def last_used(self) -> Iterator[tuple[Lane, float]]:
        """Every lane that an answer came from, with the start of the last such request."""
        return ((lane, state.used) for lane, state in self._lanes.items() if state.used is not None)

    def _state(self, lane: Lane) -> _State:
        state = self._lanes.get(lane)
        if state is None:
            state = self._lanes[lane] = _State()
            if len(self._lanes) > self._capacity:
                self._lanes.popitem(last=False)
        else:
            self._lanes.move_to_end(lane)
        return state


def _turn(lane: Lane, state: _State, route: Route, *, ttl: float, now: float) -> Turn:
    kept_warm = bool(route.kept_warm) and (
        lane.plain
        and any(
            (lane.digest, lane.model, lane.credential)
            == (kept.digest, one_name(kept.model), kept.credential)
            for kept in route.kept_warm
        )
    )
    age = None if state.used is None else now - state.used
    warm = kept_warm or (age is not None and age <= ttl)
    eligible = kept_warm or (age is not None and age <= ttl - MARGIN)
    return Turn(lane, state, now, warm=warm, eligible=eligible)
