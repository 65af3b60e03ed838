"""The operator's memory: what is known better is not undone by an event that comes late."""

from typing import Any

import pytest

from headwater.cluster import Object
from headwater.contract.digest import Digest
from headwater.controller.objects import (
    BUNDLE,
    PREFIX_LABEL,
    REVISION,
    Key,
    bundle_config_map,
    revision_config_map,
)
from headwater.controller.store import Resolution, Store
from headwater.warmer.report import Report
from tests.unit.controller.bodies import (
    ONE,
    PREFIX,
    bundle_files,
    prompt_prefix,
    revision,
    stored,
)

OTHER = Key("ai-platform", "sales-desk")


def namespace(version: int, **metadata: Any) -> Object:
    return stored({"metadata": {"name": "sales"}}, version, **metadata)


def warmer(version: int, prefix: str = "help-desk", **metadata: Any) -> Object:
    body = {
        "metadata": {"namespace": "ai-platform", "name": "keep-warm"},
        "spec": {"prefixRef": {"name": prefix}},
    }
    return stored(body, version, **metadata)


@pytest.mark.parametrize("uid", ["0000", "1111"])
def test_a_late_prefix_changes_nothing(uid: str) -> None:
    """Not even one of an object that was deleted before this one was made."""
    store = Store()
    assert store.see_prefix(stored(prompt_prefix(version="v2"), 5))
    assert not store.see_prefix(stored(prompt_prefix(version="v1"), 4, uid=uid))
    assert not store.see_prefix(stored(prompt_prefix(version="v1"), 5))
    assert store.prefixes[PREFIX].body["spec"]["version"] == "v2"


def test_a_newer_prefix_keeps_what_was_found_out_about_it() -> None:
    """The record goes on; its body is the new one, whole."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5))
    record = store.prefixes[PREFIX]
    record.published = {"sales"}
    record.trim()
    assert store.see_prefix(stored(prompt_prefix(version="v3"), 6))
    assert store.prefixes[PREFIX] is record
    assert (record.full, record.published) == (True, {"sales"})
    assert record.body["spec"]["version"] == "v3"


def test_another_prefix_of_the_same_name_is_another_prefix() -> None:
    """Deleted and made again: nothing that was known of the former holds."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5))
    store.prefixes[PREFIX].published = {"sales"}
    assert store.see_prefix(stored(prompt_prefix(), 6, uid="1111"))
    assert store.prefixes[PREFIX].published == set()


def test_a_trimmed_prefix_has_no_content() -> None:
    """A thousand prompts do not stay in memory; everything else that is read does."""
    store = Store()
    body = stored(prompt_prefix(), 5, managedFields=[{"manager": "kubectl"}])
    store.see_prefix(body | {"status": {"phase": "Stable"}})
    record = store.prefixes[PREFIX]
    record.trim()
    record.trim()
    assert not record.full
    assert record.body["spec"]["content"] == {}
    assert record.body["spec"]["version"] == "v2"
    assert record.body["status"] == {"phase": "Stable"}
    assert set(record.body["metadata"]) == {"name", "namespace", "uid", "generation"}


def test_a_late_namespace_changes_nothing() -> None:
    """A page of a list may be older than what was watched meanwhile."""
    store = Store()
    assert store.see_namespace(namespace(5, labels={"team": "sales"}))
    assert not store.see_namespace(namespace(4, labels={}))
    assert store.namespaces["sales"].labels == {"team": "sales"}


def test_a_namespace_is_news_where_labels_or_its_end_change() -> None:
    """Annotations and the rest concern nobody."""
    store = Store()
    assert store.see_namespace(namespace(1))
    assert not store.see_namespace(namespace(2, annotations={"a": "b"}))
    assert store.see_namespace(namespace(3, labels={"team": "sales"}))
    assert store.see_namespace(namespace(4, labels={"team": "sales"}, deletionTimestamp="now"))
    assert store.namespaces["sales"].terminating


@pytest.mark.parametrize("uid", ["0000", "1111"])
def test_a_late_warmer_changes_nothing(uid: str) -> None:
    """As with a prefix."""
    store = Store()
    assert store.see_warmer(warmer(5))
    assert not store.see_warmer(warmer(4, prefix="sales-desk", uid=uid))
    assert len(list(store.warmers_of(PREFIX))) == 1
    assert list(store.warmers_of(OTHER)) == []


