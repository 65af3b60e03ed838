"""What becomes of a running conversation at a promotion and at an abort, down to its cache."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headwater.contract.bundle import Bundle
from headwater.contract.route import Weight
from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import eventually
from tests.integration.test_sidecar import Running, running
from tests.unit.sidecar import bundles

SIZE = 3000
"""Words of each contract, so that it is over the model's minimum."""
BEFORE = bundles.make("v1", size=SIZE)
CANARY = bundles.make("v1", "v2", weight=Weight.WHOLE, size=SIZE)
AFTER = bundles.make("v2", size=SIZE)
V1, V2 = CANARY.route.offered
RETAINING = Bundle(replace(AFTER.route, retained=(V1,)), CANARY.contracts)


class Conversation:
    """An agent's: each turn repeats what was said, and marks its own end for the cache."""

    def __init__(self, sidecar: Running, session: str) -> None:
        self._sidecar = sidecar
        self._headers = {"x-headwater-session": session}
        self._said: list[Any] = []

    async def turn(self) -> tuple[str, int]:
        """The version that it was served, and the tokens that it read from the cache."""
        text = {"type": "text", "text": f"turn {len(self._said)} " + "word " * 500}
        marked = {**text, "cache_control": {"type": "ephemeral"}}
        messages: Any = [*self._said, {"role": "user", "content": [marked]}]
        async with self._sidecar.sdk() as sdk:
            answer = await sdk.messages.with_raw_response.create(
                model=bundles.MODEL, max_tokens=5, messages=messages, extra_headers=self._headers
            )
        read = (await answer.parse()).usage.cache_read_input_tokens
        self._said += [
            {"role": "user", "content": [text]},
            {"role": "assistant", "content": "ok"},
        ]
        return answer.headers["x-headwater-version"], read or 0


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Running]:
    async with (
        serving(Settings(latency_base_ms=0)) as url,
        running(tmp_path / "bundle", url, BEFORE) as found,
    ):
        yield found


async def publish(sidecar: Running, declared: Bundle, *, epoch: int) -> None:
    bundles.mount(sidecar.directory, replace(declared, route=replace(declared.route, epoch=epoch)))
    await eventually(lambda: sidecar.counted(f"headwater_bundle_epoch {epoch}.0"), 5, "swapped")


async def test_a_conversation_outlives_a_promotion_with_its_cache(sidecar: Running) -> None:
    """It stays on v1 and reads its history, until v1 is dropped; a new one gets v2."""
    running_on = Conversation(sidecar, "begun before")
    assert (await running_on.turn())[0] == "v1"
    version, history = await running_on.turn()
    assert version == "v1"

    await publish(sidecar, RETAINING, epoch=2)
    version, longer_history = await running_on.turn()
    assert version == "v1"
    assert longer_history > history > SIZE
    new = Conversation(sidecar, "begun after")
    assert (await new.turn())[0] == "v2"
    for revision, role in ((V2, "stable"), (V1, "retained")):
        named = f'version="{revision.version}" digest12="{revision.digest.short}"'
        assert sidecar.counted(f'headwater_bundle_info {named} role="{role}" 1.0')
        assert sidecar.counted(f"headwater_lane_last_used_timestamp_seconds {named}")
    assert sidecar.counted('headwater_requests_total version="v1" outcome="hit" eligible="true"')

    await publish(sidecar, AFTER, epoch=3)
    assert (await running_on.turn())[0] == "v2"
    assert not sidecar.counted('headwater_bundle_info role="retained"')


async def test_an_abort_takes_a_running_conversation_along(sidecar: Running) -> None:
    """With its next request, whether the candidate is still named or gone."""
    for epoch, aborted in ((2, replace(CANARY.route, weight=Weight(0))), (4, BEFORE.route)):
        await publish(sidecar, CANARY, epoch=epoch)
        conversation = Conversation(sidecar, f"of epoch {epoch}")
        assert (await conversation.turn())[0] == "v2"
        assert (await conversation.turn())[0] == "v2"
        await publish(sidecar, Bundle(aborted, CANARY.contracts), epoch=epoch + 1)
        assert (await conversation.turn())[0] == "v1"
