"""The Kubernetes API in memory: as much of it as a reconcile depends on, and faithful in that.

Versions, generations, preconditions, defaults, immutable ConfigMaps, finalizers and owners are as
the API server has them. Server-side apply is a merge that takes back what the same manager
applied before; there is one manager. A status is replaced whole.

Nothing here waits, so that what runs on it runs in one order, and can be told again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec

from headwater.cluster import (
    NAMESPACE,
    PROMPT_PREFIX,
    ConflictError,
    Kind,
    NotFoundError,
    Object,
    RefusedError,
)
from headwater.resources import PromptPrefix

T = TypeVar("T")

BORN = "2026-11-21T09:00:00Z"
"""The creation time of every object: the version tells which one is older."""


class Place(NamedTuple):
    """Where an object stands; `namespace` is empty for what has none."""

    plural: str
    namespace: str
    name: str


class Change(NamedTuple):
    """What a watch would tell."""

    kind: Kind
    body: Object
    gone: bool


class CrashError(BaseException):
    """The process ended: no code of ours catches this."""


def copied(body: Object) -> Object:
    """Return a copy as it would come from the API server: several times faster than `deepcopy`."""
    copy: Object = msgspec.json.decode(msgspec.json.encode(body))
    return copy


def _check(kind: Kind, name: str, there: Object | None, version: object) -> None:
    """A precondition, where there is one."""
    now = there["metadata"]["resourceVersion"] if there is not None else None
    if version is not None and str(version) != now:
        raise ConflictError(409, f"{kind.plural} {name!r} has been modified")


@dataclass
class Server:
    """What stands in the cluster, and everything that ever changed there, for those who watch."""

    changes: list[Change] = field(default_factory=list)
    _objects: dict[Place, Object] = field(default_factory=dict)
    _kinds: dict[str, Kind] = field(default_factory=dict)
    _applied: dict[Place, set[tuple[str, str]]] = field(default_factory=dict)
    _version: int = 0

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """A copy of one object; None where there is none."""
        found = self._objects.get(_place(kind, namespace, name))
        return None if found is None else copied(found)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        found = self.find(kind, namespace, name)
        if found is None:
            raise NotFoundError(404, f"{kind.plural} {name!r} not found")
        return found

    def all(self, kind: Kind, namespace: str | None = None, label: str = "") -> list[Object]:
        """Copies of every object of a kind; with `label`, of those that have that label."""
        return [
            copied(body)
            for place, body in sorted(self._objects.items())
            if place.plural == kind.plural
            and namespace in (None, place.namespace)
            and (not label or label in (body["metadata"].get("labels") or {}))
        ]

    def create(self, kind: Kind, body: Object) -> Object:
        place = self._place_of(kind, body)
        if place in self._objects:
            raise ConflictError(409, f"{kind.plural} {place.name!r} already exists")
        if kind.namespaced:
            namespace = self.get(NAMESPACE, None, place.namespace)
            if "deletionTimestamp" in namespace["metadata"]:
                raise RefusedError(403, f"namespace {place.namespace} is being terminated")
        made = _defaulted(kind, body)
        self._version += 1
        made["metadata"] = {
            **made["metadata"],
            "uid": f"uid-{self._version}",
            "generation": 1,
            "creationTimestamp": BORN,
        }
        made.pop("status", None)
        return self._store(kind, made)

    def replace(self, kind: Kind, body: Object) -> Object:
        place = self._place_of(kind, body)
        there = self.get(kind, place.namespace, place.name)
        _check(kind, place.name, there, body["metadata"].get("resourceVersion"))
        self._applied.pop(place, None)
        kept = {
            name: part for name, part in there["metadata"].items() if name not in body["metadata"]
        }
        kept = {name: part for name, part in kept.items() if name not in ("labels", "annotations")}
        return self._update(kind, there, {**body, "metadata": {**body["metadata"], **kept}})

    def apply(self, kind: Kind, body: Object) -> Object:
        place = self._place_of(kind, body)
        parts = {part: body.get(part) or {} for part in ("data", "binaryData")}
        fields = {(part, name) for part, values in parts.items() for name in values}
        there = self.find(kind, place.namespace, place.name)
        _check(kind, place.name, there, body["metadata"].get("resourceVersion"))
        if there is None:
            written = self.create(kind, body)
        else:
            after = copied(there)
            for part, values in parts.items():
                taken_back = {
                    name for of, name in self._applied.get(place, set()) - fields if of == part
                }
                merged = {**(after.get(part) or {}), **values}
                after[part] = {name: merged[name] for name in merged if name not in taken_back}
                if not after[part]:
                    del after[part]
            for part in ("labels", "annotations"):
                of = body["metadata"].get(part) or {}
                after["metadata"][part] = {**(after["metadata"].get(part) or {}), **of}
            for part in ("immutable", "spec"):
                if part in body:
                    after[part] = body[part]
            if owners := body["metadata"].get("ownerReferences"):
                after["metadata"]["ownerReferences"] = owners
            written = self._update(kind, there, after)
        self._applied[place] = fields
        return written

    def write_status(
        self, kind: Kind, namespace: str, name: str, status: Object, version: str | None = None
    ) -> Object:
        """Put a status in place of the one that is there."""
        there = self.get(kind, namespace, name)
        if version not in (None, there["metadata"]["resourceVersion"]):
            raise ConflictError(409, f"{kind.plural} {name!r} has been modified")
        return self._update(kind, there, {**there, "status": status})

    def edit(self, kind: Kind, namespace: str | None, name: str, **parts: Any) -> Object:
        """Put other parts (`spec`, `data`, …) into an object, as its owner does."""
        there = self.get(kind, namespace, name)
        return self._update(kind, there, {**there, **parts})

    def merge_metadata(self, kind: Kind, namespace: str | None, name: str, **parts: Any) -> Object:
        """Put labels, annotations or finalizers in place of what is there."""
        there = self.get(kind, namespace, name)
        return self._update(kind, there, {**there, "metadata": {**there["metadata"], **parts}})

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object, or mark it where a finalizer holds it; what it owns goes with it."""
        there = self.find(kind, namespace, name)
        if there is None:
            return
        if there["metadata"].get("finalizers"):
            self.merge_metadata(kind, namespace, name, deletionTimestamp=BORN)
        else:
            self._remove(kind, there)

    def terminate(self, namespace: str) -> None:
        """Begin to delete a namespace: nothing can be created in it from now on."""
        self.merge_metadata(NAMESPACE, None, namespace, deletionTimestamp=BORN)

    def finish(self, namespace: str) -> None:
        """End what `terminate` began."""
        for place, body in list(self._objects.items()):
            if place.namespace == namespace:
                self._remove(self._kinds[place.plural], body)
        self._remove(NAMESPACE, self.get(NAMESPACE, None, namespace))

    def _update(self, kind: Kind, there: Object, after: Object) -> Object:
        after = _defaulted(kind, after)
        if there.get("immutable") and _data(there) != _data(after):
            raise RefusedError(422, "field is immutable when `immutable` is set")
        if after.get("spec") != there.get("spec"):
            generation = there["metadata"]["generation"] + 1
            after["metadata"] = {**after["metadata"], "generation": generation}
        if after == there:
            return there  # nothing changed, and nobody is told
        return self._store(kind, after)

    def _store(self, kind: Kind, body: Object) -> Object:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        metadata = body["metadata"]
        if "deletionTimestamp" in metadata and kind != NAMESPACE and not metadata.get("finalizers"):
            self._remove(kind, body)
            return body
        self._kinds[kind.plural] = kind
        self._objects[self._place_of(kind, body)] = body
        self.changes.append(Change(kind, copied(body), gone=False))
        return copied(body)

    def _remove(self, kind: Kind, body: Object) -> None:
        self._version += 1
        last = copied(body)
        last["metadata"]["resourceVersion"] = str(self._version)
        self._objects.pop(self._place_of(kind, body), None)
        self._applied.pop(self._place_of(kind, body), None)
        self.changes.append(Change(kind, last, gone=True))
        for place, other in list(self._objects.items()):
            owners = {owner["uid"] for owner in other["metadata"].get("ownerReferences") or ()}
            if owners == {body["metadata"]["uid"]}:
                self._remove(self._kinds[place.plural], other)

    def _place_of(self, kind: Kind, body: Object) -> Place:
        return _place(kind, body["metadata"].get("namespace"), body["metadata"]["name"])


