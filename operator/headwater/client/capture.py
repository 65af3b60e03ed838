"""The prefix that recorded requests really share, as a contract that would serve them. No I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headwater.client.audit import Recorded, read_recording
from headwater.contract.content import TTL, Content, canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.errors import RequestError

SHARED_BY: float = 0.5
"""Share of a model's requests that has to begin alike: what fewer have is somebody's own."""


@dataclass(frozen=True, slots=True)
class Program:
    """What one group has to leave out of its own requests, and what it has to change.

    Attributes:
        on: requests that begin with the whole contract, of `requests`.
        own_tools: names of tools that stay its own: they need `defer_loading: true`.
    """

    name: str
    requests: int
    on: int
    own_tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capture:
    """The contract of some models' requests."""

    models: tuple[str, ...]
    content: Content
    digest: Digest
    programs: tuple[Program, ...]


def capture(lines: Iterable[bytes], *, by: str = "team", ttl: TTL = "5m") -> list[Capture]:
    """The contracts that recorded requests come to: one a model, one for models that agree.

    The longest beginning of tools and system blocks that at least half of a model's requests
    have, to the byte, without their own markers. A model whose requests share none is left out.

    Raises:
        RequestError: a line is no request, or hashes of one; it is named.
        ContentError: what they share cannot be a contract.
    """
    by_model: dict[str, list[Recorded]] = {}
    for request in read_recording(lines, by):
        by_model.setdefault(request.model, []).append(request)
    found: dict[Digest, tuple[Content, list[str], list[Recorded], Sequence[bytes]]] = {}
    for model, requests in by_model.items():
        path = _path(requests)
        if not path:
            continue
        declared = _content(requests, path, ttl)
        digest = Digest.of(canonical_bytes(declared))
        _, models, others, _ = found.setdefault(digest, (declared, [], [], path))
        models.append(model)
        others += requests
    return [
        Capture(tuple(models), declared, digest, tuple(_programs(requests, path)))
        for digest, (declared, models, requests, path) in found.items()
    ]


def _path(requests: Sequence[Recorded]) -> list[bytes]:
    """The parts with which most requests begin, as long as they are enough."""
    path: list[bytes] = []
    on = list(requests)
    while True:
        at = len(path)
        counted = Counter(each.parts[at].data for each in on if at < each.shared)
        part, times = counted.most_common(1)[0] if counted else (b"", 0)
        if times < SHARED_BY * len(requests) or not times:
            return path
        path.append(part)
        on = [each for each in on if at < each.shared and each.parts[at].data == part]


def _begins(request: Recorded, path: Sequence[bytes]) -> bool:
    parts = request.parts[: len(path)]
    return len(path) <= request.shared and [part.data for part in parts] == list(path)


def _content(requests: Sequence[Recorded], path: Sequence[bytes], ttl: TTL) -> Content:
    example = next(each for each in requests if _begins(each, path))
    tools: list[dict[str, Any]] = []
    system: list[dict[str, Any]] = []
    for part in example.parts[: len(path)]:
        if part.hidden:
            raise RequestError(
                f"line {example.line}",
                "it was recorded as hashes: what was sent is not in it. Record without"
                " --privacy hash.",
            )
        section = tools if part.section == "tools" else system
        section.append(msgspec.json.decode(part.data))
    return content(tools=tools, system=system, ttl=ttl)


def _programs(requests: Sequence[Recorded], path: Sequence[bytes]) -> Iterable[Program]:
    for name in sorted({request.group for request in requests}):
        theirs = [request for request in requests if request.group == name]
        own = {
            str(msgspec.json.decode(part.data).get("name"))
            for request in theirs
            for part in request.parts
            if part.section == "tools" and part.data not in path
        }
        on = sum(_begins(request, path) for request in theirs)
        yield Program(name, len(theirs), on, tuple(sorted(own)))
