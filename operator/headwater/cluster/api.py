"""The protocol that everyone who speaks to Kubernetes is written against, and its errors."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from headwater.cluster.kinds import Kind
from headwater.contract.errors import HeadwaterError

Object = dict[str, Any]
"""A Kubernetes object in the API's own JSON."""

FIELD_MANAGER = "headwater"
"""Who owns the fields that Headwater applies; also how a hand edit is told from our own."""


class ApiError(HeadwaterError):
    """The API server did not do what was asked.

    Attributes:
        status: the HTTP status, 0 where none came back.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the status: callers decide by it."""
        self.status = status
        super().__init__(message)


class NotFoundError(ApiError):
    """404: the object, or the namespace it should stand in, does not exist."""


class ConflictError(ApiError):
    """409: somebody changed the object since it was read, or it exists already."""


class RefusedError(ApiError):
    """Any other 4xx: asking again without a change will not help."""


class UnavailableError(ApiError):
    """429, 5xx, or no answer at all: ask again later."""


class Cluster(Protocol):
    """What Headwater asks of Kubernetes. Every method may raise an `ApiError`."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object, from the newest state."""
        ...

    def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Object]:
        """Every object of a kind, page by page, so that no list is ever held whole."""
        ...

    def follow(self, kind: Kind, namespace: str, name: str) -> AsyncIterator[Object]:
        """One object as it is, then each newer form. Ends after a while: ask again."""
        ...

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Create an object, or take its fields over, by server-side apply.

        With a `resourceVersion` in `body`, `ConflictError` where the object is in another version;
        with a `uid`, where it is another object or gone.
        """
        ...

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        """Put exactly this `status` in place of what is there, through the status subresource.

        `ConflictError` where the object is newer than the `resourceVersion` of `body`.
        """
        ...

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create an object; `ConflictError` where it exists."""
        ...

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Put exactly this in place of what is there: foreign fields go."""
        ...

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str]
    ) -> None:
        """Set annotations of an object that exists; everything else of it stays."""
        ...

    async def set_finalizers(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        finalizers: Sequence[str],
        *,
        resource_version: int,
    ) -> Object:
        """Give an object these finalizers; `ConflictError` where it is newer than that version."""
        ...

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, resource_version: int | None = None
    ) -> None:
        """Delete an object; one that is gone already is no error.

        `ConflictError` where it is in another than that version.
        """
        ...
