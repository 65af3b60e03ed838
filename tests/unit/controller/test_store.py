"""The operator's memory: what is known better is not undone by an event that comes late."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.cluster import Object
from headwater.contract.digest import Digest
from headwater.controller.consumers import withdrawn_annotation
from headwater.controller.objects import (
    BUNDLE,
    PREFIX_LABEL,
    REVISION,
    Key,
    bundle_config_map,
    bundle_name,
    revision_config_map,
)
from headwater.controller.store import Resolution, Store
from headwater.resources.prefix import Consumers
from headwater.warmer.report import Finished, Report
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


@pytest.mark.parametrize(
    ("status", "settled"),
    [
        pytest.param({}, False, id="never looked at"),
        pytest.param({"observedGeneration": 3}, False, id="edited since"),
        pytest.param({"observedGeneration": 4}, True, id="as it was"),
    ],
)
def test_what_was_edited_is_not_settled(status: dict[str, Any], settled: bool) -> None:  # noqa: FBT001
    """It is looked at first by a controller that starts; what is not a prefix can wait."""
    store = Store()
    store.see_prefix(stored({**prompt_prefix(), "status": status}, generation=4))
    assert store.is_settled(PREFIX) is settled
    assert store.is_settled(OTHER)


def test_a_newer_prefix_keeps_what_was_found_out_about_it() -> None:
    """The record goes on; its body is the new one, whole."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5))
    record = store.prefixes[PREFIX]
    record.published = {"sales": "uid"}
    record.trim()
    assert store.see_prefix(stored(prompt_prefix(version="v3"), 6))
    assert store.prefixes[PREFIX] is record
    assert (record.full, record.published) == (True, {"sales": "uid"})
    assert record.body["spec"]["version"] == "v3"


def test_another_prefix_of_the_same_name_is_another_prefix() -> None:
    """Deleted and made again: nothing that was known of the former holds."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5))
    store.prefixes[PREFIX].published = {"sales": "uid"}
    assert store.see_prefix(stored(prompt_prefix(), 6, uid="1111"))
    assert store.prefixes[PREFIX].published == {}


def test_a_trimmed_prefix_has_no_content() -> None:
    """A thousand prompts do not stay in memory; everything else that is read does."""
    store = Store()
    kept = {"deletionTimestamp": "now", "finalizers": ["headwater.dev/consumers"]}
    read = {"headwater.dev/force-deletion": "true", "headwater.dev/lint-ignore": "today"}
    annotations = {**read, "example.com/notes": "long"}
    added = {"managedFields": [{"manager": "kubectl"}], "annotations": annotations}
    body = stored(prompt_prefix(), 5, **added, **kept)
    store.see_prefix(body | {"status": {"phase": "Stable"}})
    record = store.prefixes[PREFIX]
    record.trim()
    record.trim()
    assert not record.full
    assert record.body["spec"]["content"] == {}
    assert record.body["spec"]["version"] == "v2"
    assert record.body["status"] == {"phase": "Stable"}
    assert record.body["metadata"] == {
        "name": PREFIX.name,
        "namespace": PREFIX.namespace,
        "uid": "0000",
        "generation": 1,
        "annotations": read,
        **kept,
    }


def test_what_a_resolution_rests_on() -> None:
    """The spec, and the rules to be ignored: an annotation is no new generation."""
    store = Store()
    ignore = {"headwater.dev/lint-ignore": "today"}
    store.see_prefix(stored(prompt_prefix(), 5))
    record = store.prefixes[PREFIX]
    before = record.asks
    store.see_prefix(stored(prompt_prefix(), 6, annotations={"example.com/notes": "long"}))
    assert record.asks == before
    store.see_prefix(stored(prompt_prefix(), 7, annotations=ignore))
    asked = record.asks
    assert asked != before
    record.trim()
    assert record.asks == asked
    store.see_prefix(stored(prompt_prefix(), 8, annotations=ignore, generation=2))
    assert record.asks != asked


@pytest.mark.parametrize(
    ("consumers", "names"),
    [
        pytest.param({"namespaceSelector": {}}, {"sales", "help"}, id="all"),
        pytest.param({"namespaceSelector": {"matchLabels": {"a": "b"}}}, {"sales"}, id="selected"),
        pytest.param({"namespaces": ["help", "ending", "unborn"]}, {"help"}, id="named"),
        pytest.param(
            {"namespaceSelector": {"matchLabels": {"a": "b"}}, "namespaces": ["help"]},
            {"sales", "help"},
            id="either",
        ),
    ],
)
def test_the_namespaces_of_a_prefix(consumers: Object, names: set[str]) -> None:
    """Those that are there and stay, by label and by name."""
    store = Store()
    store.see_namespace(stored({"metadata": {"name": "sales", "labels": {"a": "b"}}}))
    store.see_namespace(stored({"metadata": {"name": "help"}}))
    ending = {"name": "ending", "labels": {"a": "b"}}
    store.see_namespace(stored({"metadata": ending}, deletionTimestamp="now"))
    assert store.namespaces_of(Consumers.model_validate(consumers)) == names


def test_an_answer_brings_what_others_changed_meanwhile() -> None:
    """The event of our own write is no news, so what came with it must not be lost."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5))
    record = store.prefixes[PREFIX]
    record.trim()
    forced = {"headwater.dev/force-deletion": "true"}
    answer = stored(prompt_prefix(), 7, annotations=forced) | {"status": {"epoch": 2}}
    record.wrote(answer)
    assert record.body["metadata"]["annotations"] == forced
    assert record.body["status"] == {"epoch": 2}
    assert not store.see_prefix(stored(prompt_prefix(), 7))
    assert store.see_prefix(stored(prompt_prefix(), 8))


