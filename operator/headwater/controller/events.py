"""Kubernetes Events: what happened to a prefix, told where `kubectl describe` looks.

Only transitions are told. An Event that cannot be written is logged and forgotten: telling
never stands in the way of doing.
"""

import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from headwater.cluster import EVENT, ApiError, Cluster, Kind, Object

_log = logging.getLogger(__name__)

CONTROLLER: Final = "headwater.dev/controller"
_NOTE_LIMIT: Final = 1024
"""Characters (kubernetes: core/validation, events.k8s.io `note`)."""


class Recorder:
    """Writes Events, and one structured log line for each."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Callable[[], datetime],
        instance: str,
        reporter: str = CONTROLLER,
    ) -> None:
        """`instance` names this process and `reporter` its role, as Events ask for."""
        self._cluster = cluster
        self._clock = clock
        self._instance = instance
        self._reporter = reporter

    async def tell(
        self, kind: Kind, about: Object, reason: str, note: str, *, warning: bool = False
    ) -> None:
        """Tell something about an object, given by its metadata."""
        namespace, name = about["namespace"], about["name"]
        _log.info(
            "%s",
            json.dumps(
                {"event": reason, "kind": kind.kind, "object": f"{namespace}/{name}", "note": note},
                ensure_ascii=False,
            ),
        )
        body: Object = {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._reporter,
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
