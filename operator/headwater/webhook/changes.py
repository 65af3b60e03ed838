"""One line of the log for each change of a contract that a review asks about.

It says what the review says. Only where the API server proves itself by a certificate is that
beyond doubt; elsewhere whoever reaches the port can have such a line written. The proof of who
changed what is the API server's own audit log, which the ownership policy annotates.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from headwater.resources.rollout import Rollout
from headwater.webhook.review import Request

_log: Final = logging.getLogger(__name__)

_STEERED: Final = frozenset({"suspend", "retry", "revisionHistoryLimit"})
"""With `rollout`, what of a spec says when and how; all else is what is published."""


def log(
    request: Request, before: Mapping[str, Any], after: Mapping[str, Any], refusal: str
) -> None:
    """Log what is asked for, by whom, and whether it is refused here; a dry run is no change.

    Args:
        request: who asks.
        before: the PromptPrefix as it stands, empty where it is new.
        after: as it is to be.
        refusal: why not, empty where it is admitted.
    """
    spec = after["spec"]
    asked = verbs(before.get("spec") or {}, spec)
    if request.dry_run or not asked:
        return
    _log.info(
        "a prefix was %s",
        "refused" if refusal else "admitted",
        extra={
            "prefix": f"{request.namespace}/{after['metadata']['name']}",
            "verbs": asked,
            "user": request.user_info.username,
            "version": spec["version"],
            "digest": spec["digest"],
            "approved_digest": (spec.get("rollout") or {}).get("approvedDigest"),
            "request": request.uid,
            "why": refusal,
        },
    )


def verbs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The verbs that a change of a spec takes, as the policy `headwater-ownership` counts them.

    `before` is empty where the prefix is new.
    """
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    was, now = _rollout(before), _rollout(after)
    asked = {
        "publish": changed - _STEERED - {"rollout"},
        "approve": now.approved_digest not in (None, was.approved_digest)
        or (was.approval == "Required" and now.approval != "Required"),
        "steer": before and (changed & _STEERED or _settings(now) != _settings(was)),
    }
    return [verb for verb, taken in asked.items() if taken]


def _settings(rollout: Rollout) -> Rollout:
    return rollout.model_copy(update={"approved_digest": None})


def _rollout(spec: Mapping[str, Any]) -> Rollout:
    """With the defaults, which the API server fills in as soon as anything stands there."""
    try:
        return Rollout.model_validate(spec.get("rollout") or {})
    except ValidationError:  # what another release had stored must not be in the way of its change
        return Rollout.model_validate({})
