"""What kopf watches, and which keys an event puts into the work queue.

Handlers take an object in and name the keys that it concerns; they decide nothing and write
nothing. kopf puts no finalizer and no annotation on anything for handlers of this kind.
"""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import kopf

from headwater.cluster import (
    CACHE_WARMER,
    CONFIG_MAP,
    CRON_JOB,
    NAMESPACE,
    POD,
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    Kind,
    NotFoundError,
    Object,
    RefusedError,
)
from headwater.cluster.labels import ROLE_LABEL
from headwater.controller.objects import (
    CONTENT,
    METRICS_PORT_ANNOTATION,
    SIDECAR,
    Found,
    Key,
    metrics_port,
)
from headwater.controller.runs import run_of, trouble_of
from headwater.controller.store import NamespaceRecord, PrefixRecord, Store
from headwater.resources.prefix import Consumers
from headwater.warmer.cronjob import ROLE as WARM
from headwater.warmer.cronjob import WARMER_LABEL

_log = logging.getLogger(__name__)

SELECTED: Final = (CONFIG_MAP, CRON_JOB, POD)
"""Kinds of which only the objects with our role label are watched."""
WATCHED: Final = (NAMESPACE, CONFIG_MAP, POD, PROMPT_PREFIX, CACHE_WARMER, CRON_JOB)
"""In the order in which they are listed: what a prefix's reconcile needs comes before it."""

_LOOK_AT_NAMESPACES: Final = 10.0
"""Seconds between two looks at namespaces that cannot be watched."""
_LIST_ENDED: Final = 1.0
"""Seconds in which kopf hands on nothing that it has listed: its lists are through by then."""


