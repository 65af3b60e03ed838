"""A controller on the API server in memory (`memory.py`), and what its tests have in common."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headwater.cluster import NAMESPACE, ApiError
from headwater.cluster.labels import ROLE_LABEL
from headwater.contract.content import content, digest_of
from headwater.contract.digest import Digest
from headwater.controller.deletion import Deletion
from headwater.controller.events import Recorder
from headwater.controller.evidence import Evidence
from headwater.controller.nudge import Nudger
from headwater.controller.objects import Key
from headwater.controller.prefix import PrefixReconciler
from headwater.controller.publish import Publisher
from headwater.controller.store import Store
from headwater.controller.watch import SELECTED, WATCHED, Watcher, Work
from headwater.evidence.ledger import Ledger, Sample, Series
from headwater.evidence.source import SourceUnavailableError
from headwater.rollout.state import Counts
from tests.unit.controller.memory import Change, Connection, Server
from tests.unit.rollout.stories import START

HOUSE: Final = Key("team", "house")
SIDECAR: Final = "http://127.0.0.1:9484/metrics"
"""The one target, which the command line vouches for."""
LABEL: Final = "prompts.example.com/team"
WANTED: Final = {"matchLabels": {LABEL: "yes"}}
PLACES: Final = ("a", "b")
"""Namespaces of consumers, beside the prefix's own."""
TEXTS: Final = ("Be brief.", "Be brief and kind.", "Be kind.", "Be exact.", "Be fair.")


def digest_of_text(text: str) -> str:
    return str(digest_of(content(tools=(), system=[{"text": text}], ttl="5m")))


def published(version: str, text: int) -> dict[str, Any]:
    """The parts of a spec that publish one of `TEXTS`."""
    words = TEXTS[text]
    return {
        "version": version,
        "digest": digest_of_text(words),
        "content": {"system": [{"text": words}]},
    }


def come_or_go(server: Server, namespace: str) -> None:
    """The next thing in a namespace's life: it is made, it begins to end, it is gone."""
    there = server.find(NAMESPACE, None, namespace)
    if there is None:
        server.create(NAMESPACE, {"metadata": {"name": namespace, "labels": {LABEL: "yes"}}})
    elif "deletionTimestamp" in there["metadata"]:
        server.finish(namespace)
    else:
        server.terminate(namespace)


def unasked(work: Work) -> None:
    """For tests that reconcile after everything: nobody needs to be told."""


class Sidecars:
    """Every consumer's counters, as one source, and the truth about what was counted."""

    def __init__(self) -> None:
        self.away = False
        self.truth: dict[tuple[str, str], Counts] = {}
        """By short digest and model."""
        self._started_at = START
        self._counts: dict[Series, Counts] = {}

    def count(self, digest: Digest, model: str, counts: Counts) -> None:
        series = Series(HOUSE.name, digest.short, model)
        self._counts[series] = self._counts.get(series, Counts()) + counts
        known = self.truth.get((digest.short, model), Counts())
        self.truth[digest.short, model] = known + counts

    def restart(self, at: datetime) -> None:
        self._started_at, self._counts = at, {}

    def fall(self) -> None:
        """The same process shows less than it did."""
        self._counts = {series: Counts(hits=min(1, c.hits)) for series, c in self._counts.items()}

    async def read(self, take: Callable[[Sample], object]) -> None:
        if self.away:
            raise SourceUnavailableError("nobody answers")
        take(Sample(SIDECAR, self._started_at, dict(self._counts)))


class Process:
    """A controller, put together as in `headwater.controller.app`."""

    def __init__(
        self,
        server: Server,
        source: Sidecars,
        clock: Callable[[], datetime],
        add: Callable[[Work], None] = unasked,
    ) -> None:
        self.connection = Connection(server)
        self._server = server
        store = Store()
        recorder = Recorder(self.connection, clock, instance="test")
        self._evidence = Evidence(
            store,
            Ledger(clock()),
            source,
            prometheus=None,
            interval=timedelta(),
            clock=clock,
            trusted=(SIDECAR,),
        )
        self._watcher = Watcher(store, add)
        self._reconciler = PrefixReconciler(
            self.connection,
            store,
            self._evidence,
            recorder,
            Publisher(self.connection, store, recorder, self._watcher.take),
            Deletion(self.connection, store, recorder),
            Nudger(self.connection, store, recorder),
            clock,
        )
        self._position = len(server.changes)

    async def start(self) -> None:
        await self._watcher.list_all(self.connection)

    def catch_up(self) -> None:
        """Get every event that there is."""
        for change in self.news():
            self.hear(change)

    def news(self) -> Sequence[Change]:
        """The events since the last time, for `hear`."""
        news = self._server.changes[self._position :]
        self._position += len(news)
        return news

    def hear(self, change: Change) -> None:
        """Get one event, where it is one that a controller watches for."""
        kind, body, gone = change
        ours = kind not in SELECTED or ROLE_LABEL in (body["metadata"].get("labels") or {})
        if kind in WATCHED and ours:
            self._watcher.take(kind, body, gone=gone)

    async def scrape(
        self, look: Callable[[Work, timedelta], None] = lambda work, within: None
    ) -> None:
        await self._evidence.gather(look)

    @property
    def outage(self) -> str:
        """Why evidence cannot be read; empty where it can."""
        return self._evidence.outage

    async def work(self, key: Key = HOUSE) -> timedelta | None:
        """Reconcile a prefix once, as the queue has it done; when it wants to be called again.

        Raises:
            ApiError: the queue tries again.
        """
        return await self._reconciler.reconcile(key)

    async def reconcile(self) -> bool:
        """Once; whether it got through."""
        try:
            await self.work()
        except ApiError:
            return False
        return not self._reconciler.store.prefixes[HOUSE].in_doubt
