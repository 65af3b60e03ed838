"""What the metrics say was used is what the provider billed, to the token."""

import time
from pathlib import Path

from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import eventually
from tests.integration.sidecar import mixed, traffic
from tests.integration.test_sidecar import running


async def test_a_thousand_mixed_requests_are_counted_to_the_token(tmp_path: Path) -> None:
    """JSON and streams, writes for 5m and 1h, batches, refusals, errors, cuts, clients that leave.

    Ten thousand of them are in `make e2e`.
    """
    async with (
        serving(Settings(latency_base_ms=1), clock=time.monotonic) as url,
        running(tmp_path / "bundle", url, mixed.declared()) as sidecar,
    ):
        drawn = await traffic.run(sidecar.url, 1_000)
        billed = await mixed.ledger(url)

        def counted() -> bool:
            # What a client has left is counted when its connection is seen to be gone.
            mixed.check(sidecar.sidecar.metrics.exposition().decode(), billed, drawn)
            return True

        await eventually(counted, 5, "the metrics equal the ledger")
