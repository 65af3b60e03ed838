"""The controller as a process: connects, lists, watches, works, scrapes, and ends cleanly."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import kopf
from aiohttp import web

from headwater.cluster import PROMPT_PREFIX, ApiError, Cluster, NotFoundError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.cluster.labels import ROLE_LABEL
from headwater.controller.deletion import Deletion
from headwater.controller.events import Recorder
from headwater.controller.evidence import Evidence
from headwater.controller.lease import Elector
from headwater.controller.metrics import Metrics
from headwater.controller.nudge import Nudger
from headwater.controller.prefix import PrefixReconciler
from headwater.controller.publish import Publisher
from headwater.controller.queue import WorkQueue
from headwater.controller.store import Store
from headwater.controller.threads import apart, at_home
from headwater.controller.warmer import WarmerReconciler
from headwater.controller.watch import SELECTED, Watcher, Work
from headwater.evidence.ledger import Ledger
from headwater.evidence.prometheus import Prometheus
from headwater.evidence.scrape import Sidecars

if TYPE_CHECKING:
    from headwater.controller.certificates import Wanted

_log = logging.getLogger(__name__)

_WORKERS: Final = 20
"""Reconciles at once; also the requests in flight to the API server."""
_RESYNC: Final = 300.0
"""Seconds between two lists of everything, beside the watch."""
_STUCK: Final = 300.0
"""Seconds after which a reconcile is not slow but stuck: no request takes more than 30."""
_SETTLE: Final = 5.0
"""Seconds until what has been cancelled has ended."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line sets.

    `targets` are metrics URLs of sidecars outside the cluster. With a `prometheus` no sidecar is
    scraped, and they say which of its targets outside are believed. `provider_url` is where warmers
    send to, where that is not the provider itself.
    """

    image: str
    targets: Sequence[str] = ()
    scrape_interval: timedelta = timedelta(seconds=15)
    prometheus: Prometheus | None = None
    provider_url: str | None = None
    liveness: str | None = None
    pod_annotations: bool = True
    lease_namespace: str | None = None
    """Where the Lease is that one controller at a time holds; None to work without."""
    namespaces: Sequence[str] = ()
    """Those that are looked after; none for all of the cluster."""
    consumer_label: tuple[str, str] | None = None
    """That namespaces need to get bundles; None where prefixes choose among all."""
    certificates: "Wanted | None" = None
    """The webhook's certificate that is to be made; None where somebody else makes it."""


