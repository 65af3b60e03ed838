"""Which events concern which prefix."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from headwater.cluster import (
    CACHE_WARMER,
    CONFIG_MAP,
    NAMESPACE,
    POD,
    PROMPT_PREFIX,
    Cluster,
    Kind,
    Object,
)
from headwater.controller.objects import Key, bundle_name
from headwater.controller.store import Store
from headwater.controller.watch import Watcher, Work
from tests.unit.controller.bodies import PREFIX, prompt_prefix, stored
from tests.unit.controller.test_queue import in_jumping_time, now

NARROW = {"namespaceSelector": {"matchLabels": {"team": "sales"}}}


def pod(name: str, role: str = "sidecar") -> Object:
    volume = {"name": "contract", "configMap": {"name": bundle_name(PREFIX)}}
    labels = {"headwater.dev/role": role}
    body = {"metadata": {"namespace": "sales", "name": name, "labels": labels}}
    return stored({**body, "spec": {"volumes": [volume]}, "status": {"podIP": "10.0.0.7"}})


class Watched:
    """A watcher, a prefix, and the work that events made."""

    def __init__(self, consumers: Object = NARROW, **metadata: str) -> None:
        self.work: list[Work] = []
        self.watcher = Watcher(Store(), self.work.append)
        body = stored(prompt_prefix(consumers=consumers), 1, **metadata)
        self.watcher.take(PROMPT_PREFIX, body, gone=False)
        self.work.clear()

    def concerns(self, *pods: Object, gone: bool = False) -> int:
        """How often these events ask for a reconcile of the prefix."""
        for body in pods:
            self.watcher.take(POD, body, gone=gone)
        made, self.work[:] = list(self.work), []
        assert set(made) <= {Work(PROMPT_PREFIX, PREFIX)}
        return len(made)


def test_a_rollout_of_pods_concerns_a_prefix_with_its_first_and_last() -> None:
    """A thousand pods that start do not mean a thousand reconciles."""
    watched = Watched()
    many = [pod(f"web-{number}") for number in range(100)]
    assert watched.concerns(many[0]) == 1
    assert watched.concerns(*many) == 0
    assert watched.concerns(*many[2:], gone=True) == 0
    assert watched.concerns(*many[:2], gone=True) >= 1


def test_each_pod_concerns_a_deletion_that_is_held() -> None:
    """What it says of those who are left is true."""
    watched = Watched(deletionTimestamp="now")
    many = [pod(f"web-{number}") for number in range(5)]
    assert watched.concerns(*many) == 5
    assert watched.concerns(*many, gone=True) == 5


def test_our_own_jobs_are_no_consumers() -> None:
    """They mount the bundle for seconds, and would hold a deletion every few minutes."""
    watched = Watched()
    assert watched.concerns(pod("warm", role="warm")) == 0
    assert watched.watcher.store.consumers_of(PREFIX) == []


def test_a_pod_without_a_sidecar_has_no_metrics() -> None:
    """It is a consumer all the same, and is forgotten like one."""
    watched = Watched()
    watched.concerns(pod("web"), pod("api", role="consumer"))
    store = watched.watcher.store
    assert store.sidecars == {Key("sales", "web"): "http://10.0.0.7:9484/metrics"}
    assert {consumer.pod.name for consumer in store.consumers_of(PREFIX)} == {"web", "api"}
    watched.concerns(pod("web", role="consumer"))
    assert store.sidecars == {}
    watched.concerns(pod("web"), pod("api"), gone=True)
    assert store.pods() == set()


def test_a_program_with_the_library_is_read_where_it_says() -> None:
    """Its own registry has the sidecar's metrics; no port but its own is known."""
    watched = Watched()
    program = pod("api", role="consumer")
    program["metadata"]["annotations"] = {"headwater.dev/metrics-port": "9090"}
    watched.concerns(program)
    sidecars = watched.watcher.store.sidecars
    assert sidecars == {Key("sales", "api"): "http://10.0.0.7:9090/metrics"}


@pytest.mark.parametrize(
    "port",
    [
        *("9484@127.0.0.1:31998/x", "80/../admin?", "9484#", "1e3", "-1", "0", "65536", ""),
        *(" 9090", "9_090", "+9090", "\uff19\uff10\uff19\uff10", "9" * 5_000),
    ],
)
def test_no_text_of_a_pods_makers_is_in_an_address(port: str) -> None:
    """A port is a number; a pod that says anything else is not asked."""
    watched = Watched()
    hostile = pod("api")
    hostile["metadata"]["annotations"] = {"headwater.dev/metrics-port": port}
    watched.concerns(hostile)
    assert watched.watcher.store.sidecars == {}


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("fd00::7", "[fd00::7]"),
        ("metadata.internal", None),
        ("10.0.0.7:80/x", None),
        ("", None),
    ],
)
def test_an_address_is_a_number(address: str, host: str | None) -> None:
    """A name would be looked up, and lead wherever its owner likes."""
    watched = Watched()
    found = pod("api")
    found["status"]["podIP"] = address
    watched.concerns(found)
    urls = [] if host is None else [f"http://{host}:9484/metrics"]
    assert [*watched.watcher.store.sidecars.values()] == urls


def test_a_namespace_concerns_a_prefix_that_names_it() -> None:
    """When it is made, whatever its labels; another one does not."""
    watched = Watched(consumers={"namespaces": ["sales"]})
    for name in ("support", "sales"):
        watched.watcher.take(NAMESPACE, stored({"metadata": {"name": name}}), gone=False)
    assert watched.work == [Work(PROMPT_PREFIX, PREFIX)]


