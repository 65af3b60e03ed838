"""The conditions of a PromptPrefix: what people, `kubectl wait` and GitOps tools read.

Pure. Ready, Reconciling and Stalled mean what kstatus takes them to mean: Ready says that the
declared version is what is served. Whether each namespace has it is a condition of its own, so that
one namespace's quota does not hold up everybody's pipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headwater.controller.store import Resolution
from headwater.providers.models import lookup
from headwater.providers.tokens import ESTIMATE_MARGIN
from headwater.resources.prefix import PromptPrefix
from headwater.resources.schema import Condition
from headwater.rollout.state import Phase, State

DELETION_HELD: Final = "DeletionHeld"
"""The reason of the condition and of the Event."""
_NOT_WRITTEN: Final = "BundleNotWritten"
DIGEST_MATCHES: Final = "DigestMatches"
DIGEST_APPROVED: Final = "DigestApproved"


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition before it has a time."""

    type: str
    status: str
    reason: str
    message: str


def findings(
    prefix: PromptPrefix,
    resolution: Resolution,
    state: State,
    *,
    held: str = "",
    served: int,
    unpublished: Mapping[str, str],
    counted: Mapping[str, int],
) -> list[Finding]:
    """All conditions of a prefix.

    `held` says who holds its deletion up, empty where nobody does. `served` is how many namespaces
    have the bundle, `unpublished` are those whose bundle could not be written and why; `counted`
    are the declared contract's tokens by model where the provider counted them.
    """
    nowhere = {} if served else unpublished
    return [
        *(kstatus(DELETION_HELD, held) if held else _progress(prefix, resolution, state, nowhere)),
        _consumers_served(served, unpublished),
        _digest_verified(resolution),
        _cacheable(prefix, resolution, counted),
        _linted(resolution),
        *_approved(prefix, state),
    ]


def stamp(
    found: Sequence[Finding], previous: Sequence[Condition], generation: int, now: datetime
) -> list[Condition]:
    """Conditions with their times: one that did not change its status keeps when it did."""
    before = {condition.type: condition for condition in previous}
    return [
        Condition(
            type=finding.type,
            status=finding.status,
            reason=finding.reason,
            message=finding.message,
            observed_generation=generation,
            last_transition_time=known.last_transition_time
            if (known := before.get(finding.type)) is not None and known.status == finding.status
            else now,
        )
        for finding in found
    ]


def _progress(
    prefix: PromptPrefix, resolution: Resolution, state: State, nowhere: Mapping[str, str]
) -> list[Finding]:
    """Return Ready, Reconciling and Stalled; `nowhere` says why no namespace has the bundle."""
    if resolution.digest is None:
        # A reference that may yet appear is progress; anything else waits for a commit.
        return kstatus(resolution.reason, resolution.message, stalled=not resolution.missing)
    if nowhere:
        return kstatus(_NOT_WRITTEN, _lacking(0, nowhere), stalled=False)
    if state.phase is Phase.STABLE:
        return kstatus(state.phase.value, state.message, ready=True, stalled=False)
    stalled = state.phase in (Phase.ROLLED_BACK, Phase.DEGRADED)
    return kstatus(
        state.phase.value, state.message, stalled=stalled, working=not prefix.spec.suspend
    )


def _consumers_served(served: int, unpublished: Mapping[str, str]) -> Finding:
    if unpublished:
        return Finding("ConsumersServed", "False", _NOT_WRITTEN, _lacking(served, unpublished))
    message = f"{served} of {served} namespaces have the bundle"
    return Finding("ConsumersServed", "True", "AllServed", message)


def _lacking(served: int, unpublished: Mapping[str, str]) -> str:
    namespace, why = min(unpublished.items())
    others = f", and {len(unpublished) - 1} more lack it" if len(unpublished) > 1 else ""
    total = served + len(unpublished)
    return f"{served} of {total} namespaces have the bundle; {namespace}: {why}{others}"


