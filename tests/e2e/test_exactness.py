"""Ten thousand mixed requests through the processes that a pod and a test run."""

import urllib.request
from pathlib import Path

import pytest

from bench.processes import headwater
from bench.sidecar import address
from tests.cluster.waiting import eventually
from tests.integration.sidecar import mixed, traffic
from tests.unit.sidecar import bundles


@pytest.mark.e2e
async def test_ten_thousand_mixed_requests_are_counted_to_the_token(tmp_path: Path) -> None:
    """Tokens and costs on /metrics equal the simulator's own ledger."""
    bundle, log = tmp_path / "bundle", tmp_path / "sidecar.log"
    bundles.mount(bundle, mixed.declared())
    ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
    provider = ("simulator", "--port", "0", "--latency-base-ms", "1")
    with headwater(*provider, environment={}, log=tmp_path / "simulator.log"):
        upstream = address(tmp_path / "simulator.log", "listening on ")
        arguments = ("sidecar", "--bundle", str(bundle), "--upstream", upstream, *ports)
        with headwater(*arguments, environment={}, log=log):
            metrics = f"{address(log, 'metrics on ')}/metrics"
            drawn = await traffic.run(address(log, "listening on "), 10_000)
            billed = await mixed.ledger(upstream)

            def counted() -> bool:
                with urllib.request.urlopen(metrics) as answer:
                    mixed.check(answer.read().decode(), billed, drawn)
                return True

            await eventually(counted, 120, "the metrics equal the ledger")
    assert "Traceback" not in log.read_text()
