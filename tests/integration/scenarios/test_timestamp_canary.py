"""A canary whose prompt is rendered anew for every request: no byte is wrong, and no hit is left.

A contract's bytes are the same in every request, so the time gets in behind the sidecars: a
gateway that renders templates stands before the provider, and v8 holds what it takes for one.
Nothing in v8's own bytes says so; only the provider's usage does.
"""

import math
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta

import aiohttp
import pytest
from aiohttp import web

from headwater.contract.digest import Digest
from tests.integration.controller.harness import Controller
from tests.integration.controller.servers import serving
from tests.integration.controller.team import digest_in, manifest
from tests.integration.scenarios.provider import Provider, Received
from tests.integration.scenarios.world import World

pytestmark = pytest.mark.xdist_group("scenarios")

PLACEHOLDER = b"${request.time}"
WEIGHT = 10
MIN_REQUESTS = 50
DEADLINE = timedelta(minutes=5)
UNLIKELY = 1e-6
MANY = 100


@pytest.fixture
def gateway(provider: Provider) -> Iterator[str]:
    """The URL of a gateway that renders what it passes on."""

    async def client(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as app[session]:
            yield

    async def forward(request: web.Request) -> web.Response:
        body = (await request.read()).replace(PLACEHOLDER, b"%d" % time.time_ns())
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("content-length", "host")
        }
        url = provider.url + request.raw_path
        async with request.app[session].post(url, data=body, headers=headers) as answer:
            return web.json_response(body=await answer.read(), status=answer.status)

    session = web.AppKey("session", aiohttp.ClientSession)
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_post("/{path:.*}", forward)
    with serving(app) as url:
        yield url


@pytest.fixture
def v7(world: World, controller: Controller, gateway: str) -> Digest:
    """Three pods of three teams that talk on v7, whose caches they have written."""
    assert controller.running
    support, sales = world.team.consumer("support"), world.team.consumer("sales")
    digest = world.team.serve(version="v7", source=world.source("v7"))
    for namespace, name in ((support, "chat"), (support, "mail"), (sales, "shop")):
        world.pod(namespace, name, key=f"sk-{name}", upstream=gateway)
    world.talk()
    return digest


def test_it_goes_back_by_itself(world: World, v7: Digest) -> None:
    """The hits collapse, so v8 goes back, approved as it is; stable traffic notices nothing."""
    source = world.source("v8", f"The time is {PLACEHOLDER.decode()}. ")
    v8 = digest_in(manifest(world.team.namespace, version="v8", source=source))
    published_after = world.provider.last
    world.team.publish(
        version="v8",
        source=source,
        rollout={
            "steps": [{"setWeight": WEIGHT}, {"setWeight": 50}],
            "analysis": {"minHitRate": 0.9, "minRequests": MIN_REQUESTS},
            "progressDeadline": f"{DEADLINE.total_seconds():.0f}s",
            "approval": "Required",
            "approvedDigest": str(v8),
        },
    )
    world.await_phase("Progressing", weight=WEIGHT)
    world.await_synced()
    answers = world.talk_until(lambda status: status["phase"] == "RolledBack", "v8 goes back")

    # The phase is RolledBack, for the hit rate, within the windows that were configured.
    status = world.team.status()
    *_, raised, back = status["history"]
    assert (raised["event"], back["event"]) == ("WeightRaised", "HitRateBelowFloor")
    assert raised["reason"].startswith(f"{WEIGHT}%"), "it never got more"
    assert datetime.fromisoformat(back["at"]) - datetime.fromisoformat(raised["at"]) < DEADLINE
    assert "eligible requests read the cache (0%); that is below the floor" in back["reason"]
    rendered = [each for each in world.provider.received(published_after) if each.digest != v7]
    assert len(rendered) < MIN_REQUESTS, "nobody waited for the requests that a promotion needs"

    # It is gone from every pod at once, by the annotation alone: no node syncs by itself here.
    world.await_sidecars()
    gone_after = world.provider.last
    answers += world.talk(MANY)
    assert {each.digest for each in world.provider.received(gone_after)} == {v7}
    last = max(answer.at for answer in answers if answer.version == "v8")
    assert last - datetime.fromisoformat(back["at"]) < timedelta(seconds=60)

    # Stable traffic: its share, its bytes, and not one write.
    received = world.provider.received(published_after)
    stable = [each for each in received if each.digest == v7]
    assert len(stable) == sum(answer.version == "v7" for answer in answers)
    assert sum(each.wrote > 0 for each in stable) == 0, "v7 was rewritten"
    assert_share_at_most(WEIGHT / 100, len(received) - len(stable), gone_after - published_after)
    assert_each_rendered_anew([each for each in received if each.digest != v7])

    # The approval named the very bytes, and could not have promoted them.
    assert world.team.condition("Approved")["status"] == "True"
    assert status["stable"]["digest"] == v7
    assert ("v8", "Promoted") not in world.history()


def assert_share_at_most(share: float, of_candidate: int, of_all: int) -> None:
    """So many conversations of all are no more than chance makes of this share."""
    chance = sum(
        math.comb(of_all, count) * share**count * (1 - share) ** (of_all - count)
        for count in range(of_candidate, of_all + 1)
    )
    assert chance > UNLIKELY, f"{of_candidate} of {of_all} conversations got the candidate"


def assert_each_rendered_anew(requests: list[Received]) -> None:
    """They were all v8, no two alike, and each paid for a write that nobody ever read."""
    assert requests
    assert all(" v8]" in each.body for each in requests)
    assert len({each.digest for each in requests}) == len(requests)
    assert all(each.wrote > 0 and each.read == 0 for each in requests)
