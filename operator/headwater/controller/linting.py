"""What lint says of content that is to be served; what names a tenant is not.

Pure. What a model caches from on is not asked here: the condition Cacheable knows real counts.
"""

from collections import Counter
from dataclasses import replace

from headwater.contract.content import content_of
from headwater.contract.lint import TENANT_NAME, Facts, Finding, PatternError, ignored, lint
from headwater.controller.store import Objections, Resolution
from headwater.resources import PromptPrefix


def facts_of(prefix: PromptPrefix) -> Facts:
    """What a prefix itself says to the rules."""
    return Facts(tenants=prefix.spec.tenant_pattern, ignore=ignored(prefix.metadata.annotations))


def linted(prefix: PromptPrefix, resolution: Resolution, canonical: bytes) -> Resolution:
    """What becomes of content that hashes as declared, given as its canonical bytes."""
    try:
        found = lint(content_of(canonical), facts_of(prefix))
    except PatternError as error:
        message = f"spec.tenantPattern: {error}"
        return replace(resolution, digest=None, reason="TenantPatternInvalid", message=message)
    resolution = replace(resolution, objections=_objections(found))
    tenant = next((one for one in found if one.rule == TENANT_NAME), None)
    if tenant is None:
        return resolution
    message = f"{tenant.where}: {tenant.sentence}"
    return replace(resolution, digest=None, reason="TenantNamed", message=message)


def _objections(found: tuple[Finding, ...]) -> Objections:
    """Of errors and warnings, the worst in full and the others by their rules."""
    counted = Counter(one.severity for one in found)
    serious = [one for one in found if one.severity == "error"]
    serious += [one for one in found if one.severity == "warning"]
    if not serious:
        return Objections()
    worst = serious[0]
    others = ", ".join(dict.fromkeys(one.rule for one in serious[1:]))
    return Objections(
        errors=counted["error"],
        warnings=counted["warning"],
        sentence=f"[{worst.rule}] {worst.where}: {worst.sentence}"
        + (f" Also: {others}." if others else ""),
    )
