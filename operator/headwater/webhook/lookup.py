"""What injection needs to know of the cluster: the pod's namespace, and the prefixes' terms.

A namespace is read for every pod: who annotates a namespace and then creates a pod gets what was
annotated. The terms of a prefix are remembered, because its object is large, and stale terms are
harmless where they admit: the pod then waits for a bundle. Before they refuse, they are asked for
again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from headwater.cluster import NAMESPACE, PROMPT_PREFIX, Cluster, NotFoundError
from headwater.controller.objects import Key
from headwater.resources.prefix import Consumers
from headwater.webhook.injection import Namespace, Terms

_REMEMBERED_SECONDS: Final = 30.0
_REMEMBERED: Final = 1_000
"""Prefixes; the one that was read the longest ago is forgotten first."""


class Lookup:
    """Reads of one process. Each may raise an `ApiError`."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._cluster = cluster
        self._clock = clock
        self._terms: OrderedDict[Key, tuple[float, Terms]] = OrderedDict()

    async def namespace(self, name: str) -> Namespace:
        """A namespace as it is now."""
        body = await self._cluster.get(NAMESPACE, None, name)
        metadata = body["metadata"]
        return Namespace(name, metadata.get("labels") or {}, metadata.get("annotations") or {})

    async def terms(self, prefixes: tuple[Key, ...], *, anew: bool) -> dict[Key, Terms | None]:
        """The terms of these prefixes; None for one that does not exist."""
        found = await asyncio.gather(*(self._terms_of(prefix, anew=anew) for prefix in prefixes))
        return dict(zip(prefixes, found, strict=True))

    async def _terms_of(self, prefix: Key, *, anew: bool) -> Terms | None:
        now = self._clock()
        if not anew and prefix in self._terms:
            read_at, terms = self._terms[prefix]
            if now - read_at < _REMEMBERED_SECONDS:
                return terms
        self._terms.pop(prefix, None)
        try:
            body = await self._cluster.get(PROMPT_PREFIX, prefix.namespace, prefix.name)
        except NotFoundError:
            return None
        spec = body["spec"]
        terms = Terms(Consumers.model_validate(spec["consumers"]), spec["enforcement"])
        self._terms[prefix] = now, terms
        if len(self._terms) > _REMEMBERED:
            self._terms.popitem(last=False)
        return terms
