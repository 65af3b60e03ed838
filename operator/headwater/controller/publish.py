"""Publishing: revisions and bundles stand in the cluster byte for byte, or are put right.

It carries out a state and decides nothing about it. Whatever it finds changed by hand it puts
back, and says so in an Event that names who did it, where the API server still knows.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from headwater.cluster import (
    CONFIG_MAP,
    NAMESPACE,
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    ConflictError,
    Kind,
    NotFoundError,
    Object,
    RefusedError,
)
from headwater.contract import bundle
from headwater.contract.bundle import Bundle
from headwater.contract.digest import Digest
from headwater.controller import objects
from headwater.controller.content import bytes_of
from headwater.controller.events import Recorder
from headwater.controller.objects import BUNDLE, REVISION, Found, Key
from headwater.controller.routes import in_bundle, route_of
from headwater.controller.store import PrefixRecord, Store
from headwater.resources import PromptPrefix
from headwater.resources.prefix import Consumers
from headwater.rollout.state import State

_AT_ONCE: Final = 6
"""Bundles of one prefix: one that goes to hundreds of namespaces leaves connections to others."""

Contracts = Mapping[Digest, bytes]
"""Canonical bytes that are at hand already."""


@dataclass(slots=True)
class Publisher:
    """Writes and prunes the ConfigMaps of a prefix."""

    cluster: Cluster
    store: Store
    recorder: Recorder
    take: Callable[[Kind, Object], None]
    """Takes in what was read beside the watch, for all whom it concerns: see `Watcher.take`."""

    async def store_revisions(
        self, key: Key, record: PrefixRecord, state: State, at_hand: Contracts
    ) -> None:
        """Every revision that is routed to has its bytes in an immutable ConfigMap first.

        That of the stable one says so, for the day on which the status is lost.
        """
        found = {item.key: item for item in self.store.found(key, REVISION)}
        for revision in in_bundle(state):
            name = Key(key.namespace, objects.revision_name(key, revision.digest))
            there = found.get(name)
            uid = record.body["metadata"]["uid"]
            intact = there is not None and _is_intact(there, revision.digest, uid)
            epoch = there.epoch if there is not None else 0
            # Another one may say so of a decision that was never recorded.
            others = max((item.epoch for item in found.values() if item.key != name), default=0)
            if revision == state.stable and epoch <= others:
                epoch = max(state.epoch, others + 1)
            elif intact:
                continue
            canonical = await self._bytes(key, revision.digest, at_hand)
            if canonical is None:
                continue  # bundles still hold it, or nothing does: `publish` says so
            desired = objects.revision_config_map(key, uid, revision, canonical, epoch)
            if intact:
                self.store.see_config_map(await self.cluster.apply(CONFIG_MAP, desired))
                continue
            stranger = ""
            try:
                written = await self.cluster.create(CONFIG_MAP, desired)
            except ConflictError:
                stands = objects.inspect(await self.cluster.get(CONFIG_MAP, *name))
                stranger = f", and {stands.edited_by} put others in their place"
                if revision.digest in stands.digests and not stands.foreign:
                    # The right bytes, but without the labels or the owner that we gave them.
                    self.store.see_config_map(await self.cluster.apply(CONFIG_MAP, desired))
                    continue
                # Somebody put other bytes under this name. It is immutable, so it has to go.
                await self.cluster.delete(CONFIG_MAP, *name)
                self.store.lose_config_map(name)
                written = await self.cluster.create(CONFIG_MAP, desired)
            self.store.see_config_map(written)
            bound = record.body.get("status", {}).get("published") or ()
            if any(row["digest"] == revision.digest for row in bound):
                gone = f"the bytes of {revision.version} ({revision.digest}) were gone{stranger}"
                note = f"{gone}: put back"
                await self._tell_repaired(record, note)

    async def publish(
        self,
        key: Key,
        record: PrefixRecord,
        prefix: PromptPrefix,
        state: State,
        at_hand: Contracts,
    ) -> dict[str, str]:
        """Put the bundle into every consumer namespace; those that lack it, and why."""
        consumers = prefix.spec.consumers
        wanted = await self._prune(key, consumers, self._namespaces(key, consumers))
        record.wanted = frozenset(wanted)
        route = route_of(key, prefix, state, self.store.lanes_of(key))
        if route is None:
            record.published = {}
            return {}
        # As they are before anything is written: one of them may be made anew meanwhile.
        known = self.store.namespaces
        places = {name: known[name].uid for name in wanted if name in known}
        # What was retained and found no room is not missed: see `bundle.fit`.
        right = {
            objects.route_hash(bundle.encode_route(fitting)): frozenset(
                str(revision.digest) for revision in fitting.revisions
            )
            for fitting in bundle.shortened(route)
        }
        wrong = [name for name in wanted if not _is_right(self._bundle(key, name), right)]
        failed: dict[str, str] = {}
        if wrong:
            contracts: dict[Digest, bytes] = {}
            for revision in route.revisions:
                canonical = await self._bytes(key, revision.digest, at_hand)
                if canonical is None and revision in route.retained:
                    kept = route.retained[: route.retained.index(revision)]
                    route = replace(route, retained=kept)
                    break
                if canonical is None:
                    why = f"the bytes of {revision.version} are nowhere: publish it again"
                    failed = dict.fromkeys(wrong, why)
                    record.published = _without(places, failed)
                    return failed
                contracts[revision.digest] = canonical
            files = bundle.encode(bundle.fit(Bundle(route, contracts)))
            turn = asyncio.Semaphore(_AT_ONCE)

            async def write(name: str) -> str | None:
                async with turn:
                    return await self._write_bundle(key, record, name, files, route.epoch)

            results = await asyncio.gather(*map(write, wrong))
            failed = {name: why for name, why in zip(wrong, results, strict=True) if why}
        record.published = _without(places, failed)
        return failed

    async def withdraw(self, key: Key) -> None:
        """A prefix that is gone leaves no bundles; its revisions go by their owner reference."""
        bundles = self._bundles(key)
        if not bundles:
            return
        try:
            # As in `_prune`: ask again first.
            self.take(PROMPT_PREFIX, await self.cluster.get(PROMPT_PREFIX, *key))
        except NotFoundError:
            for found in bundles:
                await self._delete(found)
                self.store.lose_config_map(found.key)

    async def forget_revisions(self, key: Key, prefix: PromptPrefix, state: State) -> None:
        """Delete the oldest revisions beyond the limit; those in use always stay."""
        used = {revision.digest for revision in in_bundle(state)}
        if state.rolled_back is not None:
            used.add(state.rolled_back.revision.digest)
        former = [item for item in self.store.found(key, REVISION) if not item.digests & used]
        former.sort(key=lambda item: (item.created, item.resource_version), reverse=True)
        for item in former[prefix.spec.revision_history_limit :]:
            await self._delete(item)
            self.store.lose_config_map(item.key)

    async def is_terminating(self, namespace: str) -> bool:
        """Whether a namespace is going away or gone, by what stands in the cluster now."""
        try:
            self.take(NAMESPACE, await self.cluster.get(NAMESPACE, None, namespace))
        except NotFoundError:
            self.store.lose_namespace(namespace)
            return True
        except RefusedError:
            if namespace in self.store.namespaces:
                raise
            return True  # where it cannot be watched, the permission to read it goes with it
        return self.store.namespaces[namespace].terminating

    async def _write_bundle(
        self,
        key: Key,
        record: PrefixRecord,
        namespace: str,
        files: Mapping[str, bytes],
        epoch: int,
        tries: int = 3,
    ) -> str | None:
        """Write one bundle; why not, where it could not be."""
        desired = objects.bundle_config_map(key, namespace, files, epoch)
        there = self._bundle(key, namespace)
        stranger = ""
        try:
            if there is not None and there.sealed:
                await self._delete(there)  # no edit can undo that
            elif there is not None:
                # A write that was held up somewhere must not undo another controller's.
                desired["metadata"]["resourceVersion"] = str(there.resource_version)
            if there is not None and there.foreign and not there.sealed:
                written = await self.cluster.replace(CONFIG_MAP, desired)
            else:
                written = await self.cluster.apply(CONFIG_MAP, desired)
                if set(objects.files_of(written)) != set(files):
                    # Apply leaves keys alone that others put in, or that we once replaced.
                    stranger = objects.inspect(written).edited_by
                    version = written["metadata"]["resourceVersion"]
                    desired["metadata"]["resourceVersion"] = version
                    written = await self.cluster.replace(CONFIG_MAP, desired)
        except ConflictError as error:
            if tries == 1:
                return str(error)
            await self._see_again(Key(namespace, desired["metadata"]["name"]))
            return await self._write_bundle(key, record, namespace, files, epoch, tries - 1)
        except NotFoundError:
            self.store.lose_namespace(namespace)
            return None
        except RefusedError as error:
            if await self.is_terminating(namespace):
                return None
            place = Key(namespace, desired["metadata"]["name"])
            return await self._in_the_way(place) or str(error)
        except ApiError as error:
            return str(error)
        self.store.see_config_map(written)
        intended = objects.route_hash(files[bundle.ROUTE_FILE])
        if there is None and stranger:
            name = objects.bundle_name(key)
            note = f"in {namespace} {stranger} made a {name} of its own: the bundle is put there"
        elif there is None and self._stood(record, namespace):
            note = f"the bundle in {namespace} was deleted, or lost its labels: put back"
        elif there is not None and there.wrote == intended:
            by = f" by {there.edited_by}" if there.edited_by else ""
            note = f"the bundle in {namespace} was changed by hand{by}: put back byte for byte"
        else:
            return None
        await self._tell_repaired(record, note)
        return None

    async def _see_again(self, key: Key) -> None:
        """Read a ConfigMap that is not as it was seen."""
        try:
            self.store.see_config_map(await self.cluster.get(CONFIG_MAP, *key))
        except NotFoundError:
            self.store.lose_config_map(key)

    async def _in_the_way(self, place: Key) -> str:
        """Return what to do about a ConfigMap that cannot be written over; empty where none is."""
        try:
            stands = await self.cluster.get(CONFIG_MAP, *place)
        except ApiError:
            return ""
        if not stands.get("immutable"):
            return ""
        by = objects.inspect(stands).edited_by or "somebody"
        return f"an immutable ConfigMap {place.name} of {by}'s stands there: delete it"

    async def _delete(self, found: Found) -> None:
        """Delete a ConfigMap in the version that was seen."""
        await self.cluster.delete(CONFIG_MAP, *found.key, resource_version=found.resource_version)

    async def _prune(self, key: Key, consumers: Consumers, wanted: list[str]) -> list[str]:
        """Take the bundle out of namespaces that are not wanted any more; those that are."""
        for found in self._bundles(key):
            namespace = found.key.namespace
            if namespace in wanted:
                continue
            # Deleting cannot be undone, and what we remember may be late: ask again first.
            terminating = await self.is_terminating(namespace)
            wanted = self._namespaces(key, consumers)
            if namespace not in wanted:
                if not terminating:
                    await self._delete(found)
                self.store.lose_config_map(found.key)
        return wanted

    async def _bytes(self, key: Key, digest: Digest, at_hand: Contracts) -> bytes | None:
        """A revision's bytes: at hand, from its ConfigMap, or from any bundle that has them."""
        if digest in at_hand:
            return at_hand[digest]
        holders = [
            found.key
            for role in (REVISION, BUNDLE)
            for found in self.store.found(key, role)
            if digest in found.digests
        ]
        return await bytes_of(self.cluster, digest, holders)

    async def _tell_repaired(self, record: PrefixRecord, note: str) -> None:
        about = record.body["metadata"]
        await self.recorder.tell(PROMPT_PREFIX, about, "Repaired", note, warning=True)

    def _stood(self, record: PrefixRecord, namespace: str) -> bool:
        """Whether the bundle was in this very namespace, not in a former one of its name."""
        there = self.store.namespaces.get(namespace)
        return there is not None and record.published.get(namespace) == there.uid

    def _namespaces(self, key: Key, consumers: Consumers) -> list[str]:
        """The namespaces that get the bundle: those it is for, and a warmer's own."""
        names = self.store.namespaces_of(consumers)
        own = self.store.namespaces.get(key.namespace)
        if own is not None and not own.terminating and any(self.store.warmers_of(key)):
            names.add(key.namespace)
        return sorted(names)

    def _bundles(self, key: Key) -> list[Found]:
        """The prefix's bundles; a look-alike of another name is nobody's business."""
        name = objects.bundle_name(key)
        return [found for found in self.store.found(key, BUNDLE) if found.key.name == name]

    def _bundle(self, key: Key, namespace: str) -> Found | None:
        return self.store.bundle_in(key, Key(namespace, objects.bundle_name(key)))


def _without(places: Mapping[str, str], failed: Collection[str]) -> dict[str, str]:
    return {name: uid for name, uid in places.items() if name not in failed}


def _is_intact(found: Found, digest: Digest, owner: str) -> bool:
    # One that a former prefix of this name owned goes with that, any moment now.
    return digest in found.digests and not found.foreign and owner in found.owners


def _is_right(found: Found | None, right: Mapping[str, frozenset[str]]) -> bool:
    return (
        found is not None
        and not (found.foreign or found.sealed)
        and found.digests == right.get(found.route)
    )
