"""The ConfigMaps that the operator wants, and what it makes of those that it finds.

Pure: builders give the desired object, `inspect` says of a found one what matters and forgets
its content, so that a thousand prefixes fit into memory.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from headwater.cluster import Object
from headwater.cluster.api import FIELD_MANAGER
from headwater.cluster.labels import MANAGED_BY_LABEL, ROLE_LABEL
from headwater.contract import bundle
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, DigestError
from headwater.contract.route import Revision

PREFIX_LABEL: Final = "headwater.dev/prefix"
PREFIX_NAMESPACE_LABEL: Final = "headwater.dev/prefix-namespace"
VERSION_LABEL: Final = "headwater.dev/version"
DIGEST_ANNOTATION: Final = "headwater.dev/digest"
EPOCH_ANNOTATION: Final = "headwater.dev/epoch"
"""On a bundle the epoch of its route; on a revision that at which it became stable. A status
that was lost is rebuilt from these."""
ROUTE_ANNOTATION: Final = "headwater.dev/route"
"""Hash of the route that the operator wrote last: what differs from it was edited by hand."""

METRICS_PORT: Final = 9484
"""Of a sidecar, where its pod says no other."""
METRICS_PORT_ANNOTATION: Final = "headwater.dev/metrics-port"
"""On a pod: where its sidecar, or a program with the library, tells what it counted."""
_HIGHEST_PORT: Final = 65_535

BUNDLE: Final = "bundle"
REVISION: Final = "revision"
CONTENT: Final = "content"
SIDECAR: Final = "sidecar"

_EPOCH_LIMIT: Final = 2**52
"""Somebody may write any number into an annotation; the status takes no more than 2**53."""


class Key(NamedTuple):
    """A namespaced object's name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Found:
    """A ConfigMap of ours as it stands in the cluster, without its content.

    `version` is a revision's; `digests` are the contracts in it that verify, `route` is the hash
    of its route and `wrote` the hash that the operator wrote. `foreign` tells of keys that are
    not ours, `sealed` of a bundle that was made immutable. `epoch` is what EPOCH_ANNOTATION
    says, 0 where it is absent. With its `owners` (uids) it goes.
    """

    key: Key
    role: str
    prefix: Key
    resource_version: int
    created: str
    version: str
    digests: frozenset[str]
    route: str
    wrote: str
    foreign: bool
    sealed: bool
    epoch: int
    owners: frozenset[str]
    size: int
    edited_by: str


def metrics_port(annotations: Mapping[str, str]) -> int | None:
    """Return the port of a pod's metrics; None where its annotation says something else."""
    text = annotations.get(METRICS_PORT_ANNOTATION, str(METRICS_PORT))
    # `int` takes spaces, signs, underscores and other scripts' digits as well.
    if not (text.isascii() and text.isdigit()):
        return None
    port = int(text[:6])
    return port if 0 < port <= _HIGHEST_PORT else None


def bundle_name(prefix: Key) -> str:
    """The bundle's name, the same in every consumer namespace."""
    return f"headwater.{prefix.namespace}.{prefix.name}"


def revision_name(prefix: Key, digest: Digest) -> str:
    """The name of the ConfigMap that holds one revision's bytes."""
    return f"headwater.{prefix.name}.{digest.short}"


def bundle_config_map(
    prefix: Key, namespace: str, files: Mapping[str, bytes], epoch: int
) -> Object:
    """The bundle in one consumer namespace."""
    return {
        "metadata": {
            "name": bundle_name(prefix),
            "namespace": namespace,
            "labels": _labels(prefix, BUNDLE),
            "annotations": {
                EPOCH_ANNOTATION: str(epoch),
                ROUTE_ANNOTATION: route_hash(files[bundle.ROUTE_FILE]),
            },
        },
        **_data(files),
    }


def revision_config_map(
    prefix: Key, owner_uid: str, revision: Revision, canonical: bytes, epoch: int
) -> Object:
    """The immutable ConfigMap of one revision, which goes with its PromptPrefix.

    `epoch` is that at which it became stable, 0 where it never did.
    """
    name, data = bundle.encode_contract(revision.digest, canonical)
    became_stable = {EPOCH_ANNOTATION: str(epoch)} if epoch else {}
    return {
        "metadata": {
            "name": revision_name(prefix, revision.digest),
            "namespace": prefix.namespace,
            "labels": {**_labels(prefix, REVISION), VERSION_LABEL: revision.version},
            "annotations": {DIGEST_ANNOTATION: str(revision.digest), **became_stable},
            "ownerReferences": [
                {
                    "apiVersion": "headwater.dev/v1alpha1",
                    "kind": "PromptPrefix",
                    "name": prefix.name,
                    "uid": owner_uid,
                    "controller": True,
                }
            ],
        },
        "immutable": True,
        **_data({name: data}),
    }


