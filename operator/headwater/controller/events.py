"""What happened, told where `kubectl describe` looks, and recorded in the log for longer.

Only transitions are told. An Event that cannot be written is logged and forgotten: telling
never stands in the way of doing. The API server forgets Events after an hour; the log, whose
lines of the name `headwater.audit` each end in a JSON object, is kept where logs are kept.
"""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from headwater.cluster import EVENT, ApiError, Cluster, Kind, Object

_log = logging.getLogger(__name__)
_audit = logging.getLogger("headwater.audit")

CONTROLLER: Final = "headwater.dev/controller"
_NOTE_LIMIT: Final = 1024
"""Characters (kubernetes: core/validation, events.k8s.io `note`)."""


class Recorder:
    """Writes Events, and one structured line of the log for each."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Callable[[], datetime],
        instance: str,
    ) -> None:
        """`instance` names this process, as Events ask for."""
        self._cluster = cluster
        self._clock = clock
        self._instance = instance

    def record(
        self,
        kind: Kind,
        about: Object,
        reason: str,
        note: str,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Put something about an object into the log alone; `facts` stand beside the note."""
        line = {
            "event": reason,
            "kind": kind.kind,
            "object": f"{about['namespace']}/{about['name']}",
            "note": note,
            **(facts or {}),
        }
        _audit.info("%s", json.dumps(line, ensure_ascii=False))

    async def tell(
        self,
        kind: Kind,
        about: Object,
        reason: str,
        note: str,
        facts: Mapping[str, str] | None = None,
        *,
        warning: bool = False,
    ) -> None:
        """Tell something about an object, given by its metadata, and record it."""
        self.record(kind, about, reason, note, facts)
        namespace, name = about["namespace"], about["name"]
        body: Object = {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": reason,
            "note": note if len(note) <= _NOTE_LIMIT else note[: _NOTE_LIMIT - 1] + "…",
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": namespace,
                "name": name,
                "uid": about["uid"],
            },
        }
        try:
            await self._cluster.create(EVENT, body)
        except ApiError as error:
            _log.warning("an Event about %s/%s was not written: %s", namespace, name, error)
