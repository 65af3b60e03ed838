"""Answers about pods: looks up what `inject` needs.

Nothing is written anywhere: a review may be made up by whoever reaches the port. A pod that is
skipped says so in an annotation, and of one that is refused the API server tells its creator.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from headwater.webhook.injection import Injection, Namespace, Outcome, inject, wanted
from headwater.webhook.lookup import Lookup
from headwater.webhook.pods import Pod
from headwater.webhook.review import Answer, Request, ReviewError
from headwater.webhook.sidecar import Settings

_READ_SECONDS: Final = 3.0
"""For all reads together, so that an answer comes before the API server stops waiting."""

_decoder: Final = msgspec.json.Decoder(Pod)


class Injector:
    """Answers about pods that are created."""

    def __init__(
        self,
        lookup: Lookup,
        settings: Settings,
        decided: Callable[[Injection], None],
    ) -> None:
        """`decided` is told what became of each pod."""
        self._lookup = lookup
        self._settings = settings
        self._decided = decided

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
