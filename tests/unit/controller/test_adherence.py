"""Which pods are not as they should be, what the status says of them, and when it is told."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headwater.contract.reasons import Reason
from headwater.controller.adherence import Adherence, began, counts, signature
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.evidence.ledger import Sample
from headwater.evidence.uses import Break, Served, Use
from headwater.resources.status import EXCEPTIONS_LIMIT, ConsumerCounts, ConsumerException

PREFIX: Final = Key("ai-platform", "org-core")
NOW: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
EPOCH: Final = 7


class Cluster:
    """Pods that mount the bundle, and what their sidecars say."""

    def __init__(self) -> None:
        self.now = NOW
        self.store = Store()
        self.adherence = Adherence(self.store, NOW)
        self.status = ConsumerCounts(namespaces=1)
        self.pods = 0

    def pod(self, name: str) -> Key:
        """A pod with a sidecar."""
        metadata = {"namespace": "shop", "name": name, "creationTimestamp": NOW.isoformat()}
        bundle = {"configMap": {"name": f"headwater.{PREFIX.namespace}.{PREFIX.name}"}}
        self.store.see_pod({"metadata": metadata, "spec": {"volumes": [bundle]}})
        key = Key("shop", name)
        self.pods += 1
        self.store.sidecars[key] = f"http://10.0.0.{self.pods}:9484/metrics"
        return key

    def says(
        self,
        pod: Key | str,
        *,
        epoch: int | None = EPOCH,
        uncached: Break | None = None,
        **breaks: Break,
    ) -> None:
        """Its metrics, as they were read just now; `breaks` are by reason."""
        served = Served("shop", "chat", "web", "6d5f7")
        found = {Reason(reason): found for reason, found in breaks.items()}
        use = Use(served, epoch, found, uncached or Break())
        self.adherence.see(Sample(str(pod), NOW, {}, {PREFIX.name: use}), self.now)

    def signature(self) -> Any:
        """By which the reconcile is woken."""
        found = self.adherence.deviations(PREFIX, EPOCH, self.now)
        return signature(found, self.adherence.unheard(PREFIX, self.now))

    def record(self) -> list[str]:
        """Write the status, as a reconcile does; what is told of it."""
        found = self.adherence.deviations(PREFIX, EPOCH, self.now)
        unheard = self.adherence.unheard(PREFIX, self.now)
        before = self.status
        self.status = counts(1, self.pods, found, unheard, EPOCH, before)
        return list(began(before, self.status))

    def broke(self, count: int, place: str = "tools[3]", *, ago: int = 0) -> Break:
        """So many requests of a reason, the last one so many seconds ago."""
        return Break(count, self.now - timedelta(seconds=ago), place)


def test_who_keeps_to_the_contract_is_not_named() -> None:
    """Nor is who mounts the bundle without a sidecar, or has only just been started."""
    cluster = Cluster()
    cluster.says(cluster.pod("good"))
    starting = cluster.pod("starting")
    del cluster.store.sidecars[cluster.pod("alone")]
    assert cluster.signature() == {starting}
    assert cluster.record() == []
    assert cluster.status == ConsumerCounts(namespaces=1, pods=3)


def test_a_pod_off_the_contract_is_named_until_ten_minutes_after_it() -> None:
    """With whose it is, what it did, and where; it is told once, and again when it is again so."""
    cluster = Cluster()
    pod = cluster.pod("web-1")
    cluster.says(pod, tools_order=cluster.broke(12))
    (note,) = cluster.record()
    for word in ("shop", "chat", "shop/web", "6d5f7", "tools_order at tools[3]"):
        assert word in note
    assert cluster.status.off_contract == 1
    assert cluster.status.exceptions == (
        ConsumerException(
            namespace="shop",
            pod="web-1",
            team="shop",
            surface="chat",
            workload="web",
            deploy_revision="6d5f7",
            epoch=EPOCH,
            reason="tools_order",
            at="tools[3]",
            count=12,
            last_seen=NOW,
        ),
    )
    cluster.now += timedelta(minutes=10, seconds=1)
    cluster.says(pod, tools_order=cluster.broke(12, ago=601))
    assert cluster.signature() == set()
    assert cluster.record() == []
    assert cluster.status == ConsumerCounts(namespaces=1, pods=1)
    cluster.says(pod, tools_order=cluster.broke(13))
    assert len(cluster.record()) == 1


def test_what_goes_on_is_written_every_five_minutes_and_told_no_more() -> None:
    """However often it is read, and wherever the next one differs."""
    cluster = Cluster()
    pod = cluster.pod("web-1")
    written, woken = set(), set()
    for second in range(0, 600, 15):
        cluster.now = NOW + timedelta(seconds=second)
        place = f"tools[{second % 4}]"
        cluster.says(pod, tools_order=cluster.broke(second, place), own_tools=cluster.broke(1))
        woken.add(frozenset(cluster.signature()))
        assert len(cluster.record()) == (second == 0)
        written.add(cluster.status.exceptions)
    assert (len(written), len(woken)) == (2, 2)


def test_pods_of_one_roll_out_are_told_together() -> None:
    """Ten pods do the same: one Event."""
    cluster = Cluster()
    for number in range(10):
        cluster.says(cluster.pod(f"web-{number}"), own_tools=cluster.broke(1))
    assert len(cluster.record()) == 1
    assert cluster.status.off_contract == 10


def test_uncached_text_of_its_own_is_named_and_not_told() -> None:
    """It is on the contract, and may be paying twice for it; until ten minutes after the last."""
    cluster = Cluster()
    pod = cluster.pod("web-1")
    cluster.says(pod, uncached=cluster.broke(7))
    before = cluster.signature()
    assert cluster.record() == []
    assert (cluster.status.off_contract, cluster.status.uncached_system) == (0, 1)
    (row,) = cluster.status.exceptions
    assert (row.team, row.reason, row.uncached_system, row.last_seen) == ("shop", None, 7, NOW)

    cluster.now += timedelta(seconds=15)
    cluster.says(pod, uncached=cluster.broke(8))
    assert cluster.signature() == before
    cluster.record()
    assert cluster.status.exceptions == (row,), "counts alone are not worth a write"

    cluster.says(pod, uncached=cluster.broke(9), own_tools=cluster.broke(1))
    assert len(cluster.record()) == 1
    (row,) = cluster.status.exceptions
    assert (row.reason, row.count, row.uncached_system) == ("own_tools", 1, 9)
    cluster.says(pod, uncached=Break(), own_tools=cluster.broke(1))
    cluster.record()
    (row,) = cluster.status.exceptions
    assert (row.reason, row.uncached_system) == ("own_tools", None)

    cluster.now += timedelta(minutes=11)
    cluster.says(pod, uncached=cluster.broke(9, ago=601))
    cluster.record()
    assert cluster.status == ConsumerCounts(namespaces=1, pods=1)


def test_the_worst_are_named_first() -> None:
    """While a version comes all pods are on an old bundle, and the list has an end."""
    cluster = Cluster()
    for name in ("a-old", "b-uncached", "c-breaks"):
        uncached = cluster.broke(1) if name == "b-uncached" else None
        breaks = {"own_tools": cluster.broke(1)} if name == "c-breaks" else {}
        cluster.says(cluster.pod(name), epoch=EPOCH - 1, uncached=uncached, **breaks)
    cluster.record()
    assert [row.pod for row in cluster.status.exceptions] == ["c-breaks", "b-uncached", "a-old"]


def test_pods_on_another_bundle_are_counted_and_not_told() -> None:
    """Every version begins so. Those that break the contract come first."""
    cluster = Cluster()
    cluster.says(cluster.pod("a"), epoch=EPOCH - 1)
    cluster.says(cluster.pod("b"), epoch=EPOCH - 1, ttl_order=cluster.broke(1, "messages"))
    cluster.says(cluster.pod("c"), epoch=None)
    assert len(cluster.record()) == 1
    assert (cluster.status.old_bundle, cluster.status.off_contract) == (2, 1)
    assert [(row.pod, row.epoch, row.reason) for row in cluster.status.exceptions] == [
        ("b", EPOCH - 1, "ttl_order"),
        ("a", EPOCH - 1, None),
    ]


def test_a_sidecar_that_does_not_answer_is_unknown_after_ten_minutes() -> None:
    """It is taken to be as it was until then; a Prometheus names it by its address."""
    cluster = Cluster()
    pod = cluster.pod("web-1")
    cluster.says("10.0.0.1:9484", own_tools=cluster.broke(1))
    cluster.record()
    cluster.now += timedelta(minutes=9)
    cluster.adherence.forget(cluster.now)
    cluster.record()
    assert cluster.status.off_contract == 1
    cluster.now += timedelta(minutes=2)
    cluster.adherence.forget(cluster.now)
    assert cluster.record() == []
    assert cluster.status.exceptions == (ConsumerException(namespace="shop", pod=pod.name),)
    cluster.store.lose_pod(pod)
    cluster.record()
    assert not cluster.status.exceptions


def test_a_controller_that_starts_anew_takes_nothing_back() -> None:
    """Until a sidecar was heard its row stands, and it is not told again."""
    cluster = Cluster()
    cluster.says(cluster.pod("old"), epoch=EPOCH - 1)
    cluster.says(cluster.pod("off"), own_tools=cluster.broke(1))
    cluster.says(cluster.pod("well"), own_tools=cluster.broke(1))
    cluster.record()
    before = cluster.status
    assert (before.old_bundle, before.off_contract) == (1, 2)

    cluster.adherence = Adherence(cluster.store, NOW)
    asleep = cluster.signature()
    assert cluster.record() == []
    assert cluster.status == before

    cluster.says(Key("shop", "off"), own_tools=cluster.broke(1))
    cluster.says(Key("shop", "well"))
    assert cluster.signature() != asleep, "what was heard is looked at"
    assert cluster.record() == []
    assert [row.pod for row in cluster.status.exceptions] == ["off", "old"]
    assert (cluster.status.old_bundle, cluster.status.off_contract) == (1, 1)


def test_the_status_names_a_bounded_number() -> None:
    """The counts are of all."""
    cluster = Cluster()
    for number in range(EXCEPTIONS_LIMIT + 10):
        cluster.says(cluster.pod(f"web-{number}"), epoch=1)
    cluster.record()
    assert cluster.status.old_bundle == EXCEPTIONS_LIMIT + 10
    assert len(cluster.status.exceptions) == EXCEPTIONS_LIMIT
