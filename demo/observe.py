"""What can be seen from outside: the PromptPrefix, its Events, the sidecars' counters.

The view shows it and the acts judge by it. Nothing here asks a process for what it thinks of
itself: these are the places where an operator of the product would look.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from headwater.cluster import CACHE_WARMER, EVENT, PROMPT_PREFIX, ApiError, Cluster, Object

NAMESPACE: Final = "ai-platform"
NAME: Final = "help-desk"
_EVERY_SECONDS: Final = 0.3
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True)
class Counts:
    """Answers to one version on one model. Only eligible requests are hits or misses."""

    hits: int = 0
    misses: int = 0
    requests: int = 0
    failed: int = 0
    """Anything but an answer: errors, refusals, no bundle."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.requests + other.requests,
            self.failed + other.failed,
        )

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits - other.hits,
            self.misses - other.misses,
            self.requests - other.requests,
            self.failed - other.failed,
        )

    @property
    def rate(self) -> str:
        """Like `98% of 120`: the share of eligible requests that read the cache."""
        eligible = self.hits + self.misses
        return f"{self.hits * 100 // eligible}% of {eligible:,}" if eligible else "-"


@dataclass(frozen=True)
class Event:
    """One Kubernetes Event about our objects."""

    time: str
    reason: str
    note: str
    warning: bool


@dataclass(frozen=True)
class Seen:
    """One look at everything."""

    prefix: Object = field(default_factory=dict)
    warmer: Object = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    counts: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    """By version and model."""
    cached: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Tokens that the provider read from the cache or wrote to it, by version and model."""
    read_tokens: int = 0
    cost: float = 0.0
    savings: float = 0.0

    @property
    def status(self) -> Mapping[str, Any]:
        """The PromptPrefix's status; empty before the first."""
        status: Mapping[str, Any] = self.prefix.get("status", {})
        return status

    @property
    def phase(self) -> str:
        """The phase that `kubectl get pp` shows."""
        return str(self.status.get("phase", ""))

    @property
    def stable(self) -> str:
        """The stable version; empty before the first."""
        return str(self.status.get("stable", {}).get("version", ""))

    @property
    def candidate(self) -> str:
        """The version that is tried; empty where none is."""
        return str(self.status.get("candidate", {}).get("version", ""))

    @property
    def weight(self) -> int:
        """The candidate's share of new conversations, in percent."""
        return int(self.status.get("candidate", {}).get("weight", 0))

    def condition(self, name: str) -> Mapping[str, str]:
        """A condition by its type; empty where it is not there."""
        found: Iterable[Mapping[str, str]] = self.status.get("conditions", ())
        return next((each for each in found if each["type"] == name), {})

    def version(self, version: str) -> Counts:
        """The counts of a version on all models."""
        counts = (each for (name, _), each in self.counts.items() if name == version)
        return sum(counts, Counts())


class Observer:
    """Looks again and again; `seen` is the last look."""

    def __init__(self, cluster: Cluster) -> None:
        """Metrics URLs are added to `targets` as sidecars start."""
        self.targets: list[str] = []
        self.seen = Seen()
        self._cluster = cluster

    async def run(self) -> None:
        """Look until cancelled. A look that fails is repeated: the acts' waits are bounded."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                with contextlib.suppress(ApiError, OSError, TimeoutError, aiohttp.ClientError):
                    self.seen = await self._look(session)
                await asyncio.sleep(_EVERY_SECONDS)

    async def _look(self, session: aiohttp.ClientSession) -> Seen:
        prefixes = [each async for each in self._cluster.list(PROMPT_PREFIX, NAMESPACE)]
        warmers = [each async for each in self._cluster.list(CACHE_WARMER, NAMESPACE)]
        events = [each async for each in self._cluster.list(EVENT, NAMESPACE)]
        counts: dict[tuple[str, str], Counts] = defaultdict(Counts)
        cached: dict[tuple[str, str], int] = defaultdict(int)
        read, cost, savings = 0, 0.0, 0.0
        for target in list(self.targets):
            async with session.get(target) as answer:
                text = await answer.text()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    labels, value = sample.labels, sample.value
                    key = (labels.get("version", ""), labels.get("model", ""))
                    if sample.name == "headwater_requests_total":
                        counts[key] += _counts(labels["outcome"], labels["eligible"], int(value))
                    elif sample.name == "headwater_input_tokens_total":
                        cached[key] += int(value) if labels["kind"] != "uncached" else 0
                        read += int(value) if labels["kind"] == "cache_read" else 0
                    elif sample.name == "headwater_cost_usd_total":
                        cost += value
                    elif sample.name == "headwater_savings_usd_total":
                        savings += value
        return Seen(
            prefix=prefixes[0] if prefixes else {},
            warmer=warmers[0] if warmers else {},
            events=tuple(sorted(map(_event, filter(_ours, events)), key=lambda each: each.time)),
            counts=dict(counts),
            cached=dict(cached),
            read_tokens=read,
            cost=cost,
            savings=savings,
        )


def _counts(outcome: str, eligible: str, number: int) -> Counts:
    judged = eligible == "true"
    return Counts(
        hits=number if judged and outcome == "hit" else 0,
        misses=number if judged and outcome == "miss" else 0,
        requests=number,
        failed=number if outcome not in ("hit", "miss") else 0,
    )


def _ours(event: Object) -> bool:
    return bool(event["regarding"]["kind"] in (PROMPT_PREFIX.kind, CACHE_WARMER.kind))


def _event(event: Object) -> Event:
    return Event(
        time=str(event.get("eventTime") or event["metadata"]["creationTimestamp"]),
        reason=str(event.get("reason", "")),
        note=str(event.get("note", "")),
        warning=event.get("type") == "Warning",
    )
