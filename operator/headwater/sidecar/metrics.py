"""What the sidecar counts, in the names and labels that the docs promise.

Who is served (namespace, team, surface, workload, deploy revision) is given once at the start, by
the pod's labels, and never taken from a request. Every other label is bounded: versions and digests
come from the bundle, models from the route, reasons and outcomes from enumerations, and of places
there is one for each reason at a time. Own registry, so that nothing else gets in.
"""

import copy
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, Self

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from headwater.contract.reasons import Reason
from headwater.contract.route import Revision, Route
from headwater.providers.cost import Unpriced, cost_at, invoice
from headwater.providers.gateways import Layer
from headwater.providers.models import Prices, one_name
from headwater.providers.usage import Statement, Usage
from headwater.sidecar.bundles import BundleFollower, Served
from headwater.sidecar.continuity import Break
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.misses import MissReason
from headwater.sidecar.pinning import Pins
from headwater.sidecar.trigger import Verdict
from headwater.sidecar.violations import Violations

OTHER_MODEL: Final = "other"
"""The model label of requests for a model that the route does not name."""

_FIRST_BYTE_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_OVERHEAD_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)


class Outcome(StrEnum):
    """How a request to `/v1/messages` ended."""

    HIT = "hit"
    """The provider read at least the contract from its cache."""
    MISS = "miss"
    """It answered, and read less."""
    ERROR = "error"
    """It failed in a way that may be the contract's fault: 400, 413, 5xx, no answer, cut."""
    REJECTED = "rejected"
    """It refused for the caller's reasons: credentials, rate, money, a path (other 4xx)."""
    ABORTED = "aborted"
    """The application went away; no evidence."""
    UNKNOWN = "unknown"
    """It answered without a usage that can be read; no evidence."""
    REFUSED = "refused"
    """Never sent: it would have broken the prefix."""
    OFF_CONTRACT = "off_contract"
    """Sent untouched under Observe, although it breaks the prefix."""
    NO_BUNDLE = "no_bundle"
    """Never sent: no bundle verified."""
    GATEWAY = "gateway"
    """A gateway answered out of a store of its own, without the provider; no evidence."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this sidecar serves, from the pod's labels; empty where nobody said."""

    namespace: str = ""
    team: str = ""
    surface: str = ""
    workload: str = ""
    deploy_revision: str = ""


_KINDS: Final = ("uncached", "cache_read", "cache_write_5m", "cache_write_1h")
_IDENTITY: Final = ("namespace", "team", "surface", "workload", "deploy_revision")
_LABELS: Final = (*_IDENTITY, "prefix", "version", "digest12", "model")


