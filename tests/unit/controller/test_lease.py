"""The lease: never two leaders, whatever is late, lost or edited, and soon one again.

Time is virtual. The API server is a stand-in for one object: only so can every answer be late or
lost at any moment. `tests/integration/controller/test_leader.py` has the real one.
"""

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cluster import Cluster, ConflictError, NotFoundError, Object, UnavailableError
from headwater.controller.lease import Elector, LeadershipLostError, Seen, Timing, is_free

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
END = 120.0
"""Virtual seconds that a story lasts."""


@pytest.mark.parametrize(
    ("spec", "now", "free"),
    [
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 100.0, False),
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 114.9, False),
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 115.0, True),
        ({"holderIdentity": "other", "leaseDurationSeconds": 60}, 115.0, False),
        ({"holderIdentity": "", "leaseDurationSeconds": 15}, 100.0, True),
        ({"holderIdentity": "me", "leaseDurationSeconds": 15}, 100.0, True),
        ({"holderIdentity": "other"}, 100.0, True),
        ({}, 100.0, True),
    ],
)
def test_when_a_lease_may_be_taken(spec: dict[str, Any], now: float, free: bool) -> None:  # noqa: FBT001 - a table
    """After the holder's own duration since it was first seen so, or when nobody holds it."""
    assert is_free(Seen(spec, at=100.0), "me", now) is free


def test_a_lease_that_never_was_may_be_taken() -> None:
    """The first controller on a cluster waits for nobody."""
    assert is_free(None, "me", 0.0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without I/O in which waiting takes no time."""

    def __init__(self) -> None:
        self.now = 0.0
        loop = self

        class Waiting(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                assert timeout is not None, "everybody waits for ever"
                loop.now += timeout + 1e-6  # to run takes time as well
                return []

        super().__init__(Waiting())

    def time(self) -> float:
        return self.now


def story(made: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(made)


@dataclass(frozen=True)
class Fate:
    """What becomes of one request: seconds until it is done, and until its answer is there."""

    to: float = 0.01
    back: float = 0.01
    reaches: bool = True
    answered: bool = True


PROMPT = Fate()
AWAY = Fate(to=0.0, reaches=False)
HUNG = Fate(to=1000.0)


@dataclass
class ApiServer:
    """One Lease, with the API server's optimistic concurrency."""

    lease: Object | None = None
    version: int = 0

    def get(self) -> Object:
        if self.lease is None:
            raise NotFoundError(404, "no such lease")
        return self.lease

    def create(self, body: Object) -> Object:
        if self.lease is not None:
            raise ConflictError(409, "it exists")
        return self._put(body)

    def replace(self, body: Object) -> Object:
        if body["metadata"]["resourceVersion"] != self.get()["metadata"]["resourceVersion"]:
            raise ConflictError(409, "it is newer")
        return self._put(body)

    def edit(self, **spec: Any) -> None:
        """Somebody changes it by hand."""
        lease = self.get()
        self._put({**lease, "spec": {**lease["spec"], **spec}})

    def _put(self, body: Object) -> Object:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**body, "metadata": metadata}
        return self.lease


@dataclass
class Line:
    """One contender's connection. Its first requests have these fates; the later ones are prompt.

    A request that its sender has given up is done nevertheless.
    """

    server: ApiServer
    fates: list[Fate] = field(default_factory=list)

    async def get(self, *_: object) -> Object:
        return await self._request(self.server.get)

    async def create(self, _: object, body: Object) -> Object:
        return await self._request(lambda: self.server.create(body))

    async def replace(self, _: object, body: Object) -> Object:
        return await self._request(lambda: self.server.replace(body))

    async def _request(self, act: Callable[[], Object]) -> Object:
        fate = self.fates.pop(0) if self.fates else PROMPT
        if not fate.reaches:
            await asyncio.sleep(fate.to)
            raise UnavailableError(0, "the API server does not answer")

        async def done() -> Object:
            await asyncio.sleep(fate.to)
            return act()

        result = await asyncio.shield(_watched(done()))
        await asyncio.sleep(fate.back)
        if not fate.answered:
            raise UnavailableError(0, "the answer was lost")
        return result