def route_hash(route: bytes) -> str:
    """A short name for the bytes of a route."""
    return hashlib.sha256(route).hexdigest()[:16]


def last_stable(found: Iterable[Found], owner_uid: str) -> tuple[Revision, int] | None:
    """What was stable last by the revisions that this prefix owns, and the latest epoch."""
    found = list(found)
    stable = max(
        (item for item in found if item.role == REVISION and owner_uid in item.owners),
        key=lambda item: item.epoch,
        default=None,
    )
    if stable is None or not stable.epoch or len(stable.digests) != 1:
        return None
    revision = Revision(stable.version, Digest(*stable.digests))
    return revision, max(item.epoch for item in found)


def files_of(config_map: Object) -> dict[str, bytes]:
    """The files that a pod would see which mounts this ConfigMap."""
    files = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
    for key, text in (config_map.get("binaryData") or {}).items():
        try:
            files[key] = base64.b64decode(text, validate=True)
        except binascii.Error:  # the API server lets none through; a test's object might be odd
            files[key] = b""
    return files


def inspect(config_map: Object) -> Found:
    """What matters of a ConfigMap that carries our role label."""
    metadata = config_map["metadata"]
    labels = metadata.get("labels") or {}
    role = labels.get(ROLE_LABEL, "")
    files = {} if role == CONTENT else files_of(config_map)
    digests = {name: digest for name in files if (digest := _verified(name, files)) is not None}
    route = files.get(bundle.ROUTE_FILE)
    # One file a contract: the same one twice, plain and compressed, is not what we write.
    ours = len(set(digests.values())) + (role == BUNDLE and route is not None)
    return Found(
        key=Key(metadata["namespace"], metadata["name"]),
        role=role,
        prefix=Key(labels.get(PREFIX_NAMESPACE_LABEL, ""), labels.get(PREFIX_LABEL, "")),
        resource_version=int(metadata["resourceVersion"]),
        created=metadata.get("creationTimestamp", ""),
        version=labels.get(VERSION_LABEL, ""),
        digests=frozenset(digests.values()),
        route=route_hash(route) if route is not None else "",
        wrote=(metadata.get("annotations") or {}).get(ROUTE_ANNOTATION, ""),
        foreign=len(files) > ours,
        sealed=role == BUNDLE and bool(config_map.get("immutable")),
        epoch=_epoch((metadata.get("annotations") or {}).get(EPOCH_ANNOTATION, "")),
        owners=frozenset(owner["uid"] for owner in metadata.get("ownerReferences") or ()),
        size=sum(map(len, files.values())),
        edited_by=editor_of(metadata, "data", "binaryData"),
    )


def _verified(name: str, files: Mapping[str, bytes]) -> str | None:
    try:
        digest = Digest("sha256:" + name.removesuffix(".gz").removesuffix(".json"))
        bundle.decode_contract(digest, {name: files[name]})
    except (BundleError, DigestError):
        return None
    return str(digest)


def _epoch(text: str) -> int:
    return min(int(text), _EPOCH_LIMIT) if text.isdecimal() else 0


def editor_of(metadata: Object, *parts: str) -> str:
    """Who, other than the operator, changed one of these parts of an object last, if known.

    Who took something away is not: the API server keeps no record of that.
    """
    edits = [
        entry
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") != FIELD_MANAGER
        and {f"f:{part}" for part in parts} & set(entry.get("fieldsV1") or ())
    ]
    latest = max(edits, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(latest.get("manager", "")) if latest else ""


def _labels(prefix: Key, role: str) -> dict[str, str]:
    return {
        MANAGED_BY_LABEL: "headwater",
        ROLE_LABEL: role,
        PREFIX_LABEL: prefix.name,
        PREFIX_NAMESPACE_LABEL: prefix.namespace,
    }


def _data(files: Mapping[str, bytes]) -> Object:
    """Text where a reader of `kubectl get -o yaml` can read it, compressed files as binaryData."""
    text = {name: data.decode() for name, data in files.items() if not name.endswith(".gz")}
    packed = {
        name: base64.b64encode(data).decode()
        for name, data in files.items()
        if name.endswith(".gz")
    }
    return {"data": text} | ({"binaryData": packed} if packed else {})
