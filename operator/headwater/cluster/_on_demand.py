"""Imports the client library's subpackages when they are used, and not before.

`import kubernetes.aio` executes `kubernetes` first, which imports its synchronous client as well,
with requests, OAuth and websockets: half of the time that a command takes to start. The standard
library's recipe for lazy imports holds them back. Whoever does use one (kopf takes two classes of
the synchronous client) gets it as ever.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

_USED: Final = frozenset({"kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.config"})
_PARENTS: Final = frozenset({"kubernetes", "kubernetes.aio"})


class _OnDemand:
    """Finds subpackages of the client library, with a loader that waits for the first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.rpartition(".")[0] not in _PARENTS or name in _USED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Apply this to what is imported from now on; once is enough."""
    if _OnDemand not in sys.meta_path:
        sys.meta_path.insert(0, _OnDemand)