class Metrics:
    """The registry of one sidecar."""

    def __init__(
        self,
        identity: Identity,
        bundles: BundleFollower,
        lanes: Lanes,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is that of `lanes`; `wall_clock` gives Unix seconds, for a timestamp."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # its lack
        self.identity: tuple[str, ...] = astuple(identity)
        self.bundles = bundles
        self.pins: Pins | None = None
        """Set by whoever keeps the conversations."""
        self.uncached_at: float | None = None
        """When a request last came with much system text of its own that is not cached."""
        self._served: Served | None = None
        self._series: dict[tuple[object, ...], Series] = {}
        self.violations = Violations()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._state = _State(self.identity, lanes, clock, wall_clock)
        self._state.prefixes.append(self)
        registry.register(self._state)
        self.requests = Counter(
            "headwater_requests_total",
            "Requests to /v1/messages by how they ended; a hit was eligible if expected to be one;"
            " layer names the gateway that answered in the provider's place",
            (*_LABELS, "outcome", "eligible", "layer"),
            registry=registry,
        )
        self.input_tokens = Counter(
            "headwater_input_tokens_total",
            "Tokens of prompts, by how they were billed; the kinds are disjoint",
            (*_LABELS, "kind"),
            registry=registry,
        )
        self.output_tokens = Counter(
            "headwater_output_tokens_total", "Tokens of answers", _LABELS, registry=registry
        )
        self.others = Counter(
            "headwater_other_requests_total",
            "Requests to other paths, by what these lead to",
            (*_IDENTITY, "kind"),
            registry=registry,
        )
        self.contract_violations = Counter(
            "headwater_contract_violations_total",
            "Requests that would have broken the shared prefix, or had none: refused or observed",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self.misses = Counter(
            "headwater_misses_total",
            "Misses, expected or not, by their reason as far as it can be told",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self.breaks = Counter(
            "headwater_conversation_breaks_total",
            "Requests of named sessions that did not extend the one before, by how",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self.wishes = Counter(
            "headwater_warm_wishes_total",
            "Wishes of the application to warm a lane, by what became of them",
            (*_LABELS, "verdict"),
            registry=registry,
        )
        self.uncached_system = Counter(
            "headwater_uncached_system_total",
            "Requests with about as much uncached system text of their own as the contract has",
            _LABELS,
            registry=registry,
        )
        self.cost = Counter(
            "headwater_cost_usd_total",
            "What was used at its published price, surcharges and discounts in its usage included",
            _LABELS,
            registry=registry,
        )
        self.unpriced = Counter(
            "headwater_unpriced_answers_total",
            "Answers of which a part has no price that is known, by what that is",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self.savings = Gauge(
            "headwater_savings_usd_total",
            "Net saving against what the application would have sent itself, uncached; falls where"
            " it cost",
            _LABELS,
            registry=registry,
        )

    def also(self, bundles: BundleFollower) -> Self:
        """The same registry for another prefix of this sidecar."""
        other = copy.copy(self)
        other.bundles, other.pins, other.uncached_at = bundles, None, None
        other._served, other._series = None, {}  # noqa: SLF001 - its own
        other.violations = Violations()
        self._state.prefixes.append(other)
        return other

    def families(self) -> Iterator[Metric]:
        """What `exposition` shows, for a program that has a registry of its own."""
        self._state.settle(self)
        return iter(self.registry.collect())

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        self._state.settle(self)
        return prometheus_client.generate_latest(self.registry)

    def of(self, revision: Revision | None, model: str) -> "Series":
        """Where requests of a model are counted; `revision` is None where none was sent."""
        served = self.bundles.served
        if served is not self._served:
            self._served = served
            self._series.clear()
        key = (revision and revision.digest, revision and revision.version, model)
        found = self._series.get(key)
        if found is None:
            route = served.route if served else None
            known = route is not None and model in route.models
            labels = (
                *self.identity,
                route.prefix if route else "",
                revision.version if revision else "",
                revision.digest.short if revision else "",
                model if known else OTHER_MODEL,
            )
            found = self._state.series.setdefault(labels, Series(labels))
            # What is no model of the route comes from requests, so it is not remembered.
            if known:
                self._series[key] = found
        return found


class Series:
    """All that is counted under one set of labels.

    The library looks its children up slowly, and locks, so all is kept here until somebody asks.
    """

    __slots__ = (
        "_broken",
        "_children",
        "_ended",
        "_fees",
        "_missed",
        "_uncached",
        "_unpriced",
        "_used",
        "_violated",
        "_wished",
        "first_byte",
        "labels",
        "overhead",
    )

    def __init__(self, labels: tuple[str, ...]) -> None:
        """`labels` are the values of those that all metrics have."""
        self.labels = labels
        self._children: dict[object, Any] = {}
        self._ended: dict[tuple[Outcome, bool, str], int] = {}
        self._used: dict[tuple[int, Decimal, bool], _Used] = {}
        self._fees = Decimal(0)
        self._unpriced: dict[Unpriced, int] = {}
        self._violated: dict[Reason, int] = {}
        self._missed: dict[MissReason, int] = {}
        self._broken: dict[Break, int] = {}
        self._wished: dict[Verdict, int] = {}
        self._uncached = 0
        self.first_byte = _Times(_FIRST_BYTE_BUCKETS)
        self.overhead = _Times(_OVERHEAD_BUCKETS)

    def ended(self, outcome: Outcome, *, eligible: bool, layer: Layer | None = None) -> None:
        """Count a request; `layer` is the gateway that answered in the provider's place."""
        key = (outcome, eligible, layer or "")
        self._ended[key] = self._ended.get(key, 0) + 1

    def violated(self, reason: Reason) -> None:
        """Count a request that would have broken the prefix."""
        self._violated[reason] = self._violated.get(reason, 0) + 1

    def missed(self, reason: MissReason) -> None:
        """Count a miss."""
        self._missed[reason] = self._missed.get(reason, 0) + 1

    def broke(self, reason: Break) -> None:
        """Count a request that did not extend the one before it."""
        self._broken[reason] = self._broken.get(reason, 0) + 1

    def wished(self, verdict: Verdict) -> None:
        """Count a wish to warm the lane."""
        self._wished[verdict] = self._wished.get(verdict, 0) + 1

    def uncached_system(self) -> None:
        """Count a request with much system text of its own that is not cached."""
        self._uncached += 1

    def used(
        self, model: str, statement: Statement | None, *, ours: bool = True, copied: float = 0.0
    ) -> None:
        """Count what an answer is billed for; None is an answer without a usage.

        Savings are against what the application would have sent without the sidecar, uncached.
        `ours` is False where that is what was sent. `copied` is the share of the contract that
        it may have sent as a copy of its own: alone, and not beside the contract.
        """
        found = invoice(statement, model)
        for reason in found.unpriced:
            self._unpriced[reason] = self._unpriced.get(reason, 0) + 1
        if statement is None:
            return
        for usage, prices, by in found.lines:
            key = (id(prices), by, ours)
            used = self._used.get(key)
            if used is None:
                used = self._used[key] = _Used(prices, by, ours=ours)
            used.add(usage, copied)
        if found.fees:
            self._fees += found.fees

    def settle(self, metrics: "Metrics") -> None:
        """Tell the library what was counted since."""
        ended, self._ended = self._ended, {}
        for (outcome, eligible, layer), count in ended.items():
            told = "true" if eligible else "false"
            self._child(metrics.requests, outcome.value, told, layer).inc(count)
        violated, self._violated = self._violated, {}
        for reason, count in violated.items():
            self._child(metrics.contract_violations, reason.value).inc(count)
        missed, self._missed = self._missed, {}
        for miss, count in missed.items():
            self._child(metrics.misses, miss.value).inc(count)
        broken, self._broken = self._broken, {}
        for broke, count in broken.items():
            self._child(metrics.breaks, broke.value).inc(count)
        wished, self._wished = self._wished, {}
        for verdict, count in wished.items():
            self._child(metrics.wishes, verdict).inc(count)
        uncached, self._uncached = self._uncached, 0
        if uncached:
            self._child(metrics.uncached_system).inc(uncached)
        unpriced, self._unpriced = self._unpriced, {}
        for what, count in unpriced.items():
            self._child(metrics.unpriced, what.value).inc(count)
        self._settle_money(metrics)

    def _settle_money(self, metrics: "Metrics") -> None:
        used, self._used = self._used, {}
        fees, self._fees = self._fees, Decimal(0)
        if used:
            tokens = sum((each.usage for each in used.values()), Usage())
            for kind in _KINDS:
                self._child(metrics.input_tokens, kind).inc(getattr(tokens, kind))
            self._child(metrics.output_tokens).inc(tokens.output)
        priced = [each for each in used.values() if each.prices is not None]
        if priced or fees:
            cost = sum((each.cost for each in priced), fees)
            saved = sum((each.savings for each in priced), Decimal(0))
            self._child(metrics.cost).inc(float(cost))
            self._child(metrics.savings).inc(float(saved))

    def _child(self, metric: Counter | Gauge, *more: str) -> Any:
        """That of a metric, with the labels that it has besides."""
        key = (metric, more)
        if key not in self._children:
            self._children[key] = metric.labels(*self.labels, *more)
        return self._children[key]


class _Used:
    """What was used at one price; added up as whole numbers, so that money stays exact."""

    __slots__ = ("_by", "_copied", "_ours", "_tokens", "prices")

    def __init__(self, prices: Prices | None, by: Decimal, *, ours: bool) -> None:
        self.prices = prices
        self._by = by
        self._ours = ours
        self._tokens = [0, 0, 0, 0, 0]
        self._copied = 0

    def add(self, usage: Usage, copied: float) -> None:
        """Count one more; `copied` is the share of the contract that stands there twice.

        What a request with a copy reads from a cache or writes to one is the contract: a copy
        that is marked is not taken for one.
        """
        tokens = self._tokens
        tokens[0] += usage.uncached
        tokens[1] += usage.cache_read
        tokens[2] += usage.cache_write_5m
        tokens[3] += usage.cache_write_1h
        tokens[4] += usage.output
        if copied:
            self._copied += round(copied * (usage.prompt - usage.uncached))

    @property
    def usage(self) -> Usage:
        """All of it."""
        return Usage(*self._tokens)

    @property
    def cost(self) -> Decimal:
        """US dollars; 0 without a price."""
        return Decimal(0) if self.prices is None else self._at(self.prices, self.usage)[0]

    @property
    def savings(self) -> Decimal:
        """Against what the application would have sent itself, uncached; 0 without a price."""
        if self.prices is None or not self._ours:
            return Decimal(0)
        copy, _ = self._at(self.prices, Usage(uncached=self._copied))
        actual, uncached = self._at(self.prices, self.usage)
        return uncached - copy - actual

    def _at(self, prices: Prices, usage: Usage) -> tuple[Decimal, Decimal]:
        found = cost_at(usage, prices)
        return found.actual * self._by, found.uncached * self._by


class _Times:
    """A histogram's values under one set of labels."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what was counted; nothing where nothing was."""
        *below, whole = accumulate(self._counts)
        if whole:
            bounds = [str(float(bound)) for bound in self._bounds]
            buckets = [*zip(bounds, below, strict=True), ("+Inf", whole)]
            family.add_metric(labels, buckets, self._sum)


class _State(Collector):
    """What is so, rather than what happened: read when somebody asks."""

    def __init__(
        self,
        identity: tuple[str, ...],
        lanes: Lanes,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.identity = identity
        self.prefixes: list[Metrics] = []
        self.series: dict[tuple[str, ...], Series] = {}
        self._lanes = lanes
        self._clock = clock
        self._wall_clock = wall_clock

    def settle(self, metrics: Metrics) -> None:
        """Bring the counters up to date."""
        for series in self.series.values():
            series.settle(metrics)

    def collect(self) -> Iterator[Metric]:
        verified: dict[tuple[str, ...], float] = {}
        refusals: dict[tuple[str, ...], float] = {}
        epoch: dict[tuple[str, ...], float] = {}
        info: dict[tuple[str, ...], float] = {}
        used: dict[tuple[str, ...], float] = {}
        broken: dict[tuple[str, ...], float] = {}
        forgotten: dict[tuple[str, ...], float] = {}
        uncached: dict[tuple[str, ...], float] = {}
        offset = self._wall_clock() - self._clock()
        for prefix in self.prefixes:
            bundles = prefix.bundles
            route = bundles.served.route if bundles.served else None
            labels = (*self.identity, route.prefix if route else "")
            # Bundles that never verified have no name, and are one series together.
            verified[labels] = min(verified.get(labels, 1.0), 0.0 if bundles.problem else 1.0)
            refusals[labels] = refusals.get(labels, 0.0) + bundles.refusals
            for reason, place, at in prefix.violations.latest():
                broken[*labels, reason.value, place] = at + offset
            if prefix.uncached_at is not None:
                uncached[labels] = prefix.uncached_at + offset
            if prefix.pins is not None:
                forgotten[labels] = forgotten.get(labels, 0.0) + prefix.pins.forgotten
            if route is not None:
                epoch[labels] = route.epoch
                for role, revision in _roles(route):
                    info[*labels, revision.version, revision.digest.short, role] = 1.0
                for lane, at in self._last_used(route).items():
                    used[*labels, *lane] = at + offset
        named = (*_IDENTITY, "prefix")
        yield _gauge(
            "headwater_bundle_verified",
            "1 where what is on disk is verified and served, 0 where it was refused",
            named,
            verified,
        )
        yield _gauge(
            "headwater_bundle_refusals",
            "How often something new on disk was refused",
            named,
            refusals,
        )
        yield _gauge(
            "headwater_bundle_epoch", "The epoch of the bundle that is served", named, epoch
        )
        yield _gauge(
            "headwater_bundle_info",
            "The revisions of the bundle that is served",
            (*named, "version", "digest12", "role"),
            info,
        )
        yield _gauge(
            "headwater_off_contract_timestamp_seconds",
            "When a request was last off the contract, by reason; at is the place of that one",
            (*named, "reason", "at"),
            broken,
        )
        yield _gauge(
            "headwater_uncached_system_timestamp_seconds",
            "When a request last had as much uncached system text of its own as the contract has",
            named,
            uncached,
        )
        given_up = CounterMetricFamily(
            "headwater_conversations_forgotten",
            "Conversations given up for others while their cache could still be warm",
            labels=named,
        )
        for labels, count in forgotten.items():
            given_up.add_metric(labels, count)
        yield given_up
        yield _gauge(
            "headwater_lane_last_used_timestamp_seconds",
            "Start of the last request that kept a lane warm; credential is a fingerprint",
            (*_LABELS, "credential"),
            used,
        )

        first_byte = HistogramMetricFamily(
            "headwater_time_to_first_byte_seconds",
            "From a request's arrival until its answer began, waiting for a cold lane included",
            labels=_LABELS,
        )
        overhead = HistogramMetricFamily(
            "headwater_overhead_seconds",
            "From a request's arrival until it was ready to send, without the wait for a cold lane",
            labels=_LABELS,
        )
        for series in self.series.values():
            series.first_byte.show(first_byte, series.labels)
            series.overhead.show(overhead, series.labels)
        yield first_byte
        yield overhead

    def _last_used(self, route: Route) -> dict[tuple[str, ...], float]:
        """When the lanes were used that a warmer keeps; others differ in what it does not send."""
        versions = {revision.digest: revision.version for revision in route.revisions}
        return {
            (versions[lane.digest], lane.digest.short, model, lane.credential): at
            for lane, at in self._lanes.last_used()
            if lane.plain and lane.digest in versions
            # As the route names it, which is how a warmer knows it.
            for model in route.models
            if one_name(model) == lane.model
        }


def _roles(route: Route) -> Iterator[tuple[str, Revision]]:
    yield from zip(("stable", "candidate"), route.offered, strict=False)
    yield from (("retained", revision) for revision in route.retained)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for given, value in values.items():
        family.add_metric(given, value)
    return family