@pytest.mark.parametrize(
    ("version", "generation"),
    [pytest.param(7, 2, id="another spec"), pytest.param(4, 1, id="late")],
)
def test_an_answer_does_not_hide_what_it_does_not_bring(version: int, generation: int) -> None:
    """A new spec comes with its event, and an answer may come after a newer event."""
    store = Store()
    store.see_prefix(stored(prompt_prefix(), 5, finalizers=["example.com/theirs"]))
    record = store.prefixes[PREFIX]
    record.wrote(stored(prompt_prefix(), version, generation=generation))
    assert record.resource_version == 5
    assert record.body["metadata"]["finalizers"] == ["example.com/theirs"]


def test_the_clusters_own_namespaces_get_no_bundle() -> None:
    """However they are selected, by label, by name or with all."""
    store = Store()
    for name in ("kube-system", "sales"):
        labels = {"kubernetes.io/metadata.name": name}
        store.see_namespace(namespace(1, name=name, labels=labels))
    everywhere = {"namespaceSelector": {}, "namespaces": ["kube-system"]}
    assert store.namespaces_of(Consumers.model_validate(everywhere)) == {"sales"}
    by_label = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    }
    assert store.namespaces_of(Consumers.model_validate(by_label)) == set()


def test_namespaces_may_be_asked_first() -> None:
    """With a label that the cluster demands, a prefix gets none of those without."""
    store = Store(("headwater.dev/inject", "enabled"))
    store.see_namespace(namespace(1, name="in", labels={"headwater.dev/inject": "enabled"}))
    store.see_namespace(namespace(1, name="opted-out", labels={"headwater.dev/inject": "disabled"}))
    store.see_namespace(namespace(1, name="out", labels={}))
    everywhere = {"namespaceSelector": {}, "namespaces": ["out"]}
    assert store.namespaces_of(Consumers.model_validate(everywhere)) == {"in"}


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
    ours = stored(bundle_config_map(PREFIX, "sales", bundle_files(), 3), 5)
    edited = stored(bundle_config_map(PREFIX, "sales", bundle_files(), 3), 4)
    edited["data"] = {}
    assert store.see_config_map(ours) is not None
    assert store.see_config_map(edited) is None
    assert store.see_config_map(ours) is None
    (found,) = store.found(PREFIX, BUNDLE)
    assert found.digests == {Digest.of(ONE)}


def test_config_maps_are_found_by_prefix_and_role() -> None:
    """And forgotten when they are gone; the last that was known of them is given back."""
    store = Store()
    bundle = stored(bundle_config_map(PREFIX, "sales", bundle_files(), 3))
    kept = stored(revision_config_map(PREFIX, "1234", revision("v1", ONE), ONE, 3))
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
    body = stored(bundle_config_map(PREFIX, "sales", bundle_files(), 3), 1)
    store.see_config_map(body)
    body["metadata"]["labels"][PREFIX_LABEL] = OTHER.name
    body["metadata"]["resourceVersion"] = "2"
    store.see_config_map(body)
    assert store.found(PREFIX, BUNDLE) == []
    (found,) = store.found(OTHER, BUNDLE)
    store.lose_config_map(found.key)
    assert store.found(OTHER, BUNDLE) == []


def pod(name: str, *volumes: Object, phase: str = "Running", **metadata: Any) -> Object:
    body = {
        "metadata": {"namespace": "sales", "name": name},
        "spec": {"volumes": list(volumes)},
        "status": {"phase": phase},
    }
    return stored(body, **metadata)


def volume(config_map: str) -> Object:
    return {"name": "contract", "configMap": {"name": config_map}}


BUNDLE_VOLUME = volume(bundle_name(PREFIX))


