"""What two contracts have in common, and where they part.

Pure. The provider reads the tools, then the system blocks, and whatever stands behind the first
byte that differs is new to its cache: that order counts here, not that of the canonical file.
"""

import difflib
import io
import json
import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import rfc8785

from headwater.contract.content import MARKER_KEY

Part = Literal["tools", "system"]

_SYSTEM: Final = b'"system":['
_TOOLS: Final = b',"tools":['


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one tool or one system block.

    `before` and `after` are its indices in the two lists, None where it is not there. `name` is
    a tool's own; a block has none. `fields` are those of a changed one that differ.
    """

    kind: Literal["added", "removed", "changed", "moved"]
    part: Part
    name: str
    before: int | None
    after: int | None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parting:
    """The first byte that differs, in the provider's order.

    `path` is its place in the contract, like `system[1].text`, and `offset` its place in the
    first contract's canonical bytes. `shared` is what stands before it in that tool or block,
    `before` and `after` are what each goes on with: canonical JSON, all three.
    """

    path: str
    offset: int
    shared: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How the second contract differs from the first.

    `shared` is the text of the tools and blocks that are the same from the start on, `kept` that
    up to the last cache marker of the first contract in them: what is still in its cache. Of
    that are `kept_tools` tools and `kept_blocks` blocks.
    """

    changes: tuple[Change, ...]
    parting: Parting | None
    shared: bytes
    kept: bytes
    kept_tools: int
    kept_blocks: int


class _Contract:
    """A contract's parts in the provider's order, and where they stand in its canonical bytes."""

    def __init__(self, canonical: bytes) -> None:
        document = json.loads(canonical)
        self.tools: list[dict[str, Any]] = document["tools"]
        self.system: list[dict[str, Any]] = document["system"]
        self.parts = [*self.tools, *self.system]
        # No string can hold these bytes: a quote within one is escaped.
        system_from = canonical.index(_SYSTEM) + len(_SYSTEM)
        closing = len(rfc8785.dumps(self.system)) - len(b"[")
        self._from = {"system": system_from, "tools": system_from + closing + len(_TOOLS)}

    def list(self, part: Part) -> list[dict[str, Any]]:
        """The tools or the blocks."""
        return self.tools if part == "tools" else self.system

    def offset(self, part: Part, index: int) -> int:
        """Where a part begins in the canonical bytes; of one that is missing, where it would."""
        before = b",".join(map(rfc8785.dumps, self.list(part)[:index]))
        comma = 0 < index < len(self.list(part))
        return self._from[part] + len(before) + comma


def difference(before: bytes, after: bytes) -> Difference:
    """Compare the canonical bytes of two contracts."""
    first, second = _Contract(before), _Contract(after)
    texts, others = (
        [rfc8785.dumps(_unmarked(part)).decode() for part in contract.parts]
        for contract in (first, second)
    )
    same = _in_common(texts, others)
    # A cache entry ends at a marker of the contract that wrote it.
    kept = max((i + 1 for i in range(same) if MARKER_KEY in first.parts[i]), default=0)
    return Difference(
        changes=(*_tool_changes(first.tools, second.tools), *_block_changes(first, second)),
        parting=_parting(first, second),
        shared="".join(texts[:same]).encode(),
        kept="".join(texts[:kept]).encode(),
        kept_tools=min(kept, len(first.tools)),
        kept_blocks=max(kept - len(first.tools), 0),
    )


def unified(before: bytes, after: bytes, change: Change, labels: tuple[str, str]) -> Iterator[str]:
    """The lines of a unified diff of what changed: a block's text, or a tool as JSON."""
    old, new = _Contract(before).list(change.part), _Contract(after).list(change.part)
    for line in difflib.unified_diff(
        _lines(old, change.before),
        _lines(new, change.after),
        _name(labels[0], change.part, change.before),
        _name(labels[1], change.part, change.after),
    ):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at the end"


