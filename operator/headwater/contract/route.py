"""Which revision a conversation gets: the route, and the split that is monotone in its weight.

The same code runs in the sidecar and in the assembly library, so that one conversation gets
one answer wherever it is asked.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from headwater.contract.content import TTL
from headwater.contract.digest import Digest
from headwater.contract.placing import NOWHERE, Placing

Enforcement = Literal["Enforce", "Observe"]


class Weight(int):
    """A share of new conversations in 1/10,000: 500 is 5 %."""

    __slots__ = ()

    WHOLE: Final = 10_000

    def __new__(cls, parts: int) -> Self:
        """Check the range.

        Raises:
            ValueError: not within 0 and 10,000.
        """
        if not 0 <= parts <= cls.WHOLE:
            raise ValueError(f"a weight is 0 to {cls.WHOLE} parts of {cls.WHOLE}, not {parts}")
        return super().__new__(cls, parts)

    @classmethod
    def percent(cls, percent: int) -> Self:
        """The weight of a whole percentage."""
        return cls(percent * 100)


@dataclass(frozen=True, slots=True)
class Revision:
    """One published version of a prefix; its bytes are wherever the digest is."""

    version: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class WarmLane:
    """A lane that a warmer keeps hot: its first request here is expected to read.

    `credential` is the fingerprint that `credential_fingerprint` makes of an API key.
    """

    digest: Digest
    model: str
    credential: str


@dataclass(frozen=True, slots=True)
class Route:
    """What `route.json` says. Weight is the candidate's share of new conversations."""

    namespace: str
    prefix: str
    epoch: int
    salt: str
    stable: Revision
    models: tuple[str, ...]
    ttl: TTL
    candidate: Revision | None = None
    weight: Weight = Weight(0)  # noqa: RUF009 - immutable
    enforcement: Enforcement = "Enforce"
    provider: str = "anthropic"
    tokens: dict[Digest, dict[str, int]] = field(default_factory=dict)
    """Contract tokens as the provider counted them, by digest and model; absent where unknown."""
    kept_warm: tuple[WarmLane, ...] = ()
    retained: tuple[Revision, ...] = ()
    """Former stable revisions, the latest first: no new conversation gets them, one on them stays.
    """
    owner: str = ""
    """Whom to ask about the prefix: a team, and where it is reached."""
    placing: Placing = NOWHERE
    """Where markers are placed in the consumers' own part."""

    def __post_init__(self) -> None:
        """Check that a retained revision is nothing else besides.

        Raises:
            ValueError: its digest is also that of the stable revision or of the candidate.
        """
        offered = {revision.digest for revision in self.offered}
        for revision in self.retained:
            if revision.digest in offered:
                raise ValueError(f"{revision.digest} is retained, and offered to new conversations")

    @property
    def offered(self) -> tuple[Revision, ...]:
        """The revisions that new conversations may get, the stable one first."""
        return (self.stable,) if self.candidate is None else (self.stable, self.candidate)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Every revision whose bytes the bundle must hold, the stable one first."""
        return (*self.offered, *self.retained)


def pick(route: Route, conversation: str) -> Revision:
    """The revision that a new conversation gets.

    Monotone in the weight: raising it moves conversations to the candidate and none back.
    `conversation` is any stable key; the salt gives each rollout another draw.
    """
    if route.candidate is None:
        return route.stable
    drawn = hashlib.sha256(f"{route.salt}\n{conversation}".encode()).digest()
    bucket = int.from_bytes(drawn[:8], "big") % Weight.WHOLE
    return route.candidate if bucket < route.weight else route.stable


def salt_for(namespace: str, prefix: str, candidate: Digest | None) -> str:
    """Another draw for each rollout, the same after a restart: nothing has to be stored."""
    return hashlib.sha256(f"{namespace}/{prefix}@{candidate}".encode()).hexdigest()[:16]


def credential_fingerprint(secret: str) -> str:
    """A name for a credential that tells nothing about it: 12 hex characters.

    API keys are long and random, so the hash cannot be turned round; it lets a warmer and a
    sidecar agree that they mean the same lane without either showing the key.
    """
    return hashlib.sha256(f"headwater lane\n{secret}".encode()).hexdigest()[:12]
