"""The reconcile of a PromptPrefix: read, decide, record, publish.

The order of the writes is what makes a crash harmless. A revision's bytes are stored before
anything refers to them; a decision is recorded in the status before it is carried out, so
that a restart carries out what was decided instead of deciding again; bundles follow from the
record alone.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from headwater.cluster import (
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    RefusedError,
)
from headwater.contract.digest import Digest
from headwater.controller import adherence, conditions
from headwater.controller.authors import attributed, facts, name_of, told
from headwater.controller.content import resolve_content
from headwater.controller.deletion import Deletion, Held
from headwater.controller.events import Recorder
from headwater.controller.evidence import Evidence
from headwater.controller.linting import linted
from headwater.controller.nudge import Nudger
from headwater.controller.objects import BUNDLE, REVISION, Key, last_stable
from headwater.controller.publish import Publisher
from headwater.controller.routes import counted_tokens, in_bundle
from headwater.controller.status import dump, plan_from, state_from, status_from
from headwater.controller.store import PrefixRecord, Resolution, Store
from headwater.controller.warming import awaited_lanes
from headwater.resources import PromptPrefix
from headwater.resources.status import PromptPrefixStatus
from headwater.rollout.decide import WENT_BACK, decide, look_again
from headwater.rollout.state import Counts, Decision, Entry, Observed, Phase, Plan, State

_LOOK_AGAIN: Final = timedelta(seconds=5)
"""When content that does not resolve, or a namespace that refused, is looked at again."""
_OFF_CONTRACT: Final = "OffContract"
"""The reason of Events about consumers that break the contract from their side."""
_ONCE_MORE: Final = timedelta(milliseconds=200)
"""When a write that came second is decided on anew."""


@dataclass(slots=True)
class PrefixReconciler:
    """Carries out what was decided for one prefix at a time."""

    cluster: Cluster
    store: Store
    evidence: Evidence
    recorder: Recorder
    publisher: Publisher
    deletion: Deletion
    nudger: Nudger
    clock: Callable[[], datetime]

    async def reconcile(self, key: Key) -> timedelta | None:
        """Make the cluster say what the prefix says; when to look again, if at all."""
        record = self.store.prefixes.get(key)
        if record is None:
            await self.publisher.withdraw(key)
            return None
        try:
            return await self._reconcile(key, record)
        except NotFoundError:
            # Deleted while it was worked on; its event is on the way, and so is its clean-up.
            record.in_doubt = True
            return _LOOK_AGAIN if key in self.store.prefixes else None
        except ConflictError:
            # Somebody wrote first: nothing was decided, and all is read anew.
            record.in_doubt = True
            return _ONCE_MORE
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
            await self._read(key, record)
            record.resolution = None  # its bytes may not be stored yet, and are at hand only now
            record.in_doubt = False
        held = await self.deletion.hold(key, record)
        if held is None and "deletionTimestamp" in record.body["metadata"]:
            return None
        resolution, canonical = await self._resolve(key, record)
        # From here on all rests on this version, whatever is seen of newer ones meanwhile.
        version = record.resource_version
        prefix = PromptPrefix.model_validate(record.body)
        state = state_from(prefix.status)
        record.trim()
        totals = self._totals(key, state, resolution.digest)
        if record.body.get("status") != record.recorded:
            # Not as we left it, so that what we counted may stand there already: losing some of
            # it makes a rollout slower, counting it twice would make it wrong.
            record.counted, record.recorded = totals, record.body.get("status")
        plan = plan_from(prefix, resolution.digest)
        if held is not None:
            plan = replace(plan, suspend=True)
        observed = self._observed(key, record, prefix, state, totals)
        decision = attributed(decide(plan, state, observed, now), plan, record.authors)
        if resolution.digest is None:
            decision = _say(decision, resolution.message)
        if held is not None:
            decision = _say(decision, held.message)
        at_hand = {resolution.digest: canonical} if resolution.digest and canonical else {}
        await self.publisher.store_revisions(key, record, decision.state, at_hand)
        # A revision that is gone from the totals is no news.
        news = any(counts != record.counted.get(short, {}) for short, counts in totals.items())
        heard = news or decision.state.stable != state.stable
        report = _Report(key, record, prefix, resolution, held, heard, now, version, prefix.status)
        # A first version has nobody to mislead: it is recorded once, when it is published.
        if decision.state.epoch > max(state.epoch, 1):
            await self._record(report, _under_way(decision.state, prefix.status), {})
            record.counted = totals
        unpublished = await self.publisher.publish(key, record, prefix, decision.state, at_hand)
        await self._record(report, decision.state, unpublished)
        record.counted = totals
        waits = [
            look_again(plan, decision.state, now),
            await self.nudger.tell(key, decision.state.withdrawn, now),
        ]
        if bool(self.evidence.outage) != bool(observed.outage):
            # It began or ended meanwhile, and was told to the candidates of that moment alone.
            waits.append(timedelta(0))
        await self._tell_commit(report, plan, decision.events)
        for entry in decision.events:
            await self._tell(
                record,
                entry.reason.value,
                told(entry.message, entry.by),
                facts(entry.revision, plan, record.authors, entry.by),
                warning=entry.reason in WENT_BACK,
            )
        for note in adherence.began(prefix.status.consumers, report.status.consumers):
            await self._tell(record, _OFF_CONTRACT, note, warning=True)
        await self.publisher.forget_revisions(key, prefix, decision.state)
        if unpublished or (resolution.digest is None and resolution.references):
            waits.append(_LOOK_AGAIN)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _read(self, key: Key, record: PrefixRecord) -> None:
        """Take in the whole object as it stands in the cluster, unless newer is known already.

        Raises:
            ConflictError: it was deleted and made anew, and is another record's by now.
        """
        body = await self.cluster.get(PROMPT_PREFIX, *key)
        if body["metadata"]["uid"] != record.body["metadata"]["uid"]:
            self.publisher.take(PROMPT_PREFIX, body)
            raise ConflictError(409, f"{key} was deleted and made anew")
        version = int(body["metadata"]["resourceVersion"])
        if not record.full or version > record.resource_version:
            record.body, record.full, record.resource_version = body, True, version

    # --- content -----------------------------------------------------------------------------

    async def _resolve(self, key: Key, record: PrefixRecord) -> tuple[Resolution, bytes | None]:
        """The declared content, resolved anew only where something about it moved."""
        known = record.resolution
        if (
            known is not None
            and record.resolved == record.asks
            and not (known.digest is None and known.references)
        ):
            return known, None
        if not record.full:
            await self._read(key, record)
        prefix = PromptPrefix.model_validate(record.body)
        resolution, canonical = await resolve_content(
            self.cluster, prefix, self.store.found(key, REVISION)
        )
        if canonical is not None:
            resolution = linted(prefix, resolution, canonical)
        if known is not None and resolution.message != known.message and resolution.reason:
            await self._tell(record, resolution.reason, resolution.message, warning=True)
        elif known is None and resolution.reason:
            told = {condition.message for condition in prefix.status.conditions}
            if resolution.message not in told:
                await self._tell(record, resolution.reason, resolution.message, warning=True)
        record.resolution = resolution
        record.resolved = record.asks
        return resolution, canonical

    # --- evidence ----------------------------------------------------------------------------

    def _observed(
        self,
        key: Key,
        record: PrefixRecord,
        prefix: PromptPrefix,
        state: State,
        totals: Mapping[str, Mapping[str, Counts]],
    ) -> Observed:
        """What was seen and does not stand in the status yet."""

        def unseen(digest: Digest | None) -> dict[str, Counts]:
            short = digest.short if digest is not None else ""
            counted = record.counted.get(short, {})
            return {
                model: total - counted.get(model, Counts())
                for model, total in totals.get(short, {}).items()
                if total != counted.get(model, Counts())
            }

        candidate = state.candidate
        ledger = self.evidence.ledger
        return Observed(
            candidate=unseen(candidate.revision.digest if candidate else None),
            stable=unseen(state.stable.digest if state.stable else None),
            outage=self.evidence.outage,
            measurements=self.evidence.measurements(key),
            warming=awaited_lanes(self.store.warmers_of(key), state, prefix.spec.digest),
            used={
                # What was in use before the ledger began may still be.
                item.revision.digest: ledger.used_at(str(key), item.revision.digest.short)
                or ledger.opened_at
                for item in state.retained
            },
            recovered=last_stable(
                [*self.store.found(key, REVISION), *self.store.found(key, BUNDLE)],
                record.body["metadata"]["uid"],
            ),
        )

    def _totals(
        self, key: Key, state: State, declared: Digest | None
    ) -> dict[str, dict[str, Counts]]:
        """What the ledger has of the prefix's revisions, by short digest and model.

        The declared one is among them before it is tried: what it did in an earlier life is
        not held against a new try. So is the stable one of a status that was lost.
        """
        digests = {revision.digest for revision in in_bundle(state)}
        stored = self.store.found(key, REVISION)
        digests |= {Digest(digest) for item in stored for digest in item.digests}
        if declared is not None:
            digests.add(declared)
        ledger = self.evidence.ledger
        return {digest.short: ledger.totals(str(key), digest.short) for digest in digests}

    async def _record(
        self, report: "_Report", state: State, unpublished: Mapping[str, str]
    ) -> None:
        """Write the status, where it says anything new."""
        key, record, prefix = report.key, report.record, report.prefix
        found = conditions.findings(
            prefix,
            report.resolution,
            state,
            held=report.held.message if report.held is not None else "",
            served=len(record.published),
            unpublished=unpublished,
            counted=counted_tokens(self.store.lanes_of(key)).get(prefix.spec.digest, {}),
        )
        generation = prefix.metadata.generation
        stable = state.stable
        ledger = self.evidence.ledger
        # Without news the rate stands: another controller counted since another time.
        counts = ledger.totals(str(key), stable.digest.short) if stable and report.heard else {}
        status = status_from(
            key,
            state,
            prefix.status,
            generation=generation,
            conditions=conditions.stamp(found, prefix.status.conditions, generation, report.now),
            consumers=adherence.counts(
                len(record.published),
                len(self.store.consumers_of(key)),
                self.evidence.adherence.deviations(key, state.epoch, report.now),
                self.evidence.adherence.unheard(key, report.now),
                state.epoch,
                prefix.status.consumers,
            ),
            stable_counts=counts,
            now=report.now,
        )
        if status == report.status:
            return
        written = await self.cluster.replace_status(
            PROMPT_PREFIX,
            {
                "metadata": {
                    "namespace": key.namespace,
                    "name": key.name,
                    # Refused where anything was written since it was read.
                    "resourceVersion": str(report.version),
                },
                "status": dump(status),
            },
        )
        record.wrote(written)
        record.recorded = written["status"]
        report.version, report.status = int(written["metadata"]["resourceVersion"]), status

    async def _tell_commit(self, report: "_Report", plan: Plan, events: Collection[Entry]) -> None:
        """Tell of bytes that were not declared before, and of an approval that is new.

        What follows from a publication at once tells of it as well, so that the API server is
        spared an Event.
        """
        record, revision = report.record, plan.declared
        if revision is None:
            return
        before = {condition.message for condition in report.prefix.status.conditions}
        news = {found.reason for found in report.status.conditions if found.message not in before}
        authors, about = record.authors, record.body["metadata"]
        if conditions.DIGEST_MATCHES in news:
            by = name_of(authors.published)
            note = told(f"{revision.version} is declared: {revision.digest}", by)
            said = facts(revision, plan, authors, by)
            if events:
                self.recorder.record(PROMPT_PREFIX, about, "Published", note, said)
            else:
                await self._tell(record, "Published", note, said, warning=False)
        was_stable = report.prefix.status.stable
        served = was_stable is not None and was_stable.digest == revision.digest
        if conditions.DIGEST_APPROVED in news and not served:
            by = name_of(authors.approved)
            note = told(f"{revision.version} is approved: {revision.digest}", by)
            said = facts(revision, plan, authors, by)
            await self._tell(record, "Approved", note, said, warning=False)

    async def _tell(
        self,
        record: PrefixRecord,
        reason: str,
        note: str,
        said: Mapping[str, str] | None = None,
        *,
        warning: bool,
    ) -> None:
        about = record.body["metadata"]
        await self.recorder.tell(PROMPT_PREFIX, about, reason, note, said, warning=warning)


@dataclass(slots=True)
class _Report:
    """What the status of one reconcile is about, and how it stands: read, then as written."""

    key: Key
    record: PrefixRecord
    prefix: PromptPrefix
    resolution: Resolution
    held: Held | None
    heard: bool
    now: datetime
    version: int
    status: PromptPrefixStatus


def _say(decision: Decision, why: str) -> Decision:
    """Say in the status why nothing moves."""
    return replace(decision, state=replace(decision.state, message=why))


def _under_way(state: State, before: PromptPrefixStatus) -> State:
    """A decision that is recorded but not yet in every bundle is not done."""
    if state.phase is not Phase.STABLE or state.stable is None:
        return state
    promoted = before.stable is None or before.stable.digest != state.stable.digest
    return replace(state, phase=Phase.PROMOTING if promoted else Phase.PROGRESSING)