def _watched(work: Coroutine[Any, Any, Object]) -> asyncio.Task[Object]:
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


@dataclass
class Term:
    """When a contender worked."""

    contender: str
    began: float
    ended: float


class Cast:
    """Contenders for one lease, and all their terms."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.terms: list[Term] = []

    def elector(self, identity: str, line: Line | None = None) -> Elector:
        def clock() -> datetime:
            return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

        cluster = cast("Cluster", line or Line(self.server))
        return Elector(cluster, "default", identity, clock, jitter=lambda: 0.5)

    async def work(self, identity: str) -> None:
        time = asyncio.get_running_loop().time
        began = time()
        try:
            await asyncio.sleep(10 * END)
        finally:
            self.terms.append(Term(identity, began, time()))

    async def contend(self, name: str, fates: Sequence[Fate] = (), *, start: float = 0.0) -> None:
        """Lead whenever possible; start again after a loss, as Kubernetes does."""
        await asyncio.sleep(start)
        attempt, line = 0, Line(self.server, list(fates))
        while True:
            identity = f"{name}-{attempt}"
            try:
                await self.elector(identity, line).lead(partial(self.work, identity))
            except LeadershipLostError:
                attempt += 1
                await asyncio.sleep(1)

    async def play(self, *contenders: Coroutine[Any, Any, None], until: float = END) -> None:
        tasks = [asyncio.create_task(contender) for contender in contenders]
        await asyncio.sleep(until)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError)
        self.assert_one_at_a_time()

    def assert_one_at_a_time(self) -> None:
        self.terms.sort(key=lambda term: term.began)
        for earlier, later in itertools.pairwise(self.terms):
            assert earlier.ended <= later.began, f"{earlier} and {later}"


seconds = st.sampled_from([0.0, 1.0, 4.9, 9.9, 30.0])
fates = st.sampled_from([PROMPT, AWAY, HUNG]) | st.builds(
    Fate, to=seconds, back=seconds, answered=st.booleans()
)
weather = st.lists(st.tuples(fates, st.integers(1, 6)), max_size=4).map(
    lambda spells: [fate for fate, requests in spells for _ in range(requests)]
)


@settings(max_examples=50)  # minutes of three contenders each
@given(lines=st.lists(st.tuples(weather, st.integers(0, 20)), min_size=2, max_size=3))
def test_never_two_at_a_time(lines: list[tuple[list[Fate], int]]) -> None:
    """Whatever is late, lost, or done after its sender gave up; and in the end one leads."""
    cast_ = Cast(ApiServer())
    contenders = [
        cast_.contend(str(n), fates, start=start) for n, (fates, start) in enumerate(lines)
    ]
    # No request keeps a contender for longer than 10 s.
    until = 60.0 + max(start + 10 * len(fates) for fates, start in lines)
    story(cast_.play(*contenders, until=until))
    assert cast_.terms[-1].ended == pytest.approx(until, abs=0.1)


@pytest.mark.parametrize(
    ("line", "asked_at"),
    [
        ([PROMPT, Fate(to=0.0, back=Timing().renew_deadline - 1)], 0.0),
        (
            [PROMPT, PROMPT, Fate(to=0.0, back=Timing().renew_deadline / 3 - 0.1)],
            Timing().retry_period,
        ),
    ],
)
def test_a_leader_counts_from_its_question_and_not_from_the_answer(
    line: list[Fate], asked_at: float
) -> None:
    """The others saw the lease, and its renewal, as soon as they were written."""
    cast_ = Cast(ApiServer())
    cut_off = cast_.contend("first", [*line, *[AWAY] * 20])
    story(cast_.play(cut_off, cast_.contend("second", start=0.1)))
    assert [term.contender for term in cast_.terms] == ["first-0", "second-0"]
    deadline = asked_at + Timing().renew_deadline
    assert cast_.terms[0].ended == pytest.approx(deadline, abs=0.1)


def test_two_at_once_and_a_stop() -> None:
    """One leads; when it is stopped the other one follows within two retries, not a lease."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        first = asyncio.create_task(cast_.contend("first"))
        second = asyncio.create_task(cast_.contend("second", start=0.001))
        await asyncio.sleep(60)
        first.cancel()
        await asyncio.sleep(4)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert [term.contender for term in cast_.terms] == ["first-0", "second-0"]
        cast_.assert_one_at_a_time()
        lease = cast_.server.lease
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""
        assert lease["spec"]["leaseTransitions"] == 1

    story(told())


