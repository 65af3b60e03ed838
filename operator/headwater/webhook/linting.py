"""What lint says of a prefix that is about to be declared, on the facts that are at hand. Pure."""

import json

from headwater.contract.content import Content
from headwater.contract.lint import Facts, Finding, ignored, lint
from headwater.providers.minimums import sizes
from headwater.resources import PromptPrefix


def findings(
    prefix: PromptPrefix, canonical: bytes, previous_tools: tuple[str, ...]
) -> tuple[Finding, ...]:
    """Objections to the content, given as its canonical bytes."""
    sent = json.loads(canonical)
    spec = prefix.spec
    facts = Facts(
        sizes=sizes(canonical, spec.models, spec.provider),
        previous_tools=previous_tools,
        ignore=ignored(prefix.metadata.annotations),
    )
    return lint(Content(sent["provider"], tuple(sent["tools"]), tuple(sent["system"])), facts)
