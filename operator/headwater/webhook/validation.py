"""Whether a PromptPrefix may be declared as it stands: what a schema cannot check.

It only looks: a dry run is answered as the real thing would be. What may become right by itself
(a ConfigMap that is applied a moment later) is a warning, since the controller serves nothing
that does not hash to its digest, however it came to be there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pydantic

from headwater.cluster import ApiError, Cluster
from headwater.contract.lint import TENANT_NAME, Finding, PatternError
from headwater.controller.content import references, resolve_content
from headwater.resources import PromptPrefix
from headwater.webhook import audit
from headwater.webhook.linting import findings
from headwater.webhook.review import Answer, Request, ReviewError

_READ_SECONDS: Final = 5.0
"""For all references together, so that an answer comes before the API server stops waiting."""


class Validator:
    """Answers about PromptPrefixes."""

    def __init__(self, cluster: Cluster) -> None:
        """`cluster` is where the references of a content lead."""
        self._cluster = cluster

    async def answer(self, request: Request) -> Answer:
        """Admit or refuse.

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
            audit.record(request, old, body, "")
            return Answer()
        answer = await self._judge(prefix, _tools(old))
        audit.record(request, old, body, answer.refusal)
        return answer

    async def _judge(self, prefix: PromptPrefix, previous_tools: tuple[str, ...]) -> Answer:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                resolution, canonical = await resolve_content(self._cluster, prefix, ())
        except (ApiError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_READ_SECONDS:g} s"
            return Answer(
                warnings=[f"the content was not checked, since a ConfigMap was not read: {reason}"]
            )
        if canonical is None:
            if references(prefix.spec.content) and resolution.reason in _MAY_PASS:
                return Answer(warnings=[f"nothing is served as yet: {resolution.message}"])
            return Answer(refusal=f"{resolution.reason}: {resolution.message}")
        try:
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
_MAY_PASS: Final = frozenset({"ContentMissing", "ContentInvalid", "DigestMismatch"})
"""What a ConfigMap that is yet to be applied can put right."""


def _published(body: Mapping[str, Any]) -> list[Any]:
    """The part of a spec that is judged: who pauses or approves is not asked about content."""
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
