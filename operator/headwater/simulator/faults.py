"""Faults on demand, so that a client's handling of them can be tested.

A request asks for one by the header `x-simulator-fault`, which its retries repeat; or the
requests to come get one each by POST /_simulator/faults, so that a retry can succeed.
"""

import collections
from typing import Final

import msgspec

from headwater.simulator.errors import ApiError

REFUSALS: Final = ("400", "401", "402", "403", "404", "409", "413", "429", "500", "504", "529")
BROKEN_ANSWERS: Final = ("hang", "disconnect", "truncate", "error-event")
"""Faults that are no refusal: no answer ever, no answer, half of one, an error inside one."""


class Planned(msgspec.Struct, forbid_unknown_fields=True):
    """One fault for each of the next requests; refusals among them send `retry_after` (seconds)."""

    faults: list[str]
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        for name in self.faults:
            if name not in (*REFUSALS, *BROKEN_ANSWERS):
                known = ", ".join((*REFUSALS, *BROKEN_ANSWERS))
                raise ValueError(f"unknown fault {name!r}; known are {known}")


class Faults:
    """The faults planned for requests to come, first in first out."""

    def __init__(self) -> None:
        self._planned: collections.deque[tuple[str, float]] = collections.deque(maxlen=10_000)

    def __len__(self) -> int:
        return len(self._planned)

    def plan(self, planned: Planned) -> None:
        """Let the next requests fail so."""
        self._planned.extend((name, planned.retry_after) for name in planned.faults)

    def take(self, header: str | None) -> str | None:
        """The fault of this request, if any: raises a refusal, returns a broken answer's name."""
        if header is not None:
            try:
                name, retry_after = Planned([header]).faults[0], 1.0
            except ValueError as error:
                raise ApiError(400, f"x-simulator-fault: {error}") from error
        elif self._planned:
            name, retry_after = self._planned.popleft()
        else:
            return None
        if name in BROKEN_ANSWERS:
            return name
        # The provider sends the time to wait with a rate limit alone.
        headers = {"retry-after": f"{retry_after:g}"} if name == "429" else {}
        raise ApiError(int(name), f"A simulated {name}.", headers)
