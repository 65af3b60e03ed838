"""The controller as a process: connects, lists, watches, works, scrapes, and ends cleanly."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kopf

from headwater.cluster import PROMPT_PREFIX, ApiError, Cluster, NotFoundError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.events import Recorder
from headwater.controller.objects import ROLE_LABEL
from headwater.controller.prefix import PrefixReconciler
from headwater.controller.publish import Publisher
from headwater.controller.queue import WorkQueue
from headwater.controller.store import Store
from headwater.controller.warmer import WarmerReconciler
from headwater.controller.watch import SELECTED, Watcher, Work
from headwater.evidence.ledger import Ledger
from headwater.evidence.scrape import scrape

_log = logging.getLogger(__name__)

_WORKERS: Final = 20
"""Reconciles at once; also the requests in flight to the API server."""
_RESYNC: Final = 300.0
"""Seconds between two lists of everything, beside the watch."""
_STALE_AFTER: Final = 60.0
"""Seconds without a turn of the event loop's ticker after which the liveness probe fails."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line sets.

    `targets` are metrics URLs of sidecars outside the cluster; `provider_url` is where warmers
    send to, where that is not the provider itself.
    """

    image: str
    targets: Sequence[str] = ()
    scrape_interval: timedelta = timedelta(seconds=15)
    provider_url: str | None = None
    liveness: str | None = None


async def run(options: Options, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ApiError: the API server refuses the first lists; the message says what it said.
    """
    cluster = await KubernetesCluster.connect(connections=_WORKERS)
    try:
        await _run(cluster, options, clock)
    finally:
        await cluster.close()


async def _run(cluster: Cluster, options: Options, clock: Callable[[], datetime]) -> None:
    store, ledger = Store(), Ledger(clock())
    recorder = Recorder(cluster, clock, instance=socket.gethostname() or "headwater")
    publisher = Publisher(cluster, store, recorder)
    prefixes = PrefixReconciler(cluster, store, ledger, recorder, publisher, clock)
    warmers = WarmerReconciler(
        cluster, store, recorder, clock, image=options.image, provider_url=options.provider_url
    )

    async def reconcile(work: Work) -> timedelta | None:
        if work.kind == PROMPT_PREFIX:
            return await prefixes.reconcile(work.key)
        return await warmers.reconcile(work.key)

    queue = WorkQueue(reconcile)
    watcher = Watcher(store, queue.add)
    # Everything is known before anything is decided: a namespace not seen yet must not look
    # like one that is no longer selected.
    try:
        await watcher.list_all(cluster)
    except NotFoundError as error:
        message = f"the custom resources are not installed: apply crds/ first ({error})"
        raise NotFoundError(error.status, message) from error
    _log.info(
        "knows %d prefixes, %d namespaces, %d warmers",
        len(store.prefixes),
        len(store.namespaces),
        len(store.warmers),
    )
    ticker = _Ticker()
    beside = [
        queue.run(_WORKERS),
        _resync(watcher, cluster),
        _gather_evidence(store, ledger, options, queue.add),
        ticker.run(),
    ]
    tasks = [asyncio.create_task(work) for work in beside]
    try:
        watching = asyncio.create_task(_watch(watcher, ticker, options))
        done, _ = await asyncio.wait([watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(watcher: Watcher, ticker: "_Ticker", options: Options) -> None:
    """kopf, as nothing but the watcher."""
    registry = kopf.OperatorRegistry()
    watcher.register(registry)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        inside = "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")
        how = kopf.login_with_service_account if inside else kopf.login_with_kubeconfig
        return how(**kwargs)

    @kopf.on.probe(registry=registry, id="loop")
    async def probe(**_: Any) -> float:
        if ticker.idle > _STALE_AFTER:
            raise kopf.PermanentError(f"the event loop has stood still for {ticker.idle:.0f} s")
        return ticker.idle

    await kopf.operator(
        registry=registry,
        settings=_settings(),
        clusterwide=True,
        standalone=True,
        liveness_endpoint=options.liveness,
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = False
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.enforce_retry_after = True
    settings.queueing.worker_limit = None  # with a limit, each object holds a slot for a while
    settings.queueing.idle_timeout = 0.2
    settings.process.ultimate_exiting_timeout = 25
    settings.persistence.diffbase_storage = _NoDiffs()
    for kind in SELECTED:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = ROLE_LABEL
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf compares each object with its last known state; no handler of ours asks for that."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        del body, extra_fields
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        del body, patch, essence


async def _resync(watcher: Watcher, cluster: Cluster) -> None:
    """List everything now and then: a watch can miss the deletion of an object."""
    while True:
        await asyncio.sleep(_RESYNC)
        try:
            await watcher.list_all(cluster)
        except ApiError as error:
            _log.warning("the cluster could not be listed, again in %.0f s: %s", _RESYNC, error)


async def _gather_evidence(
    store: Store, ledger: Ledger, options: Options, add: Callable[[Work], None]
) -> None:
    """Scrape the sidecars, and have those prefixes reconciled that gained evidence."""
    static = {url: url for url in options.targets}
    while True:
        await asyncio.sleep(options.scrape_interval.total_seconds())
        targets = {**static, **{str(key): url for key, url in store.sidecars.items()}}
        gained: set[str] = set()
        for sample in await scrape(targets):
            gained |= ledger.record(sample)
        for key in store.prefixes:
            if key.name in gained:
                add(Work(PROMPT_PREFIX, key))
        ledger.forget_except(targets)


class _Ticker:
    """Tells how long the event loop has not come round."""

    def __init__(self) -> None:
        self._last = asyncio.get_running_loop().time()

    @property
    def idle(self) -> float:
        """Seconds since the last tick."""
        return asyncio.get_running_loop().time() - self._last

    async def run(self) -> None:
        while True:
            self._last = asyncio.get_running_loop().time()
            await asyncio.sleep(1)
