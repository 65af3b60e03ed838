"""The reconcile of a PromptPrefix: read, decide, record, publish.

The order of the writes is what makes a crash harmless. A revision's bytes are stored before
anything refers to them; a decision is recorded in the status before it is carried out, so
that a restart carries out what was decided instead of deciding again; bundles follow from the
record alone.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from headwater.cluster import (
    CONFIG_MAP,
    NAMESPACE,
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    RefusedError,
)
from headwater.contract import bundle
from headwater.contract.bundle import Bundle
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, WarmLane, Weight, salt_for
from headwater.controller import conditions, objects
from headwater.controller.content import bytes_of, resolve_content
from headwater.controller.events import Recorder
from headwater.controller.objects import BUNDLE, REVISION, Found, Key
from headwater.controller.status import dump, plan_from, state_from, status_from
from headwater.controller.store import PrefixRecord, Resolution, Store
from headwater.evidence.ledger import Ledger
from headwater.resources import CacheWarmer, PromptPrefix
from headwater.resources.prefix import LabelSelector
from headwater.rollout.decide import decide
from headwater.rollout.state import Counts, Decision, Phase, Reason, State

_LOOK_AGAIN: Final = timedelta(seconds=5)
"""When content that does not resolve, or a namespace that refused, is looked at again."""
_WARNINGS: Final = {Reason.HIT_RATE_BELOW_FLOOR}


@dataclass(slots=True)
class PrefixReconciler:
    """Carries out what was decided for one prefix at a time."""

    cluster: Cluster
    store: Store
    ledger: Ledger
    recorder: Recorder
    clock: Callable[[], datetime]

    async def reconcile(self, key: Key) -> timedelta | None:
        """Make the cluster say what the prefix says; when to look again, if at all."""
        record = self.store.prefixes.get(key)
        if record is None:
            await self._withdraw(key)
            return None
        if record.body["metadata"].get("deletionTimestamp"):
            return None
        try:
            return await self._reconcile(key, record)
        except NotFoundError:
            # Deleted while it was worked on; its event is on the way, and so is its clean-up.
            return _LOOK_AGAIN if key in self.store.prefixes else None
        except ApiError as error:
            record.in_doubt = True
            if isinstance(error, RefusedError) and await self._is_terminating(key.namespace):
                return None  # the prefix goes with its namespace
            raise

    async def _reconcile(self, key: Key, record: PrefixRecord) -> timedelta | None:
        now = self.clock().replace(microsecond=0)
        if record.in_doubt:
            await self._read_again(key, record)
        prefix = PromptPrefix.model_validate(record.body)
        state = state_from(prefix.status)
        resolution, canonical = await self._resolve(key, record, state)
        prefix = PromptPrefix.model_validate(record.body)
        record.trim()
        totals = self._totals(key, state, resolution.digest)
        plan = plan_from(prefix, resolution.digest)
        decision = decide(plan, state, self._unseen(record, totals), now)
        if resolution.digest is None:
            decision = _explain(decision, resolution)
        bytes_at_hand = {resolution.digest: canonical} if resolution.digest and canonical else {}
        await self._store_revisions(key, record, decision.state, bytes_at_hand)
        if state.stable is not None and decision.state.epoch != state.epoch:
            await self._record(key, record, prefix, resolution, decision, now, {}, done=False)
            record.counted = totals
        unpublished = await self._publish(key, record, prefix, decision.state, bytes_at_hand)
        await self._record(key, record, prefix, resolution, decision, now, unpublished, done=True)
        record.counted = totals
        for entry in decision.events:
            warning = entry.reason in _WARNINGS
            await self._tell(record, entry.reason.value, entry.message, warning=warning)
        await self._forget_revisions(key, prefix, decision.state)
        waits = [decision.look_again]
        if unpublished or (resolution.digest is None and resolution.references):
            waits.append(_LOOK_AGAIN)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _read_again(self, key: Key, record: PrefixRecord) -> None:
        """Start from what really stands in the cluster.

        Evidence that may or may not have been written is left out: losing some of it makes a
        rollout slower, counting it twice would make it wrong.
        """
        record.body = await self.cluster.get(PROMPT_PREFIX, *key)
        record.full = True
        record.resource_version = int(record.body["metadata"]["resourceVersion"])
        state = state_from(PromptPrefix.model_validate(record.body).status)
        record.counted = self._totals(key, state, None)
        record.in_doubt = False

    # --- content -----------------------------------------------------------------------------

    async def _resolve(
        self, key: Key, record: PrefixRecord, state: State
    ) -> tuple[Resolution, bytes | None]:
        """The declared content, resolved anew only where something about it moved."""
        known = record.resolution
        generation = record.body["metadata"]["generation"]
        if (
            known is not None
            and record.resolved_generation == generation
            and not (known.digest is None and known.references)
        ):
            return known, None
        if not record.full:
            self.store.see_prefix(await self.cluster.get(PROMPT_PREFIX, *key))
            if not record.full:  # nothing newer than what was trimmed: read it whole all the same
                record.body = await self.cluster.get(PROMPT_PREFIX, *key)
                record.full = True
        prefix = PromptPrefix.model_validate(record.body)
        stable = state.stable
        beside = 0
        if stable is not None and stable.digest != prefix.spec.digest:
            beside = sum(
                found.size
                for found in self.store.found(key, REVISION)
                if stable.digest in found.digests
            )
        resolution, canonical = await resolve_content(self.cluster, prefix, beside)
        if known is not None and resolution.message != known.message and resolution.reason:
            await self._tell(record, resolution.reason, resolution.message, warning=True)
        elif known is None and resolution.reason:
            told = {condition.message for condition in prefix.status.conditions}
            if resolution.message not in told:
                await self._tell(record, resolution.reason, resolution.message, warning=True)
        record.resolution = resolution
        record.resolved_generation = record.body["metadata"]["generation"]
        return resolution, canonical

    async def _bytes(
        self, key: Key, digest: Digest, at_hand: Mapping[Digest, bytes]
    ) -> bytes | None:
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

    # --- evidence ----------------------------------------------------------------------------

    def _totals(
        self, key: Key, state: State, declared: Digest | None
    ) -> dict[str, dict[str, Counts]]:
        """What the ledger has of the revisions in use, by short digest and model.

        The declared one is among them before it is tried: what it did in an earlier life is
        not held against a new try.
        """
        digests = {revision.digest for revision in _routed(state)}
        if declared is not None:
            digests.add(declared)
        return {digest.short: self.ledger.totals(key.name, digest.short) for digest in digests}

    def _unseen(
        self, record: PrefixRecord, totals: Mapping[str, Mapping[str, Counts]]
    ) -> dict[str, Counts]:
        """What was counted of the candidate and does not stand in the status yet."""
        candidate = record.body.get("status", {}).get("candidate")
        if candidate is None:
            return {}
        short = Digest(candidate["digest"]).short
        counted = record.counted.get(short, {})
        return {
            model: total - counted.get(model, Counts())
            for model, total in totals.get(short, {}).items()
            if total != counted.get(model, Counts())
        }

    # --- writes ------------------------------------------------------------------------------

    async def _store_revisions(
        self, key: Key, record: PrefixRecord, state: State, at_hand: Mapping[Digest, bytes]
    ) -> None:
        """Every revision that is routed to has its bytes in an immutable ConfigMap first."""
        found = {item.key: item for item in self.store.found(key, REVISION)}
        for revision in _routed(state):
            name = Key(key.namespace, objects.revision_name(key, revision.digest))
            there = found.get(name)
            if there is not None and _is_intact(there, revision.digest):
                continue
            canonical = await self._bytes(key, revision.digest, at_hand)
            if canonical is None:
                continue  # bundles still hold it, or nothing does: `_publish` says so
            uid = record.body["metadata"]["uid"]
            desired = objects.revision_config_map(key, uid, revision, canonical)
            try:
                written = await self.cluster.create(CONFIG_MAP, desired)
            except ConflictError:
                stands = objects.inspect(await self.cluster.get(CONFIG_MAP, *name))
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
                note = f"the bytes of {revision.version} ({revision.digest}) were gone: put back"
                await self._tell(record, "Repaired", note, warning=True)

    async def _publish(
        self,
        key: Key,
        record: PrefixRecord,
        prefix: PromptPrefix,
        state: State,
        at_hand: Mapping[Digest, bytes],
    ) -> dict[str, str]:
        """Put the bundle into every consumer namespace; those that lack it, and why."""
        selector = prefix.spec.consumers.namespace_selector
        wanted = await self._prune(key, selector, self._namespaces(key, selector))
        if state.stable is None:
            record.published = set()
            return {}
        route = self._route(key, prefix, state)
        encoded = bundle.encode_route(route)
        wrong = [name for name in wanted if not _is_right(self._bundle(key, name), route, encoded)]
        failed: dict[str, str] = {}
        if wrong:
            contracts: dict[Digest, bytes] = {}
            for revision in route.revisions:
                canonical = await self._bytes(key, revision.digest, at_hand)
                if canonical is None:
                    why = f"the bytes of {revision.version} are nowhere: publish it again"
                    record.published = set(wanted) - set(wrong)
                    return dict.fromkeys(wrong, why)
                contracts[revision.digest] = canonical
            files = bundle.encode(Bundle(route, contracts))
            results = await asyncio.gather(
                *(self._write_bundle(key, record, name, files) for name in wrong)
            )
            failed = {name: why for name, why in zip(wrong, results, strict=True) if why}
        record.published = set(wanted) - set(failed)
        return failed

    async def _write_bundle(
        self, key: Key, record: PrefixRecord, namespace: str, files: Mapping[str, bytes]
    ) -> str | None:
        """Write one bundle; why not, where it could not be."""
        desired = objects.bundle_config_map(key, namespace, files)
        there = self._bundle(key, namespace)
        try:
            if there is not None and there.sealed:
                await self.cluster.delete(CONFIG_MAP, *there.key)  # no edit can undo that
            if there is not None and there.foreign and not there.sealed:
                written = await self.cluster.replace(CONFIG_MAP, desired)
            else:
                written = await self.cluster.apply(CONFIG_MAP, desired)
                if set(objects.files_of(written)) != set(files):
                    # Apply leaves keys alone that others put in, or that we once replaced.
                    written = await self.cluster.replace(CONFIG_MAP, desired)
        except NotFoundError:
            self.store.lose_namespace(namespace)
            return None
        except RefusedError as error:
            return None if await self._is_terminating(namespace) else str(error)
        except ApiError as error:
            return str(error)
        self.store.see_config_map(written)
        intended = objects.route_hash(files[bundle.ROUTE_FILE])
        if there is None and namespace in record.published:
            note = f"the bundle in {namespace} was deleted: put back"
        elif there is not None and there.wrote == intended:
            by = f" by {there.edited_by}" if there.edited_by else ""
            note = f"the bundle in {namespace} was changed by hand{by}: put back byte for byte"
        else:
            return None
        await self._tell(record, "Repaired", note, warning=True)
        return None

    async def _is_terminating(self, namespace: str) -> bool:
        try:
            self.store.see_namespace(await self.cluster.get(NAMESPACE, None, namespace))
        except NotFoundError:
            self.store.lose_namespace(namespace)
            return True
        return self.store.namespaces[namespace].terminating

    async def _prune(self, key: Key, selector: LabelSelector, wanted: list[str]) -> list[str]:
        """Take the bundle out of namespaces that are not wanted any more; those that are."""
        for found in self._bundles(key):
            namespace = found.key.namespace
            if namespace in wanted:
                continue
            # Deleting cannot be undone, and what we remember may be late: ask again first.
            terminating = await self._is_terminating(namespace)
            wanted = self._namespaces(key, selector)
            if namespace not in wanted:
                if not terminating:
                    await self.cluster.delete(CONFIG_MAP, *found.key)
                self.store.lose_config_map(found.key)
        return wanted

    async def _withdraw(self, key: Key) -> None:
        """A prefix that is gone leaves no bundles; its revisions go by their owner reference."""
        bundles = self._bundles(key)
        if not bundles:
            return
        try:
            # As in `_prune`: ask again first.
            self.store.see_prefix(await self.cluster.get(PROMPT_PREFIX, *key))
        except NotFoundError:
            for found in bundles:
                await self.cluster.delete(CONFIG_MAP, *found.key)
                self.store.lose_config_map(found.key)

    async def _forget_revisions(self, key: Key, prefix: PromptPrefix, state: State) -> None:
        """Delete the oldest revisions beyond the limit; those in use always stay."""
        used = {revision.digest for revision in _routed(state)}
        if state.rolled_back is not None:
            used.add(state.rolled_back.revision.digest)
        former = [item for item in self.store.found(key, REVISION) if not item.digests & used]
        former.sort(key=lambda item: (item.created, item.resource_version), reverse=True)
        for item in former[prefix.spec.revision_history_limit :]:
            await self.cluster.delete(CONFIG_MAP, *item.key)
            self.store.lose_config_map(item.key)

    async def _record(
        self,
        key: Key,
        record: PrefixRecord,
        prefix: PromptPrefix,
        resolution: Resolution,
        decision: Decision,
        now: datetime,
        unpublished: Mapping[str, str],
        *,
        done: bool,
    ) -> None:
        """Write the status, where it says anything new."""
        state, stable = decision.state, decision.state.stable
        found = conditions.findings(
            prefix,
            resolution,
            state if done else replace(state, phase=_under_way(state)),
            unpublished=unpublished,
            counted=self._counted_tokens(key).get(prefix.spec.digest, {}),
        )
        generation = record.body["metadata"]["generation"]
        counts = self.ledger.totals(key.name, stable.digest.short) if stable else {}
        status = status_from(
            key,
            state,
            prefix.status,
            generation=generation,
            conditions=conditions.stamp(found, prefix.status.conditions, generation, now),
            namespaces=len(record.published),
            stable_counts=counts,
            now=now,
        )
        recorded = PromptPrefix.model_validate(record.body).status
        if status == recorded:
            return
        written = await self.cluster.apply_status(
            PROMPT_PREFIX,
            {"metadata": {"namespace": key.namespace, "name": key.name}, "status": dump(status)},
        )
        record.body["status"] = written["status"]
        if written["metadata"]["generation"] == generation:
            record.resource_version = int(written["metadata"]["resourceVersion"])

    async def _tell(self, record: PrefixRecord, reason: str, note: str, *, warning: bool) -> None:
        await self.recorder.tell(
            PROMPT_PREFIX, record.body["metadata"], reason, note, warning=warning
        )

    # --- what is wanted ----------------------------------------------------------------------

    def _namespaces(self, key: Key, selector: LabelSelector) -> list[str]:
        """The namespaces that get the bundle: the selected ones, and a warmer's own."""
        names = self.store.namespaces_matching(selector)
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

    def _route(self, key: Key, prefix: PromptPrefix, state: State) -> Route:
        if state.stable is None:
            raise ValueError("a route needs a stable revision")
        candidate = state.candidate
        used = {revision.digest for revision in _routed(state)}
        counted = self._counted_tokens(key)
        return Route(
            namespace=key.namespace,
            prefix=key.name,
            epoch=state.epoch,
            salt=salt_for(*key, candidate.revision.digest if candidate else None),
            stable=state.stable,
            candidate=candidate.revision if candidate else None,
            weight=candidate.weight if candidate else Weight(0),
            models=prefix.spec.models,
            ttl=prefix.spec.ttl,
            enforcement=prefix.spec.enforcement,
            provider=prefix.spec.provider,
            tokens={digest: counted[digest] for digest in sorted(used & set(counted))},
            kept_warm=self._kept_warm(key, used),
        )

    def _kept_warm(self, key: Key, used: set[Digest]) -> tuple[WarmLane, ...]:
        return tuple(
            sorted(
                {
                    WarmLane(lane.digest, lane.model, lane.fingerprint)
                    for warmer in self.store.warmers_of(key)
                    for lane in CacheWarmer.model_validate(warmer).status.lanes
                    if lane.state == "Warm" and lane.fingerprint and lane.digest in used
                },
                key=lambda lane: (lane.digest, lane.model, lane.credential),
            )
        )

    def _counted_tokens(self, key: Key) -> dict[Digest, dict[str, int]]:
        """Contract tokens as the provider counted them when a lane was warmed."""
        counted: dict[Digest, dict[str, int]] = {}
        for warmer in self.store.warmers_of(key):
            for lane in CacheWarmer.model_validate(warmer).status.lanes:
                usage = lane.last_usage
                tokens = (
                    usage.cache_read + usage.cache_write5m + usage.cache_write1h if usage else 0
                )
                if tokens:
                    counted.setdefault(lane.digest, {})[lane.model] = tokens
        return counted


def _routed(state: State) -> list[Revision]:
    candidate = state.candidate.revision if state.candidate else None
    return [revision for revision in (state.stable, candidate) if revision is not None]


def _is_intact(found: Found, digest: Digest) -> bool:
    return digest in found.digests and not (found.foreign or found.orphan)


def _is_right(found: Found | None, route: Route, encoded: bytes) -> bool:
    return (
        found is not None
        and not (found.foreign or found.sealed)
        and found.route == objects.route_hash(encoded)
        and found.digests == {revision.digest for revision in route.revisions}
    )


def _explain(decision: Decision, resolution: Resolution) -> Decision:
    """Say in the status why nothing moves; a roll back meanwhile says its own reason."""
    if decision.state.phase is Phase.ROLLED_BACK:
        return decision
    return replace(decision, state=replace(decision.state, message=resolution.message))


def _under_way(state: State) -> Phase:
    """A decision that is recorded but not yet in every bundle is not done."""
    return Phase.PROGRESSING if state.phase is Phase.STABLE else state.phase
