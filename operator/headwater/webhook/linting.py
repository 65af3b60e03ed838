"""What lint says of a prefix that is about to be declared, on the facts that are at hand. Pure."""

from dataclasses import replace

from headwater.contract.content import content_of
from headwater.contract.lint import Finding, lint
from headwater.controller.linting import facts_of
from headwater.providers.minimums import sizes
from headwater.resources import PromptPrefix


def findings(
    prefix: PromptPrefix, canonical: bytes, previous_tools: tuple[str, ...]
) -> tuple[Finding, ...]:
    """Objections to the content, given as its canonical bytes.

    Raises:
        PatternError: one of `spec.tenantPattern` is no regular expression.
    """
    facts = replace(
        facts_of(prefix),
        sizes=sizes(canonical, prefix.spec.models, prefix.spec.provider),
        previous_tools=previous_tools,
    )
    return lint(content_of(canonical), facts)
