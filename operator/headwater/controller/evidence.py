"""Gathers evidence: reads the source, asks the authors' queries, wakes whom that concerns.

It judges nothing. A source that is away is an outage, which the reconciles are told of.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from headwater.cluster import CACHE_WARMER, PROMPT_PREFIX
from headwater.contract.digest import Digest
from headwater.controller.adherence import Adherence, signature
from headwater.controller.objects import Key
from headwater.controller.store import PrefixRecord, Store
from headwater.controller.warmth import Warmth
from headwater.controller.watch import Work
from headwater.evidence.ledger import Ledger, Owners, Sample
from headwater.evidence.prometheus import Prometheus, QueryError
from headwater.evidence.queries import fill
from headwater.evidence.source import Source, SourceUnavailableError
from headwater.rollout.state import Measurement

_log = logging.getLogger(__name__)

_TOGETHER: Final = timedelta(milliseconds=500)
"""What arrives within this time is looked at once."""
_QUERIES_EVERY: Final = timedelta(seconds=30)
"""For each candidate; where the source is read less often, with that."""
_QUERIES_AT_ONCE: Final = 8
_OUTAGE_AFTER: Final = 2
"""Rounds in vain: the one sidecar of a small cluster may just be starting anew."""
_NO_PROMETHEUS: Final = "the controller has no Prometheus: start it with --prometheus-url"


@dataclass(frozen=True, slots=True)
class _Asked:
    digest: Digest
    at: datetime
    answers: Mapping[str, Measurement]


@dataclass(slots=True)
class Evidence:
    """What is known of the traffic.

    `ledger` has the counters' totals, `adherence` who keeps to the contract. `outage` says why the
    source is silent, and is empty where it works. `prometheus` answers the authors' queries, where
    there is one. `trusted` are targets outside of the cluster, by URL: the command line names them.
    """

    store: Store
    ledger: Ledger
    source: Source
    prometheus: Prometheus | None
    interval: timedelta
    clock: Callable[[], datetime]
    trusted: Collection[str] = ()
    warmth: Warmth = field(default_factory=Warmth)
    outage: str = field(default="", init=False)
    adherence: Adherence = field(init=False)
    # A controller that starts into an outage must not take it for a sidecar that starts anew.
    _rounds_in_vain: int = field(default=_OUTAGE_AFTER - 1, init=False)
    _asked: dict[Key, _Asked] = field(default_factory=dict, init=False)
    _signatures: dict[Key, object] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Know nothing of any sidecar."""
        self.adherence = Adherence(self.store, self.clock())

    def measurements(self, key: Key) -> Mapping[str, Measurement]:
        """The latest answers about a prefix's present candidate, by the queries' names."""
        record, asked = self.store.prefixes.get(key), self._asked.get(key)
        candidate = _candidate(record) if record is not None else None
        if asked is None or candidate is None or candidate["digest"] != asked.digest:
            return {}
        return asked.answers

    async def run(self, look: Callable[[Work, timedelta], None]) -> None:
        """Gather until cancelled; `look` has a prefix reconciled within a time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(self.interval, lambda: self.gather(look)))
            group.create_task(_every(self.interval, lambda: self.ask(look)))

    async def gather(self, look: Callable[[Work, timedelta], None]) -> None:
        """Read the source once."""
        owners = self._owners()
        keys = {str(key): key for key in self.store.prefixes}
        taken = False

        def take(sample: Sample) -> None:
            nonlocal taken
            now, whose = self.clock(), owners(sample.target)
            if whose is None:
                return
            taken = True
            self.adherence.see(sample, now)
            for owner in self.ledger.record(sample, now, whose) & keys.keys():
                look(Work(PROMPT_PREFIX, keys[owner]), _TOGETHER)
            lanes = {
                lane._replace(prefix=owner): at
                for lane, at in sample.lanes.items()
                for owner in whose(lane.prefix)
            }
            for owner in self.warmth.see(lanes, now) & keys.keys():
                for warmer in self._idle_warmers(keys[owner]):
                    look(Work(CACHE_WARMER, warmer), _TOGETHER)

        problem = ""
        try:
            await self.source.read(take)
        except SourceUnavailableError as error:
            problem = str(error)
        else:
            if self.store.sidecars and not taken:
                problem = (
                    f"the source of evidence knows none of the {len(self.store.sidecars)} sidecars:"
                    " does Prometheus scrape them, process_start_time_seconds included?"
                )
            else:
                self.ledger.forget(self.clock())
        self._note(problem, look)
        self._look_at_consumers(look)

    def _owners(self) -> Callable[[str], Owners | None]:
        """Return whose evidence a target's counts are; None for a target that nobody knows.

        A pod says which prefix by its name. Whose that is, is seen from the bundle that the pod
        mounts, where it stands in the pod's namespace; what it says of any other is nobody's.
        A Prometheus names a pod by its address. Of a target that is no pod of ours, nothing is
        believed but what the command line vouches for, and that for each prefix of the name.
        """
        pods = {
            name: pod
            for pod, url in self.store.sidecars.items()
            for name in (str(pod), urlsplit(url).netloc)
            if name
        }
        named = defaultdict(list)
        for key in self.store.prefixes:
            named[key.name].append(str(key))
        trusted = {name for url in self.trusted for name in (url, urlsplit(url).netloc) if name}

        def owners(target: str) -> Owners | None:
            if target in trusted:
                return lambda name: named.get(name, ())
            if target not in pods:
                return None
            served = self.store.prefixes_served_to(pods[target])
            return lambda name: (str(served[name]),) if name in served else ()

        return owners

    def _idle_warmers(self, prefix: Key) -> Iterator[Key]:
        """Those that did not know of traffic; the others look at it before each of their runs."""
        for warmer in self.store.warmers_of(prefix):
            key = Key(warmer["metadata"]["namespace"], warmer["metadata"]["name"])
            if key not in self.warmth.watching:
                yield key

    def _look_at_consumers(self, look: Callable[[Work, timedelta], None]) -> None:
        """Have a prefix looked at where something about its consumers began or ended."""
        now = self.clock()
        self.adherence.forget(now)
        before, self._signatures = self._signatures, {}
        for key, record in self.store.prefixes.items():
            epoch = (record.body.get("status") or {}).get("epoch", 0)
            found = signature(
                self.adherence.deviations(key, epoch, now), self.adherence.unheard(key, now)
            )
            self._signatures[key] = found
            if found != before.get(key, set()):
                look(Work(PROMPT_PREFIX, key), _TOGETHER)

    def _note(self, problem: str, look: Callable[[Work, timedelta], None]) -> None:
        """Tell the candidates when an outage begins or ends."""
        self._rounds_in_vain = self._rounds_in_vain + 1 if problem else 0
        before = self.outage
        self.outage = problem if self._rounds_in_vain >= _OUTAGE_AFTER else ""
        if bool(before) == bool(self.outage):
            return
        if self.outage:
            _log.warning("evidence is out, rollouts pause: %s", self.outage)
        else:
            _log.info("evidence is back")
        for key, record in self.store.prefixes.items():
            if _candidate(record) is not None:
                look(Work(PROMPT_PREFIX, key), timedelta(0))

    async def ask(self, look: Callable[[Work, timedelta], None]) -> None:
        """Ask the queries of every candidate that gets traffic, where their time has come."""
        now = self.clock().replace(microsecond=0)  # as statuses have it
        gate = asyncio.Semaphore(_QUERIES_AT_ONCE)

        async def answer(key: Key, digest: Digest, promql: str) -> Measurement:
            async with gate:
                return await self._measure(key, digest, promql, now)

        async def ask_all(key: Key, digest: Digest, queries: Mapping[str, str]) -> None:
            found = await asyncio.gather(
                *(answer(key, digest, promql) for promql in queries.values())
            )
            self._asked[key] = _Asked(digest, now, dict(zip(queries, found, strict=True)))
            look(Work(PROMPT_PREFIX, key), timedelta(0))

        digests = {
            key: Digest(candidate["digest"])
            for key, record in self.store.prefixes.items()
            if (candidate := _candidate(record)) and candidate["weight"] > 0
        }
        self._asked = {
            key: asked for key, asked in self._asked.items() if digests.get(key) == asked.digest
        }
        due = (
            (key, digest, _queries(self.store.prefixes[key]))
            for key, digest in digests.items()
            if key not in self._asked or now - self._asked[key].at >= _QUERIES_EVERY
        )
        await asyncio.gather(*(ask_all(*questions) for questions in due if questions[2]))

    async def _measure(self, key: Key, digest: Digest, promql: str, now: datetime) -> Measurement:
        if self.prometheus is None:
            return Measurement(now, None, _NO_PROMETHEUS)
        try:
            filled = fill(promql, namespace=key.namespace, prefix=key.name, digest12=digest.short)
            return Measurement(now, await self.prometheus.number(filled))
        except (QueryError, ValueError) as error:
            return Measurement(now, None, str(error))


def _candidate(record: PrefixRecord) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (record.body.get("status") or {}).get("candidate")
    return found


def _queries(record: PrefixRecord) -> dict[str, str]:
    rollout = record.body["spec"].get("rollout") or {}
    queries = (rollout.get("analysis") or {}).get("queries") or ()
    return {query["name"]: query["promql"] for query in queries}


async def _every(interval: timedelta, work: Callable[[], Awaitable[None]]) -> None:
    """Do it for ever, at this interval from beginning to beginning where it is quick enough."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval.total_seconds()
        await work()
        await asyncio.sleep(max(0.0, due - loop.time()))
