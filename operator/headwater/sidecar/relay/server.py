"""A listener: admits connections, watches their deadlines, ends in good order."""

import asyncio
from collections import Counter
from typing import Final

from headwater.sidecar.relay.downstream import Downstream
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import Clock, Desk, Limits
from headwater.sidecar.relay.room import Room

_TICK: Final = 1.0
"""Seconds between two looks at the deadlines: a timer for each would cost more than it is worth."""


class Relay:
    """Serves one address; what a desk decides to send goes to one origin."""

    def __init__(
        self,
        desk: Desk,
        origin: Origin | None = None,
        limits: Limits | None = None,
        tick: float = _TICK,
    ) -> None:
        """Without an origin the desk answers everything itself. `tick` is in seconds."""
        self.desk = desk
        self.origin = origin
        self.limits = limits or Limits()
        self.room = Room(self.limits.held)
        self.closing = False
        self.clock = Clock(0.0) if origin is None else origin.clock
        self._tick = tick
        self._connections: dict[Downstream, None] = {}
        """The oldest first."""
        self._emptied = asyncio.Event()
        self._server: asyncio.Server
        self._timer: asyncio.TimerHandle

    async def listen(self, host: str, port: int) -> int:
        """Begin; returns the port, which is another one where 0 was asked for.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self.clock.now = loop.time()
        self._server = await loop.create_server(lambda: Downstream(self), host, port, backlog=1024)
        self._watch()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self, grace: float) -> None:
        """Take no more, let what is under way come to its end, at most `grace` seconds."""
        self.closing = True
        self._server.close()
        for connection in list(self._connections):
            connection.retire()
        try:
            async with asyncio.timeout(grace):
                await self._none_left()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._none_left()
        self._timer.cancel()
        if self.origin is not None:
            await self.origin.close()

    def admitted(self, connection: Downstream) -> bool:
        """Take in a connection that is open; return whether there is room for it."""
        self._connections[connection] = None
        if len(self._connections) <= self.limits.connections:
            return True
        if not self.limits.makes_room:
            return False
        idle = [each for each in self._connections if not each.busy and each is not connection]
        if not idle:
            return False
        # A peer that opens many ends its own, and the kubelet with its one is served.
        crowds = Counter(each.peer for each in idle)
        max(idle, key=lambda each: crowds[each.peer]).abort()
        return True

    def gone(self, connection: Downstream) -> None:
        """A connection is closed."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._emptied.set()

    async def _none_left(self) -> None:
        while self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick, self._watch)
        now = self.clock.now = loop.time()
        for connection in [each for each in self._connections if each.deadline <= now]:
            connection.expired()
        if self.origin is not None:
            self.origin.tick()
