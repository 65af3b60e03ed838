"""Keeps a conversation on its revision while its cached history can still be warm.

Another prefix in mid-conversation would throw that history away. A pin ends with the TTL. It
ends at once when its revision is aborted, because an abort must reach running conversations; a
promotion lets them stay on the former revision for as long as that is retained. Without I/O and
without a clock.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from headwater.contract.digest import Digest
from headwater.contract.lane import Lane, Settings
from headwater.contract.route import Revision, Route, pick

CAPACITY: Final = 20_000
"""Conversations remembered, the least recently used forgotten first: some 5 MB."""


@dataclass(slots=True)
class _Pin:
    digest: Digest
    used: float
    settings: Settings | None = None
    lane: Lane | None = None


class Pins:
    """Which revision each conversation is on, and with which settings it began."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start with no pin."""
        self._capacity = capacity
        self._pins: OrderedDict[bytes, _Pin] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def choose(self, route: Route, conversation: str, *, ttl: float, now: float) -> Revision:
        """The revision of a request that starts `now` (seconds); the pin lasts `ttl` from here."""
        key = _key(conversation)
        pin = self._pins.get(key)
        held = None
        if pin is None:
            if len(self._pins) == self._capacity:
                self._pins.popitem(last=False)
            pin = self._pins[key] = _Pin(route.stable.digest, now)
        else:
            self._pins.move_to_end(key)
            if now - pin.used <= ttl:
                held = _held(route, pin.digest)
            else:
                pin.settings = pin.lane = None
        revision = held or pick(route, conversation)
        pin.digest, pin.used = revision.digest, now
        return revision

    def begun_with(self, conversation: str, settings: Settings) -> Settings:
        """The settings of the first request of a conversation that was chosen for just now."""
        pin = self._pins[_key(conversation)]
        if pin.settings is None:
            pin.settings = settings
        return pin.settings

    def left(self, conversation: str, lane: Lane) -> Lane | None:
        """The lane of the request before, which was chosen for just now; None for a first one."""
        pin = self._pins[_key(conversation)]
        before, pin.lane = pin.lane, lane
        return before


def _key(conversation: str) -> bytes:
    """Hashed: keys come from requests, may be long and may name people."""
    return hashlib.blake2b(conversation.encode(), digest_size=16).digest()


def _held(route: Route, digest: Digest) -> Revision | None:
    if digest == route.stable.digest:
        return route.stable
    held = route.revisions if route.weight > 0 else (route.stable, *route.retained)
    return next((revision for revision in held if revision.digest == digest), None)
