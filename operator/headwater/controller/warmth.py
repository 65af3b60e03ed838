"""What warming did and what came of it, for the controller's own metrics; see docs/warming.md.

A hit that only the warmer made possible is one whose lane real traffic alone would have let go
cold: the request before it was longer ago than the TTL, and a warming request lay between.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.controller.objects import Key
from headwater.economics import warming
from headwater.evidence.lanes import LaneId, LaneUses, Use
from headwater.providers.models import lookup
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Lane
from headwater.warmer.report import Finished, WarmedLane

_STATES: Final = ("Warm", "Cold", "Failed", "Skipped")
_WARMER: Final = ("namespace", "prefix", "warmer")


@dataclass(frozen=True, slots=True)
class Kept:
    """A warmer's lanes as they were seen last."""

    prefix: str
    ttl: TTL
    lanes: tuple[Lane, ...]


@dataclass(slots=True)
class Warmth:
    """The uses of lanes, and counts since this process began.

    `told` are the warmers whose skewed clocks were told of, `watching` those that look at their
    lanes' traffic before each run.
    """

    uses: LaneUses = field(default_factory=LaneUses)
    told: set[Key] = field(default_factory=set)
    watching: set[Key] = field(default_factory=set)
    kept: dict[Key, Kept] = field(default_factory=dict)
    metrics: "_Metrics" = field(init=False)

    def __post_init__(self) -> None:
        """Count from zero."""
        self.metrics = _Metrics(self.kept)

    def took(self, key: Key, warmer: CacheWarmer, runs: Iterable[Finished]) -> None:
        """Count runs that were not counted before."""
        where = (key.namespace, warmer.spec.prefix_ref.name, key.name)
        for run in runs:
            for lane in run.report.lanes:
                self.metrics.count(where, lane)
            self.metrics.cost.labels(*where).inc(float(run.report.usd))

    def keep(self, key: Key, kept: Kept) -> None:
        """Remember the lanes of a warmer."""
        self.kept[key] = kept

    def forget(self, key: Key) -> None:
        """A warmer that is gone."""
        self.kept.pop(key, None)
        self.told.discard(key)
        self.watching.discard(key)

    def see(self, lanes: Mapping[LaneId, datetime], now: datetime) -> set[str]:
        """Take in what a sidecar used, and return the prefixes of which a lane was used anew.

        Both name a prefix as `namespace/name`.
        """
        found = self.uses.see(lanes, now)
        for use in found:
            for key, kept in self.kept.items():
                if str(Key(key.namespace, kept.prefix)) == use.lane.prefix:
                    saved = sum((_saved(kept.ttl, lane, use) for lane in kept.lanes), Decimal(0))
                    if saved:
                        where = (key.namespace, kept.prefix, key.name)
                        self.metrics.saved.labels(*where).inc(float(saved))
        return {use.lane.prefix for use in found}

    def exposition(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.metrics.registry)


def _saved(ttl: TTL, lane: Lane, use: Use) -> Decimal:
    """What a request cost less since a warmer had kept its lane warm, in US dollars."""
    life, facts = timedelta(seconds=TTL_SECONDS[ttl]), lookup(lane.model)
    usage, warmed = lane.last_usage, lane.last_warm_at
    same = (lane.digest.short, lane.model, lane.fingerprint) == use.lane[1:]
    if not same or facts is None or usage is None or warmed is None:
        return Decimal(0)
    traffic_alone = use.before is not None and use.at - use.before <= life
    if traffic_alone or not warmed <= use.at <= warmed + life:
        return Decimal(0)
    tokens = usage.cache_read + usage.cache_write5m + usage.cache_write1h
    if not tokens or facts.prices_for(tokens) is None:
        return Decimal(0)
    return warming.Lane(tokens, facts, ttl).penalty


class _Metrics(Collector):
    """Counters of this process, and the lanes as they are."""

    def __init__(self, kept: dict[Key, Kept]) -> None:
        self._kept = kept
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "headwater_warm_requests",
            "Warming requests, by what came of their lane",
            (*_WARMER, "result"),
            registry=self.registry,
        )
        self._tokens = Counter(
            "headwater_warm_tokens",
            "Tokens of warming requests, by how they were billed",
            (*_WARMER, "kind"),
            registry=self.registry,
        )
        self.cost = Counter(
            "headwater_warm_cost_usd",
            "What warming cost, from usage and published prices",
            _WARMER,
            registry=self.registry,
        )
        self.saved = Counter(
            "headwater_warm_saved_usd",
            "What requests cost less that found a lane warm through the warmer alone",
            _WARMER,
            registry=self.registry,
        )
        self.registry.register(self)

    def count(self, where: tuple[str, str, str], lane: WarmedLane) -> None:
        """One lane of one run."""
        self._requests.labels(*where, lane.state.lower()).inc(lane.requests)
        if lane.usage is not None:
            kinds = {
                "uncached": lane.usage.uncached,
                "cache_read": lane.usage.cache_read,
                "cache_write_5m": lane.usage.cache_write_5m,
                "cache_write_1h": lane.usage.cache_write_1h,
            }
            for kind, tokens in kinds.items():
                self._tokens.labels(*where, kind).inc(tokens)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The lanes' states, and when each was warmed last."""
        labels = (*_WARMER, "credential", "model", "digest12")
        state = GaugeMetricFamily(
            "headwater_warm_lane_state",
            "1 for the state that a lane is in",
            labels=(*labels, "state"),
        )
        warmed = GaugeMetricFamily(
            "headwater_warm_lane_last_warmed_timestamp_seconds",
            "Start of the last request that warmed a lane",
            labels=labels,
        )
        for key, kept in self._kept.items():
            for lane in kept.lanes:
                place = (
                    *(key.namespace, kept.prefix, key.name),
                    *(lane.credential, lane.model, lane.digest.short),
                )
                for name in _STATES:
                    state.add_metric((*place, name.lower()), float(lane.state == name))
                if lane.last_warm_at is not None:
                    warmed.add_metric(place, lane.last_warm_at.timestamp())
        yield state
        yield warmed