def kstatus(
    reason: str, message: str, *, stalled: bool = False, ready: bool = False, working: bool = True
) -> list[Finding]:
    """Ready, Reconciling and Stalled, which agree with each other."""
    reconciling = working and not ready and not stalled
    return [
        Finding("Ready", _truth(holds=ready), reason, message),
        Finding("Reconciling", _truth(holds=reconciling), reason, message),
        Finding("Stalled", _truth(holds=stalled), reason, message),
    ]


def _digest_verified(resolution: Resolution) -> Finding:
    if resolution.digest is None:
        return Finding("DigestVerified", "False", resolution.reason, resolution.message)
    message = f"the content hashes to {resolution.digest}, as declared"
    return Finding("DigestVerified", "True", DIGEST_MATCHES, message)


def _cacheable(prefix: PromptPrefix, resolution: Resolution, counted: Mapping[str, int]) -> Finding:
    """Whether every model would cache the contract: below its minimum it silently does not."""
    if not resolution.tokens:
        message = "the content is not resolved, so its tokens are not known"
        return Finding("Cacheable", "Unknown", "ContentNotResolved", message)
    below, near, unknown = [], [], []
    for model in prefix.spec.models:
        facts = lookup(model, prefix.spec.provider)
        if facts is None:
            unknown.append(model)
            continue
        minimum = facts.min_cacheable_tokens
        exact = counted.get(model)
        tokens = resolution.tokens[model] if exact is None else exact
        about = "" if exact is not None else "about "
        sentence = f"{model} has {about}{tokens:,} tokens of at least {minimum:,}"
        margin = ESTIMATE_MARGIN if exact is None else 0.0
        if tokens < minimum * (1 - margin):
            below.append(sentence)
        elif tokens < minimum * (1 + margin):
            near.append(sentence)
    if below:
        message = f"the provider caches nothing: {'; '.join(below)}; pad it or drop the model"
        return Finding("Cacheable", "False", "BelowMinimum", message)
    if near:
        message = f"too near the minimum for an estimate: {'; '.join(near)}"
        return Finding("Cacheable", "Unknown", "NearMinimum", message)
    if unknown:
        message = f"no minimum is known for {', '.join(unknown)}"
        return Finding("Cacheable", "Unknown", "UnknownModel", message)
    return Finding("Cacheable", "True", "AboveMinimum", "every model caches the contract")


def _linted(resolution: Resolution) -> Finding:
    """What lint says. No part of Ready: a warning is no failure."""
    found = resolution.objections
    if found is None:
        message = "the content is not resolved, so lint has not seen it"
        return Finding("Linted", "Unknown", "ContentNotResolved", message)
    if found.errors or found.warnings:
        counts = f"{found.errors} errors, {found.warnings} warnings: "
        reason = "ErrorsFound" if found.errors else "WarningsFound"
        return Finding("Linted", "False", reason, counts + found.sentence)
    return Finding("Linted", "True", "NothingFound", "lint has no errors and no warnings")


def _approved(prefix: PromptPrefix, state: State) -> list[Finding]:
    """Only where somebody asked for an approval, or gave one."""
    rollout = prefix.spec.rollout
    if rollout.approval == "Automatic" and rollout.approved_digest is None:
        return []
    if rollout.approved_digest == prefix.spec.digest:
        message = f"{prefix.spec.version} is approved by its digest"
        return [Finding("Approved", "True", DIGEST_APPROVED, message)]
    if state.stable is not None and state.stable.digest == prefix.spec.digest:
        message = f"{prefix.spec.version} is stable: there is nothing to approve"
        return [Finding("Approved", "True", "NothingToApprove", message)]
    if rollout.approved_digest is None:
        message = f"set spec.rollout.approvedDigest to {prefix.spec.digest} to approve"
        return [Finding("Approved", "False", "NotApproved", message)]
    message = (
        f"approvedDigest names {rollout.approved_digest}, and {prefix.spec.version} is"
        f" {prefix.spec.digest}: the approval has no effect"
    )
    return [Finding("Approved", "False", "OtherDigestApproved", message)]


def _truth(*, holds: bool) -> str:
    return "True" if holds else "False"
