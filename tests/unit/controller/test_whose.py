"""Whose evidence a pod's counters are: what it says of itself decides nothing."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.controller.evidence import Evidence
from headwater.controller.objects import Key, bundle_config_map, bundle_name
from headwater.controller.store import Store
from headwater.controller.watch import Work
from headwater.evidence.ledger import Ledger, Sample, Series
from headwater.rollout.state import Counts
from tests.unit.controller.bodies import prompt_prefix, stored

OPENED = datetime(2026, 11, 21, 9, tzinfo=UTC)
PLATFORM, STAGING = Key("ai-platform", "org-core"), Key("ai-staging", "org-core")
DIGEST, MODEL = "0123456789ab", "claude-opus-4-8"


class Source:
    """One reading of one target."""

    def __init__(self, target: str, name: str = "org-core") -> None:
        counts = {Series(name, DIGEST, MODEL): Counts(hits=50)}
        self._sample = Sample(target, OPENED + timedelta(minutes=1), counts)

    async def read(self, take: Callable[[Sample], object]) -> None:
        take(self._sample)


def store() -> Store:
    """Two prefixes of one name, and a namespace that has the bundle of the first."""
    found = Store()
    for number, key in enumerate((PLATFORM, STAGING), 1):
        body = stored(prompt_prefix(), number, name=key.name)
        body["metadata"]["namespace"] = key.namespace
        found.see_prefix(body)
    for namespace in ("shop", "left"):
        bundle = bundle_config_map(PLATFORM, namespace, {"route.json": b"{}"}, 1)
        bundle["metadata"] |= {"uid": namespace, "resourceVersion": "7"}
        found.see_config_map(bundle)
    found.prefixes[PLATFORM].wanted = frozenset({"shop"})
    return found


def see_pod(of: Store, namespace: str, *mounts: str) -> Key:
    """Take in a pod with a sidecar that mounts these ConfigMaps."""
    pod = Key(namespace, "web")
    volumes = [{"name": name[-9:], "configMap": {"name": name}} for name in mounts]
    metadata = {"namespace": namespace, "name": "web", "creationTimestamp": "2026-11-21T09:00:00Z"}
    of.see_pod({"metadata": metadata, "spec": {"volumes": volumes}})
    of.sidecars[pod] = "http://10.0.0.7:9484/metrics"
    return pod


def counted(of: Store, source: Source, trusted: tuple[str, ...] = ()) -> dict[Key, int]:
    """Return the hits that a reading brought, by prefix."""
    looked: set[Any] = set()
    now = OPENED + timedelta(minutes=2)
    evidence = Evidence(
        of, Ledger(OPENED), source, None, timedelta(0), lambda: now, trusted=trusted
    )
    look: Callable[[Work, timedelta], None] = lambda work, _: looked.add(work.key)  # noqa: E731
    asyncio.run(evidence.gather(look))
    totals = {key: evidence.ledger.totals(str(key), DIGEST) for key in of.prefixes}
    found = {key: counts[MODEL].hits for key, counts in totals.items() if counts}
    assert found.keys() <= looked
    return found


def test_after_a_start_the_bundle_that_stands_there_says_it() -> None:
    """Nothing was reconciled yet: else what comes meanwhile would count for nobody."""
    of = store()
    of.prefixes[PLATFORM].wanted = None
    see_pod(of, "shop", bundle_name(PLATFORM))
    assert counted(of, Source("shop/web")) == {PLATFORM: 50}


def test_a_namespace_that_the_prefix_is_not_for_counts_for_nobody() -> None:
    """Whatever stands there."""
    of = store()
    see_pod(of, "left", bundle_name(PLATFORM))
    assert counted(of, Source("left/web")) == {}


def test_of_two_prefixes_of_one_name_neither_is_meant() -> None:
    """A sidecar refuses to start with both; a program of somebody's may not."""
    of = store()
    bundle = bundle_config_map(STAGING, "shop", {"route.json": b"{}"}, 1)
    bundle["metadata"] |= {"uid": "other", "resourceVersion": "8"}
    of.see_config_map(bundle)
    see_pod(of, "shop", bundle_name(PLATFORM), bundle_name(STAGING))
    assert counted(of, Source("shop/web")) == {}


@pytest.mark.parametrize("target", ["shop/web", "10.0.0.7:9484"])
def test_a_consumer_counts_for_the_prefix_that_it_mounts(target: str) -> None:
    """And for no other of its name; a Prometheus names it by its address."""
    of = store()
    see_pod(of, "shop", bundle_name(PLATFORM))
    assert counted(of, Source(target)) == {PLATFORM: 50}


def test_a_pod_that_mounts_nothing_counts_for_nobody() -> None:
    """The label and a page of counters are quickly made."""
    of = store()
    see_pod(of, "shop")
    assert counted(of, Source("shop/web")) == {}


def test_a_namespace_that_has_no_bundle_counts_for_nobody() -> None:
    """A pod may say that it mounts what is not there."""
    of = store()
    see_pod(of, "elsewhere", bundle_name(PLATFORM))
    assert counted(of, Source("elsewhere/web")) == {}


def test_a_bundle_of_ones_own_making_is_none() -> None:
    """A ConfigMap of that name is quickly made: the prefix was never published there."""
    of = store()
    see_pod(of, "shop", bundle_name(STAGING))
    assert counted(of, Source("shop/web")) == {}


def test_a_target_that_is_no_pod_counts_where_it_is_vouched_for() -> None:
    """For each prefix of the name: nobody knows which of them it serves."""
    target = "http://10.9.9.9:9484/metrics"
    assert counted(store(), Source(target)) == {}
    assert counted(store(), Source(target), (target,)) == {PLATFORM: 50, STAGING: 50}
    assert counted(store(), Source("10.9.9.9:9484"), (target,)) == {PLATFORM: 50, STAGING: 50}