def test_warmers_are_those_of_the_prefix_and_its_namespace() -> None:
    """A name means another prefix in another namespace."""
    store = Store()
    store.see_warmer(warmer(5))
    assert list(store.warmers_of(Key("elsewhere", "help-desk"))) == []


def test_a_late_config_map_changes_nothing() -> None:
    """Our own write above all: the event of what stood there before comes after it."""
    store = Store()
    ours = stored(bundle_config_map(PREFIX, "sales", bundle_files()), 5)
    edited = stored(bundle_config_map(PREFIX, "sales", bundle_files()), 4)
    edited["data"] = {}
    assert store.see_config_map(ours) is not None
    assert store.see_config_map(edited) is None
    assert store.see_config_map(ours) is None
    (found,) = store.found(PREFIX, BUNDLE)
    assert found.digests == {Digest.of(ONE)}


def test_config_maps_are_found_by_prefix_and_role() -> None:
    """And forgotten when they are gone; the last that was known of them is given back."""
    store = Store()
    bundle = stored(bundle_config_map(PREFIX, "sales", bundle_files()))
    kept = stored(revision_config_map(PREFIX, "1234", revision("v1", ONE), ONE))
    for body in (bundle, kept):
        store.see_config_map(body)
    (found,) = store.found(PREFIX, BUNDLE)
    assert store.bundle_in(PREFIX, found.key) == found
    assert store.bundle_in(OTHER, found.key) is None
    (of_revision,) = store.found(PREFIX, REVISION)
    assert store.bundle_in(PREFIX, of_revision.key) is None
    assert set(store.config_maps()) == {found.key, of_revision.key}

    assert store.lose_config_map(found.key) == found
    assert store.found(PREFIX, BUNDLE) == []
    assert store.lose_config_map(found.key) is None


def test_a_bundle_that_was_given_another_prefix_is_missing_from_its_own() -> None:
    """Somebody changed its labels: its prefix must see that it has none there any more."""
    store = Store()
    body = stored(bundle_config_map(PREFIX, "sales", bundle_files()), 1)
    store.see_config_map(body)
    body["metadata"]["labels"][PREFIX_LABEL] = OTHER.name
    body["metadata"]["resourceVersion"] = "2"
    store.see_config_map(body)
    assert store.found(PREFIX, BUNDLE) == []
    (found,) = store.found(OTHER, BUNDLE)
    store.lose_config_map(found.key)
    assert store.found(OTHER, BUNDLE) == []


def test_a_cron_job_is_news_when_its_spec_moves() -> None:
    """Its status changes with every run, which concerns nobody."""
    store = Store()
    body = {"metadata": {"namespace": "ai-platform", "name": "headwater-keep-warm"}}
    assert store.see_cron_job(stored(body, 1))
    assert not store.see_cron_job(stored(body, 2))
    assert store.see_cron_job(stored(body, 3, generation=2))


def test_a_report_is_taken_once() -> None:
    """A pod's message does not change; when the pod goes, the status has it."""
    store = Store()
    key = Key("ai-platform", "keep-warm")
    report = Report()
    assert store.see_report(key, "pod-1", report)
    assert not store.see_report(key, "pod-1", report)
    assert store.reports(key) == [report]
    store.lose_report(key, "pod-1")
    store.lose_report(Key("ai-platform", "unknown"), "pod-1")
    assert store.reports(key) == []


def test_who_refers_to_a_config_map() -> None:
    """Prefixes of its namespace whose content lies in it, by their last resolution."""
    store = Store()
    store.see_prefix(stored(prompt_prefix()))
    prompts = Key("ai-platform", "prompts")
    assert list(store.prefixes_that_refer_to(prompts)) == []
    store.prefixes[PREFIX].resolution = Resolution(references=frozenset({"prompts"}))
    assert list(store.prefixes_that_refer_to(prompts)) == [PREFIX]
    assert list(store.prefixes_that_refer_to(Key("elsewhere", "prompts"))) == []
