"""Message batches: what is asked for, and how it is shown until it has ended and then.

Shapes from platform.claude.com/docs/en/api/creating-message-batches and
.../docs/en/build-with-claude/batch-processing, as of 2026-08-22.
"""

import collections
import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headwater.simulator.errors import ApiError, invalid

MAX_REQUESTS: Final = 100_000
_KEPT: Final = 100
_LIFETIME_SECONDS: Final = 86_400.0
_CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Asked(msgspec.Struct):
    """One request of a batch."""

    custom_id: str
    params: msgspec.Raw


class _Body(msgspec.Struct):
    requests: list[Asked]


def read_batch(body: bytes) -> Sequence[Asked]:
    """The requests of a batch; ApiError where the provider would refuse the whole of it."""
    try:
        requests = msgspec.json.decode(body, type=_Body).requests
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"requests: {error}") from error
    if not 1 <= len(requests) <= MAX_REQUESTS:
        raise invalid(f"requests: a batch has between 1 and {MAX_REQUESTS:,} requests")
    known: set[str] = set()
    for at, each in enumerate(requests):
        if not _CUSTOM_ID.fullmatch(each.custom_id):
            raise invalid(f"requests.{at}.custom_id: it should match {_CUSTOM_ID.pattern}")
        if each.custom_id in known:
            raise invalid(f"requests.{at}.custom_id: it is used twice")
        known.add(each.custom_id)
    return requests


@dataclass(slots=True, eq=False)
class Batch:
    """A batch that was answered; whoever looks the first time is told that it is under way."""

    id: str
    at: float
    results: Sequence[dict[str, Any]]
    """Objects with a `custom_id` and its `result`."""
    ended: bool = False

    def shown(self, url: str) -> dict[str, Any]:
        """As the API shows it; `url` is that of all batches."""
        counts = collections.Counter(each["result"]["type"] for each in self.results)
        if not self.ended:
            counts = collections.Counter(processing=len(self.results))
        kinds = ("processing", "succeeded", "errored", "canceled", "expired")
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if self.ended else "in_progress",
            "request_counts": {kind: counts[kind] for kind in kinds},
            "created_at": _moment(self.at),
            "expires_at": _moment(self.at + _LIFETIME_SECONDS),
            "ended_at": _moment(self.at) if self.ended else None,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": f"{url}/{self.id}/results" if self.ended else None,
        }

    def lines(self) -> bytes:
        """The results as JSON lines, the last one first: their order means nothing."""
        return b"".join(msgspec.json.encode(each) + b"\n" for each in reversed(self.results))


class Batches:
    """The last batches of every workspace."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Batch] = {}

    def add(self, workspace: str, batch: Batch) -> None:
        """Remember one; the oldest is forgotten."""
        self._known[workspace, batch.id] = batch
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]

    def find(self, workspace: str, name: str) -> Batch:
        """The batch of that id; ApiError where the workspace has none."""
        found = self._known.get((workspace, name))
        if found is None:
            raise ApiError(404, f"message_batch: {name}")
        return found


def _moment(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat()