class Work(NamedTuple):
    """What the queue holds: the kind of reconcile, and for what."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.key}"


@dataclass(slots=True)
class Watcher:
    """Feeds the store and the queue, from kopf's events and from lists of its own."""

    store: Store
    add: Callable[[Work], None]
    namespaces: Sequence[str] = ()
    """Those that are looked after; none for all of the cluster."""
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where kopf has listed since `look_for_deleted` looked last."""

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register one event handler for each kind that is watched."""
        for kind in WATCHED:
            if kind.namespaced or not self.namespaces:
                self._register(registry, kind)

    def _register(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        async def handle(event: kopf.RawEvent, **_: Any) -> None:
            body: Object = dict(event["object"])
            self.take(kind, body, gone=event["type"] == "DELETED")
            if event["type"] is None:
                self.listed.set()

        handle.__name__ = f"on_{kind.plural}"
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(handle)

    async def list_all(self, cluster: Cluster) -> None:
        """Take in everything that there is, and forget what is there no longer.

        Before the watch this is how it begins; beside it, how a missed deletion is found.
        """
        await self._list_kinds(cluster)
        for key, record in self.store.prefixes.items():
            if record.resolution is not None and record.resolution.references:
                record.resolution = None  # content without our label sends no events
                self.add(Work(PROMPT_PREFIX, key))

    async def look_for_deleted(self, cluster: Cluster) -> None:
        """List everything once after each time that kopf has listed, until cancelled.

        kopf watches from the version of its own list, at its start and where a version has
        expired. What was deleted between an earlier list and that one sends no event.
        """
        while True:
            await self.listed.wait()
            while self.listed.is_set():
                self.listed.clear()
                await asyncio.sleep(_LIST_ENDED)
            try:
                await self._list_kinds(cluster)
            except ApiError as error:
                self.listed.set()
                _log.warning("the cluster could not be listed: %s", error)

    async def _list_kinds(self, cluster: Cluster) -> None:
        for kind in WATCHED:
            await self._list_kind(cluster, kind)

    async def _list_kind(self, cluster: Cluster, kind: Kind) -> None:
        known = {key: self._version(kind, key) for key in self.known(kind)}
        selector = ROLE_LABEL if kind in SELECTED else ""
        async for body in self._list(cluster, kind, selector):
            metadata = body["metadata"]
            known.pop(Key(metadata.get("namespace", ""), metadata["name"]), None)
            self.take(kind, body)
        # Whatever was known before the list and is not in it was deleted before its end.
        for key, version in known.items():
            if self._version(kind, key) == version:  # else the watch told of it meanwhile
                self._lose(kind, key)

    async def look_at_namespaces(self, cluster: Cluster) -> None:
        """Where namespaces cannot be watched: read them now and then, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_AT_NAMESPACES)
            if not self.namespaces:
                continue
            before = set(self.store.namespaces)
            try:
                await self._list_kind(cluster, NAMESPACE)
                if self.store.namespaces.keys() - before:
                    await self.list_all(cluster)
            except ApiError as error:
                _log.warning("the namespaces could not be read: %s", error)

    async def _list(self, cluster: Cluster, kind: Kind, selector: str) -> AsyncIterator[Object]:
        if not self.namespaces:
            async for body in cluster.list(kind, label_selector=selector):
                yield body
            return
        for namespace in self.namespaces:
            if kind == NAMESPACE:
                # By name: a Role in a namespace may allow that, and no Role a list.
                try:
                    yield await cluster.get(NAMESPACE, None, namespace)
                except (NotFoundError, RefusedError) as error:
                    # With a namespace its Roles go, too.
                    _log.warning("namespace %s is not looked after: %s", namespace, error)
            elif namespace in self.store.namespaces:
                async for body in cluster.list(kind, namespace, label_selector=selector):
                    yield body

    def known(self, kind: Kind) -> set[Key]:
        """The objects of a kind that something is known of."""
        if kind == NAMESPACE:
            return {Key("", name) for name in self.store.namespaces}
        by_kind: dict[Kind, Any] = {
            PROMPT_PREFIX: self.store.prefixes,
            CACHE_WARMER: self.store.warmers,
            CONFIG_MAP: self.store.config_maps(),
            CRON_JOB: self.store.cron_jobs,
            POD: self.store.pods(),
        }
        return set(by_kind[kind])

    def _version(self, kind: Kind, key: Key) -> int:
        """The resourceVersion in which an object is known; 0 where none is."""
        warmer = self.store.warmers.get(key) if kind == CACHE_WARMER else None
        if warmer is not None:
            return int(warmer["metadata"]["resourceVersion"])
        record: NamespaceRecord | PrefixRecord | Found | None = None
        if kind == NAMESPACE:
            record = self.store.namespaces.get(key.name)
        elif kind == PROMPT_PREFIX:
            record = self.store.prefixes.get(key)
        elif kind == CONFIG_MAP:
            record = self.store.config_map(key)
        return record.resource_version if record is not None else 0

    def take(self, kind: Kind, body: Object, *, gone: bool = False) -> None:
        """Take in one object, as watched, listed or read; ask for the work that it makes.

        Whoever reads an object beside the watch hands it over here: with the store alone, its
        event would be no news, and nobody else would be told.
        """
        metadata = body["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        if kind == POD:
            self._pod(key, body, gone=gone)
        elif gone:
            # kopf hands on the events of one uid in their order, and not those of one name: what
            # was made anew may have been seen already. A pod or a CronJob is told of again soon.
            if self._version(kind, key) <= int(metadata["resourceVersion"]):
                self._lose(kind, key)
        elif kind == NAMESPACE:
            self._namespace(key.name, body)
        elif kind == CONFIG_MAP:
            self._config_map(body)
        elif kind == PROMPT_PREFIX:
            before = self.store.is_dedicated(key)
            if self.store.see_prefix(body):
                self.add(Work(PROMPT_PREFIX, key))
            # What a reconcile wrote itself is known to it, and news to those that depend on it.
            self._warmers(key)
            if self.store.is_dedicated(key) != before:
                self._warmers_in(key.namespace)
        elif kind == CACHE_WARMER:
            self._warmed(key)  # it may have warmed another prefix until now
            before_spec = self.store.warmers.get(key, {}).get("spec")
            if self.store.see_warmer(body):
                self.add(Work(CACHE_WARMER, key))
                if body["spec"] != before_spec:
                    self._warmers_in(key.namespace)  # it may use a credential of theirs
            self._warmed(key)
        elif self.store.see_cron_job(body):
            warmer = (metadata.get("labels") or {}).get(WARMER_LABEL, "")
            self.add(Work(CACHE_WARMER, Key(key.namespace, warmer)))

    def _lose(self, kind: Kind, key: Key) -> None:
        if kind == NAMESPACE:
            self.store.lose_namespace(key.name)
        elif kind == CONFIG_MAP:
            found = self.store.lose_config_map(key)
            if found is not None and found.role != CONTENT:
                self.add(Work(PROMPT_PREFIX, found.prefix))
            else:
                self._content(key)
        elif kind == PROMPT_PREFIX:
            self.store.prefixes.pop(key, None)
            self.add(Work(PROMPT_PREFIX, key))
            self._warmers_in(key.namespace)
        elif kind == CACHE_WARMER:
            lost = self.store.warmers.pop(key, None)
            self.add(Work(CACHE_WARMER, key))
            self._warmers_in(key.namespace)
            if lost is not None:
                self.add(Work(PROMPT_PREFIX, Key(key.namespace, lost["spec"]["prefixRef"]["name"])))
        elif kind == CRON_JOB:
            self.store.cron_jobs.pop(key, None)
            self._warmers_in(key.namespace)
        else:
            self._lose_pod(key)

    def _warmers(self, key: Key) -> None:
        for warmer in self.store.warmers_of(key):
            metadata = warmer["metadata"]
            self.add(Work(CACHE_WARMER, Key(metadata["namespace"], metadata["name"])))

    def _warmers_in(self, namespace: str) -> None:
        for warmer in self.store.warmers_in(namespace):
            self.add(Work(CACHE_WARMER, warmer))

    def _warmed(self, key: Key) -> None:
        warmer = self.store.warmers.get(key)
        if warmer is not None:
            self.add(Work(PROMPT_PREFIX, Key(key.namespace, warmer["spec"]["prefixRef"]["name"])))

    def _namespace(self, name: str, body: Object) -> None:
        before = self.store.namespaces.get(name)
        if not self.store.see_namespace(body):
            return
        now = self.store.namespaces[name]
        for key, record in self.store.prefixes.items():
            consumers = Consumers.model_validate(record.body["spec"]["consumers"])
            concerned = key.namespace == name  # its end lets go of a deletion that is held
            if concerned or any(consumers.include(name, r.labels) for r in (before, now) if r):
                self.add(Work(PROMPT_PREFIX, key))

    def _config_map(self, body: Object) -> None:
        metadata = body["metadata"]
        before = self.store.config_map(Key(metadata["namespace"], metadata["name"]))
        found = self.store.see_config_map(body)
        if found is None:
            return
        if before is not None and (before.role, before.prefix) != (found.role, found.prefix):
            self.add(Work(PROMPT_PREFIX, before.prefix))  # it lost the object to a hand edit
        if found.role == CONTENT:
            self._content(found.key)
        else:
            self.add(Work(PROMPT_PREFIX, found.prefix))

    def _content(self, key: Key) -> None:
        """A ConfigMap with content changed: whoever refers to it resolves anew."""
        for prefix in self.store.prefixes_that_refer_to(key):
            self.store.prefixes[prefix].resolution = None
            self.add(Work(PROMPT_PREFIX, prefix))

    def _pod(self, key: Key, body: Object, *, gone: bool) -> None:
        labels = body["metadata"].get("labels") or {}
        role = labels.get(ROLE_LABEL)
        if role == WARM:
            if WARMER_LABEL in labels:
                self._report(Key(key.namespace, labels[WARMER_LABEL]), body, gone=gone)
        elif gone:
            self._lose_pod(key)
        else:
            # Without a sidecar, the program's own metrics are evidence where it says their port.
            named = METRICS_PORT_ANNOTATION in (body["metadata"].get("annotations") or {})
            url = _metrics_url(body) if role == SIDECAR or named else None
            if url is None:
                self.store.sidecars.pop(key, None)
            else:
                self.store.sidecars[key] = url
            self._consumed(self.store.see_pod(body))

    def _lose_pod(self, key: Key) -> None:
        self._consumed(self.store.lose_pod(key))

    def _consumed(self, prefixes: set[Key]) -> None:
        """Consumers came or went: a rollout of theirs concerns a prefix with its first and last.

        A deletion that is held says how many are left.
        """
        for prefix in prefixes:
            record = self.store.prefixes.get(prefix)
            if record is None:
                continue
            deleted = "deletionTimestamp" in record.body["metadata"]
            if deleted or len(self.store.consumers_of(prefix)) <= 1:
                self.add(Work(PROMPT_PREFIX, prefix))

    def _report(self, warmer: Key, body: Object, *, gone: bool) -> None:
        pod = body["metadata"]["uid"]
        if gone:
            self.store.lose_run(warmer, pod)
            return
        run = run_of(body)
        news = self.store.see_trouble(warmer, body, "" if run else trouble_of(body))
        if (run and self.store.see_run(warmer, pod, run)) or news:
            self.add(Work(CACHE_WARMER, warmer))


def _metrics_url(pod: Object) -> str | None:
    """Return where the metrics of a pod are; None while it has no address, or names no port.

    Whoever makes a pod chooses its annotations: the address that is asked is that of the pod, and
    nothing of it is text of theirs.
    """
    port = metrics_port(pod["metadata"].get("annotations") or {})
    try:
        address = ipaddress.ip_address(pod.get("status", {}).get("podIP") or "")
    except ValueError:
        return None
    if port is None:
        return None
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - of IP
    return f"http://{host}:{port}/metrics"
