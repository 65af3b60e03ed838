"""Whether a CacheWarmer may be declared as it stands: what a schema cannot check.

What its schedule leaves cold is judged by its prefix's TTL. A prefix that is not there yet may be
applied a moment later: that is a warning, and the controller judges again when it is.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import pydantic

from headwater.cluster import PROMPT_PREFIX, ApiError, Cluster, NotFoundError
from headwater.resources import CacheWarmer
from headwater.resources.prefix import PromptPrefix
from headwater.warmer.schedule import START_UP, ScheduleError, longest_gap, problem, timetable
from headwater.webhook.review import Answer, Request, ReviewError

_JUDGED: Final = ("prefixRef", "schedule", "activeHours")


class WarmerValidator:
    """Answers about CacheWarmers."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime]) -> None:
        """`cluster` is where their prefixes are."""
        self._cluster = cluster
        self._clock = clock

    async def answer(self, request: Request) -> Answer:
        """Admit or refuse.

        Raises:
            ReviewError: the object is no CacheWarmer.
        """
        try:
            body = msgspec.json.decode(request.object, type=dict[str, Any])
            old = msgspec.json.decode(request.old_object, type=dict[str, Any] | None) or {}
            warmer = CacheWarmer.model_validate(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, pydantic.ValidationError) as error:
            raise ReviewError(f"this is no CacheWarmer: {str(error)[:200]}") from error
        before = old.get("spec") or {}
        same = all(body["spec"].get(name) == before.get(name) for name in _JUDGED)
        if same or body["metadata"].get("deletionTimestamp"):
            return Answer()
        return await self._judge(warmer, request.namespace)

    async def _judge(self, warmer: CacheWarmer, namespace: str) -> Answer:
        now, spec = self._clock(), warmer.spec
        try:
            if spec.schedule != "Auto":
                longest_gap(spec.schedule, now)
            timetable(spec.schedule, "1h", spec.active_hours)
            prefix = PromptPrefix.model_validate(
                await self._cluster.get(PROMPT_PREFIX, namespace, spec.prefix_ref.name)
            )
            if spec.schedule == "Auto":
                return Answer()
            found = problem(spec.schedule, prefix.spec.ttl, now, warmer.status.start_up or START_UP)
            return Answer(refusal=f"spec.schedule: {found}" if found else "")
        except ScheduleError as error:
            return Answer(refusal=str(error))
        except NotFoundError:
            name = spec.prefix_ref.name
            return Answer(
                warnings=[
                    f"there is no PromptPrefix {name!r} in {namespace} yet: nothing is warmed"
                ]
            )
        except ApiError as error:
            return Answer(warnings=[f"the schedule was not checked: {error}"])
