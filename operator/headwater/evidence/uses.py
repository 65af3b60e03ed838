"""What a sidecar says of a prefix that it serves: for whom, from which bundle, and what broke it.

It speaks for its own pod alone, and what it says is bounded before anybody repeats it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from headwater.contract.reasons import Reason

EPOCH: Final = "headwater_bundle_epoch"
VIOLATIONS: Final = "headwater_contract_violations_total"
OFF_CONTRACT: Final = "headwater_off_contract_timestamp_seconds"
UNCACHED: Final = "headwater_uncached_system_total"
UNCACHED_AT: Final = "headwater_uncached_system_timestamp_seconds"
USES: Final = (EPOCH, VIOLATIONS, OFF_CONTRACT, UNCACHED, UNCACHED_AT)
SERVED_LABELS: Final = ("team", "surface", "workload", "deploy_revision")

_NAME_LIMIT: Final = 63
"""Characters of a label's value (kubernetes: apimachinery/validation)."""
_REASONS: Final = {reason.value: reason for reason in Reason}
_PLACE: Final = re.compile(r"[a-z_.]{1,32}(?:\[\d{1,6}\])?")


class Served(NamedTuple):
    """Whom a sidecar serves; each may be empty."""

    team: str = ""
    surface: str = ""
    workload: str = ""
    deploy_revision: str = ""

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Self:
        """From a metric's labels, whatever they hold."""
        return cls(*(_printable(labels.get(label, "")) for label in SERVED_LABELS))


@dataclass(slots=True)
class Break:
    """Requests that broke the contract in one way: how many, when and where the last one."""

    count: int = 0
    at: datetime | None = None
    place: str = ""


@dataclass(slots=True)
class Use:
    """One prefix in one sidecar. `epoch` is that of the bundle in use, None without one."""

    served: Served
    epoch: int | None = None
    breaks: dict[Reason, Break] = field(default_factory=dict)
    uncached: Break = field(default_factory=Break)
    """Requests with as much uncached system text of their own as the contract has."""

    def take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Take in one value of one of `USES`; a reason that is none of ours is passed over.

        Raises:
            ValueError, OverflowError, OSError: the value cannot be.
        """
        if name == EPOCH:
            self.epoch = int(value)
        elif name == UNCACHED:
            self.uncached.count += int(value)
        elif name == UNCACHED_AT:
            self.uncached.at = datetime.fromtimestamp(int(value), UTC)
        elif (reason := _REASONS.get(labels.get("reason", ""))) is not None:
            found = self.breaks.setdefault(reason, Break())
            if name == VIOLATIONS:
                found.count += int(value)
            else:
                found.at = datetime.fromtimestamp(int(value), UTC)
                place = labels.get("at", "")
                found.place = place if _PLACE.fullmatch(place) else ""


def _printable(text: str) -> str:
    """So that no line and no column is broken by it."""
    return "".join(filter(str.isprintable, text))[:_NAME_LIMIT]
