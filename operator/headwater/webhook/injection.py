"""Whether a pod gets the sidecar, and the JSON patch (RFC 6902) that gives it to it. Pure.

A pod that cannot take part is skipped where its prefixes are observed and refused where one of
them is enforced: it never runs without its contract unnoticed. Nothing that the pod says itself
is overwritten. A pod that has been through here is left as it is, because the API server may
ask again when other webhooks have changed it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headwater.cluster.labels import ROLE_LABEL, SYSTEM_NAMESPACES
from headwater.contract.route import Enforcement
from headwater.controller.objects import METRICS_PORT_ANNOTATION, Key, metrics_port
from headwater.resources.prefix import Consumers
from headwater.webhook.pods import (
    INJECT_LABEL,
    INJECTED_ANNOTATION,
    LEFT_ALONE_ANNOTATION,
    PREFIXES_ANNOTATION,
    SKIPPED_ANNOTATION,
    Container,
    Pod,
    PrefixesError,
    asked,
)
from headwater.webhook.sidecar import (
    BASE_URL,
    CONTAINER,
    PORT,
    Settings,
    container,
    volume_names,
    volumes,
)

_BASE_URL_VARIABLE: Final = "ANTHROPIC_BASE_URL"
_MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
_OURS: Final = (f"{BASE_URL}/", f"http://localhost:{PORT}/")

Operation = dict[str, Any]
"""One operation of a JSON patch."""


class Reason(enum.StrEnum):
    """Why a pod got no sidecar: the same names in annotations, metrics, Events and docs."""

    OPTED_OUT = "opted_out"
    HOST_NETWORK = "host_network"
    HAS_ROLE = "has_role"
    SYSTEM_NAMESPACE = "system_namespace"
    MIRROR_POD = "mirror_pod"
    NO_PREFIXES = "no_prefixes"
    BAD_ANNOTATION = "bad_annotation"
    UNKNOWN_PREFIX = "unknown_prefix"
    NOT_SELECTED = "not_selected"
    PORT_TAKEN = "port_taken"
    VOLUME_TAKEN = "volume_taken"
    CONTAINER_TAKEN = "container_taken"

    @property
    def is_conflict(self) -> bool:
        """Whether the pod wanted to take part, and cannot."""
        return self in _CONFLICTS


_CONFLICTS: Final = frozenset(
    {
        Reason.BAD_ANNOTATION,
        Reason.UNKNOWN_PREFIX,
        Reason.NOT_SELECTED,
        Reason.PORT_TAKEN,
        Reason.VOLUME_TAKEN,
        Reason.CONTAINER_TAKEN,
    }
)


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a pod is created."""

    name: str
    labels: Mapping[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a prefix is to be had."""

    consumers: Consumers
    enforcement: Enforcement


class Outcome(enum.StrEnum):
    """What became of a pod."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"
    """It had been through here before."""
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Injection:
    """What is done about a pod.

    `reason` and `message` tell why it got no sidecar; `warnings` are for whoever creates it.
    """

    outcome: Outcome
    patch: tuple[Operation, ...] = ()
    reason: Reason | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()


class _Without(Exception):  # noqa: N818 - no error: a pod may well want none
    """This pod gets no sidecar."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def wanted(pod: Pod, namespace: Namespace) -> tuple[Key, ...]:
    """The prefixes whose terms `inject` needs; none where it will not look at them."""
    try:
        return () if _has_sidecar(pod) else _prefixes(pod, namespace)
    except _Without:
        return ()


def inject(
    pod: Pod, namespace: Namespace, terms: Mapping[Key, Terms | None], settings: Settings
) -> Injection:
    """What is done about a pod; `terms` has an entry for each prefix that is `wanted`.

    None stands for a prefix that does not exist.
    """
    try:
        if _has_sidecar(pod):
            return Injection(Outcome.UNCHANGED)
        prefixes = _prefixes(pod, namespace)
        _refuse_strangers(prefixes, namespace, terms)
        metrics_port = _metrics_port(pod)
        _refuse_collisions(pod, prefixes, metrics_port)
    except _Without as without:
        return _without(pod, terms, without.reason, str(without))
    left_alone = [found.name for found in pod.spec.all_containers if _goes_its_own_way(found)]
    annotations = {
        INJECTED_ANNOTATION: ",".join(map(str, prefixes)),
        **({LEFT_ALONE_ANNOTATION: ",".join(left_alone)} if left_alone else {}),
    }
    patch = (
        *_set("annotations", pod.metadata.annotations, annotations),
        *_unset_skipped(pod),
        *_set("labels", pod.metadata.labels, {ROLE_LABEL: "sidecar"}),
        *_append("/spec/volumes", pod.spec.volumes, volumes(prefixes)),
        *_point("/spec/containers", pod.spec.containers),
        # Before the insertion, which moves them by one.
        *_point("/spec/initContainers", pod.spec.init_containers or []),
        *_prepend(
            "/spec/initContainers",
            pod.spec.init_containers,
            container(prefixes, pod.workload, pod.deploy_label, metrics_port, settings),
        ),
    )
    return Injection(Outcome.INJECTED, patch, warnings=_told(left_alone))


def _has_sidecar(pod: Pod) -> bool:
    return INJECTED_ANNOTATION in pod.annotations and any(
        found.name == CONTAINER for found in pod.spec.init_containers or ()
    )


def _prefixes(pod: Pod, namespace: Namespace) -> tuple[Key, ...]:
    """The prefixes of a pod that takes part."""
    if namespace.name in SYSTEM_NAMESPACES:
        raise _Without(Reason.SYSTEM_NAMESPACE, f"{namespace.name} is the cluster's own namespace")
    if _MIRROR_ANNOTATION in pod.annotations:
        raise _Without(
            Reason.MIRROR_POD, "a static pod is its node's: a copy of it cannot be changed"
        )
    if pod.labels.get(INJECT_LABEL) == "disabled":
        raise _Without(Reason.OPTED_OUT, f"its label {INJECT_LABEL} is disabled")
    if ROLE_LABEL in pod.labels:
        raise _Without(
            Reason.HAS_ROLE,
            f"its label {ROLE_LABEL} says that it takes part as it is, without this webhook",
        )
    if pod.spec.host_network:
        raise _Without(
            Reason.HOST_NETWORK,
            "it uses its node's network, where other pods would reach its sidecar",
        )
    try:
        prefixes = asked(pod, namespace.annotations)
    except PrefixesError as error:
        raise _Without(Reason.BAD_ANNOTATION, str(error)) from error
    if not prefixes:
        raise _Without(
            Reason.NO_PREFIXES,
            f"neither it nor its namespace has the annotation {PREFIXES_ANNOTATION}",
        )
    return prefixes


def _refuse_strangers(
    prefixes: tuple[Key, ...], namespace: Namespace, terms: Mapping[Key, Terms | None]
) -> None:
    for prefix in prefixes:
        found = terms[prefix]
        if found is None:
            raise _Without(
                Reason.UNKNOWN_PREFIX,
                f"there is no PromptPrefix {prefix}: correct the annotation {PREFIXES_ANNOTATION},"
                " or create the prefix first",
            )
        if not found.consumers.include(namespace.name, namespace.labels):
            what_to_do = (
                "it is Dedicated to the namespaces in spec.consumers.namespaces: ask its owner"
                if found.consumers.isolation == "Dedicated"
                else "neither spec.consumers.namespaces names it nor does namespaceSelector match"
                " its labels: ask the prefix's owner, or give the namespace the labels"
            )
            raise _Without(
                Reason.NOT_SELECTED,
                f"the PromptPrefix {prefix} is not for the namespace {namespace.name}:"
                f" {what_to_do}",
            )


def _metrics_port(pod: Pod) -> int:
    port = metrics_port(pod.annotations)
    if port is None:
        raise _Without(
            Reason.BAD_ANNOTATION,
            f"the annotation {METRICS_PORT_ANNOTATION} says"
            f" {pod.annotations[METRICS_PORT_ANNOTATION][:80]!r}, which is no port",
        )
    return port


def _refuse_collisions(pod: Pod, prefixes: tuple[Key, ...], metrics_port: int) -> None:
    if metrics_port == PORT:
        raise _Without(
            Reason.PORT_TAKEN,
            f"the sidecar itself listens on {PORT}: give its metrics another port with the"
            f" annotation {METRICS_PORT_ANNOTATION}",
        )
    for found in pod.spec.all_containers:
        if found.name == CONTAINER:
            raise _Without(
                Reason.CONTAINER_TAKEN,
                f"it has a container {CONTAINER} that did not come from here: give that another"
                " name, or take it out",
            )
        for port in found.ports or ():
            if port.container_port in (PORT, metrics_port):
                raise _Without(
                    Reason.PORT_TAKEN,
                    f"the container {found.name} uses port {port.container_port}, where the"
                    f" sidecar listens: give it another one (for {metrics_port}, the annotation"
                    f" {METRICS_PORT_ANNOTATION} moves the sidecar instead)",
                )
    ours = set(volume_names(len(prefixes)))
    for volume in pod.spec.volumes or ():
        if volume.name in ours:
            raise _Without(
                Reason.VOLUME_TAKEN,
                f"it has a volume {volume.name} that did not come from here: give that another"
                " name, or take it out",
            )


def _without(
    pod: Pod, terms: Mapping[Key, Terms | None], reason: Reason, message: str
) -> Injection:
    """Skipped, or refused where the pod would run without a contract that is enforced.

    Without terms it is unknown whether one is, and what is unknown is not let through.
    """
    observed = bool(terms) and all(
        found is not None and found.enforcement == "Observe" for found in terms.values()
    )
    if reason.is_conflict and not observed:
        return Injection(Outcome.REFUSED, reason=reason, message=message)
    unmeant = reason.is_conflict or reason is Reason.HOST_NETWORK
    warnings = (f"no sidecar: {message}",) if unmeant else ()
    patch = _set(
        "annotations",
        pod.metadata.annotations,
        {SKIPPED_ANNOTATION: f"{reason}: {message}"},
    )
    return Injection(Outcome.SKIPPED, tuple(patch), reason, message, warnings)


def _goes_its_own_way(found: Container) -> bool:
    return any(
        variable.name == _BASE_URL_VARIABLE and not f"{variable.value}/".startswith(_OURS)
        for variable in found.env or ()
    )


def _told(left_alone: list[str]) -> tuple[str, ...]:
    return tuple(
        f"container {name} sets {_BASE_URL_VARIABLE} itself and is left alone: what it sends"
        f" there is off the contract, unless that leads to {BASE_URL}"
        for name in left_alone
    )


def _point(path: str, containers: list[Container]) -> list[Operation]:
    """Lead the applications to the sidecar, but for those that decide it for themselves."""
    variable = {"name": _BASE_URL_VARIABLE, "value": BASE_URL}
    return [
        operation
        for index, found in enumerate(containers)
        if all(known.name != _BASE_URL_VARIABLE for known in found.env or ())
        for operation in _append(f"{path}/{index}/env", found.env, [variable])
    ]


def _set(
    field: str, present: Mapping[str, str] | None, entries: Mapping[str, str]
) -> list[Operation]:
    """Set labels or annotations; those that are there already need nothing."""
    made = [] if present is not None else [_add(f"/metadata/{field}", {})]
    changed = {key: value for key, value in entries.items() if (present or {}).get(key) != value}
    if not changed:
        return []
    return [
        *made,
        *(_add(f"/metadata/{field}/{_escaped(key)}", value) for key, value in changed.items()),
    ]


def _unset_skipped(pod: Pod) -> list[Operation]:
    """A pod made from another's manifest has that one's annotations."""
    if SKIPPED_ANNOTATION not in pod.annotations:
        return []
    return [{"op": "remove", "path": f"/metadata/annotations/{_escaped(SKIPPED_ANNOTATION)}"}]


def _append(path: str, present: list[Any] | None, items: list[dict[str, Any]]) -> list[Operation]:
    if present is None:
        return [_add(path, items)]
    return [_add(f"{path}/-", item) for item in items]


def _prepend(path: str, present: list[Any] | None, item: dict[str, Any]) -> list[Operation]:
    return [_add(path, [item])] if present is None else [_add(f"{path}/0", item)]


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escaped(key: str) -> str:
    """RFC 6901, 3."""
    return key.replace("~", "~0").replace("/", "~1")
