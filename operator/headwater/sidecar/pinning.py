"""Keeps a conversation on its revision while its cached history can still be warm.

Another prefix in mid-conversation would throw that history away. A pin ends with the TTL. It
ends at once when its revision is aborted, because an abort must reach running conversations; a
promotion lets them stay on the former revision for as long as that is retained. Without I/O and
without a clock.
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
        held = route.revisions if route.weight > 0 else (route.stable, *route.retained)
        return next((revision for revision in held if revision.digest == digest), None)
