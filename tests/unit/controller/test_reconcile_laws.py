"""What holds of every reconcile, whatever happens to its process, its writes and its status.

The real reconcile works on an API server in memory (`memory.py`). Authors commit, consumers send
requests, clocks jump, people edit the status, calls fail before or after they took effect,
processes die between two writes, and two of them work at the same time. Every object that was
ever written is looked at, not only what stands in the end.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from headwater.cluster import (
    CONFIG_MAP,
    NAMESPACE,
    PROMPT_PREFIX,
    Object,
    UnavailableError,
)
from headwater.contract import bundle
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route
from headwater.controller.objects import REVISION, Found, bundle_name, files_of, inspect
from headwater.controller.status import plan_from
from headwater.resources import PromptPrefix
from headwater.resources.status import HistoryEntry, PromptPrefixStatus
from headwater.rollout.decide import WENT_BACK
from headwater.rollout.judge import judge
from headwater.rollout.state import Counts, Plan, Reason, Result, SetWeight
from tests.unit.controller.memory import CrashError, Mishap, Server
from tests.unit.controller.process import (
    HOUSE,
    LABEL,
    PLACES,
    TEXTS,
    WANTED,
    Process,
    Sidecars,
    come_or_go,
    digest_of_text,
    published,
)
from tests.unit.rollout.stories import HAIKU, MINUTE, OPUS, START, trying

MODELS: Final = (OPUS, HAIKU)
ROUNDS: Final = 8
"""Reconciles after which nothing may be left to do."""
_GROUNDS: Final = re.compile(r"on (\S+) (\d+) of (\d+) eligible requests")

BECAME_STABLE = {Reason.FIRST_VERSION, Reason.PROMOTED, Reason.RETURNED}
MOVES = {
    *BECAME_STABLE,
    *WENT_BACK - {Reason.PROGRESS_DEADLINE_EXCEEDED},  # which may be told of and go on
    Reason.CANARY_STARTED,
    Reason.WEIGHT_RAISED,
    Reason.ABORTED,
    Reason.SUPERSEDED,
}
PAUSES: Sequence[Object] = ({"pause": {"duration": "2m"}}, {"pause": {}})
STEPS: Sequence[Sequence[Object]] = (
    ({"setWeight": 10}, {"setWeight": 50}),
    ({"setWeight": 5}, PAUSES[0], {"setWeight": 25}, {"setWeight": 60}),
    (PAUSES[0], {"setWeight": 20}, PAUSES[1]),
    ({"setWeight": 100},),
)


class Reconciles(RuleBasedStateMachine):
    """One prefix and two controllers; most acts are followed by a reconcile."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = START
        self.server = Server()
        for name in (HOUSE.namespace, *PLACES):
            self.server.create(NAMESPACE, {"metadata": {"name": name, "labels": {LABEL: "yes"}}})
        rollout = {"steps": STEPS[0], "analysis": _analysis(), "progressDeadline": "30m"}
        self.spec: dict[str, Any] = {
            "owner": {"team": "platform"},
            "models": MODELS,
            "consumers": {"namespaceSelector": WANTED},
            "rollout": rollout,
            "revisionHistoryLimit": 1,
            **published("a", 0),
        }
        metadata = {"namespace": HOUSE.namespace, "name": HOUSE.name}
        made = self.server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": self.spec})
        self.spec = made["spec"]
        self.sidecars = Sidecars()
        self.witness = Witness(self.server, self.sidecars)
        self.processes = [self._started() for _ in range(2)]

    def teardown(self) -> None:
        self.runner.close()

    @initialize(required=st.booleans(), steps=st.sampled_from(STEPS))
    def begin_a_canary(self, steps: Sequence[Object], *, required: bool) -> None:
        """The first version is served, and the second one tried."""
        self._reconcile()
        approval = "Required" if required else "Automatic"
        rollout = {**self.spec["rollout"], "steps": steps, "approval": approval}
        self._commit({"rollout": rollout, **published("w", 1)})

    # --- authors -----------------------------------------------------------------------------

    @rule(version=st.sampled_from("abc"), text=st.integers(0, 2))
    def publish(self, version: str, text: int) -> None:
        self._commit(published(version, text))

    @rule()
    def publish_the_next(self) -> None:
        at = next(
            at for at, text in enumerate(TEXTS) if digest_of_text(text) == self.spec["digest"]
        )
        text = (at + 1) % len(TEXTS)
        self._commit(published("vwxyz"[text], text))

    @rule(at=st.integers(0, 6), done=st.booleans())
    def publish_in_vain(self, at: int, *, done: bool) -> None:
        """A call about the new version fails, and is made again."""
        self.mishap = Mishap(at, UnavailableError(503, "simulated"), done=done)
        self.publish_the_next()
        for _ in range(2):  # without any help
            self._reconcile()
        self.witness.check_at_rest()

    @rule()
    def break_the_content(self) -> None:
        self._commit({"content": {"system": [{"text": "Be something else."}]}})

    @rule()
    def go_back_to_stable(self) -> None:
        stable = self._status().stable
        if stable is not None:
            at = next(at for at, text in enumerate(TEXTS) if digest_of_text(text) == stable.digest)
            self._commit(published(stable.version, at))

    @rule(steps=st.sampled_from(STEPS), immediate=st.sampled_from([False, False, True]))
    def change_the_strategy(self, steps: Sequence[Object], *, immediate: bool) -> None:
        rollout = {name: part for name, part in self.spec["rollout"].items() if name != "steps"}
        strategy = {"strategy": "Immediate"} if immediate else {"steps": steps}
        self._commit({"rollout": {**rollout, "strategy": "Canary", **strategy}})

    @rule(
        first=st.sampled_from(["Immediate", "Canary"]),
        window=st.integers(0, 2),
        on_deadline=st.sampled_from(["Hold", "RollBack"]),
    )
    def change_the_rules(self, first: str, window: int, on_deadline: str) -> None:
        rules = {"firstVersion": first, "onDeadline": on_deadline}
        self._commit(
            {
                "rollout": {
                    **self.spec["rollout"],
                    **rules,
                    "rollbackWindow": {"revisions": window},
                }
            }
        )

    @rule(required=st.booleans())
    def require_approval(self, *, required: bool) -> None:
        approval = "Required" if required else "Automatic"
        self._commit({"rollout": {**self.spec["rollout"], "approval": approval}})

    @rule(text=st.integers(0, 2), declared=st.booleans())
    def approve(self, text: int, *, declared: bool) -> None:
        digest = self.spec["digest"] if declared else digest_of_text(TEXTS[text])
        self._commit({"rollout": {**self.spec["rollout"], "approvedDigest": digest}})

    @rule(suspend=st.booleans())
    def suspend(self, *, suspend: bool) -> None:
        self._commit({"suspend": suspend})

    @rule()
    def retry(self) -> None:
        self._commit({"retry": self.spec["retry"] + 1})

    # --- consumers ---------------------------------------------------------------------------

    @rule(hits=st.integers(15, 40))
    def answer_well(self, hits: int) -> None:
        for model in MODELS:
            self._count(model, Counts(hits=hits, answers=hits))
        self._reconcile()

    @rule(suspend=st.booleans())
    def answer_well_for_a_while(self, *, suspend: bool) -> None:
        """As long as any canary takes."""
        if suspend:
            self._commit({"suspend": True})
        for _ in range(4):
            self.now += 3 * MINUTE
            self.answer_well(30)

    @rule(model=st.sampled_from(MODELS), hits=st.integers(0, 9), misses=st.integers(0, 9))
    def answer(self, model: str, hits: int, misses: int) -> None:
        self._count(model, Counts(hits=hits, misses=misses, answers=hits + misses))
        self._reconcile()

    @rule(misses=st.integers(20, 40))
    def answer_badly(self, misses: int) -> None:
        self._count(OPUS, Counts(misses=misses, answers=misses))
        self._reconcile()

    @rule(restart=st.booleans())
    def a_sidecar_is_replaced_or_lies(self, *, restart: bool) -> None:
        if restart:
            self.sidecars.restart(self.now)
        else:
            self.sidecars.fall()
        self._reconcile()

    @rule(away=st.booleans())
    def lose_the_source(self, *, away: bool) -> None:
        for process in self.processes:  # of two, both have heard the same
            self.runner.run(process.scrape())
        self.sidecars.away = away
        self._reconcile()

    @rule(name=st.sampled_from(PLACES))
    def a_namespace_comes_or_goes(self, name: str) -> None:
        come_or_go(self.server, name)
        self.witness.look(by_hand=True)
        self._reconcile()

    @rule(name=st.sampled_from(PLACES), selected=st.booleans())
    def a_namespace_is_selected_or_not(self, name: str, *, selected: bool) -> None:
        if self.server.find(NAMESPACE, None, name) is not None:
            labels = {LABEL: "yes" if selected else "no"}
            self.server.merge_metadata(NAMESPACE, None, name, labels=labels)
        self._reconcile()

    @rule(name=st.sampled_from(PLACES), delete=st.booleans())
    def a_bundle_is_edited_or_deleted(self, name: str, *, delete: bool) -> None:
        there = self.server.find(CONFIG_MAP, name, bundle_name(HOUSE))
        if there is not None and delete:
            self.server.delete(CONFIG_MAP, name, bundle_name(HOUSE))
        elif there is not None:
            self.server.edit(CONFIG_MAP, name, bundle_name(HOUSE), data={"route.json": "{}"})
        self.witness.look(by_hand=True)
        self._reconcile()

    # --- misfortune --------------------------------------------------------------------------

    @rule(minutes=st.integers(-60, 60))
    def wait(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self._reconcile()

    @rule(
        at=st.integers(0, 8),
        crash=st.booleans(),
        done=st.booleans(),
        late=st.booleans(),
    )
    def a_call_fails(self, at: int, *, crash: bool, done: bool, late: bool) -> None:
        """Of the next reconcile; `late` has it work with what it knew before."""
        error = CrashError() if crash else UnavailableError(503, "simulated")
        self.mishap, self.late = Mishap(at, error, done=done), late

    @rule(at=st.integers(0, 8), late=st.booleans())
    def is_overtaken(self, at: int, *, late: bool) -> None:
        """The other controller gets in between two calls of the next reconcile."""

        async def meanwhile() -> None:
            self.witness.look()
            self.processes[1].catch_up()
            await self.processes[1].scrape()
            await self.processes[1].reconcile()
            self.witness.look()

        self.mishap, self.late = Mishap(at, meanwhile=meanwhile), late

    @rule()
    def the_other_one_works(self) -> None:
        self.processes.reverse()
        self._reconcile()

    @rule()
    def restart(self) -> None:
        self.processes[0] = self._started()
        self._reconcile()

    @rule()
    def lose_the_status(self) -> None:
        self._edit_status({})

    @rule(percent=st.integers(0, 100), passed=st.booleans())
    def edit_the_candidate(self, percent: int, *, passed: bool) -> None:
        status = self._raw_status()
        if "candidate" in status:
            status["candidate"]["weight"] = percent
            if passed:
                verdict = {"result": "Pass", "reason": "I say so", "at": START.isoformat()}
                status["candidate"]["verdict"] = verdict
            self._edit_status(status)

    @rule(part=st.sampled_from(["candidate", "history", "rolledBack", "retained", "conditions"]))
    def lose_a_part_of_the_status(self, part: str) -> None:
        status = self._raw_status()
        if status.pop(part, None):
            self._edit_status(status)

    @rule()
    def settle(self) -> None:
        """Left alone, both come to rest, and every consumer has what the status says."""
        for _ in range(ROUNDS):
            wrote = [self._reconcile()]
            self.processes.reverse()
            wrote.append(self._reconcile())
            if wrote == [0, 0]:
                break
        else:
            raise AssertionError("two controllers fight")
        self.witness.check_at_rest()

    # --- how it is done ----------------------------------------------------------------------

    mishap: Mishap | None = None
    late = False

    def _commit(self, parts: Mapping[str, Any]) -> None:
        spec = {**self.spec, **parts}
        bound = {row.version: row.digest for row in self._status().published}
        named = spec["version"], spec["digest"]
        moved = named != (self.spec["version"], self.spec["digest"])
        if not moved or bound.get(spec["version"], spec["digest"]) == spec["digest"]:
            self.spec = self.server.edit(PROMPT_PREFIX, *HOUSE, spec=spec)["spec"]
            self.witness.look(by_hand=True)
        self._reconcile()

    def _count(self, model: str, counts: Counts) -> None:
        """Requests get the revisions that are routed to."""
        status = self._status()
        for row in (status.stable, status.candidate):
            if row is not None:
                self.sidecars.count(row.digest, model, counts)

    def _edit_status(self, status: Object) -> None:
        self.server.write_status(PROMPT_PREFIX, *HOUSE, status)
        self.witness.look(by_hand=True)
        self._reconcile()

    def _reconcile(self) -> int:
        """Whoever is first works once; how many writes it took."""
        process, mishap, late = self.processes[0], self.mishap, self.late
        self.mishap, self.late = None, False
        if not late:
            process.catch_up()
        self.runner.run(process.scrape())
        process.connection.expect(mishap)
        before = len(process.connection.writes)
        try:
            through = self.runner.run(process.reconcile())
        except CrashError:
            self.witness.look()
            self.processes[0] = self._started()
            return 1
        process.connection.expect(None)
        self.witness.look()
        after = len(process.connection.writes)
        if through and mishap is None:
            assert self.runner.run(process.reconcile())
            again = process.connection.writes[after:]
            assert again == [], "nothing is written for nothing"
        return after - before

    def _started(self) -> Process:
        """A controller that has listed everything and read the counters, as it does at once."""
        self.now += timedelta(seconds=1)
        self.sidecars.away = False
        process = Process(self.server, self.sidecars, lambda: self.now)
        self.runner.run(process.start())
        self.runner.run(process.scrape())
        return process

    def _status(self) -> PromptPrefixStatus:
        return PromptPrefixStatus.model_validate(self._raw_status())

    def _raw_status(self) -> Object:
        found = self.server.get(PROMPT_PREFIX, *HOUSE)
        status: Object = found.get("status", {})
        return status


class Witness:
    """Sees every write in its order and holds it against the laws."""

    def __init__(self, server: Server, sidecars: Sidecars) -> None:
        self._server, self._sidecars = server, sidecars
        self._seen = 0
        self._spec = server.get(PROMPT_PREFIX, *HOUSE)["spec"]
        self._status = PromptPrefixStatus()
        self._were_stable: set[Digest] = set()
        self._permitted: set[Digest] = set()
        """What was ever declared in a way that let it be published at once."""
        self._decided: set[tuple[str, Digest, int]] = set()
        self._routes: set[tuple[Digest | None, Digest | None, int]] = set()
        """Stable, candidate and weight of every status that was recorded."""
        self._spent: Counter[tuple[str, str]] = Counter()
        """Eligible requests that were evidence before and are no more."""

    def look(self, *, by_hand: bool = False) -> None:
        """Look at what was written since the last time; `by_hand`, if not by a controller."""
        changes, self._seen = self._server.changes[self._seen :], len(self._server.changes)
        for kind, body, gone in changes:
            if kind == PROMPT_PREFIX:
                self._look_at_prefix(body, by_hand=by_hand)
            elif kind == CONFIG_MAP and not gone and not by_hand:
                self._look_at_config_map(inspect(body), body)

    def check_at_rest(self) -> None:
        """Each selected namespace has the bundle of the status, and no other one has any."""
        status = self._status
        going = {
            body["metadata"]["name"]
            for body in self._server.all(NAMESPACE)
            if "deletionTimestamp" in body["metadata"]
        }
        bundles = {
            namespace: bundle.decode(files_of(body)).route
            for body in self._server.all(CONFIG_MAP)
            if body["metadata"]["name"] == bundle_name(HOUSE)
            and (namespace := body["metadata"]["namespace"]) not in going
        }
        wanted = {
            body["metadata"]["name"]
            for body in self._server.all(NAMESPACE)
            if body["metadata"]["labels"][LABEL] == "yes"
        } - going
        if status.stable is None and status.candidate is None:
            return  # consumers keep what they have until something may be served
        assert set(bundles) == wanted
        for route in bundles.values():
            assert (route.epoch, _routed(route)) == (status.epoch, _offered(status))

    def _look_at_prefix(self, body: Object, *, by_hand: bool) -> None:
        before, after = self._status, PromptPrefix.model_validate(body).status
        self._status = after
        plan = plan_from(PromptPrefix.model_validate(body), verified(body))
        approved = not plan.approval_required or (plan.declared and plan.approves(plan.declared))
        if plan.declared is not None and approved and not plan.suspend:
            self._permitted.add(plan.declared.digest)
        if by_hand:
            self._spec = body["spec"]
            if not after.epoch:  # lost: what comes now may be called as it was called before
                self._decided.clear()
        else:
            assert body["spec"] == self._spec, "what is declared is the author's"
            self._check(plan, before)
        self._routes.add(_offered(after))
        self._count_evidence(before, after, by_hand=by_hand)

    def _check(self, plan: Plan, before: PromptPrefixStatus) -> None:
        after = self._status
        entries = _new(before.history, after.history)
        for entry in entries:
            if entry.event in MOVES:
                named = entry.event, entry.digest, after.epoch
                assert named not in self._decided, "nothing is decided twice"
                self._decided.add(named)
            if entry.event == Reason.CANARY_STARTED:
                failed = [row.retry for row in before.history if row.digest == entry.digest]
                retries = [retry for retry in failed if retry is not None]
                assert max(retries, default=-1) < plan.retry, "what failed is tried when asked to"
        self._check_stable(plan, before, entries)
        self._check_weight(plan, before, entries)
        if _offered(before) not in ((None, None, 0), _offered(after)):
            assert after.epoch > before.epoch, "what moves the route is told to consumers"

    def _check_stable(
        self, plan: Plan, before: PromptPrefixStatus, entries: Sequence[HistoryEntry]
    ) -> None:
        stable = self._status.stable
        if stable is None:
            assert before.stable is None, "what is stable is replaced, never taken away"
            return
        if before.stable is not None and stable.digest == before.stable.digest:
            return
        became = [
            row
            for row in entries
            if row.event in BECAME_STABLE | {Reason.RECOVERED} and row.digest == stable.digest
        ]
        assert became, "what becomes stable has an entry in the history"
        grounds = became[-1]
        recovered = [row.digest for row in entries if row.event == Reason.RECOVERED]
        known = self._were_stable or self._permitted
        assert known.issuperset(recovered), "recovered is what was stable"
        if grounds.event == Reason.RECOVERED:
            return
        if grounds.event == Reason.FIRST_VERSION:
            # It is published before it is recorded, and a crash in between may take its time.
            assert stable.digest in self._permitted
            assert self._were_stable in (set(), {stable.digest}), "there is one first version"
            self._were_stable.add(stable.digest)
            return
        assert plan.declared is not None, "only verified bytes become stable"
        assert plan.declared.digest == stable.digest, "only what is declared becomes stable"
        assert not plan.suspend
        if plan.approval_required:
            assert plan.approved_digest == stable.digest, "approval names the exact bytes"
        if grounds.event == Reason.PROMOTED and plan.strategy == "Canary":
            self._check_grounds(plan, grounds)
        self._were_stable.add(stable.digest)

    def _check_weight(
        self, plan: Plan, before: PromptPrefixStatus, entries: Sequence[HistoryEntry]
    ) -> None:
        was, now = before.candidate, self._status.candidate
        if now is None or self._status.stable is None:
            return
        declared = [
            step.weight for step in plan.steps[: now.step + 1] if isinstance(step, SetWeight)
        ]
        if plan.strategy == "Canary":
            assert now.weight * 100 <= max(declared, default=0), "never more than its step declares"
        same = was is not None and was.digest == now.digest
        weight = was.weight if was is not None and same else 0
        if now.weight > weight:
            raised = [row for row in entries if row.event == Reason.WEIGHT_RAISED]
            assert raised, "a weight rises with an entry in the history"
            assert raised[-1].digest == now.digest
            assert plan.declared is not None
            assert not plan.suspend
            if weight:
                self._check_grounds(plan, raised[-1])

    def _check_grounds(self, plan: Plan, entry: HistoryEntry) -> None:
        """The figures that an entry gives are good enough, and were really counted."""
        evidence = {
            model: Counts(hits=int(hits), misses=int(eligible) - int(hits))
            for model, hits, eligible in _GROUNDS.findall(entry.reason)
        }
        candidate = trying(Revision(entry.version, entry.digest), 1, evidence=evidence).candidate
        assert candidate is not None
        verdict = judge(candidate, plan.analysis, models=plan.models, weights=len(plan.steps))
        assert verdict.result is Result.PASS, entry.reason
        for model, counts in evidence.items():
            truth = self._sidecars.truth[entry.digest.short, model]
            assert counts.hits <= truth.hits, "what is judged was counted"

    def _count_evidence(
        self, before: PromptPrefixStatus, after: PromptPrefixStatus, *, by_hand: bool
    ) -> None:
        """All evidence of a revision, that of former weights too, was counted once."""
        was, now = before.candidate, after.candidate
        same = was is not None and now is not None and was.digest == now.digest
        kept = now.evidence if now is not None and same else ()
        eligible = {row.model: row.hits + row.misses for row in kept}
        for row in was.evidence if was is not None else ():
            count = row.hits + row.misses
            if eligible.get(row.model, 0) < count and was is not None:
                self._spent[was.digest.short, row.model] += count
        for row in now.evidence if now is not None and not by_hand else ():
            assert now is not None
            truth = self._sidecars.truth.get((now.digest.short, row.model), Counts())
            sum_ = self._spent[now.digest.short, row.model] + row.hits + row.misses
            assert sum_ <= truth.eligible, "no request is evidence twice"

    def _look_at_config_map(self, found: Found, body: Object) -> None:
        if found.role == REVISION:
            return
        route = bundle.decode(files_of(body)).route  # which verifies the bytes of every revision
        assert set(found.digests) == {row.digest for row in route.revisions}
        routed = _routed(route)
        # A first version is published before it is recorded: there is nobody to mislead.
        first = route.epoch == 1 and routed[1] is None and routed[0] in self._permitted
        assert first or routed in self._routes, "carried out is what was recorded"


def _new(before: Sequence[HistoryEntry], after: Sequence[HistoryEntry]) -> Sequence[HistoryEntry]:
    """What was appended."""
    for kept in range(min(len(before), len(after)), -1, -1):
        if not kept or tuple(before[-kept:]) == tuple(after[:kept]):
            return after[kept:]
    return ()


def _offered(status: PromptPrefixStatus) -> tuple[Digest | None, Digest | None, int]:
    stable, candidate = status.stable, status.candidate
    if stable is None:
        return candidate.digest if candidate is not None else None, None, 0
    if candidate is None:
        return stable.digest, None, 0
    return stable.digest, candidate.digest, candidate.weight * 100


def _routed(route: Route) -> tuple[Digest | None, Digest | None, int]:
    return route.stable.digest, route.candidate.digest if route.candidate else None, route.weight


def verified(body: Object) -> Digest | None:
    """The declared digest, where the content hashes to it."""
    text = body["spec"]["content"]["system"][0]["text"]
    return (
        Digest(body["spec"]["digest"]) if digest_of_text(text) == body["spec"]["digest"] else None
    )


def _analysis() -> dict[str, Any]:
    return {"minRequests": 10, "minHitRate": 0.8, "unusedModels": "Ignore"}


TestReconciles = Reconciles.TestCase
TestReconciles.settings = settings(max_examples=50, stateful_step_count=30)


async def test_what_is_written_rests_on_what_was_read() -> None:
    """A status that is taken away while the reconcile is at work is not put back unawares.

    Its event is seen before the status is written: the version that counts is the one that was
    decided on, not the newest that is known.
    """
    now = START
    server, sidecars = Server(), Sidecars()
    for name in (HOUSE.namespace, *PLACES):
        server.create(NAMESPACE, {"metadata": {"name": name, "labels": {LABEL: "yes"}}})
    spec = {
        "owner": {"team": "platform"},
        "models": MODELS,
        "consumers": {"namespaceSelector": WANTED},
        "rollout": {"strategy": "Immediate"},
    }
    metadata = {"namespace": HOUSE.namespace, "name": HOUSE.name}
    server.create(PROMPT_PREFIX, {"metadata": metadata, "spec": spec | published("a", 0)})
    process = Process(server, sidecars, lambda: now)
    await process.start()
    assert await process.reconcile()
    server.apply(PROMPT_PREFIX, {"metadata": metadata, "spec": spec | published("b", 1)})
    process.catch_up()

    async def lose_the_status() -> None:
        server.write_status(PROMPT_PREFIX, *HOUSE, {}, None)
        process.catch_up()

    process.connection.expect(Mishap(at=0, meanwhile=lose_the_status))
    assert not await process.reconcile()
    assert "stable" not in server.get(PROMPT_PREFIX, *HOUSE)["status"]
    assert await process.reconcile()
    status = server.get(PROMPT_PREFIX, *HOUSE)["status"]
    assert status["stable"]["version"] == "b"
    assert status["history"][0]["event"] in ("FirstVersion", "Recovered")


def test_a_revision_that_is_forgotten_is_no_news() -> None:
    """An abort shortens the list of revisions; the hit rate is not written again for that."""
    found = Reconciles()
    found.begin_a_canary(required=False, steps=({"setWeight": 10}, {"setWeight": 50}))
    found.break_the_content()
    found.publish_the_next()
    found.break_the_content()
    found.a_call_fails(at=0, crash=True, done=False, late=False)
    found.go_back_to_stable()
    found.answer_badly(misses=20)
    found.teardown()
