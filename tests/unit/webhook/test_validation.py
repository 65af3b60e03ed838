"""What is said of a PromptPrefix by the review alone."""

import json
from typing import Any

import msgspec
import pytest

from headwater.webhook.review import GroupVersionKind, Request
from headwater.webhook.validation import validate
from tests.unit.controller.bodies import prompt_prefix

ELSEWHERE = {"system": [{"textFrom": {"configMapKeyRef": {"name": "house", "key": "text"}}}]}


def request(**spec: Any) -> Request:
    return Request(
        uid="1",
        kind=GroupVersionKind("headwater.dev", "v1alpha1", "PromptPrefix"),
        operation="CREATE",
        object=msgspec.Raw(json.dumps(prompt_prefix(**spec)).encode()),
    )


@pytest.mark.parametrize("content", [{}, {"content": ELSEWHERE}], ids=["inline", "elsewhere"])
def test_an_expression_that_is_none_is_refused(content: dict[str, Any]) -> None:
    """Wherever the content is."""
    answer = validate(request(**content, tenantPattern=["("]))
    assert answer.refusal.startswith("spec.tenantPattern: '(' is no regular expression")


def test_content_elsewhere_is_not_judged() -> None:
    """Neither read, nor refused, nor spoken of."""
    answer = validate(request(content=ELSEWHERE, digest=f"sha256:{'0' * 64}"))
    assert (answer.refusal, list(answer.warnings)) == ("", [])
