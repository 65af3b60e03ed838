"""A prefix that is deleted while pods mount its bundle is held until they are gone.

A finalizer of ours does it. It is put on when the first consumer is seen, so that a prefix
without one costs no write, and comes off when nobody is left, when somebody forces it, or with
the prefix's namespace.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headwater.cluster import PROMPT_PREFIX, Cluster, RefusedError
from headwater.controller.conditions import DELETION_HELD
from headwater.controller.consumers import Consumer
from headwater.controller.events import Recorder
from headwater.controller.objects import Key
from headwater.controller.store import FORCE_DELETION_ANNOTATION, PrefixRecord, Store
from headwater.resources.prefix import Consumers

_log = logging.getLogger(__name__)

FINALIZER: Final = "headwater.dev/consumers"
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Held:
    """A deletion that waits; the message says for whom, and how to go on without."""

    message: str


def finalizer_wanted(
    *,
    present: bool,
    deleted: bool,
    consumers: Sequence[Consumer],
    forced: bool,
    namespace_terminating: bool,
) -> bool:
    """Whether the finalizer should stand on a prefix."""
    if deleted:  # the API server lets none be added any more
        return present and bool(consumers) and not (forced or namespace_terminating)
    return present or (bool(consumers) and not namespace_terminating)


def held_message(prefix: Key, consumers: Sequence[Consumer]) -> str:
    """Who still mounts the bundle of a deleted prefix, and how to delete it all the same."""
    pods = sorted(consumer.pod for consumer in consumers)
    namespaces = {pod.namespace for pod in pods}
    named = ", ".join(map(str, pods[:_NAMED])) + (", …" if len(pods) > _NAMED else "")
    return (
        f"deleted, but {len(pods)} pods in {len(namespaces)} namespaces still mount its bundle"
        f" ({named}): it stays as it is until they are gone. To delete it all the same: kubectl"
        f" annotate promptprefix {prefix.name} -n {prefix.namespace}"
        f" {FORCE_DELETION_ANNOTATION}=true"
    )


@dataclass(slots=True)
class Deletion:
    """Holds deletions up with the finalizer, and lets them go."""

    cluster: Cluster
    store: Store
    recorder: Recorder
    _warned: bool = False

    async def hold(self, key: Key, record: PrefixRecord) -> Held | None:
        """Put the finalizer on or take it off; what to say where a deletion is held.

        Raises:
            ConflictError: the prefix is newer than its record.
        """
        metadata = record.body["metadata"]
        deleted = "deletionTimestamp" in metadata
        present = FINALIZER in (metadata.get("finalizers") or ())
        forced = (metadata.get("annotations") or {}).get(FORCE_DELETION_ANNOTATION) == "true"
        consumers = self._served(key, record) if deleted else self.store.consumers_of(key)
        namespace = self.store.namespaces.get(key.namespace)
        wanted = finalizer_wanted(
            present=present,
            deleted=deleted,
            consumers=consumers,
            forced=forced,
            namespace_terminating=namespace is None or namespace.terminating,
        )
        if wanted and not present:
            await self._protect(key, record)
        elif present and not wanted:
            if forced and consumers:
                note = f"deleted by force: {len(consumers)} pods mount the bundle, which goes now"
                await self._tell(record, "DeletionForced", note)
            others = [name for name in metadata["finalizers"] if name != FINALIZER]
            await self._write(key, record, others)
        if not (deleted and wanted):
            return None
        held = Held(held_message(key, consumers))
        conditions = record.body.get("status", {}).get("conditions") or ()
        if all(condition["reason"] != DELETION_HELD for condition in conditions):
            await self._tell(record, DELETION_HELD, held.message)
        return held

    def _served(self, key: Key, record: PrefixRecord) -> list[Consumer]:
        """The consumers that a bundle is kept for: a namespace that left has none any more."""
        declared = Consumers.model_validate(record.body["spec"]["consumers"])
        served = {key.namespace, *self.store.namespaces_of(declared)}
        return [
            consumer
            for consumer in self.store.consumers_of(key)
            if consumer.pod.namespace in served
        ]

    async def _protect(self, key: Key, record: PrefixRecord) -> None:
        """Put the finalizer on; not being allowed to is no reason not to publish."""
        finalizers = record.body["metadata"].get("finalizers") or ()
        try:
            await self._write(key, record, [*finalizers, FINALIZER])
        except RefusedError as error:
            if not self._warned:
                _log.warning("%s is not protected from deletion while pods use it: %s", key, error)
            self._warned = True

    async def _write(self, key: Key, record: PrefixRecord, finalizers: Sequence[str]) -> None:
        record.wrote(
            await self.cluster.set_finalizers(
                PROMPT_PREFIX, *key, finalizers, resource_version=record.resource_version
            )
        )

    async def _tell(self, record: PrefixRecord, reason: str, note: str) -> None:
        about = record.body["metadata"]
        await self.recorder.tell(PROMPT_PREFIX, about, reason, note, warning=True)
