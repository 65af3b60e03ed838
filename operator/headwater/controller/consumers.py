"""Consumers: the pods that mount a bundle, and what of them is remembered.

Pure. Only pods with the role label are known, and of the operator's own warming jobs none is a
consumer: they come and go by the minute and read what they find when they start.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headwater.cluster import Object
from headwater.controller.objects import Key

_FINISHED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Consumer:
    """A live pod that mounts a prefix's bundle.

    `told` is the epoch of the last withdrawal that it was told of, empty where there was none.
    """

    pod: Key
    created: datetime
    told: str


def withdrawn_annotation(prefix: Key) -> str:
    """The annotation by which a pod is told of a withdrawal; a prefix's name would be too long."""
    return f"headwater.dev/withdrawn.{hashlib.sha256(str(prefix).encode()).hexdigest()[:16]}"


def consumers_in(pod: Object) -> dict[Key, Consumer]:
    """What a pod consumes, by prefix; nothing where it is finished or going away."""
    metadata = pod["metadata"]
    if "deletionTimestamp" in metadata or pod.get("status", {}).get("phase") in _FINISHED:
        return {}
    annotations = metadata.get("annotations") or {}
    key = Key(metadata["namespace"], metadata["name"])
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    return {
        prefix: Consumer(key, created, annotations.get(withdrawn_annotation(prefix), ""))
        for name in _config_maps(pod)
        if (prefix := _prefix_of(name)) is not None
    }


def _config_maps(pod: Object) -> Iterator[str]:
    """The names of the ConfigMaps that a pod mounts."""
    for volume in pod["spec"].get("volumes") or ():
        projected = (volume.get("projected") or {}).get("sources") or ()
        for source in (volume, *projected):
            if "configMap" in source:
                yield source["configMap"].get("name", "")


def _prefix_of(config_map: str) -> Key | None:
    """The prefix whose bundle has this name: the inverse of `objects.bundle_name`."""
    match config_map.split(".", 2):
        case ["headwater", namespace, name]:
            return Key(namespace, name)
    return None
