"""From what a spec declares to the content of a contract, references followed.

Pure: where a ConfigMap comes from (the cluster, or the other documents that an author has at
hand) is the caller's lookup, so that controller and command line cannot come to two digests.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from headwater.contract.content import MARKER_KEY, TTL, Content, content
from headwater.contract.errors import ContentError, HeadwaterError
from headwater.resources.prefix import ContentSource, SystemBlock
from headwater.resources.schema import NamespacedKey

ConfigMapData = dict[str, str | bytes]
"""`data` as text and `binaryData` as decoded bytes, by key."""

Lookup = Callable[[str], ConfigMapData | None]
"""A ConfigMap of the prefix's namespace by its name; None where there is none."""


def config_map_data(body: Mapping[str, Any]) -> ConfigMapData:
    """What a ConfigMap, as JSON has it, holds."""
    return {
        **(body.get("data") or {}),
        **{key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()},
    }


class BadReferenceError(HeadwaterError):
    """A reference leads to something that cannot be content.

    Attributes:
        name: the ConfigMap.
        key: the key in it.
    """

    def __init__(self, reference: NamespacedKey, message: str) -> None:
        """Keep the reference apart from the sentence, so that a caller can watch it."""
        self.name = reference.name
        self.key = reference.key
        super().__init__(message)


class MissingReferenceError(BadReferenceError):
    """A reference leads nowhere: it may yet appear."""


def resolve(source: ContentSource, lookup: Lookup, *, ttl: TTL, provider: str) -> Content:
    """The content that a spec declares, checked and with its markers in place.

    Raises:
        MissingReferenceError: a ConfigMap, or its key, is not there.
        BadReferenceError: what is there is not UTF-8, or tools are not a JSON list.
        ContentError: what was declared cannot be a contract.
    """
    tools: list[Any] = list(source.tools or ())
    if source.tools_from is not None:
        if source.tools is not None:
            raise ContentError("content", "tools and toolsFrom are both given: keep one of them.")
        reference = source.tools_from.config_map_key_ref
        tools = _parse_tools(reference, _follow(reference, lookup, "content.toolsFrom"))
    system = [_block(block, index, lookup) for index, block in enumerate(source.system or ())]
    return content(tools=tools, system=system, ttl=ttl, provider=provider)


def _block(block: SystemBlock, index: int, lookup: Lookup) -> dict[str, Any]:
    where = f"system[{index}]"
    if (block.text is None) == (block.text_from is None):
        raise ContentError(where, "a system block has either text or textFrom: write one of them.")
    text = block.text
    if block.text_from is not None:
        text = _follow(block.text_from.config_map_key_ref, lookup, f"content.{where}.textFrom")
    marker = {} if block.cache_control is None else {MARKER_KEY: block.cache_control}
    return {"text": text, **marker}


def _follow(reference: NamespacedKey, lookup: Lookup, where: str) -> str:
    data = lookup(reference.name)
    if data is None:
        raise MissingReferenceError(
            reference,
            f"{where}: there is no ConfigMap {reference.name!r} in the prefix's namespace:"
            " apply it, or correct the name.",
        )
    value = data.get(reference.key)
    if value is None:
        keys = ", ".join(sorted(data)) or "none at all"
        raise MissingReferenceError(
            reference,
            f"{where}: the ConfigMap {reference.name!r} has no key {reference.key!r};"
            f" it has {keys}.",
        )
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadReferenceError(
            reference,
            f"{where}: the key {reference.key!r} of the ConfigMap {reference.name!r} is not UTF-8"
            f" (byte {error.start}): save the file as UTF-8.",
        ) from error


_TOOLS: Final = "is not a JSON list of tools"


def _parse_tools(reference: NamespacedKey, text: str) -> list[Any]:
    """JSON alone: in YAML the same text has other values for other readers."""
    place = f"content.toolsFrom: the key {reference.key!r} of the ConfigMap {reference.name!r}"
    try:
        tools = json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise BadReferenceError(reference, f"{place} {_TOOLS} ({error}).") from error
    if not isinstance(tools, list):
        raise BadReferenceError(reference, f"{place} {_TOOLS}, but of type {type(tools).__name__}.")
    return tools


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return found
