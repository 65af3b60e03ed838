"""Keeps a conversation on its revision while its cached history can still be warm.

Another prefix in mid-conversation would throw that history away. A pin ends with the TTL. It
ends at once when its revision is aborted, because an abort must reach running conversations; a
promotion lets them stay on the former revision for as long as that is retained. Without I/O and
without a clock.
"""

import functools
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from headwater.contract.assembly import Request, Spliced
from headwater.contract.digest import Digest
from headwater.contract.lane import Lane, Settings
from headwater.contract.route import Revision, Route, pick
from headwater.sidecar.continuity import Break, Said, followed
from headwater.sidecar.history import Cached, cached, lost

CAPACITY: Final = 20_000
"""Conversations remembered, the least recently used forgotten first: some 5 MB, and 10
where all of them are named sessions."""


@dataclass(slots=True)
class _Pin:
    digest: Digest
    used: float
    settings: Settings | None = None
    lane: Lane | None = None
    said: Said | None = None
    cached: Cached | None = None


class Pins:
    """Which revision each conversation is on, and with which settings it began.

    Attributes:
        forgotten: how many were given up for others while their cache could still be warm.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start with no pin."""
        self._capacity = capacity
        self._pins: OrderedDict[bytes, _Pin] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._pins)

    def choose(self, route: Route, conversation: str, *, ttl: float, now: float) -> Revision:
        """The revision of a request that starts `now` (seconds); the pin lasts `ttl` from here."""
        key = _key(conversation)
        pin = self._pins.get(key)
        held = None
        if pin is None:
            if len(self._pins) == self._capacity:
                _, oldest = self._pins.popitem(last=False)
                self.forgotten += now - oldest.used <= ttl
            pin = self._pins[key] = _Pin(route.stable.digest, now)
        else:
            self._pins.move_to_end(key)
            if now - pin.used <= ttl:
                held = _held(route, pin.digest)
            else:
                pin.settings = pin.lane = pin.said = pin.cached = None
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

    def followed(
        self, conversation: str, request: Request, spliced: Spliced, lane: Lane, tool_choice: str
    ) -> tuple[bool, Break | None]:
        """Whether a conversation, chosen for just now, goes on, and how it fails to extend itself.

        The first is False where nothing of a request before this one is known.
        """
        pin = self._pins[_key(conversation)]
        said, written = pin.said, pin.cached
        pin.said, broken = followed(said, request)
        now = cached(request, spliced, lane, tool_choice, image=pin.said.image)
        if now is not None or broken is not None:
            pin.cached = now
        if broken is None and written is not None and now is not None:
            pin.cached, broken = lost(written, now, request, spliced)
        return said is not None, broken


@functools.lru_cache(maxsize=1)  # one request asks several times
def _key(conversation: str) -> bytes:
    """Hashed: keys come from requests, may be long and may name people."""
    return hashlib.blake2b(conversation.encode(), digest_size=16).digest()


def _held(route: Route, digest: Digest) -> Revision | None:
    if digest == route.stable.digest:
        return route.stable
    held = route.revisions if route.weight > 0 else (route.stable, *route.retained)
    return next((revision for revision in held if revision.digest == digest), None)
