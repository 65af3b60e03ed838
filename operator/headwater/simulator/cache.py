"""The provider's prompt cache as a pure model: positions in, usage out, time an argument.

It knows prefixes by their hash alone. Two steps because that is what the provider does: a
request reads when it starts, but what it writes can be read only once its answer begins,
so identical cold requests that start together all write.

Source of the rules: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of
2026-08-22, and later excerpts of the same page; docs/simulator.md has them row by row.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from headwater.providers.usage import Usage

LOOK_BACK: Final = 20
"""Positions that a marker looks at, its own included."""

TTL_SECONDS: Final = {"5m": 300, "1h": 3600}


class Position(NamedTuple):
    """The end of one block: what a cache entry could be of.

    `digest` hashes the lane and everything up to here; `tokens` counts the same; `step` is
    the number that look-back counts in, shared by consecutive tool calls or tool results;
    `ttl` is the marker's ("5m" or "1h"), None where the block is not marked.
    """

    digest: bytes
    tokens: int
    step: int
    ttl: str | None = None


class Outcome(NamedTuple):
    """What a request read and will write: its input usage, and the entries to `commit`."""

    usage: Usage
    writes: tuple[tuple[bytes, str], ...]
    started_at: float


class _Entry(NamedTuple):
    ttl: str
    expires_at: float


class PromptCache:
    """Entries of all lanes (a lane is part of every digest), bounded in number.

    Above `max_entries` the longest unused goes first.
    """

    def __init__(self, max_entries: int = 100_000) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._max_entries = max_entries

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget every entry."""
        self._entries.clear()

    def begin(self, positions: Sequence[Position], minimum: int, now: float) -> Outcome:
        """Read for a request that starts at `now` (seconds); reading refreshes what was read.

        `minimum` is the model's least cacheable number of tokens: a marker on a shorter
        prefix silently does nothing.
        """
        total = positions[-1].tokens if positions else 0
        marked = [
            index
            for index, position in enumerate(positions)
            if position.ttl is not None and position.tokens >= minimum
        ]
        if not marked:
            return Outcome(Usage(uncached=total), (), now)
        hits = [self._hit(positions, index, now) for index in marked]
        read = max((positions[hit].tokens for hit in hits if hit is not None), default=0)
        hour = max((positions[i].tokens for i in marked if positions[i].ttl == "1h"), default=0)
        last = positions[marked[-1]].tokens
        # The provider's rule for mixed TTLs: read up to the highest hit, then an hour's write
        # up to the last 1h marker, then a five minutes' write up to the last marker.
        usage = Usage(
            uncached=total - last,
            cache_read=read,
            cache_write_1h=max(hour - read, 0),
            cache_write_5m=last - max(hour, read),
        )
        writes = tuple(
            (positions[index].digest, ttl)
            for index, hit in zip(marked, hits, strict=True)
            if hit != index and (ttl := positions[index].ttl) is not None
        )
        return Outcome(usage, writes, now)

    def commit(self, outcome: Outcome) -> None:
        """Make what a request wrote readable: call it when its answer begins.

        The time to live still counts from the start of the request.
        """
        for digest, ttl in outcome.writes:
            self._refresh(digest, ttl, outcome.started_at)
        while len(self._entries) > self._max_entries:
            del self._entries[next(iter(self._entries))]

    def _hit(self, positions: Sequence[Position], marked: int, now: float) -> int | None:
        oldest_step = positions[marked].step - LOOK_BACK + 1
        for index in range(marked, -1, -1):
            position = positions[index]
            if position.step < oldest_step:
                return None
            entry = self._entries.get(position.digest)
            if entry is None:
                continue
            if now < entry.expires_at:
                self._refresh(position.digest, entry.ttl, now)
                return index
            del self._entries[position.digest]
        return None

    def _refresh(self, digest: bytes, ttl: str, started_at: float) -> None:
        expires_at = started_at + TTL_SECONDS[ttl]
        entry = self._entries.pop(digest, None)
        if entry is not None and entry.expires_at > expires_at:
            self._entries[digest] = entry
        else:
            self._entries[digest] = _Entry(ttl, expires_at)
