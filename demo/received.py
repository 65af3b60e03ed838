"""What reached the provider, byte for byte, as the simulator recorded it.

The contract is cut out of the bytes of each request and hashed: what the product says of itself
has no part in it. No JSON is written here, because writing it anew could mend it.
"""

import hashlib
from typing import Any, Final

import aiohttp
import msgspec

_HEAD: Final = b'{"format":1,"provider":"anthropic","system":['
"""How canonical bytes begin (docs/bundle.md)."""


class _Body(msgspec.Struct):
    system: list[msgspec.Raw] = []
    tools: msgspec.Raw = msgspec.Raw(b"[]")


async def received(simulator: str) -> int:
    """The number of the last request that was received."""
    records = await _get(f"{simulator}/_simulator/requests")
    return max((int(record["number"]) for record in records), default=0)


async def contracts_received(simulator: str, since: int) -> list[str]:
    """The digest of the contract in each request after that number."""
    records = await _get(f"{simulator}/_simulator/requests?bodies=1")
    return [contract_in(record["body"].encode()) for record in records if record["number"] > since]


def contract_in(body: bytes) -> str:
    """The digest of what stands before the team's own system block, or of the whole without one.

    A team's block is the one behind the last marked block: a contract ends with a marker.
    """
    parts = msgspec.json.decode(body, type=_Body)
    system = [bytes(block) for block in parts.system]
    while system and b'"cache_control"' not in system[-1]:
        system.pop()
    contract = _HEAD + b",".join(system) + b'],"tools":' + bytes(parts.tools) + b"}"
    return f"sha256:{hashlib.sha256(contract).hexdigest()}"


async def _get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json()
