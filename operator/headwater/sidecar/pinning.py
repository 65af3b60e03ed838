"""Keeps a conversation on its revision while its cached history can still be warm.

Another prefix in mid-conversation would throw that history away. A pin ends with the TTL, or
when its revision gets no traffic any more, because an abort must reach running conversations.
Without I/O and without a clock.
"""

import hashlib
from collections import OrderedDict
from typing import Final

from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, pick

CAPACITY: Final = 20_000
"""Conversations remembered, the least recently used forgotten first: some 5 MB."""


class Pins:
    """Which revision each conversation is on."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start with no pin."""
        self._capacity = capacity
        self._pins: OrderedDict[bytes, tuple[Digest, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def choose(self, route: Route, conversation: str, *, ttl: float, now: float) -> Revision:
        """The revision of a request that starts `now` (seconds); the pin lasts `ttl` from here."""
        # Hashed: keys come from requests, may be long and may name people.
        key = hashlib.sha256(conversation.encode()).digest()[:16]
        revision = self._pinned(route, key, ttl, now) or pick(route, conversation)
        self._pins[key] = (revision.digest, now)
        self._pins.move_to_end(key)
        if len(self._pins) > self._capacity:
            self._pins.popitem(last=False)
        return revision

    def _pinned(self, route: Route, key: bytes, ttl: float, now: float) -> Revision | None:
        digest, used = self._pins.get(key, (None, now))
        if now - used > ttl:
            return None
        if digest == route.stable.digest:
            return route.stable
        if route.candidate is not None and digest == route.candidate.digest and route.weight > 0:
            return route.candidate
        return None
