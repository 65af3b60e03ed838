"""Answers about pods: looks up what `inject` needs, and tells what became of a conflict."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from headwater.cluster import POD, Kind
from headwater.controller.events import Recorder
from headwater.webhook.injection import Injection, Namespace, Outcome, inject, wanted
from headwater.webhook.lookup import Lookup
from headwater.webhook.pods import Pod
from headwater.webhook.review import Answer, Request, ReviewError
from headwater.webhook.sidecar import Settings

_READ_SECONDS: Final = 3.0
"""For all reads together, so that an answer comes before the API server stops waiting."""
_TOLD_AGAIN_SECONDS: Final = 600.0
"""A workload tries its pod anew for as long as it is refused; one Event says it."""
_TOLD: Final = 1_000
_TELLING: Final = 20
"""Events on their way at once; what is beyond them is in the metrics and in the answers."""

_decoder: Final = msgspec.json.Decoder(Pod)


class Injector:
    """Answers about pods that are created."""

    def __init__(
        self,
        lookup: Lookup,
        recorder: Recorder,
        settings: Settings,
        decided: Callable[[Injection], None],
        clock: Callable[[], float],
    ) -> None:
        """`decided` is told what became of each pod; `clock` gives seconds that never go back."""
        self._lookup = lookup
        self._recorder = recorder
        self._settings = settings
        self._decided = decided
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._telling: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request) -> tuple[Answer, Outcome]:
        """What is done about the pod.

        Raises:
            ReviewError: the object is no pod, or nobody says where it is to be.
            ApiError: what is needed could not be read.
            TimeoutError: the same.
        """
        if not request.namespace:
            raise ReviewError("the review has no namespace, and a pod has one")
        try:
            pod = _decoder.decode(request.object)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ReviewError(f"the object is no pod: {error}") from error
        async with asyncio.timeout(_READ_SECONDS):
            namespace = await self._lookup.namespace(request.namespace)
            injection = await self._inject(pod, namespace)
        self._decided(injection)
        if injection.reason is not None and injection.reason.is_conflict and not request.dry_run:
            self._tell(pod, namespace.name, injection)
        notes = {"headwater.dev/injection": str(injection.outcome)}
        if injection.reason is not None:
            notes["headwater.dev/reason"] = str(injection.reason)
        refused = injection.outcome is Outcome.REFUSED
        refusal = f"{injection.reason}: {injection.message}" if refused else ""
        return Answer(refusal, injection.patch, injection.warnings, notes), injection.outcome

    async def _inject(self, pod: Pod, namespace: Namespace) -> Injection:
        prefixes = wanted(pod, namespace)
        terms = await self._lookup.terms(prefixes, anew=False)
        injection = inject(pod, namespace, terms, self._settings)
        if prefixes and injection.outcome is not Outcome.INJECTED:
            terms = await self._lookup.terms(prefixes, anew=True)
            injection = inject(pod, namespace, terms, self._settings)
        return injection

    def _tell(self, pod: Pod, namespace: str, injection: Injection) -> None:
        """An Event about what made the pod, for the pod itself may never be; once in a while."""
        owner = pod.controller
        if owner is None:
            kind, name, uid = POD, pod.metadata.name or pod.metadata.generate_name.strip("-."), ""
        else:
            group, _, version = owner.api_version.rpartition("/")
            kind, name, uid = Kind(group, version, "", owner.kind), owner.name, owner.uid
        key = (namespace, kind.kind, name, str(injection.reason))
        now = self._clock()
        if now - self._told.get(key, -_TOLD_AGAIN_SECONDS) < _TOLD_AGAIN_SECONDS:
            return
        if len(self._telling) >= _TELLING:
            return
        self._told[key] = now
        if len(self._told) > _TOLD:
            self._told.popitem(last=False)
        about = {"namespace": namespace, "name": name, "uid": uid}
        reason = "InjectionRefused" if injection.outcome is Outcome.REFUSED else "InjectionSkipped"
        note = f"{injection.reason}: {injection.message}"
        task = asyncio.create_task(
            self._recorder.tell(kind, about, reason, note, warning=True), name="event"
        )
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