def cache_warmer(name: str, version: int, secret: str = "anthropic") -> Object:
    credential = {"name": "prod", "secretRef": {"name": secret, "key": "api-key"}}
    spec = {"prefixRef": {"name": "other"}, "credentials": [credential]}
    metadata = {"namespace": PREFIX.namespace, "name": name}
    return stored({"metadata": metadata, "spec": spec}, version)


def test_who_may_warm_is_asked_anew_where_it_can_change() -> None:
    """With a neighbour's credentials and a prefix's isolation, and not with each status."""
    watched = Watched()

    def asked(kind: Kind, body: Object, *, gone: bool = False) -> set[str]:
        watched.work.clear()
        watched.watcher.take(kind, body, gone=gone)
        return {work.key.name for work in watched.work if work.kind == CACHE_WARMER}

    def dedicated(version: int, isolation: str = "Dedicated") -> Object:
        consumers = {"isolation": isolation, "namespaces": ["sales"]}
        return stored(prompt_prefix(consumers=consumers), version)

    asked(CACHE_WARMER, cache_warmer("one", 1))
    assert asked(CACHE_WARMER, cache_warmer("two", 1)) == {"one", "two"}
    assert asked(CACHE_WARMER, cache_warmer("two", 2)) == {"two"}
    assert asked(CACHE_WARMER, cache_warmer("two", 3, "own")) == {"one", "two"}
    assert asked(PROMPT_PREFIX, dedicated(2)) == {"one", "two"}
    assert asked(PROMPT_PREFIX, dedicated(3)) == set()
    assert asked(PROMPT_PREFIX, dedicated(4, "Shared")) == {"one", "two"}
    assert asked(CACHE_WARMER, cache_warmer("two", 5), gone=True) == {"one", "two"}


def test_the_end_of_its_own_namespace_concerns_a_prefix() -> None:
    """Though its consumers be elsewhere: a deletion that is held is let go then."""
    watched = Watched()
    own = {"metadata": {"name": PREFIX.namespace}}
    watched.watcher.take(NAMESPACE, stored(own, 1, deletionTimestamp="now"), gone=False)
    assert watched.work == [Work(PROMPT_PREFIX, PREFIX)]


def config_map(version: int) -> Object:
    about = {"namespace": PREFIX.namespace, "name": "handbook"}
    labels = {"headwater.dev/role": "content"}
    return stored({"metadata": {**about, "labels": labels}, "data": {}}, version)


REMADE = [
    pytest.param(PROMPT_PREFIX, lambda at: stored(prompt_prefix(), at, uid=str(at)), id="prefix"),
    pytest.param(CACHE_WARMER, lambda at: cache_warmer("one", at), id="warmer"),
    pytest.param(CONFIG_MAP, config_map, id="content"),
    pytest.param(NAMESPACE, lambda at: stored({"metadata": {"name": "sales"}}, at), id="namespace"),
]
"""Kinds whose objects may be deleted and made anew under the same name at once."""


@pytest.mark.parametrize(("kind", "make"), REMADE)
def test_what_was_made_anew_is_not_lost_with_what_it_was(
    kind: Kind, make: Callable[[int], Object]
) -> None:
    """Events of two objects come in any order, though they have one name: kopf goes by uids."""
    watcher = Watcher(Store(), lambda _: None)
    watcher.take(kind, make(1), gone=False)
    watcher.take(kind, make(3), gone=False)
    watcher.take(kind, make(2), gone=True)
    (key,) = watcher.known(kind)
    watcher.take(kind, make(4), gone=True)
    assert key not in watcher.known(kind)


@pytest.mark.parametrize(("kind", "make"), REMADE)
async def test_what_is_made_anew_during_a_list_is_not_lost(
    kind: Kind, make: Callable[[int], Object]
) -> None:
    """The list does not have it yet, and the watch told of it meanwhile."""
    watcher = Watcher(Store(), lambda _: None)
    watcher.take(kind, make(1), gone=False)
    (key,) = watcher.known(kind)

    class Lists:
        made = True

        async def list(self, listed: Kind, *_: Any, **__: Any) -> AsyncIterator[Object]:
            if listed == kind and self.made:
                watcher.take(kind, make(3), gone=False)
            nothing: list[Object] = []
            for body in nothing:
                yield body

    lists: Any = Lists()
    await watcher.list_all(lists)
    assert key in watcher.known(kind)
    lists.made = False
    await watcher.list_all(lists)
    assert key not in watcher.known(kind)


class Lists:
    """A cluster that is empty, and notes when it is listed."""

    def __init__(self) -> None:
        self.at: list[float] = []

    async def list(self, kind: Kind, **_: Any) -> AsyncIterator[Object]:
        if kind == PROMPT_PREFIX:
            self.at.append(now())
        nothing: tuple[Object, ...] = ()
        for body in nothing:
            yield body


def test_what_kopf_lists_is_listed_once_more_when_it_is_through() -> None:
    """Ten thousand objects that it hands on for seconds cost one list, a later burst another."""

    async def story() -> None:
        watcher, cluster = Watcher(Store(), lambda _: None), Lists()
        looking = asyncio.create_task(watcher.look_for_deleted(cast("Cluster", cluster)))
        for _ in range(90):
            watcher.listed.set()
            await asyncio.sleep(0.1)
        await asyncio.sleep(100)
        watcher.listed.set()
        await asyncio.sleep(100)
        looking.cancel()
        first, second = cluster.at
        assert 9 < first <= 11
        assert 109 < second <= 111

    in_jumping_time(story())