@dataclass(frozen=True)
class Mishap:
    """What becomes of one call of a connection.

    It is the `at`-th from now, counted from 0. First `meanwhile` happens; then the call takes
    effect or not (`done`); then it ends with `error`, where there is one.
    """

    at: int
    error: BaseException | None = None
    done: bool = False
    meanwhile: Callable[[], Awaitable[None]] | None = None


class Connection:
    """One process's way to the server (`headwater.cluster.Cluster`)."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._mishap: Mishap | None = None
        self._calls = 0
        self.writes: list[str] = []
        """What was asked for, done or not: `create configmaps`."""
        self.dead = False

    def expect(self, mishap: Mishap | None) -> None:
        """Let this happen to a call to come, once."""
        self._mishap, self._calls = mishap, 0

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        return await self._call("", lambda: self._server.get(kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Object]:
        listed = self._server.all(kind, namespace, label_selector)
        for body in await self._call("", lambda: listed):
            yield body

    async def follow(self, kind: Kind, namespace: str, name: str) -> AsyncIterator[Object]:
        yield await self.get(kind, namespace, name)

    async def apply(self, kind: Kind, body: Object) -> Object:
        return await self._call(f"apply {kind.plural}", lambda: self._server.apply(kind, body))

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        version = metadata.get("resourceVersion")
        return await self._call(
            f"replace {kind.plural}/status",
            lambda: self._server.write_status(kind, namespace, name, body["status"], version),
        )

    async def create(self, kind: Kind, body: Object) -> Object:
        return await self._call(f"create {kind.plural}", lambda: self._server.create(kind, body))

    async def replace(self, kind: Kind, body: Object) -> Object:
        return await self._call(f"replace {kind.plural}", lambda: self._server.replace(kind, body))

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str]
    ) -> None:
        def merge() -> Object:
            there = self._server.get(kind, namespace, name)["metadata"].get("annotations") or {}
            merged = {**there, **annotations}
            return self._server.merge_metadata(kind, namespace, name, annotations=merged)

        await self._call(f"annotate {kind.plural}", merge)

    async def set_finalizers(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        finalizers: Sequence[str],
        *,
        resource_version: int,
    ) -> Object:
        def write() -> Object:
            there = self._server.get(kind, namespace, name)
            if there["metadata"]["resourceVersion"] != str(resource_version):
                raise ConflictError(409, f"{kind.plural} {name!r} has been modified")
            return self._server.merge_metadata(kind, namespace, name, finalizers=[*finalizers])

        return await self._call(f"finalizers {kind.plural}", write)

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, resource_version: int | None = None
    ) -> None:
        def remove() -> None:
            there = self._server.find(kind, namespace, name)
            if there is not None:
                _check(kind, name, there, resource_version)
            self._server.delete(kind, namespace, name)

        await self._call(f"delete {kind.plural}", remove)

    async def _call(self, words: str, work: Callable[[], T]) -> T:
        if self.dead:
            raise CrashError
        mishap = self._mishap if self._mishap and self._calls == self._mishap.at else None
        self._calls += 1
        if words:
            self.writes.append(words)
        if mishap is None:
            return work()
        self._mishap = None
        if mishap.meanwhile is not None:
            await mishap.meanwhile()
        if mishap.error is None:
            return work()
        if mishap.done:
            work()
        self.dead = isinstance(mishap.error, CrashError)
        raise mishap.error


def _place(kind: Kind, namespace: str | None, name: str) -> Place:
    return Place(kind.plural, namespace or "", name)


def _data(config_map: Object) -> tuple[Any, Any]:
    return config_map.get("data"), config_map.get("binaryData")


def _defaulted(kind: Kind, body: Object) -> Object:
    """A copy with the defaults of its CRD, and without what that does not know."""
    body = copied(body)
    if kind == PROMPT_PREFIX:
        known = PromptPrefix.model_validate(body)
        parts = known.model_dump(mode="json", by_alias=True, exclude_none=True)
        body["spec"] = parts["spec"]
        if "status" in body:
            body["status"] = parts["status"]
    return body