def _lines(parts: Sequence[Mapping[str, Any]], index: int | None) -> list[str]:
    if index is None:
        return []
    part = parts[index]
    text = _indented(part) if "name" in part else part["text"]
    # `splitlines` would split at what is no line end to a model, such as U+2028.
    return list(io.StringIO(text, newline="\n"))


def _indented(tool: Mapping[str, Any]) -> str:
    return json.dumps(tool, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _name(label: str, part: Part, index: int | None) -> str:
    return "/dev/null" if index is None else f"{label} {part}[{index}]"


def _tool_changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[Change]:
    old = {tool["name"]: index for index, tool in enumerate(before)}
    new = {tool["name"]: index for index, tool in enumerate(after)}
    for name, index in old.items():
        if name not in new:
            yield Change("removed", "tools", name, index, None)
    in_both = [name for name in old if name in new], [name for name in new if name in old]
    matches = difflib.SequenceMatcher(None, *in_both, autojunk=False).get_matching_blocks()
    in_order = {name for match in matches for name in in_both[0][match.a : match.a + match.size]}
    for name, index in new.items():
        if name not in old:
            yield Change("added", "tools", name, None, index)
            continue
        if name not in in_order:
            yield Change("moved", "tools", name, old[name], index)
        if fields := _fields(before[old[name]], after[index]):
            yield Change("changed", "tools", name, old[name], index, fields)


def _block_changes(first: _Contract, second: _Contract) -> Iterator[Change]:
    """Blocks have no names: what stands between the same blocks was changed, added or removed."""
    old, new = ([rfc8785.dumps(block) for block in c.system] for c in (first, second))
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            continue
        pairs = min(i_end - i, j_end - j)
        for a, b in zip(range(i, i + pairs), range(j, j + pairs), strict=True):
            fields = _fields(first.system[a], second.system[b])
            yield Change("changed", "system", "", a, b, fields)
        for a in range(i + pairs, i_end):
            yield Change("removed", "system", "", a, None)
        for b in range(j + pairs, j_end):
            yield Change("added", "system", "", None, b)


def _parting(first: _Contract, second: _Contract) -> Parting | None:
    for part in ("tools", "system"):
        old, new = first.list(part), second.list(part)
        index = _in_common(old, new)
        if index == len(old) == len(new):
            continue
        before, after = (
            rfc8785.dumps(parts[index]).decode() if index < len(parts) else ""
            for parts in (old, new)
        )
        shared = os.path.commonprefix([before, after])  # noqa: RUF071 - of characters, indeed
        path = f"{part}[{index}]"
        if before and after:
            path += _path(old[index], new[index])
        return Parting(
            path=path,
            offset=first.offset(part, index) + len(shared.encode()),
            shared=shared,
            before=before[len(shared) :],
            after=after[len(shared) :],
        )
    return None


def _path(before: Any, after: Any) -> str:
    """Where two values that differ begin to, in the canonical order of keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=lambda key: str(key).encode("utf-16-be")):
            if key not in before or key not in after:
                return f".{key}"
            if not _same(before[key], after[key]):
                return f".{key}{_path(before[key], after[key])}"
    if isinstance(before, list) and isinstance(after, list):
        index = _in_common(before, after)
        if index < min(len(before), len(after)):
            return f"[{index}]{_path(before[index], after[index])}"
        return f"[{index}]"
    return ""


def _in_common(before: Sequence[Any], after: Sequence[Any]) -> int:
    """How many items are the same from the start on."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((i for i, (a, b) in pairs if not _same(a, b)), min(len(before), len(after)))


def _same(before: Any, after: Any) -> bool:
    """As JSON has it: to Python, 1 and True are equal."""
    return bool(before == after) and rfc8785.dumps(before) == rfc8785.dumps(after)


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        key
        for key in sorted({*before, *after})
        if (key in before) != (key in after) or not _same(before.get(key), after.get(key))
    )


def _unmarked(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != MARKER_KEY}
