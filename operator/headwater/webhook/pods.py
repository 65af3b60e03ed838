"""What matters of a pod that is about to be created, and the names by which pods take part.

Only these fields are decoded, and each of them is checked on the way: a pod may be large, and
every pod of a namespace that takes part waits for this.
"""

import re
from typing import Final

import msgspec

from headwater.controller.objects import Key

INJECT_LABEL: Final = "headwater.dev/inject"
"""On a namespace, `enabled`: its pods take part. On a pod, `disabled`: this one does not."""
PREFIXES_ANNOTATION: Final = "headwater.dev/prefixes"
"""On a pod or its namespace: `namespace/name` of each prefix in use, the default one first."""
INJECTED_ANNOTATION: Final = "headwater.dev/injected"
"""Put on a pod: the prefixes that its sidecar serves."""
SKIPPED_ANNOTATION: Final = "headwater.dev/skipped"
"""Put on a pod: why it got no sidecar."""
LEFT_ALONE_ANNOTATION: Final = "headwater.dev/left-alone"
"""Put on a pod: its containers that go their own way to the provider."""

VERSION_LABEL: Final = "app.kubernetes.io/version"
_HASH_LABELS: Final = ("pod-template-hash", "controller-revision-hash")
"""Of ReplicaSets, and of StatefulSets and DaemonSets: a pod has them when it is created."""

PREFIXES_LIMIT: Final = 8
"""Prefixes of one pod: each is a volume, and a person who asks for more has erred."""

_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_REFERENCE: Final = re.compile(rf"({_DNS_LABEL})/((?!.{{64}}){_DNS_LABEL}(?:\.{_DNS_LABEL})*)")
_JOB_RUN: Final = re.compile(r"-\d{8,}$")


class Env(msgspec.Struct):
    """A variable; `value` is empty where it comes from somewhere else."""

    name: str
    value: str = ""


class Port(msgspec.Struct, rename="camel"):
    """A port that a container listens on."""

    container_port: int


class Container(msgspec.Struct, rename="camel"):
    """A container of either list."""

    name: str
    env: list[Env] | None = None
    ports: list[Port] | None = None


class Volume(msgspec.Struct):
    """A volume."""

    name: str


class Spec(msgspec.Struct, rename="camel"):
    """What runs."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    host_network: bool = False

    @property
    def all_containers(self) -> list[Container]:
        """Both lists."""
        return [*(self.init_containers or ()), *self.containers]


class Owner(msgspec.Struct, rename="camel"):
    """Who made the pod."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(msgspec.Struct, rename="camel"):
    """Who the pod is; a name is often not made yet."""

    name: str = ""
    generate_name: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None


class Pod(msgspec.Struct):
    """A pod, as far as it matters."""

    spec: Spec
    metadata: Metadata = msgspec.field(default_factory=Metadata)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.metadata.labels or {}

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""
        return self.metadata.annotations or {}

    @property
    def controller(self) -> Owner | None:
        """What made it, and would make another one."""
        owners = self.metadata.owner_references or ()
        return next((owner for owner in owners if owner.controller), None)

    @property
    def deploy_label(self) -> str:
        """The label that tells one roll-out of its workload from the next.

        Its controller's hash where it has one, else the version that people gave it.
        """
        return next((label for label in _HASH_LABELS if label in self.labels), VERSION_LABEL)

    @property
    def workload(self) -> str:
        """What a person calls that which made it; empty where nobody did.

        Without the hash or the time that every roll-out or run has anew.
        """
        match self.controller:
            case Owner(kind="ReplicaSet", name=name):
                return name.removesuffix(f"-{self.labels.get('pod-template-hash', '')}")
            case Owner(kind="Job", name=name):
                return _JOB_RUN.sub("", name)
            case Owner(name=name):
                return name
            case None:
                return ""


class PrefixesError(Exception):
    """The annotation names no prefixes that one pod could use; the message says why."""


def asked(pod: Pod, namespace_annotations: dict[str, str]) -> tuple[Key, ...]:
    """The prefixes that a pod asks for, by itself or else through its namespace.

    Raises:
        PrefixesError: the annotation cannot be read, or names what one sidecar cannot serve.
    """
    text = pod.annotations.get(
        PREFIXES_ANNOTATION, namespace_annotations.get(PREFIXES_ANNOTATION, "")
    )
    found: list[Key] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        matched = _REFERENCE.fullmatch(word)
        if matched is None:
            raise PrefixesError(
                f"the annotation {PREFIXES_ANNOTATION} says {word[:80]!r}, which is no"
                " namespace/name of a PromptPrefix: write it like ai-platform/org-core, and"
                " commas between several"
            )
        if (key := Key(*matched.groups())) not in found:
            found.append(key)
    names = [key.name for key in found]
    for key in found:
        if names.count(key.name) > 1:
            raise PrefixesError(
                f"the annotation {PREFIXES_ANNOTATION} names two prefixes {key.name}: requests"
                " choose by this name, so a pod takes one of them"
            )
    if len(found) > PREFIXES_LIMIT:
        raise PrefixesError(
            f"the annotation {PREFIXES_ANNOTATION} names {len(found)} prefixes, and a pod takes"
            f" {PREFIXES_LIMIT}: name those that it uses"
        )
    return tuple(found)
