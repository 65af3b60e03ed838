"""`POST /headwater/warm`: a lane is warm before the request that the application expects."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater.contract.assembly import prepare
from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import eventually, scaled
from tests.integration.test_sidecar import HELLO, Running, running
from tests.unit.sidecar import bundles

KEY = {"x-api-key": "sk-test"}
SIZE = 3000
CONTRACT = prepare(bundles.contract("v1", size=SIZE))


@dataclass
class Place:
    url: str
    sidecar: Running
    now: float = 1000.0

    def clock(self) -> float:
        return self.now

    async def wish(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        headers = fields.pop("headers", KEY)
        data = json.dumps(fields) if fields else None
        url = f"{self.sidecar.url}/headwater/warm"
        async with self.sidecar.client.post(url, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def verdict(self, **fields: Any) -> str:
        status, told = await self.wish(**fields)
        assert status == 202
        return str(told["verdict"])

    async def requests(self) -> list[dict[str, Any]]:
        async with self.sidecar.client.get(f"{self.url}/_simulator/requests") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def sent(self, count: int) -> list[dict[str, Any]]:
        async def there() -> list[dict[str, Any]]:
            found = await self.requests()
            return found if len(found) == count else []

        return await eventually(there, 5, f"{count} requests")

    async def fault(self, name: str) -> None:
        url = f"{self.url}/_simulator/faults"
        async with self.sidecar.client.post(url, json={"faults": [name]}) as answer:
            assert answer.status == 200


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place("", None)  # type: ignore[arg-type]  # set below: each needs the other
    async with (
        serving(Settings(latency_base_ms=5), clock=found.clock) as found.url,
        running(tmp_path / "b", found.url, bundles.make(size=SIZE), found.clock) as found.sidecar,
    ):
        yield found


async def test_the_request_that_follows_reads(place: Place) -> None:
    """The wish wrote what it reads; that is no evidence, and is counted to the token."""
    assert await place.verdict() == "granted"
    await eventually(
        lambda: place.sidecar.counted("input_tokens_total cache_write_5m"), 5, "it is counted"
    )
    (wrote,) = await place.requests()
    assert wrote["usage"]["cache_write_5m"] > 0
    assert wrote["usage"]["output"] == 0
    assert not place.sidecar.counted("headwater_requests_total{")
    place.now += 30
    async with place.sidecar.sdk() as sdk:
        answer = await sdk.messages.create(model=bundles.MODEL, **HELLO)
    assert answer.usage.cache_read_input_tokens == wrote["usage"]["cache_write_5m"]
    assert place.sidecar.counted('requests_total outcome="hit" eligible="true" 1.0')


async def test_what_is_warm_is_left_alone(place: Place) -> None:
    """Whether a wish or a request warmed it; other settings are another lane, a few at a time."""
    assert await place.verdict() == "granted"
    await place.sent(1)
    assert await place.verdict() == "warm"
    effort = {"output_config": {"effort": "low"}}
    assert await place.verdict(**effort) == "limited"
    place.now += 11
    assert await place.verdict(**effort) == "granted"
    await place.sent(2)
    place.now += 299
    assert await place.verdict() == "granted"
    await place.sent(3)
    for verdict, count in (("granted", 3), ("warm", 1), ("limited", 1)):
        told = place.sidecar.counted
        assert told(f'headwater_warm_wishes_total verdict="{verdict}" {count}.0')


async def test_real_requests_do_not_wait_for_it(place: Place) -> None:
    """Nor does whoever wishes, though the provider never answers."""
    await place.fault("hang")
    async with asyncio.timeout(scaled(30)):
        assert await place.verdict() == "granted"
        await place.sent(1)
        async with place.sidecar.sdk() as sdk:
            await sdk.messages.create(model=bundles.MODEL, **HELLO)


async def test_what_failed_may_be_wished_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A line of the log says that it did, without the key; no revision is blamed."""
    await place.fault("529")
    assert await place.verdict() == "granted"
    await eventually(lambda: "could not be warmed" in caplog.text, 5, "the failure is logged")
    place.now += 11
    assert await place.verdict() == "granted"
    assert not place.sidecar.counted("headwater_requests_total{")
    assert "sk-test" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"headers": {}}, 400, "there is no credential"),
        ({"modle": "x"}, 400, "unknown field `modle`"),
        ({"model": "claude-other"}, 400, "published for"),
        ({"headers": {**KEY, "x-headwater-prefix": "none"}}, 404, "there is no prefix"),
    ],
)
async def test_what_is_no_wish_is_refused(
    place: Place, fields: dict[str, Any], status: int, said: str
) -> None:
    """In the provider's shape, with what to do; nothing is sent."""
    got, answer = await place.wish(**fields)
    assert (got, answer["type"]) == (status, "error")
    assert said in answer["error"]["message"]
    assert await place.requests() == []


async def test_only_a_post_on_the_applications_own_listener(place: Place) -> None:
    """The other listener, which the pod's network reaches, warms nothing."""
    url = f"{place.sidecar.url}/headwater/warm"
    async with place.sidecar.client.get(url, headers=KEY) as answer:
        assert answer.status == 405
    url = f"{place.sidecar.metrics_url}/headwater/warm"
    async with place.sidecar.client.post(url, headers=KEY) as answer:
        assert answer.status == 404


async def test_a_session_gets_its_own_revision_warmed(tmp_path: Path) -> None:
    """Of a canary, too: the request that follows is on it."""
    found = Place("", None)  # type: ignore[arg-type]
    declared = bundles.make("v1", "v2", weight=10_000, size=SIZE)
    async with (
        serving(Settings(latency_base_ms=5), clock=found.clock) as found.url,
        running(tmp_path / "b", found.url, declared, found.clock) as found.sidecar,
    ):
        _, told = await found.wish(headers={**KEY, "x-headwater-session": "s"})
        assert told == {"verdict": "granted", "model": bundles.MODEL, "version": "v2"}
        found.now += 11
        assert (await found.wish())[1]["version"] == "v1"
