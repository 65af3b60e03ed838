"""Reads the counters of sidecars over HTTP. A sidecar that does not answer is left out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from headwater.evidence.counters import READ, START, Reading, sample_of
from headwater.evidence.ledger import Sample
from headwater.evidence.source import SourceUnavailableError

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 128
"""Requests in flight: a hundred sidecars that hang leave room for the others."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
_PATIENCE_FIRST: Final = 30.0
_PATIENCE_MOST: Final = 300.0
"""Seconds until a target that ran into the timeout is asked again; they double."""
_READ_LIMIT: Final = 16 << 20
_KEPT_LIMIT: Final = 2 << 20
_LINE_LIMIT: Final = 16 << 10
"""Bytes of an exposition, of what matters in it, and of a line; one of ours has fewer."""
_OURS: Final = tuple(name.encode() for name in (*READ, START))


class ImpossibleError(ValueError):
    """A reading that cannot be; the message says what of it."""


@dataclass(slots=True)
class _Silence:
    pause: float
    until: float


@dataclass(slots=True)
class Sidecars:
    """The sidecars themselves as a source. `targets` names each and gives its metrics' URL."""

    targets: Callable[[], Mapping[str, str]]
    clock: Callable[[], float] = time.monotonic
    _silent: dict[str, _Silence] = field(default_factory=dict, init=False)
    _named: set[str] = field(default_factory=set, init=False)
    """Those of whose readings the log has said that they cannot be."""

    async def read(self, take: Callable[[Sample], object]) -> None:
        """Ask every sidecar at once, except for those that keep hanging.

        Raises:
            SourceUnavailableError: there are sidecars and none can be read.
        """
        targets = dict(self.targets())
        self._silent = {url: self._silent[url] for url in targets.values() if url in self._silent}
        self._named &= set(targets.values())
        gate = asyncio.Semaphore(_AT_ONCE)
        parsing = asyncio.Lock()  # one thread: more would take turns with the event loop's
        connector = aiohttp.TCPConnector(limit=_AT_ONCE)
        async with aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, trust_env=False
        ) as session:

            async def ask(name: str, url: str) -> str:
                """What went wrong; empty where nothing did."""
                async with gate:
                    try:
                        text = await _text(session, url)
                        async with parsing:
                            sample = await asyncio.to_thread(parse, name, text)
                    except TimeoutError:
                        self._wait_longer(url)
                        return f"{name} at {url} did not answer in {_TIMEOUT.total:.0f} s"
                    except ImpossibleError as error:
                        self._name(name, url, error)
                        return f"{name} at {url}: {error}"
                    except (aiohttp.ClientError, ValueError, OSError) as error:
                        return f"{name} at {url}: {error}"
                self._silent.pop(url, None)
                take(sample)
                return ""

            due = {name: url for name, url in targets.items() if self._is_due(url)}
            problems = await asyncio.gather(*(ask(name, url) for name, url in due.items()))
        said = [problem for problem in problems if problem]
        for problem in said:
            _log.debug("no evidence from %s", problem)
        if targets and len(said) == len(due):
            last = f", for one {said[0]}" if said else ""
            raise SourceUnavailableError(f"none of {len(targets)} sidecars can be read{last}")

    def _name(self, name: str, url: str, error: Exception) -> None:
        """Say once of a sidecar that nothing of its readings counts."""
        if url not in self._named:
            self._named.add(url)
            _log.warning(
                "nothing that %s at %s says counts as evidence, because it cannot be: %s",
                name,
                url,
                error,
            )

    def _is_due(self, url: str) -> bool:
        silence = self._silent.get(url)
        return silence is None or self.clock() >= silence.until

    def _wait_longer(self, url: str) -> None:
        known = self._silent.get(url)
        pause = min(_PATIENCE_MOST, known.pause * 2) if known is not None else _PATIENCE_FIRST
        self._silent[url] = _Silence(pause, self.clock() + pause)


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(
        url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
    ) as response:
        response.raise_for_status()
        return await _ours(response.content.iter_any())


async def _ours(chunks: AsyncIterator[bytes]) -> str:
    """The lines of an exposition that matter: a tenth of it, and the rest is never held.

    Raises:
        ImpossibleError: it is larger than one of ours, or no text.
    """
    read = kept = 0
    ours: list[bytes] = []
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        found = [line for line in lines if line.startswith(_OURS)]
        ours += found
        read += len(chunk)
        kept += sum(map(len, found))
        longest = max(len(rest), max(map(len, found), default=0))
        if read > _READ_LIMIT or kept > _KEPT_LIMIT or longest > _LINE_LIMIT:
            raise ImpossibleError(f"too much after {read:,} bytes: this is no sidecar")
    try:
        return b"\n".join([*ours, rest, b""]).decode()
    except UnicodeDecodeError as error:
        raise ImpossibleError(f"it is no text ({error})") from error


def parse(target: str, text: str) -> Sample:
    """A sample from a Prometheus exposition.

    Raises:
        ImpossibleError: it is not an exposition, or `sample_of` refuses what it says.
    """
    try:
        return sample_of(
            target,
            (
                Reading(sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            ),
        )
    except ValueError as error:
        raise ImpossibleError(str(error)) from error
