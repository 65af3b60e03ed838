"""Remembers which system texts hold a copy of a published version, and where it differs.

A program sends one system text for all of its requests, or a few. The first look reads a text's
words, which takes some milliseconds; after that its fingerprint tells. No text is kept. Nothing of
what is decided here depends on what was looked at before.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from headwater.contract.digest import Digest
from headwater.contract.divergence import Divergence, Published, in_system
from headwater.contract.markers import kind

_REMEMBERED: Final = 256
"""System texts, the one that was sent longest ago forgotten first: some 70 KB."""

_Key = tuple[Digest, bytes]


class Copies:
    """The versions of which a request may hold a copy."""

    def __init__(self, known: Iterable[Published], *, remembered: int = _REMEMBERED) -> None:
        """`known` are those of the bundle: stable, candidate, and those before that are kept."""
        self.known = tuple(known)
        self._remembered = remembered
        self._found: OrderedDict[_Key, Divergence | int] = OrderedDict()
        # A program with the library may have several threads.
        self._lock = threading.Lock()
        # A text is recognised by its words, so spaces that only one of the two has do not count.
        words = ("".join("".join(each.blocks).split()) for each in self.known)
        self._shortest = min(map(len, words), default=0)

    def look(self, contract: Published, system: msgspec.Raw) -> Divergence | int:
        """Return what `in_system` says of a request's `system`; 0 where that cannot be read."""
        data = memoryview(system)
        if 3 * len(data) <= self._shortest:
            return 0  # too short for a copy: most suffixes need not be read
        key = contract.digest, hashlib.sha256(data).digest()
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found
        try:
            found = in_system(contract, _texts_of(system), self.known)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = 0  # the provider will refuse it
        with self._lock:
            self._found[key] = found
            if len(self._found) > self._remembered:
                self._found.popitem(last=False)
        return found


class _Block(msgspec.Struct):
    text: str = ""


_decode_blocks: Final = msgspec.json.Decoder(list[_Block]).decode


def _texts_of(system: msgspec.Raw) -> list[str]:
    """Return the texts of a `system`, whether it is a string or a list of blocks.

    Raises:
        msgspec.MsgspecError: it is neither.
    """
    if kind(system) == b'"':
        return [msgspec.json.decode(system, type=str)]
    return [block.text for block in _decode_blocks(system)]
