"""What the simulator remembers of the requests it got, for tests to look at. Bounded.

Never a key: a workspace is a hash of one, and headers are not kept.
"""

import collections
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from headwater.providers.usage import Usage

MAX_REQUESTS: Final = 1000
MAX_BODY_BYTES: Final = 64 << 20
_MAX_TOTALS: Final = 10_000


@dataclass(slots=True)
class Record:
    """One request: what arrived, byte for byte where asked for, and what it was answered.

    `number` counts from 1; `at` is the simulated clock's, in seconds since the start. `status`
    is 0 until the answer is ready. A refused request has no usage but zeros. `usage` are all tokens
    that are billed, `bill` is the answer's own `usage` object.
    """

    number: int
    request_id: str
    at: float
    path: str
    workspace: str
    body: bytes
    status: int = 0
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    bill: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, Any] = field(default_factory=dict)

    def shown(self, *, bodies: bool) -> dict[str, Any]:
        """The record as JSON shows it."""
        shown = {
            "number": self.number,
            "request_id": self.request_id,
            "at": round(self.at, 3),
            "path": self.path,
            "status": self.status,
            "model": self.model,
            "workspace": self.workspace,
            "usage": msgspec.structs.asdict(self.usage),
            "bill": self.bill,
            **self.hashes,
        }
        return shown | ({"body": self.body.decode("utf-8", "replace")} if bodies else {})


class Journal:
    """The last requests, and totals per model and workspace."""

    def __init__(self) -> None:
        self.received = 0
        self._records: collections.deque[Record] = collections.deque()
        self._body_bytes = 0
        self._totals: dict[tuple[str, str], collections.Counter[str]] = {}

    def add(self, request_id: str, at: float, path: str, workspace: str, body: bytes) -> Record:
        """Remember a request; the oldest go, and before them the oldest bodies."""
        self.received += 1
        record = Record(self.received, request_id, at, path, workspace, body, hashes=_hashes(body))
        self._records.append(record)
        self._body_bytes += len(body)
        if len(self._records) > MAX_REQUESTS:
            self._drop_body(self._records.popleft())
        for old in self._records:
            if self._body_bytes <= MAX_BODY_BYTES:
                break
            self._drop_body(old)
        return record

    def finish(self, record: Record, usage: Usage, bill: dict[str, Any]) -> None:
        """Add an answered request's usage to its record and to the totals."""
        record.usage, record.bill = usage, bill
        key = (record.model, record.workspace)
        totals = self._totals.pop(key, None) or collections.Counter()
        self._totals[key] = totals  # the most recently used is last
        totals["requests"] += 1
        for name, tokens in msgspec.structs.asdict(usage).items():
            totals[name] += tokens
        while len(self._totals) > _MAX_TOTALS:
            del self._totals[next(iter(self._totals))]

    def requests(self, *, bodies: bool) -> list[dict[str, Any]]:
        """The remembered requests, oldest first."""
        return [record.shown(bodies=bodies) for record in self._records]

    def totals(self) -> Iterator[dict[str, Any]]:
        """Totals since the start, one entry per model and workspace."""
        for (model, workspace), totals in self._totals.items():
            yield {"model": model, "workspace": workspace, **totals}

    def _drop_body(self, record: Record) -> None:
        self._body_bytes -= len(record.body)
        record.body = b""


def _hashes(body: bytes) -> dict[str, Any]:
    """Sha256 of the texts of `tools` and `system` exactly as received, and of system's blocks.

    A part that is absent hashes as no bytes.
    """
    tools = system = b""
    blocks: list[msgspec.Raw] = []
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        tools = bytes(parts.get("tools", b""))
        system = bytes(parts.get("system", b""))
        if system.startswith(b"["):
            blocks = msgspec.json.decode(system, type=list[msgspec.Raw])
    return {
        "tools_sha256": hashlib.sha256(tools).hexdigest(),
        "system_sha256": hashlib.sha256(system).hexdigest(),
        "system_blocks_sha256": [hashlib.sha256(block).hexdigest() for block in blocks],
    }
