"""Cache markers in a request: where they stand, and the provider's refusals.

Messages of the provider that are publicly known are given in its words (reports of them are
many); where only the status is documented, the words are ours and say so in docs/simulator.md.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from headwater.simulator.errors import invalid

MAX_MARKERS: Final = 4
_UNMARKABLE: Final = ("thinking", "redacted_thinking")


class Marker(NamedTuple):
    """A marker's path in the body (as errors name it) and its TTL."""

    path: str
    ttl: str


def read_marker(holder: dict[str, Any], path: str) -> Marker | None:
    """The marker of a block, tool or body; refuses one that is malformed. `path` ends in a dot."""
    control = holder.get("cache_control")
    if control is None:
        return None
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        raise invalid(f"{path}cache_control: Input should have 'type' equal to 'ephemeral'")
    for name in control:
        if name not in ("type", "ttl"):
            raise invalid(
                f"{path}cache_control.ephemeral.{name}: Extra inputs are not permitted",
            )
    ttl = control.get("ttl")
    if ttl not in (None, "5m", "1h"):
        raise invalid(f"{path}cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    return Marker(f"{path}cache_control.ttl", ttl or "5m")


def markable(block: dict[str, Any]) -> bool:
    """Whether a block may carry a marker: thinking and empty text may not."""
    return block.get("type") not in _UNMARKABLE and not _is_empty_text(block)


def block_markers(block: dict[str, Any], path: str) -> list[Marker]:
    """The markers of one block, those inside a tool result's content first."""
    found = []
    content = block.get("content")
    if block.get("type") == "tool_result" and isinstance(content, list):
        for index, part in enumerate(content):
            if not isinstance(part, dict):
                continue
            nested = read_marker(part, f"{path}content.{index}.")
            if nested is None:
                continue
            if index != len(content) - 1:
                raise invalid(
                    f"{path}content.{index}.cache_control: only the last block of a tool result's"
                    " content may carry cache_control",
                )
            found.append(nested)
    own = read_marker(block, path)
    if own is not None:
        if block.get("type") in _UNMARKABLE:
            kind = block["type"]
            raise invalid(f"{path}{kind}.cache_control: Extra inputs are not permitted")
        if _is_empty_text(block):
            where = path + "text" if path.startswith("messages") else path.rstrip(".")
            raise invalid(f"{where}: cache_control cannot be set for empty text blocks")
        found.append(own)
    return found


def check_number(markers: Sequence[Marker]) -> None:
    """Refuse more markers than the provider takes."""
    if len(markers) > MAX_MARKERS:
        raise invalid(
            f"A maximum of {MAX_MARKERS} blocks with cache_control may be provided."
            f" Found {len(markers)}.",
        )


def check_order(markers: Iterable[Marker]) -> None:
    """Refuse an hour after five minutes; `markers` in the order of processing."""
    short = False
    for marker in markers:
        if marker.ttl == "1h" and short:
            raise invalid(
                f"{marker.path}: a ttl='1h' cache_control block must not come after a ttl='5m'"
                " cache_control block. Note that blocks are processed in the following order:"
                " `tools`, `system`, `messages`.",
            )
        short = short or marker.ttl == "5m"


def _is_empty_text(block: dict[str, Any]) -> bool:
    return block.get("type") == "text" and block.get("text") == ""
