"""A workload identity instead of a key: the exchange by the provider's own SDK, and the warming."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headwater.simulator.server import Settings, serving
from headwater.warmer import job
from headwater.warmer.identity import Identity
from tests.unit.sidecar import bundles
from tests.unit.warmer import test_job

HEAD, CLAIMS, SIGNATURE = "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJ3YXJtZXJzIn0", "c2lnbmF0dXJl"
JWT = f"{HEAD}.{CLAIMS}.{SIGNATURE}"
AT_ONCE = Settings(latency_base_ms=0, latency_ms_per_1k=0)


def run(url: str, **given: Any) -> job.Run:
    return test_job.run(url, bundle=bundles.make(size=3000), verify_attempts=0, **given)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(AT_ONCE) as found:
        yield found


@pytest.fixture
def token(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "token"
    path.write_text(getattr(request, "param", JWT))
    return path


async def test_the_accounts_token_becomes_one_of_the_providers(url: str, token: Path) -> None:
    """One exchange for a run; its token lets requests in, with the beta that belongs to it."""
    who = {"prod": Identity(token, "fdrl_1", "org_1", workspace_id="wrkspc_1")}
    settings = job.Settings(betas=("context-1m",))
    (first,) = await job.warm(run(url, settings=settings), who, [])
    (again,) = await job.warm(run(url, settings=settings), who, [])
    assert (first.state, again.state) == ("Warm", "Warm"), first.message
    assert first.usage is not None
    assert again.usage is not None
    assert first.usage.cache_write_5m == again.usage.cache_read > 1000
    seen = "/_simulator/requests?bodies=1"
    async with aiohttp.ClientSession(url) as session, session.get(seen) as answer:
        requests = await answer.json()
    assert JWT not in json.dumps(requests)
    assert {each["status"] for each in requests} == {200}


async def test_another_rule_is_another_lane(url: str, token: Path) -> None:
    """What it lets in has a cache of its own."""
    lanes = await job.warm(
        run(url),
        {name: Identity(token, name, "org_1") for name in ("one", "two")},
        [],
    )
    assert [lane.state for lane in lanes] == ["Warm", "Warm"]
    assert all(lane.usage and lane.usage.cache_write_5m for lane in lanes)


@pytest.mark.parametrize("token", ["no-web-token"], indirect=True)
async def test_a_token_that_is_refused_is_not_sent_as_a_key(url: str, token: Path) -> None:
    """The lane fails with what to check, and nothing of the token stands in the report."""
    (lane,) = await job.warm(run(url), {"prod": Identity(token, "fdrl_1", "org_1")}, [])
    assert lane.state == "Failed"
    assert "did not take the service account's token" in lane.message
    assert "check the federation rule, the audience and the account" in lane.message
    assert "no-web-token" not in lane.message
