"""AdmissionReview, `admission.k8s.io/v1`: what the API server asks and what it is told. Pure."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headwater.webhook.injection import Operation

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

_WARNING_LIMIT: Final = 256
"""Characters of a warning that a client is sure to show (kubernetes: admission/v1, `warnings`)."""


class ReviewError(Exception):
    """What came is no review that can be answered; the message says why."""


class GroupVersionKind(msgspec.Struct):
    """What kind of object a review is about."""

    group: str
    version: str
    kind: str


class User(msgspec.Struct):
    """Who asks the API server."""

    username: str = ""


class Request(msgspec.Struct, rename="camel"):
    """What is asked. The objects are decoded by whoever knows their kind."""

    uid: str
    kind: GroupVersionKind
    operation: str
    namespace: str = ""
    name: str = ""
    user_info: User = msgspec.field(default_factory=User)
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")
    dry_run: bool | None = None


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    request: Request | None = None


_OBJECT_LIMIT: Final = 3 << 20
"""Bytes: what the API server takes at most (kube-apiserver, `maxRequestBodyBytes`)."""

_decoder: Final = msgspec.json.Decoder(_Review)


def read(body: bytes) -> Request:
    """The request of a review.

    Raises:
        ReviewError: it is none.
    """
    try:
        review = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReviewError(f"this is no {KIND} of {API_VERSION}: {error}") from error
    if (review.api_version, review.kind) != (API_VERSION, KIND) or review.request is None:
        raise ReviewError(
            f"this is no {KIND} of {API_VERSION} with a request, but a {review.kind[:80]!r} of"
            f" {review.api_version[:80]!r}: point the webhook configuration here, and nothing else"
        )
    if max(map(len, (review.request.object, review.request.old_object))) > _OBJECT_LIMIT:
        raise ReviewError(f"an object has at most {_OBJECT_LIMIT:,} bytes")
    return review.request


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told.

    `refusal` is empty where the object is admitted. `notes` go into the audit log.
    """

    refusal: str = ""
    patch: Sequence[Operation] = ()
    warnings: Sequence[str] = ()
    notes: dict[str, str] | None = None


def write(uid: str, answer: Answer) -> bytes:
    """The review that answers."""
    response: dict[str, Any] = {"uid": uid, "allowed": not answer.refusal}
    if answer.refusal:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": answer.refusal}
    if answer.patch:
        response["patchType"] = "JSONPatch"
        patch = msgspec.json.encode(answer.patch)
        response["patch"] = base64.b64encode(patch).decode()
    if answer.warnings:
        response["warnings"] = [_shortened(warning) for warning in answer.warnings]
    if answer.notes:
        response["auditAnnotations"] = answer.notes
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def _shortened(warning: str) -> str:
    return warning if len(warning) <= _WARNING_LIMIT else f"{warning[: _WARNING_LIMIT - 1]}…"
