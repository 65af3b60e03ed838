"""Many records through one prefix: one digest for all, and the bill before it is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headwater.client.contract import Contract
from headwater.client.plain import plain_blocks
from headwater.contract.content import MARKER_KEY
from headwater.contract.digest import Digest
from headwater.contract.errors import RequestError
from headwater.economics.conversation import total
from headwater.providers.cost import Cost
from headwater.providers.models import lookup
from headwater.providers.tokens import estimate_tokens
from headwater.providers.usage import Usage


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch will cost at list price, in US dollars: with caching and without.

    Attributes:
        prefix_tokens: what all records share, estimated.
        cached: whether that is enough for the model to cache.
    """

    records: int
    prefix_tokens: int
    cached: bool
    cost: Cost


class Batch:
    """One template for many records; the record is the one thing in which requests differ."""

    def __init__(
        self,
        contract: Contract,
        *,
        model: str,
        instructions: str | Sequence[Mapping[str, Any]] = (),
        **fields: Any,
    ) -> None:
        """`instructions` follow the contract and are the same for all records, as are `fields`.

        Raises:
            RequestError: they are not in the provider's form.
        """
        blocks = plain_blocks(instructions) if instructions else []
        if blocks:
            blocks[-1].setdefault(MARKER_KEY, {"type": "ephemeral", "ttl": "5m"})
        self._contract = contract
        self._model = model
        self._system = blocks
        self._fields = fields
        # All records are one conversation to the route: they get one revision.
        self._session = Digest.of(msgspec.json.encode([model, blocks])).hex

    def request(self, record: str) -> dict[str, Any]:
        """The keywords for one record's own call.

        Raises:
            HeadwaterError: as `Contract.request`.
        """
        return self._contract.request(
            model=self._model,
            system=self._system,
            messages=[{"role": "user", "content": record}],
            session=self._session,
            **self._fields,
        )

    def requests(self, records: Mapping[str, str]) -> list[dict[str, Any]]:
        """What `client.messages.batches.create(requests=…)` takes; records by their own id.

        Raises:
            HeadwaterError: as `Contract.request`.
        """
        return [
            {"custom_id": name, "params": self.request(record)} for name, record in records.items()
        ]

    @property
    def digest(self) -> Digest:
        """Of what all records share: model, tools and system."""
        request = self.request("-")
        shared = [self._model, request.get("tools"), request.get("system")]
        return Digest.of(msgspec.json.encode(shared))

    def estimate(self, records: Mapping[str, str], *, output_tokens: int) -> Estimate:
        """What it will cost if the first record goes ahead and the rest follow it in time.

        Tokens are estimated, the provider's batch discount is not taken off, and what the
        provider caches of a batch of its own is not certain: it answers in any order.

        Raises:
            RequestError: nothing is known of the model.
            PriceError: it has no published price.
        """
        facts = lookup(self._model)
        if facts is None:
            raise RequestError("model", f"the price of {self._model!r} is not known.")
        request = self.request("-")
        shared = [request.get("tools"), request.get("system")]
        prefix = estimate_tokens(msgspec.json.encode(shared), self._model)
        cached = facts.cached_tokens(prefix)
        usages = [
            Usage(
                uncached=prefix - cached + estimate_tokens(record.encode(), self._model),
                cache_write_5m=0 if index else cached,
                cache_read=cached if index else 0,
                output=output_tokens,
            )
            for index, record in enumerate(records.values())
        ]
        return Estimate(len(usages), prefix, cached > 0, total(usages, facts))
