"""A listener: admits connections, watches their deadlines, ends in good order."""

import asyncio
from typing import Final

from headwater.sidecar.relay.downstream import Downstream
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import Clock, Desk, Limits

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
        self.closing = False
        self.clock = Clock(0.0) if origin is None else origin.clock
        self._tick = tick
        self._connections: set[Downstream] = set()
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
        """A connection is open; whether there is room for it."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def gone(self, connection: Downstream) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
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
