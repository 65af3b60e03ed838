"""Several prefixes behind one sidecar: which one a request is for, and what keeps them apart."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headwater.contract.bundle import Bundle
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.metrics import Identity
from headwater.sidecar.server import Listeners, Sidecar
from tests.unit.sidecar import bundles

HELLO: Any = {
    "model": bundles.MODEL,
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hello"}],
}
ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": bundles.MODEL,
    "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 9},
}  # fmt: skip


def named(name: str, version: str) -> Bundle:
    declared = bundles.make(version)
    return replace(declared, route=replace(declared.route, prefix=name))


@dataclass
class Site:
    at: Listeners
    sidecar: Sidecar
    client: aiohttp.ClientSession
    paths: list[str]

    async def ask(self, path: str = "/v1/messages", **headers: str) -> tuple[int, str, str]:
        """Status, the version that was sent, and what the answer says."""
        async with self.client.post(self.at.url + path, json=HELLO, headers=headers) as answer:
            return answer.status, answer.headers.get("x-headwater-version", ""), await answer.text()

    async def ready(self) -> int:
        async with self.client.get(f"{self.at.metrics_url}/readyz") as answer:
            return answer.status


@contextlib.asynccontextmanager
async def site(directory: Path, *declared: Bundle | None) -> AsyncIterator[Site]:
    """A sidecar of these bundles before a provider that remembers the paths it is asked for."""
    paths = []

    async def provider(request: web.Request) -> web.Response:
        paths.append(request.path_qs)
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    followers = []
    for number, bundle in enumerate(declared):
        followers.append(BundleFollower(directory / str(number)))
        if bundle is not None:
            bundles.mount(directory / str(number), bundle)
    upstream = f"http://127.0.0.1:{runner.addresses[0][1]}"
    sidecar = Sidecar(followers[0], upstream, Identity(), lambda: 1.0, others=followers[1:])
    try:
        async with (
            aiohttp.ClientSession() as client,
            sidecar.listening(port=0, metrics_address=("127.0.0.1", 0), poll_seconds=0.02) as at,
        ):
            yield Site(at, sidecar, client, paths)
    finally:
        await runner.cleanup()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, named("org-core", "v1"), named("answers", "v7")) as found:
        yield found


async def test_a_request_says_which_prefix_it_is_for(two: Site) -> None:
    """By its path, else by a header, else the first; the provider sees its own path."""
    assert (await two.ask())[:2] == (200, "v1")
    assert (await two.ask("/p/answers/v1/messages?beta=true"))[:2] == (200, "v7")
    assert (await two.ask("/p/org-core/v1/messages"))[:2] == (200, "v1")
    assert (await two.ask(**{"x-headwater-prefix": "answers"}))[:2] == (200, "v7")
    by_both = await two.ask("/p/org-core/v1/messages", **{"x-headwater-prefix": "answers"})
    assert by_both[:2] == (200, "v1")
    assert two.paths == [
        "/v1/messages", "/v1/messages?beta=true", "/v1/messages", "/v1/messages", "/v1/messages"
    ]  # fmt: skip


async def test_the_sdk_chooses_by_its_base_url(two: Site) -> None:
    """All that an application changes is the one setting."""
    async with anthropic.AsyncAnthropic(
        base_url=f"{two.at.url}/p/answers", api_key="sk-test", max_retries=0
    ) as sdk:
        answer = await sdk.messages.with_raw_response.create(**HELLO)
        assert answer.headers["x-headwater-version"] == "v7"
    assert two.paths == ["/v1/messages"]


async def test_what_is_passed_through_loses_the_choice_as_well(two: Site) -> None:
    """The provider knows no such path; what is escaped stays escaped."""
    async with two.client.get(f"{two.at.url}/p/answers/v1/models/a%2Fb?limit=3") as answer:
        assert answer.status == 200
    async with two.client.get(f"{two.at.url}/p/answers") as answer:
        assert answer.status == 200
    assert two.paths == ["/v1/models/a%2Fb?limit=3", "/p/answers"]


@pytest.mark.parametrize(
    ("path", "header"), [("/p/other/v1/messages", {}), ("/v1/messages", {"x-headwater-prefix": ""})]
)
async def test_a_prefix_that_is_not_there_is_named(
    two: Site, path: str, header: dict[str, str]
) -> None:
    """Nothing is sent: another prefix's bytes would be the wrong ones."""
    status, _, text = await two.ask(path, **header)
    assert status == 404
    error = json.loads(text)["error"]
    assert error["type"] == "not_found_error"
    assert "this sidecar has org-core, answers" in error["message"]
    assert two.paths == []


async def test_one_prefix_can_be_named_too(tmp_path: Path) -> None:
    """An application need not know how many its pod has."""
    async with site(tmp_path, named("org-core", "v1")) as found:
        assert (await found.ask("/p/org-core/v1/messages"))[:2] == (200, "v1")
        assert (await found.ask("/p/answers/v1/messages"))[0] == 404


async def test_a_bundle_that_is_missing_holds_back_its_own_prefix_alone(tmp_path: Path) -> None:
    """The pod is not ready, and what asks for the other one is served."""
    async with site(tmp_path, named("org-core", "v1"), None) as found:
        assert await found.ready() == 503
        assert (await found.ask())[:2] == (200, "v1")
        status, _, text = await found.ask("/p/answers/v1/messages")
        assert status == 503
        assert "did not verify" in text


async def test_without_its_bundle_the_first_prefix_is_not_replaced(tmp_path: Path) -> None:
    """A request that chooses none waits for the one that it is for."""
    async with site(tmp_path, None, named("answers", "v7")) as found:
        assert (await found.ask())[0] == 503
        assert (await found.ask("/p/answers/v1/messages"))[:2] == (200, "v7")


def samples(found: Site) -> list[Sample]:
    """What is exposed, in which no series may stand twice."""
    text = found.sidecar.metrics.exposition().decode()
    listed = [item for family in text_string_to_metric_families(text) for item in family.samples]
    assert len({(item.name, *sorted(item.labels.items())) for item in listed}) == len(listed)
    return listed


async def test_each_prefix_is_counted_by_itself(two: Site) -> None:
    """In one exposition."""
    await two.ask()
    for _ in range(2):
        await two.ask("/p/answers/v1/messages")
    for prefix, asked in (("org-core", 1), ("answers", 2)):
        mine = [item for item in samples(two) if item.labels.get("prefix") == prefix]
        for name, value in (("headwater_bundle_verified", 1), ("headwater_requests_total", asked)):
            assert sum(item.value for item in mine if item.name == name) == value


async def test_bundles_that_never_verified_are_one_series(tmp_path: Path) -> None:
    """Nobody knows their names, and a scraper refuses a series that stands twice."""
    async with site(tmp_path, None, None) as found:
        (verified,) = [item for item in samples(found) if item.name == "headwater_bundle_verified"]
        assert (verified.labels["prefix"], verified.value) == ("", 0)
