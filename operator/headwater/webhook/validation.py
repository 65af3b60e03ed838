"""Whether a PromptPrefix may be declared as it stands: what a schema cannot check. Pure.

A review says who asks, and anybody who reaches the port can write one. So nothing is looked up for
it: a reference to a ConfigMap is not followed here. The controller follows it, and serves nothing
that does not hash to its digest, however it came to be there.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pydantic

from headwater.contract.lint import TENANT_NAME, Finding, PatternError, check_patterns
from headwater.controller.content import references, resolved
from headwater.resources import PromptPrefix
from headwater.webhook import changes
from headwater.webhook.linting import findings
from headwater.webhook.review import Answer, Request, ReviewError


def validate(request: Request) -> Answer:
    """Admit or refuse a PromptPrefix.

    Raises:
        ReviewError: the object is no PromptPrefix.
    """
    body, old = _object(request.object), _object(request.old_object)
    try:
        prefix = PromptPrefix.model_validate(body)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReviewError(f"this is no PromptPrefix: {where}: {first['msg']}") from error
    if "deletionTimestamp" in body["metadata"] or _published(body) == _published(old):
        answer = Answer()
    else:
        answer = _judged(prefix, _tools(old))
    changes.log(request, old, body, answer.refusal)
    return answer


def _judged(prefix: PromptPrefix, previous_tools: tuple[str, ...]) -> Answer:
    try:
        if references(prefix.spec.content):
            check_patterns(prefix.spec.tenant_pattern)
            return Answer()
        resolution, canonical = resolved(prefix, {}, ())
        if canonical is None:
            return Answer(refusal=f"{resolution.reason}: {resolution.message}")
        found = findings(prefix, canonical, previous_tools)
    except PatternError as error:
        return Answer(refusal=f"spec.tenantPattern: {error}")
    errors = [one for one in found if one.severity == "error"]
    if any(row.digest == prefix.spec.digest for row in prefix.status.published):
        # The way back to what was served before must not depend on today's rules. What names
        # a tenant is not served, though.
        errors = [one for one in errors if one.rule == TENANT_NAME]
    warnings = [one for one in found if one.severity != "note" and one not in errors]
    return Answer(refusal="; ".join(map(_said, errors)), warnings=list(map(_said, warnings)))


_JUDGED: Final = ("version", "digest", "provider", "models", "ttl", "content", "tenantPattern")


def _published(body: Mapping[str, Any]) -> list[Any]:
    """Return the part of a spec that is judged: a pause or an approval changes none of it."""
    spec = body.get("spec") or {}
    return [spec.get(name) for name in _JUDGED]


def _said(finding: Finding) -> str:
    return f"{finding.rule}: {finding.where}: {finding.sentence}"


def _tools(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the tools of a prefix, where they stand in it."""
    tools = body.get("spec", {}).get("content", {}).get("tools") or ()
    return tuple(tool["name"] for tool in tools)


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    """An object of a review, empty where there is none."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any] | None) or {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReviewError(f"the object cannot be read: {error}") from error
