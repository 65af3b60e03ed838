"""What is a review, and how it is answered."""

import base64
import json
from typing import Any

import pytest

from headwater.webhook.review import Answer, ReviewError, read, write

REQUEST: dict[str, Any] = {
    "uid": "1",
    "kind": {"group": "", "version": "v1", "kind": "Pod"},
    "operation": "CREATE",
    "namespace": "team-a",
    "object": {"spec": {}},
}


def review(**changes: Any) -> bytes:
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": REQUEST}
    return json.dumps(body | changes).encode()


def answered(answer: Answer) -> dict[str, Any]:
    body = json.loads(write("1", answer))
    assert (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = body["response"]
    assert response["uid"] == "1"
    return response


def test_a_review_is_read() -> None:
    """Objects stay as they came, for whoever knows their kind."""
    found = read(review())
    assert (found.kind.kind, found.operation, found.namespace) == ("Pod", "CREATE", "team-a")
    assert bytes(found.object) == b'{"spec": {}}'
    assert (found.dry_run, found.user_info.username) == (None, "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no AdmissionReview"),
        (b"{", "no AdmissionReview"),
        (b"[]", "no AdmissionReview"),
        (b"\xff\xfe", "no AdmissionReview"),
        (b'{"apiVersion": "v1", "kind": "Pod"}', "a 'Pod' of 'v1'"),
        (review(apiVersion="admission.k8s.io/v1beta1"), "'admission.k8s.io/v1beta1'"),
        (review(request=None), "with a request"),
        (review(request={}), "missing required field `uid`"),
        (review(request=REQUEST | {"kind": "Pod"}), "$.request.kind"),
        (review(request=REQUEST | {"dryRun": "yes"}), "$.request.dryRun"),
    ],
)
def test_what_is_no_review_is_told_so(body: bytes, says: str) -> None:
    """With the place, where there is one."""
    with pytest.raises(ReviewError) as caught:
        read(body)
    assert says in str(caught.value)


def test_nothing_to_say_is_a_yes() -> None:
    """No more than the API server needs."""
    assert answered(Answer()) == {"uid": "1", "allowed": True}


def test_a_patch_is_encoded_as_the_api_server_takes_it() -> None:
    """JSON in base64."""
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"é": "1"}}]
    response = answered(Answer(patch=patch, notes={"a/b": "c"}))
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == patch
    assert response["auditAnnotations"] == {"a/b": "c"}


def test_a_refusal_says_why() -> None:
    """It is not the caller's form that is wrong, so it is no 400."""
    response = answered(Answer(refusal="because", warnings=["w"]))
    assert response["allowed"] is False
    assert response["status"] == {"code": 403, "reason": "Forbidden", "message": "because"}
    assert response["warnings"] == ["w"]


def test_a_long_warning_is_cut_where_clients_would_cut_it() -> None:
    """And shows that it was."""
    (warning,) = answered(Answer(warnings=["x" * 1_000]))["warnings"]
    assert len(warning) == 256
    assert warning.endswith("…")
