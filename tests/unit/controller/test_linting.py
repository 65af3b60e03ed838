"""What lint says of served content, and what of it is not served."""

from typing import Any

import pytest

from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.controller.linting import linted
from headwater.controller.store import Objections, Resolution
from headwater.resources import PromptPrefix
from tests.unit.controller.bodies import prompt_prefix


def judged(text: str, annotations: dict[str, str] | None = None, **spec: Any) -> Resolution:
    """What becomes of a content that is this text."""
    canonical = canonical_bytes(content(tools=[], system=[{"text": text}], ttl="5m"))
    body = prompt_prefix(**spec)
    body["metadata"]["annotations"] = annotations or {}
    resolution = Resolution(digest=Digest.of(canonical), tokens={"claude-opus-4-8": 5})
    return linted(PromptPrefix.model_validate(body), resolution, canonical)


def test_what_is_clean_is_served() -> None:
    """And it is known that lint has seen it."""
    resolution = judged("Be brief. ", tenantPattern=["(?i)acme"])
    assert resolution.digest is not None
    assert resolution.objections == Objections(), "a note is no objection"


def test_what_is_unwise_is_served_and_said() -> None:
    """The worst in full, with its place and the remedy, and the others by their names."""
    resolution = judged("Built at 2026-11-21T09:41:07Z. Today is Friday.\r\n")
    assert resolution.digest is not None
    found = resolution.objections
    assert found is not None
    assert (found.errors, found.warnings) == (1, 2)
    assert found.sentence.startswith("[today] spec.content.system[0].text: it says what day")
    assert found.sentence.endswith(" Also: timestamp, crlf.")


@pytest.mark.parametrize("annotations", [{}, {"headwater.dev/lint-ignore": "tenant-name"}])
def test_what_names_a_tenant_is_not_served(annotations: dict[str, str]) -> None:
    """Whatever an annotation says, which anybody may write who may patch."""
    resolution = judged(
        "Be kind to Acme.\n", annotations, tenantPattern=["umbrella", r"(?i)\bacme\b"]
    )
    assert (resolution.digest, resolution.reason) == (None, "TenantNamed")
    assert resolution.message == (
        'spec.content.system[0].text: it names a tenant: "Acme".'
        " Move it into the tenant's own system block, behind the contract."
    )
    assert resolution.objections is not None
    assert resolution.objections.errors == 1
    assert resolution.tokens, "what it would be is known all the same"


def test_what_cannot_be_looked_for_is_not_served() -> None:
    """The API server refuses such an expression; one whose rules are older has it."""
    resolution = judged("Be brief.\n", tenantPattern=["(acme"])
    assert (resolution.digest, resolution.reason) == (None, "TenantPatternInvalid")
    assert resolution.message.startswith("spec.tenantPattern: '(acme' is no regular expression")
    assert resolution.objections is None


def test_an_author_may_ignore_a_rule() -> None:
    """As in the webhook and on the command line."""
    ignored = {"headwater.dev/lint-ignore": "today"}
    assert judged("Today is Friday.\n", ignored).objections == Objections()