def test_a_leader_without_an_api_server_stops_in_time() -> None:
    """After its deadline, which is before anybody else may begin."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        line = Line(cast_.server, [PROMPT, PROMPT, *[AWAY] * 20])
        with pytest.raises(LeadershipLostError, match="could not be renewed for 7 s"):
            await cast_.elector("only", line).lead(lambda: cast_.work("only"))
        (term,) = cast_.terms
        assert term.ended == pytest.approx(Timing().renew_deadline, abs=0.1)

    story(told())


@pytest.mark.parametrize("silent_for", [1, 2])
def test_a_silent_connection_is_given_up_for_another_one(silent_for: int) -> None:
    """One hung request costs a third of the deadline, so a second attempt can still succeed."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        line = Line(cast_.server, [PROMPT, PROMPT, *[HUNG] * silent_for])
        leading = asyncio.create_task(cast_.elector("only", line).lead(lambda: cast_.work("only")))
        await asyncio.sleep(30)
        assert leading.done() is (silent_for == 2)
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)

    story(told())


@pytest.mark.parametrize("at", [20.0, 20.5, 21.0, 21.5, 22.0, 22.5])
def test_a_lease_that_is_deleted_is_made_again_by_its_leader(at: float) -> None:
    """Who waits does not take the chance: the leader does not know yet."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        playing = asyncio.create_task(
            cast_.play(cast_.contend("leader"), cast_.contend("waiting", start=1), until=60)
        )
        await asyncio.sleep(at)
        cast_.server.lease = None
        await playing
        assert [term.contender for term in cast_.terms] == ["leader-0"]

    story(told())


def test_who_finds_the_lease_in_other_hands_stops_at_once() -> None:
    """Somebody has edited it, and another controller may believe that."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        leading = asyncio.create_task(cast_.elector("me").lead(lambda: cast_.work("me")))
        await asyncio.sleep(5)
        cast_.server.edit(holderIdentity="other")
        with pytest.raises(LeadershipLostError, match="other holds the lease now"):
            await leading
        assert cast_.terms[0].ended < 5 + Timing().retry_period + 0.1
        assert cast_.server.lease is not None
        assert cast_.server.lease["spec"]["holderIdentity"] == "other", "not given back for it"

    story(told())


def test_an_edit_that_leaves_the_holder_costs_nothing() -> None:
    """A label, say, makes the next renewal conflict once."""

    async def told() -> None:
        cast_ = Cast(ApiServer())
        playing = asyncio.create_task(cast_.play(cast_.contend("leader"), until=60))
        await asyncio.sleep(20)
        cast_.server.edit()
        await playing
        assert [term.contender for term in cast_.terms] == ["leader-0"]

    story(told())


def test_the_lease_is_given_back_after_the_work_has_stopped() -> None:
    """And what the work raised is what comes out."""

    async def told() -> None:
        cast_ = Cast(ApiServer())

        async def work() -> None:
            try:
                await asyncio.sleep(1)
                raise ValueError("a bug")
            finally:
                await asyncio.sleep(1)
                assert cast_.server.lease is not None
                assert cast_.server.lease["spec"]["holderIdentity"] == "me"

        with pytest.raises(ValueError, match="a bug"):
            await cast_.elector("me").lead(work)
        assert cast_.server.lease is not None
        assert cast_.server.lease["spec"]["holderIdentity"] == ""

    story(told())
