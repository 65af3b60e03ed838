"""What the operator remembers of the cluster: names, generations, digests, labels.

Content is never kept: a prefix's body is held from its event to its reconcile and is then
trimmed. Every entry carries the version of the object it was made from, so that a late event
cannot undo what is known better, our own writes above all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from headwater.cluster import Object
from headwater.cluster.labels import SYSTEM_NAMESPACES
from headwater.contract.digest import Digest
from headwater.contract.lint import IGNORE_ANNOTATION
from headwater.controller.authors import Authors, authors_of
from headwater.controller.consumers import Consumer, consumers_in
from headwater.controller.objects import BUNDLE, Found, Key, bundle_name, inspect
from headwater.resources import CacheWarmer
from headwater.resources.prefix import Consumers
from headwater.resources.warmer import Lane
from headwater.rollout.state import Counts
from headwater.warmer.report import Finished

FORCE_DELETION_ANNOTATION: Final = "headwater.dev/force-deletion"
"""On a PromptPrefix: with `true` it is deleted although pods mount its bundle."""
_ANNOTATIONS: Final = (FORCE_DELETION_ANNOTATION, IGNORE_ANNOTATION)
_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "generation",
    "deletionTimestamp",
    "finalizers",
)


@dataclass(frozen=True, slots=True)
class Objections:
    """What lint has against a content: how many errors and warnings, and which."""

    errors: int = 0
    warnings: int = 0
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a prefix's declared content.

    `digest` is that of the resolved bytes where they are what was declared; else `reason` and
    `message` say what is wrong. `tokens` estimates the contract by model; `objections` are None
    where lint did not see it.
    """

    digest: Digest | None = None
    reason: str = ""
    message: str = ""
    tokens: dict[str, int] = field(default_factory=dict)
    references: frozenset[str] = frozenset()
    missing: bool = False
    objections: Objections | None = None


@dataclass(slots=True)
class PrefixRecord:
    """A PromptPrefix, and what the operator found out about it."""

    body: Object
    full: bool
    resource_version: int
    authors: Authors = field(default_factory=Authors)
    resolution: Resolution | None = None
    resolved: tuple[int, str] = (0, "")
    """What the resolution rests on, see `asks`."""
    published: dict[str, str] = field(default_factory=dict)
    """Namespaces in which the bundle stood at the last reconcile, with their uids: a gap was made
    by hand, unless the namespace was made anew."""
    wanted: frozenset[str] | None = None
    """Namespaces that the bundle was for at the last reconcile; None before there was one."""
    counted: dict[str, dict[str, Counts]] = field(default_factory=dict)
    """Evidence totals by revision and model that stand in the status already."""
    recorded: Object | None = None
    """The status in which `counted` stands."""
    in_doubt: bool = False
    """A write failed, and whether it took effect is not known: read before deciding again."""

    @property
    def asks(self) -> tuple[int, str]:
        """The generation of the spec, and which rules lint shall ignore."""
        metadata = self.body["metadata"]
        annotations = metadata.get("annotations") or {}
        return metadata["generation"], annotations.get(IGNORE_ANNOTATION, "")

    def trim(self) -> None:
        """Let the content go; a later reconcile that needs it reads the object again."""
        if self.full:
            self.authors = authors_of(self.body["metadata"])
            spec = {name: part for name, part in self.body["spec"].items() if name != "content"}
            self.body = {
                "metadata": _slim(self.body["metadata"]),
                "spec": {**spec, "content": {}},
                "status": self.body.get("status") or {},
            }
            self.full = False

    def wrote(self, answer: Object) -> None:
        """Take in the API server's answer to a write of ours; its event is no news then.

        With it comes what others changed meanwhile, except for the spec: that has its own event.
        """
        metadata = answer["metadata"]
        version = int(metadata["resourceVersion"])
        same = metadata["generation"] == self.body["metadata"]["generation"]
        if same and version > self.resource_version:
            self.body["status"] = answer.get("status") or {}
            self.body["metadata"] = _slim(metadata)
            self.resource_version = version


