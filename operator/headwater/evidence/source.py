"""What a source of evidence is: something that can be read, or is away as a whole."""

from collections.abc import Callable
from typing import Protocol

from headwater.contract.errors import HeadwaterError
from headwater.evidence.ledger import Sample


class SourceUnavailableError(HeadwaterError):
    """Nothing can be learned at present. It pauses rollouts, and is no evidence of anything."""


class Source(Protocol):
    """Where samples come from."""

    async def read(self, take: Callable[[Sample], object]) -> None:
        """Read every process once, and hand over each sample as soon as it is there.

        A process that cannot be read, or whose counters cannot be, is left out.

        Raises:
            SourceUnavailableError: the source itself does not answer, or none of its processes
                does. That there are none is no error.
        """
