"""The provider's prompt cache, as its documentation and careful measurements describe it.

Pure: the time is an argument. An entry is the hash of everything up to a marked block. A request
first looks (from each marker back over at most 20 positions), is billed for what it found and
what it will leave behind, and writes once its answer begins: not before, so that requests which
start together all pay.

Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of 2026-08-22.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headwater.providers.usage import Usage
from headwater.simulator.prompt import Prompt

LOOK_BACK: Final = 20
"""Positions that a marker looks back over, its own included."""
TTL_SECONDS: Final = {"5m": 300.0, "1h": 3600.0}
_ENTRIES: Final = 100_000
"""Entries kept; the longest unused go first."""


@dataclass(slots=True)
class _Entry:
    ttl: float
    expires: float


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a request found and will write; `began` carries the writing out."""

    usage: Usage
    started: float
    writes: tuple[tuple[bytes, str], ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """One block's place: the hash and the tokens of all up to it, and its position."""

    hash: bytes
    tokens: int
    position: int
    ttl: str | None


class Cache:
    """All lanes of one provider."""

    def __init__(self) -> None:
        """Start cold."""
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def look_up(self, prompt: Prompt, now: float) -> Lookup:
        """What a request that starts now reads and will write.

        What is read lives on from the start of this request. `now` is in seconds.
        """
        places = list(_places(prompt))
        minimum = prompt.facts.min_cacheable_tokens
        marked = [place for place in places if place.ttl is not None and place.tokens >= minimum]
        read = 0
        for marker in marked:
            found = self._find(places, marker, now)
            if found is not None:
                read = max(read, found.tokens)
                entry = self._entries[found.hash]
                entry.expires = now + entry.ttl
                self._entries.move_to_end(found.hash)
        new = [place for place in marked if place.tokens > read]
        hour = max((place.tokens for place in new if place.ttl == "1h"), default=read)
        last = max((place.tokens for place in new), default=read)
        return Lookup(
            usage=Usage(
                uncached=prompt.tokens - last,
                cache_read=read,
                cache_write_1h=hour - read,
                cache_write_5m=last - hour,
            ),
            started=now,
            writes=tuple((place.hash, str(place.ttl)) for place in new),
        )

    def began(self, lookup: Lookup) -> None:
        """The answer begins: what it wrote can be read, and lives from the request's start."""
        for key, ttl in lookup.writes:
            seconds = TTL_SECONDS[ttl]
            self._entries[key] = _Entry(seconds, lookup.started + seconds)
            self._entries.move_to_end(key)
        while len(self._entries) > _ENTRIES:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _find(self, places: list[_Place], marker: _Place, now: float) -> _Place | None:
        """The longest entry that this marker reaches."""
        for place in reversed(places):
            if place.position > marker.position or place.tokens > marker.tokens:
                continue
            if marker.position - place.position >= LOOK_BACK:
                return None
            entry = self._entries.get(place.hash)
            if entry is not None and now < entry.expires:
                return place
        return None


def _places(prompt: Prompt) -> Iterator[_Place]:
    running = hashlib.sha256(prompt.lane)
    tokens, position, tier, run = 0, -1, "", ""
    for block in prompt.blocks:
        if block.tier != tier:
            tier = block.tier
            running.update(b"\0" + tier.encode() + b"\0" + prompt.keys[block.tier])
        running.update(b"\0" + block.identity)
        tokens += block.tokens
        # A row of tool calls, or of their results, is one position.
        if not (block.run and block.run == run):
            position += 1
        run = block.run
        yield _Place(running.digest(), tokens, position, block.ttl)