@dataclass(frozen=True, slots=True)
class NamespaceRecord:
    """A namespace's labels, and whether it is going away."""

    uid: str
    labels: dict[str, str]
    terminating: bool
    resource_version: int = field(compare=False)


class Store:
    """The operator's memory. Single-threaded: it is touched from the event loop alone."""

    def __init__(self, consumer_label: tuple[str, str] | None = None) -> None:
        """Know nothing yet. With a label, only namespaces that have it get bundles."""
        self._consumer_label = consumer_label
        self.prefixes: dict[Key, PrefixRecord] = {}
        self.namespaces: dict[str, NamespaceRecord] = {}
        self.warmers: dict[Key, Object] = {}
        self.cron_jobs: dict[Key, int] = {}
        """Generation of each CronJob of ours: it moves when somebody changes the spec."""
        self.sidecars: dict[Key, str] = {}
        """Where each sidecar's metrics are, by its pod."""
        self._consumes: dict[Key, frozenset[Key]] = {}
        """The prefixes whose bundles each pod mounts."""
        self._consumers: dict[Key, dict[Key, Consumer]] = {}
        self._runs: dict[Key, dict[str, Finished]] = {}
        self._troubles: dict[Key, dict[str, tuple[str, str]]] = {}
        self._found: dict[Key, Found] = {}
        self._by_prefix: dict[Key, dict[Key, Found]] = {}
        self._by_label: dict[tuple[str, str], set[str]] = {}

    def see_prefix(self, body: Object) -> bool:
        """Take in a PromptPrefix; False where it is known in this version or a newer one."""
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        version = int(metadata["resourceVersion"])
        record = self.prefixes.get(key)
        if record is not None and version <= record.resource_version:
            return False
        if record is not None and record.body["metadata"]["uid"] == metadata["uid"]:
            record.body, record.full, record.resource_version = body, True, version
        else:
            self.prefixes[key] = PrefixRecord(body, full=True, resource_version=version)
        return True

    def is_settled(self, key: Key) -> bool:
        """Whether nothing was declared of a prefix since its status was written."""
        record = self.prefixes.get(key)
        if record is None:
            return True
        observed = (record.body.get("status") or {}).get("observedGeneration")
        return bool(observed == record.body["metadata"]["generation"])

    def see_namespace(self, body: Object) -> bool:
        """Take in a namespace; False where nothing that matters changed."""
        metadata = body["metadata"]
        record = NamespaceRecord(
            uid=metadata["uid"],
            labels=dict(metadata.get("labels") or {}),
            terminating="deletionTimestamp" in metadata,
            resource_version=int(metadata["resourceVersion"]),
        )
        known = self.namespaces.get(metadata["name"])
        if known is not None and record.resource_version <= known.resource_version:
            return False
        self.lose_namespace(metadata["name"])
        self.namespaces[metadata["name"]] = record
        for label in record.labels.items():
            self._by_label.setdefault(label, set()).add(metadata["name"])
        return record != known

    def lose_namespace(self, name: str) -> None:
        """Forget a namespace that is gone."""
        record = self.namespaces.pop(name, None)
        for label in record.labels.items() if record is not None else ():
            self._by_label[label].discard(name)
            if not self._by_label[label]:
                del self._by_label[label]

    def namespaces_of(self, consumers: Consumers) -> set[str]:
        """The namespaces that a prefix is for, that take part and are not going away."""
        # Prefixes times namespaces would be a million comparisons at a thousand of each.
        among = set(consumers.namespaces or ()) & self.namespaces.keys()
        if consumers.namespace_selector is not None:
            labels = consumers.namespace_selector.match_labels.items()
            known = (self._by_label.get(label, set()) for label in labels)
            among |= min(known, key=len, default=self.namespaces.keys())
        return {
            name
            for name in among
            if not self.namespaces[name].terminating
            and self._takes_part(name)
            and consumers.include(name, self.namespaces[name].labels)
        }

    def _takes_part(self, namespace: str) -> bool:
        """Return whether a prefix may choose a namespace, whatever the prefix says."""
        if namespace in SYSTEM_NAMESPACES:
            return False
        wanted = self._consumer_label
        return wanted is None or wanted in self.namespaces[namespace].labels.items()

    def see_warmer(self, body: Object) -> bool:
        """Take in a CacheWarmer; False where it is known in this version or a newer one."""
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        known = self.warmers.get(key)
        if known is not None:
            version = int(known["metadata"]["resourceVersion"])
            if int(metadata["resourceVersion"]) <= version:
                return False
        slim = {name: part for name, part in metadata.items() if name != "managedFields"}
        self.warmers[key] = {**body, "metadata": slim}
        return True

    def see_cron_job(self, body: Object) -> bool:
        """Take in a CronJob of ours; False where its spec is known."""
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        generation = int(metadata["generation"])
        changed = self.cron_jobs.get(key) != generation
        self.cron_jobs[key] = generation
        return changed

    def see_run(self, warmer: Key, pod: str, run: Finished) -> bool:
        """Take in what a warming pod reported; False where it is known."""
        runs = self._runs.setdefault(warmer, {})
        if pod in runs:
            return False
        runs[pod] = run
        return True

    def see_trouble(self, warmer: Key, body: Object, trouble: str) -> bool:
        """Take in why a warming pod reports nothing, empty where it may yet; False if known."""
        troubles, pod = self._troubles.setdefault(warmer, {}), body["metadata"]["uid"]
        _, known = troubles.pop(pod, ("", ""))
        if trouble:
            troubles[pod] = body["metadata"]["creationTimestamp"], trouble
        return trouble != known

    def lose_run(self, warmer: Key, pod: str) -> None:
        """Forget a pod that is gone; the status has what it reported."""
        self._runs.get(warmer, {}).pop(pod, None)
        self._troubles.get(warmer, {}).pop(pod, None)

    def runs(self, warmer: Key) -> dict[str, Finished]:
        """What the pods of a warmer reported, by the pod's uid."""
        return dict(self._runs.get(warmer, {}))

    def trouble(self, warmer: Key) -> tuple[str, str]:
        """When the latest pod was made that reports nothing, and why it does not."""
        return max(self._troubles.get(warmer, {}).values(), default=("", ""))

    def see_pod(self, body: Object) -> set[Key]:
        """Take in a pod; the prefixes that it became a consumer of, or is one no more."""
        metadata = body["metadata"]
        pod = Key(metadata["namespace"], metadata["name"])
        before = self._consumes.get(pod, frozenset())
        consumers = consumers_in(body)
        for prefix in before - consumers.keys():
            self._lose_consumer(prefix, pod)
        for prefix, consumer in consumers.items():
            self._consumers.setdefault(prefix, {})[pod] = consumer
        if consumers:
            self._consumes[pod] = frozenset(consumers)
        else:
            self._consumes.pop(pod, None)
        return set(before ^ consumers.keys())

    def lose_pod(self, pod: Key) -> set[Key]:
        """Forget a pod that is gone; the prefixes that it was a consumer of."""
        self.sidecars.pop(pod, None)
        prefixes = self._consumes.pop(pod, frozenset())
        for prefix in prefixes:
            self._lose_consumer(prefix, pod)
        return set(prefixes)

    def _lose_consumer(self, prefix: Key, pod: Key) -> None:
        del self._consumers[prefix][pod]
        if not self._consumers[prefix]:
            del self._consumers[prefix]

    def pods(self) -> set[Key]:
        """Every pod that something is known of."""
        return {*self.sidecars, *self._consumes}

    def consumers_of(self, prefix: Key) -> list[Consumer]:
        """The live pods that mount a prefix's bundle."""
        return list(self._consumers.get(prefix, {}).values())

    def prefixes_served_to(self, pod: Key) -> dict[str, Key]:
        """Return the prefixes, by name, whose bundle a pod mounts and its namespace is to have.

        That a pod mounts it is the pod's own word. Of two prefixes of one name, it could mean
        either, so neither is among them.
        """
        found: dict[str, list[Key]] = {}
        for prefix in self._consumes.get(pod, ()):
            if self._is_served(prefix, pod.namespace):
                found.setdefault(prefix.name, []).append(prefix)
        return {name: prefixes[0] for name, prefixes in found.items() if len(prefixes) == 1}

    def _is_served(self, prefix: Key, namespace: str) -> bool:
        """Return whether a bundle stands in a namespace that the prefix is for.

        It may be an older one, which could not be written anew.
        """
        record = self.prefixes.get(prefix)
        if record is None or self.bundle_in(prefix, Key(namespace, bundle_name(prefix))) is None:
            return False
        return record.wanted is None or namespace in record.wanted

    def see_config_map(self, body: Object) -> Found | None:
        """Take in a ConfigMap of ours; None where it is known in this version or a newer one."""
        found = inspect(body)
        known = self._found.get(found.key)
        if known is not None and found.resource_version <= known.resource_version:
            return None
        if known is not None:  # somebody may have given it another prefix's label
            self._by_prefix[known.prefix].pop(known.key, None)
        self._found[found.key] = found
        self._by_prefix.setdefault(found.prefix, {})[found.key] = found
        return found

    def lose_config_map(self, key: Key) -> Found | None:
        """Forget a ConfigMap that is gone; the last that was known of it."""
        found = self._found.pop(key, None)
        if found is not None:
            self._by_prefix.get(found.prefix, {}).pop(key, None)
        return found

    def found(self, prefix: Key, role: str) -> list[Found]:
        """The ConfigMaps of a prefix in one role."""
        return [found for found in self._by_prefix.get(prefix, {}).values() if found.role == role]

    def config_map(self, key: Key) -> Found | None:
        """What is known of one ConfigMap."""
        return self._found.get(key)

    def config_maps(self) -> list[Key]:
        """Every ConfigMap that is known."""
        return list(self._found)

    def bundle_in(self, prefix: Key, key: Key) -> Found | None:
        """The prefix's bundle of that name and namespace."""
        found = self._by_prefix.get(prefix, {}).get(key)
        return found if found is not None and found.role == BUNDLE else None

    def warmers_of(self, prefix: Key) -> Iterator[Object]:
        """The CacheWarmers that refer to a prefix."""
        for key, warmer in self.warmers.items():
            if key.namespace == prefix.namespace and _reference(warmer) == prefix.name:
                yield warmer

    def warmers_in(self, namespace: str) -> list[Key]:
        """The CacheWarmers of a namespace."""
        return [key for key in self.warmers if key.namespace == namespace]

    def is_dedicated(self, prefix: Key) -> bool:
        """Whether a prefix is there and shares nothing."""
        record = self.prefixes.get(prefix)
        if record is None:
            return False
        return bool(record.body["spec"]["consumers"].get("isolation") == "Dedicated")

    def lanes_of(self, prefix: Key) -> list[Lane]:
        """The lanes that a prefix's warmers keep, as their statuses have them."""
        return [
            lane
            for warmer in self.warmers_of(prefix)
            for lane in CacheWarmer.model_validate(warmer).status.lanes
        ]

    def prefixes_that_refer_to(self, config_map: Key) -> Iterator[Key]:
        """The prefixes whose content lies, in part, in this ConfigMap."""
        for key, record in self.prefixes.items():
            resolution = record.resolution
            if (
                key.namespace == config_map.namespace
                and resolution is not None
                and config_map.name in resolution.references
            ):
                yield key


def _slim(metadata: Object) -> Object:
    """What of a prefix's metadata anybody asks for."""
    slim: Object = {name: metadata[name] for name in _METADATA if name in metadata}
    annotations = metadata.get("annotations") or {}
    if kept := {name: annotations[name] for name in _ANNOTATIONS if name in annotations}:
        slim["annotations"] = kept
    return slim


def _reference(warmer: Object) -> Any:
    return warmer.get("spec", {}).get("prefixRef", {}).get("name")
