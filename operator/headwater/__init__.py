"""Headwater makes a shared prompt prefix a contract: the same bytes for everyone, or nothing.

What an application imports. Nothing is loaded before it is used, so that the import itself costs
nothing; docs/library.md tells how to use it.
"""

import importlib

TYPE_CHECKING = False  # importing it from `typing` would take longer than all of this

if TYPE_CHECKING:
    from headwater.client.batch import Batch, Estimate
    from headwater.client.contract import Contract
    from headwater.client.conversation import Conversation
    from headwater.client.layers import Layer, Layers, Share
    from headwater.client.sdk import wrap
    from headwater.client.source import declare, load
    from headwater.client.stability import UnstableError, assert_stable
    from headwater.client.tools import tools
    from headwater.contract.errors import (
        BundleError,
        BusyError,
        ContentError,
        DigestError,
        HeadwaterError,
        HistoryError,
        PinError,
        RequestError,
    )
    from headwater.contract.reasons import RefusalError

__all__ = [
    "Batch",
    "BundleError",
    "BusyError",
    "ContentError",
    "Contract",
    "Conversation",
    "DigestError",
    "Estimate",
    "HeadwaterError",
    "HistoryError",
    "Layer",
    "Layers",
    "PinError",
    "RefusalError",
    "RequestError",
    "Share",
    "UnstableError",
    "assert_stable",
    "declare",
    "load",
    "tools",
    "wrap",
]

_HOME = {
    "Batch": "client.batch",
    "Estimate": "client.batch",
    "Contract": "client.contract",
    "Conversation": "client.conversation",
    "Layer": "client.layers",
    "Layers": "client.layers",
    "RefusalError": "contract.reasons",
    "Share": "client.layers",
    "UnstableError": "client.stability",
    "assert_stable": "client.stability",
    "declare": "client.source",
    "load": "client.source",
    "tools": "client.tools",
    "wrap": "client.sdk",
}


if not TYPE_CHECKING:  # else every name would seem to exist

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_HOME.get(name, 'contract.errors')}")
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