@pytest.mark.parametrize(
    ("volumes", "prefixes"),
    [
        pytest.param([BUNDLE_VOLUME], {PREFIX}, id="a volume"),
        pytest.param(
            [
                {
                    "name": "all",
                    "projected": {
                        "sources": [
                            {"secret": {"name": "tls"}},
                            {"configMap": {"name": bundle_name(PREFIX)}},
                            {"configMap": {"name": bundle_name(OTHER)}},
                        ]
                    },
                }
            ],
            {PREFIX, OTHER},
            id="a projected volume",
        ),
        pytest.param([volume("headwater.team.a.b")], {Key("team", "a.b")}, id="a name with dots"),
        pytest.param([volume("headwater.team"), volume("settings")], set(), id="other ConfigMaps"),
        pytest.param([{"name": "tmp", "emptyDir": {}}], set(), id="no ConfigMap"),
    ],
)
def test_a_pod_consumes_the_bundles_that_it_mounts(
    volumes: list[Object], prefixes: set[Key]
) -> None:
    """By the bundles' names, wherever in the pod's volumes they stand."""
    store = Store()
    assert store.see_pod(pod("web", *volumes)) == prefixes
    for prefix in prefixes:
        (consumer,) = store.consumers_of(prefix)
        assert consumer.pod == Key("sales", "web")
        assert consumer.created == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert store.see_pod(pod("web", *volumes)) == set()


@pytest.mark.parametrize("end", [{"phase": "Succeeded"}, {"phase": "Failed"}, {"gone": True}])
def test_a_pod_that_ends_is_no_consumer(end: dict[str, Any]) -> None:
    """Whether it finished or is being deleted: nothing reads its volumes any more."""
    store = Store()
    store.see_pod(pod("web", BUNDLE_VOLUME))
    store.see_pod(pod("api", BUNDLE_VOLUME))
    metadata = {"deletionTimestamp": "now"} if end.pop("gone", False) else {}
    assert store.see_pod(pod("web", BUNDLE_VOLUME, **end, **metadata)) == {PREFIX}
    assert [consumer.pod.name for consumer in store.consumers_of(PREFIX)] == ["api"]
    assert store.lose_pod(Key("sales", "api")) == {PREFIX}
    assert store.lose_pod(Key("sales", "api")) == set()
    assert store.consumers_of(PREFIX) == []
    assert store.pods() == set()


def test_what_a_pod_was_told_is_by_prefix() -> None:
    """The annotation is the prefix's own, so two aborts do not cover each other."""
    store = Store()
    told = {withdrawn_annotation(PREFIX): "7"}
    store.see_pod(pod("web", BUNDLE_VOLUME, volume(bundle_name(OTHER)), annotations=told))
    assert [consumer.told for consumer in store.consumers_of(PREFIX)] == ["7"]
    assert [consumer.told for consumer in store.consumers_of(OTHER)] == [""]


def test_the_annotation_is_one_that_kubernetes_takes() -> None:
    """The name after the slash has at most 63 characters, however long the prefix's is."""
    domain, _, name = withdrawn_annotation(Key("n" * 63, "p" * 253)).partition("/")
    assert domain == "headwater.dev"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.]{0,61}[a-z0-9])?", name)


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
    run = Finished(Report())
    assert store.see_run(key, "pod-1", run)
    assert not store.see_run(key, "pod-1", run)
    assert store.runs(key) == {"pod-1": run}
    store.lose_run(key, "pod-1")
    store.lose_run(Key("ai-platform", "unknown"), "pod-1")
    assert store.runs(key) == {}


def test_the_trouble_of_the_latest_pod_counts() -> None:
    """It is news where it changes, and gone where the pod goes or gets on."""
    store = Store()
    key = Key("ai-platform", "keep-warm")

    def pod(uid: str, minute: int) -> dict[str, Any]:
        return {"metadata": {"uid": uid, "creationTimestamp": f"2026-11-21T09:{minute:02}:00Z"}}

    assert store.see_trouble(key, pod("b", 4), "no room")
    assert not store.see_trouble(key, pod("b", 4), "no room")
    assert store.see_trouble(key, pod("a", 0), "no image")
    assert store.trouble(key) == ("2026-11-21T09:04:00Z", "no room")
    assert store.see_trouble(key, pod("b", 4), "")
    store.lose_run(key, "a")
    assert store.trouble(key) == ("", "")


def test_who_refers_to_a_config_map() -> None:
    """Prefixes of its namespace whose content lies in it, by their last resolution."""
    store = Store()
    store.see_prefix(stored(prompt_prefix()))
    prompts = Key("ai-platform", "prompts")
    assert list(store.prefixes_that_refer_to(prompts)) == []
    store.prefixes[PREFIX].resolution = Resolution(references=frozenset({"prompts"}))
    assert list(store.prefixes_that_refer_to(prompts)) == [PREFIX]
    assert list(store.prefixes_that_refer_to(Key("elsewhere", "prompts"))) == []