async def run(options: Options, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ApiError: the API server refuses the lease or the first lists; the message says what it
            said.
        LeadershipLostError: another controller may be working by now.
    """
    running: asyncio.Task[None]
    asyncio.get_running_loop().set_exception_handler(_heard)

    def heed_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)

    running = asyncio.create_task(_run(options, clock, heed_signals))
    heed_signals()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def _heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what nobody caught, but for a watch of kopf's that a stop found in its middle."""
    if "asyncgen" not in context:
        loop.default_exception_handler(context)


async def _run(
    options: Options, clock: Callable[[], datetime], heed_signals: Callable[[], None]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pulse = Pulse(heed_signals)
        await stack.enter_async_context(alive(options.liveness, pulse))
        if options.lease_namespace is None:
            cluster = await KubernetesCluster.connect(connections=_WORKERS)
            stack.push_async_callback(cluster.close)
            await _work(cluster, options, clock, pulse)
            return
        # A renewal must wait neither for other requests nor for a turn of the loop that works.
        await apart(
            partial(
                _lead, asyncio.get_running_loop(), options.lease_namespace, options, clock, pulse
            )
        )


async def _lead(
    home: asyncio.AbstractEventLoop,
    namespace: str,
    options: Options,
    clock: Callable[[], datetime],
    pulse: "Pulse",
) -> None:
    """Hold the Lease, and have the work done at home meanwhile."""
    connection = await KubernetesCluster.connect(connections=1)
    try:
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        elector = Elector(connection, namespace, identity, clock)

        async def work() -> None:
            cluster = await KubernetesCluster.connect(
                connections=_WORKERS, before_write=elector.assert_leads
            )
            try:
                await _work(cluster, options, clock, pulse)
            finally:
                await cluster.close()

        await elector.lead(partial(at_home, home, work))
    finally:
        await connection.close()


@dataclass(slots=True)
class Pulse:
    """What the process has to know of its work, and the work of its process.

    There is no `queue` and no `evidence` while another controller leads. `heed_signals` makes
    SIGTERM cancel it all.
    """

    heed_signals: Callable[[], None]
    queue: WorkQueue[Work] | None = None
    evidence: Evidence | None = None

    def problem(self) -> str:
        """What stands still; empty where nothing does."""
        busy = self.queue.busy_for if self.queue is not None else 0.0
        return f"a reconcile has been stuck for {busy:.0f} s" if busy > _STUCK else ""


@contextlib.asynccontextmanager
async def alive(url: str | None, pulse: Pulse) -> AsyncIterator[None]:
    """Answer the liveness probe, in the event loop whose life it tells. Who waits is alive, too.

    Beside it at /metrics: what is done, and where prefixes stand.
    """
    if url is None:
        yield
        return
    at = urlsplit(url)

    async def answer(_: web.Request) -> web.Response:
        problem = pulse.problem()
        return web.Response(text=f"{problem or 'alive'}\n", status=500 if problem else 200)

    async def metrics(_: web.Request) -> web.Response:
        headers = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
        body = Metrics(pulse.queue, pulse.evidence).exposition()
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.router.add_get(at.path or "/", answer)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, at.hostname, at.port).start()
        yield
    finally:
        await runner.cleanup()


async def _work(
    cluster: Cluster, options: Options, clock: Callable[[], datetime], pulse: Pulse
) -> None:
    """Look after prefixes, warmers and the webhook's certificate, until cancelled."""
    works = [_look_after(cluster, options, clock, pulse)]
    if options.certificates is not None:
        # Eight megabytes, for those who make certificates.
        from headwater.controller.certificates import Certificates  # noqa: PLC0415

        # Not behind the first lists: pods of the webhook may be waiting for it.
        works.append(Certificates(cluster, options.certificates, clock).run())
    await _until_first(works)


async def _until_first(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Work until one of them ends or fails, or all are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(_SETTLE):
                await asyncio.gather(*tasks, return_exceptions=True)


async def _look_after(
    cluster: Cluster, options: Options, clock: Callable[[], datetime], pulse: Pulse
) -> None:
    store = Store(options.consumer_label)
    evidence = _evidence(store, options, clock)
    recorder = Recorder(cluster, clock, instance=socket.gethostname() or "headwater")
    listed: list[Work] = []
    watcher = Watcher(store, listed.append, options.namespaces)
    publisher = Publisher(cluster, store, recorder, watcher.take)
    prefixes = PrefixReconciler(
        cluster,
        store,
        evidence,
        recorder,
        publisher,
        Deletion(cluster, store, recorder),
        Nudger(cluster, store, recorder, enabled=options.pod_annotations),
        clock,
    )
    pulse.evidence = evidence
    warmers = WarmerReconciler(
        cluster,
        store,
        recorder,
        evidence.warmth,
        clock,
        image=options.image,
        provider_url=options.provider_url,
    )

    async def reconcile(work: Work) -> timedelta | None:
        if work.kind == PROMPT_PREFIX:
            return await prefixes.reconcile(work.key)
        return await warmers.reconcile(work.key)

    pulse.queue = queue = WorkQueue(reconcile, group=lambda work: work.key.namespace)
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
    # A commit, one that takes a version back above all, must not wait behind a thousand prefixes
    # that are as they were.
    watcher.add = queue.add
    for work in sorted(listed, key=lambda work: store.is_settled(work.key)):
        queue.add(work)
    # Whether evidence can be had is known, too: else a recorded pass could act in an outage.
    await evidence.gather(queue.add_after)
    await _until_first(
        [
            queue.run(_WORKERS),
            _resync(watcher, cluster),
            watcher.look_for_deleted(cluster),
            watcher.look_at_namespaces(cluster),
            evidence.run(queue.add_after),
            _watch(watcher, options.namespaces, pulse.heed_signals),
        ]
    )


def _evidence(store: Store, options: Options, clock: Callable[[], datetime]) -> Evidence:
    static = {url: url for url in options.targets}

    def sidecars() -> dict[str, str]:
        return {**static, **{str(key): url for key, url in store.sidecars.items()}}

    return Evidence(
        store,
        Ledger(clock()),
        source=options.prometheus or Sidecars(sidecars),
        prometheus=options.prometheus,
        interval=options.scrape_interval,
        clock=clock,
        trusted=options.targets,
    )


async def _watch(
    watcher: Watcher, namespaces: Sequence[str], heed_signals: Callable[[], None]
) -> None:
    """kopf, as nothing but the watcher."""
    registry = kopf.OperatorRegistry()
    watcher.register(registry)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        inside = "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")
        how = kopf.login_with_service_account if inside else kopf.login_with_kubeconfig
        return how(**kwargs)

    settings = _settings()
    # Looking for new kinds and namespaces takes permissions for all of the cluster.
    settings.scanning.disabled = bool(namespaces)
    where: Any = {"namespaces": namespaces} if namespaces else {"clusterwide": True}
    # It has no peers, and to name itself among them it would look up the name of its user, which an
    # image need not have.
    where["identity"] = "headwater"
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(registry=registry, settings=settings, standalone=True, **where)
    # Stopped by a signal, kopf would wait for tasks of ours for seconds; cancelled, it does not.
    heed_signals()
    await kopf.run_tasks(tasks, ignored=ours)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.enforce_retry_after = True
    settings.queueing.worker_limit = None  # with a limit, each object holds a slot for a while
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
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
