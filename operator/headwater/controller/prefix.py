"""The reconcile of a PromptPrefix: read, decide, record, publish.

The order of the writes is what makes a crash harmless. A revision's bytes are stored before
anything refers to them; a decision is recorded in the status before it is carried out, so
that a restart carries out what was decided instead of deciding again; bundles follow from the
record alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from headwater.cluster import (
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    NotFoundError,
    RefusedError,
)
from headwater.contract.digest import Digest
from headwater.controller import conditions
from headwater.controller.content import resolve_content
from headwater.controller.events import Recorder
from headwater.controller.objects import REVISION, Key
from headwater.controller.publish import Publisher
from headwater.controller.routes import counted_tokens, routed
from headwater.controller.status import dump, plan_from, state_from, status_from
from headwater.controller.store import PrefixRecord, Resolution, Store
from headwater.evidence.ledger import Ledger
from headwater.resources import PromptPrefix
from headwater.resources.prefix import PromptPrefixStatus
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
    publisher: Publisher
    clock: Callable[[], datetime]

    async def reconcile(self, key: Key) -> timedelta | None:
        """Make the cluster say what the prefix says; when to look again, if at all."""
        record = self.store.prefixes.get(key)
        if record is None:
            await self.publisher.withdraw(key)
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
            if isinstance(error, RefusedError) and await self.publisher.is_terminating(
                key.namespace
            ):
                return None  # the prefix goes with its namespace
            raise

    async def _reconcile(self, key: Key, record: PrefixRecord) -> timedelta | None:
        now = self.clock().replace(microsecond=0)
        if record.in_doubt:
            await self._read_again(key, record)
        resolution, canonical = await self._resolve(key, record)
        prefix = PromptPrefix.model_validate(record.body)
        state = state_from(prefix.status)
        record.trim()
        totals = self._totals(key, state, resolution.digest)
        plan = plan_from(prefix, resolution.digest)
        decision = decide(plan, state, self._unseen(record, totals), now)
        if resolution.digest is None:
            decision = _explain(decision, resolution)
        at_hand = {resolution.digest: canonical} if resolution.digest and canonical else {}
        await self.publisher.store_revisions(key, record, decision.state, at_hand)
        if state.stable is not None and decision.state.epoch != state.epoch:
            await self._record(key, record, prefix, resolution, decision, now, {}, done=False)
            record.counted = totals
        unpublished = await self.publisher.publish(key, record, prefix, decision.state, at_hand)
        await self._record(key, record, prefix, resolution, decision, now, unpublished, done=True)
        record.counted = totals
        for entry in decision.events:
            warning = entry.reason in _WARNINGS
            await self._tell(record, entry.reason.value, entry.message, warning=warning)
        await self.publisher.forget_revisions(key, prefix, decision.state)
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

    async def _resolve(self, key: Key, record: PrefixRecord) -> tuple[Resolution, bytes | None]:
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
        resolution, canonical = await resolve_content(
            self.cluster, prefix, self.store.found(key, REVISION)
        )
        if known is not None and resolution.message != known.message and resolution.reason:
            await self._tell(record, resolution.reason, resolution.message, warning=True)
        elif known is None and resolution.reason:
            told = {condition.message for condition in prefix.status.conditions}
            if resolution.message not in told:
                await self._tell(record, resolution.reason, resolution.message, warning=True)
        record.resolution = resolution
        record.resolved_generation = record.body["metadata"]["generation"]
        return resolution, canonical

    # --- evidence ----------------------------------------------------------------------------

    def _totals(
        self, key: Key, state: State, declared: Digest | None
    ) -> dict[str, dict[str, Counts]]:
        """What the ledger has of the revisions in use, by short digest and model.

        The declared one is among them before it is tried: what it did in an earlier life is
        not held against a new try.
        """
        digests = {revision.digest for revision in routed(state)}
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
        state = decision.state if done else _under_way(decision.state, prefix.status)
        found = conditions.findings(
            prefix,
            resolution,
            state,
            unpublished=unpublished,
            counted=counted_tokens(self.store.lanes_of(key)).get(prefix.spec.digest, {}),
        )
        generation = prefix.metadata.generation
        stable = state.stable
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


def _explain(decision: Decision, resolution: Resolution) -> Decision:
    """Say in the status why nothing moves."""
    return replace(decision, state=replace(decision.state, message=resolution.message))


def _under_way(state: State, before: PromptPrefixStatus) -> State:
    """A decision that is recorded but not yet in every bundle is not done."""
    if state.phase is not Phase.STABLE or state.stable is None:
        return state
    promoted = before.stable is None or before.stable.digest != state.stable.digest
    return replace(state, phase=Phase.PROMOTING if promoted else Phase.PROGRESSING)
