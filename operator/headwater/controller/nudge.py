"""An abort reaches running pods at once: an annotation of theirs is touched.

The kubelet follows a ConfigMap with its own sync, a minute or more; a change of the pod makes it
sync that pod now. It is a courtesy on top of a bundle that is right already, so nothing about it
may hold a reconcile up. What remains to be done follows from the status and the pods themselves:
a restart goes on where it was.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from headwater.cluster import (
    POD,
    PROMPT_PREFIX,
    ApiError,
    Cluster,
    NotFoundError,
    RefusedError,
)
from headwater.controller.consumers import Consumer, withdrawn_annotation
from headwater.controller.events import Recorder
from headwater.controller.objects import Key
from headwater.controller.store import Store
from headwater.rollout.state import Withdrawn

_log = logging.getLogger(__name__)

_WINDOW: Final = timedelta(minutes=3)
"""By then every kubelet has synced by itself: its period is 1 min, give or take its jitter."""
_PUBLISHING: Final = timedelta(seconds=15)
"""A pod made so soon after the decision may have mounted the bundle from before it."""
_AT_ONCE: Final = 10
"""Patches in flight: half of the connections stay for reconciles."""
_BOUND: Final = 10.0
"""Seconds that a reconcile may be held up."""
_LOOK_AGAIN: Final = timedelta(seconds=5)


def pods_to_tell(consumers: Iterable[Consumer], withdrawn: Withdrawn, now: datetime) -> list[Key]:
    """The pods that may still route to the withdrawn candidate, and have not been told."""
    if now - withdrawn.at > _WINDOW:
        return []
    return [
        consumer.pod
        for consumer in consumers
        if consumer.created <= withdrawn.at + _PUBLISHING and consumer.told != str(withdrawn.epoch)
    ]


@dataclass(slots=True)
class Nudger:
    """Tells pods of a withdrawal; with `enabled` off they learn of it from their kubelet."""

    cluster: Cluster
    store: Store
    recorder: Recorder
    enabled: bool = True
    _refused: dict[Key, tuple[int, set[Key]]] = field(default_factory=dict)
    """By prefix: the epoch, and the pods that the API server did not let us tell of it."""

    async def tell(self, key: Key, withdrawn: Withdrawn | None, now: datetime) -> timedelta | None:
        """Annotate the pods whose bundle is rewritten already; when to look for more, if at all."""
        record = self.store.prefixes.get(key)
        if not self.enabled or withdrawn is None or record is None:
            return None
        epoch, refused = self._refused.get(key, (withdrawn.epoch, set()))
        if epoch != withdrawn.epoch:
            refused = set()
        pods = [
            pod
            for pod in pods_to_tell(self.store.consumers_of(key), withdrawn, now)
            if pod.namespace in record.published and pod not in refused
        ]
        if not pods:
            return None
        problems = await self._annotate(pods, {withdrawn_annotation(key): str(withdrawn.epoch)})
        if problems:
            self._refused[key] = withdrawn.epoch, refused | problems.keys()
            pod, why = min(problems.items())
            note = (
                f"{len(problems)} pods, {pod} for one, could not be told that a candidate left, and"
                f" follow with their kubelet's next sync: {why}"
            )
            about = record.body["metadata"]
            await self.recorder.tell(PROMPT_PREFIX, about, "PodsNotTold", note, warning=True)
        return _LOOK_AGAIN

    async def _annotate(self, pods: list[Key], annotations: Mapping[str, str]) -> dict[Key, str]:
        """Annotate those that can be in the time there is; those that were refused, and why."""
        gate = asyncio.Semaphore(_AT_ONCE)
        problems: dict[Key, str] = {}

        async def touch(pod: Key) -> None:
            async with gate:
                try:
                    await self.cluster.annotate(POD, *pod, annotations)
                except NotFoundError:
                    return
                except RefusedError as error:
                    problems[pod] = str(error)
                except ApiError as error:
                    _log.info("pod %s is not told yet that a candidate left: %s", pod, error)

        with contextlib.suppress(TimeoutError):  # the next reconcile goes on
            async with asyncio.timeout(_BOUND):
                await asyncio.gather(*(touch(pod) for pod in pods))
        return problems
