"""Who asked for what stands in a PromptPrefix, as far as the API server remembers it. Pure.

For each field `metadata.managedFields` has the tool that set it last, by the name that the tool
gave itself, and when that tool last set anything. The person behind it stands in the API
server's audit log and in the webhook's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from headwater.cluster import Object
from headwater.contract.route import Revision
from headwater.rollout.state import Decision, Entry, Plan, Reason

_PUBLISHED: Final = (("spec", "version"), ("spec", "digest"), ("spec", "content"))
_APPROVED: Final = ("spec", "rollout", "approvedDigest")
_FOLLOWS_FROM_A_COMMIT: Final = {
    Reason.FIRST_VERSION,
    Reason.CANARY_STARTED,
    Reason.RELABELLED,
    Reason.SUPERSEDED,
    Reason.RETURNED,
    Reason.ABORTED,
}
_MADE_STABLE: Final = {Reason.FIRST_VERSION, Reason.PROMOTED, Reason.RETURNED}


@dataclass(frozen=True, slots=True)
class Who:
    """A tool by its own name, and when it last set anything, as the API server writes times."""

    manager: str
    at: str


@dataclass(frozen=True, slots=True)
class Authors:
    """Who set the version, its digest or its content last, and who set the approval."""

    published: Who | None = None
    approved: Who | None = None


def authors_of(metadata: Object) -> Authors:
    """The authors of a PromptPrefix, given by its metadata."""
    managed = metadata.get("managedFields")
    found = [who for path in _PUBLISHED if (who := who_set(managed, path)) is not None]
    return Authors(
        published=max(found, key=lambda who: who.at, default=None),
        approved=who_set(managed, _APPROVED),
    )


def who_set(managed: Any, path: Sequence[str]) -> Who | None:
    """Who set a field last, by an object's managedFields; None where nobody is known.

    Several tools own a field where they applied the same value: the latest of them is named.
    """
    found = [
        Who(str(entry["manager"]), str(entry.get("time") or ""))
        for entry in _entries(managed)
        if _owns(entry.get("fieldsV1"), path)
    ]
    return max(found, key=lambda who: who.at, default=None)


def _entries(managed: Any) -> Iterator[Object]:
    """The entries about the object itself that name somebody."""
    for entry in managed if isinstance(managed, list) else ():
        if isinstance(entry, dict) and entry.get("manager") and not entry.get("subresource"):
            yield entry


def _owns(fields: Any, path: Sequence[str]) -> bool:
    """Whether a set of fields has the field, a part of it, or the whole that it is a part of.

    Of the keys `f:` names a field; `k:`, `v:` and `i:` name items of a list, which no path of
    ours leads through, and `.` is the whole itself.
    Source: https://github.com/kubernetes-sigs/structured-merge-diff/blob/v6.3.0/fieldpath/serialize-pe.go
    """
    for depth, name in enumerate(path):
        if not isinstance(fields, dict):
            return False
        if not fields:
            return depth > 0
        fields = fields.get(f"f:{name}")
    return isinstance(fields, dict)


def attributed(decision: Decision, plan: Plan, authors: Authors) -> Decision:
    """The decision with who asked for it: in its events, and in the history that ends with them."""
    if not decision.events:
        return decision
    events = tuple(replace(entry, by=_asked_by(entry, plan, authors)) for entry in decision.events)
    earlier = decision.state.history[: -len(events)]
    return Decision(replace(decision.state, history=(*earlier, *events)), events)


def _asked_by(entry: Entry, plan: Plan, authors: Authors) -> str:
    """The tool that asked for it; empty where evidence or time decided."""
    at_once = entry.reason is Reason.PROMOTED and plan.strategy == "Immediate"
    if entry.reason in _MADE_STABLE and plan.approves(entry.revision):
        return name_of(authors.approved)
    if at_once or entry.reason in _FOLLOWS_FROM_A_COMMIT:
        return name_of(authors.published)
    return ""


def name_of(who: Who | None) -> str:
    """The tool's name, empty where it is not known."""
    return "" if who is None else who.manager


def told(sentence: str, by: str | None) -> str:
    """A sentence, and who asked for what it tells."""
    return f"{sentence} (asked for by {by})" if by else sentence


def facts(revision: Revision, plan: Plan, authors: Authors, by: str) -> dict[str, str]:
    """What an audit record says beside its sentence; what is not known is absent."""
    published, approved = authors.published, authors.approved
    if not plan.approves(revision):
        approved = None
    found = {
        "version": revision.version,
        "digest": str(revision.digest),
        "by": by,
        "publishedBy": name_of(published),
        "publishedAt": "" if published is None else published.at,
        "approvedBy": name_of(approved),
        "approvedAt": "" if approved is None else approved.at,
    }
    return {name: text for name, text in found.items() if text}
