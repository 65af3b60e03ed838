"""What a run does with refusals, with little money, and with what it wrote.

The provider is a loopback server that gives the answers of a test one after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from headwater.providers.usage import Usage
from headwater.warmer import job
from headwater.warmer.identity import Identity
from headwater.warmer.report import WarmedLane
from tests.unit.warmer.test_job import CANDIDATE, KEY, STABLE, answer, bundle, run

OPUS, HAIKU = "claude-opus-4-8", "claude-haiku-4-5"
READ = answer(cache_read_input_tokens=5000)
WRITE = answer(cache_creation_input_tokens=5000)


@dataclass(frozen=True)
class Says:
    """One answer; `how` may be `hang` or `cut`."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""


def refusal(status: int, message: str = "no", **headers: str) -> Says:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"type": "error", "error": {"type": "any", "message": message}}
    return Says(body, status, named)


@dataclass
class Provider:
    """Gives each request the next answer, and the last one from then on."""

    url: str = ""
    answers: list[Says] = field(default_factory=lambda: [Says(READ)])
    sent: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def will(self, *answers: Says | dict[str, Any]) -> None:
        self.answers = [one if isinstance(one, Says) else Says(one) for one in answers]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.sent.append(msgspec.json.decode(await request.read()))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        says = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if says.how == "hang":
            await asyncio.Event().wait()
        if says.how == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"usage": {"inp')
            assert request.transport is not None
            request.transport.close()
            return response
        return web.json_response(says.body, status=says.status, headers=says.headers)


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    monkeypatch.setattr(job, "_BACKOFF_SECONDS", 0.01)
    found = Provider()
    app = web.Application()
    app.router.add_post("/v1/messages", found.handle)
    server = TestServer(app)
    async with server:
        found.url = str(server.make_url(""))
        yield found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text(KEY)
    return path


async def warm(
    provider: Provider, key: Path, models: Iterable[str] = (), **given: Any
) -> list[WarmedLane]:
    return list(await job.warm(run(provider.url, **given), {"prod": key}, list(models)))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(429, retry_after="0.05"), id="429 with a time"),
        pytest.param(refusal(429), id="429 without"),
        pytest.param(refusal(529), id="529"),
        pytest.param(refusal(500), id="500"),
        pytest.param(Says(how="cut"), id="an answer cut in the middle"),
    ],
)
async def test_what_passes_is_tried_again(provider: Provider, key: Path, trouble: Says) -> None:
    """After the time that the provider names, or after a little while; every request is counted."""
    provider.will(trouble, READ)
    (lane,) = await warm(provider, key)
    assert (lane.state, lane.requests, lane.usage) == ("Warm", 2, Usage(8, 5000))


async def test_a_long_wait_is_left_to_a_later_run(provider: Provider, key: Path) -> None:
    """The run has no time for it: it ends at once, and says how long nothing is wanted."""
    provider.will(refusal(429, retry_after="300"))
    (lane,) = await warm(provider, key)
    assert (lane.state, lane.requests, lane.retry_after) == ("Failed", 1, 301)
    assert "it is tried again in 300 s" in lane.message


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
async def test_what_stays_is_not_tried_again(provider: Provider, key: Path, status: int) -> None:
    """A wrong key, a spent limit, a model that is gone."""
    provider.will(refusal(status))
    (lane,) = await warm(provider, key)
    assert (lane.state, lane.requests, lane.usd) == ("Failed", 1, None)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_credential_that_is_refused_asks_once(
    provider: Provider, key: Path, status: int
) -> None:
    """Its other lanes would hear the same: they are reported, and nothing is sent for them."""
    provider.will(refusal(status))
    bundled = bundle(CANDIDATE)
    first, second = await warm(provider, key, bundle=bundled, revisions="StableAndCandidate")
    assert len(provider.sent) == 1
    assert first.message == second.message
    assert (second.state, second.requests) == ("Failed", 0)


async def test_a_spent_limit_of_ones_own(provider: Provider, key: Path) -> None:
    """The provider answers 400 to it, which else means a bad request."""
    provider.will(refusal(400, "You have reached your specified API usage limits."))
    (lane,) = await warm(provider, key)
    assert "raise the spend limit with the provider" in lane.message


async def test_a_hang_ends_with_the_run(provider: Provider, key: Path) -> None:
    """It is reported like any other failure."""
    provider.will(Says(how="hang"))
    (lane,) = await warm(provider, key, time_limit=0.2)
    assert lane.state == "Failed"
    assert "the run's 0.2 s were over" in lane.message


async def test_a_model_that_wants_an_answer_gets_room_for_one(
    provider: Provider, key: Path
) -> None:
    """Where `max_tokens: 0` is refused, 1 is asked for; another refusal stays one."""
    provider.will(refusal(400, "max_tokens: must be at least 1"), READ)
    (lane,) = await warm(provider, key)
    assert [sent["max_tokens"] for sent in provider.sent] == [0, 1]
    assert (lane.state, lane.requests) == ("Warm", 2)
    provider.will(refusal(400, "max_tokens: must be at least 1"))
    (lane,) = await warm(provider, key)
    assert (lane.state, len(provider.sent)) == ("Failed", 4)


async def test_the_settings_of_real_requests(provider: Provider, key: Path) -> None:
    """They key the provider's cache: warmed without them, it is another one."""
    fields = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    settings = job.Settings(fields, ("beta-1", "beta-2"))
    await warm(provider, key, settings=settings)
    (sent,), (headers,) = provider.sent, provider.headers
    assert fields.items() <= sent.items()
    assert headers["anthropic-beta"] == "beta-1,beta-2"


async def test_lanes_that_are_left_out(provider: Provider, key: Path) -> None:
    """They are neither sent nor reported: what is known of them stands."""
    skip = {("prod", OPUS, STABLE.digest.short), ("other", HAIKU, STABLE.digest.short)}
    bundled = bundle(models=(OPUS, HAIKU))
    lanes = await warm(provider, key, (OPUS, HAIKU), bundle=bundled, skip=skip)
    assert [lane.model for lane in lanes] == [HAIKU]


async def test_an_allowance_is_kept_before_the_request(provider: Provider, key: Path) -> None:
    """What is left must be enough for a write, whatever the request then costs."""
    worst = job.worst_cost(bundle(), STABLE.digest, OPUS)
    assert worst is not None
    cent = Decimal("0.0001")
    (lane,) = await warm(provider, key, allowance=worst - cent)
    assert (lane.state, lane.requests, provider.sent) == ("Skipped", 0, [])
    assert f"a request may cost {worst:.4f}" in lane.message
    (lane,) = await warm(provider, key, allowance=worst)
    assert (lane.state, lane.usd) == ("Warm", Decimal("0.00254"))


async def test_lanes_in_parallel_share_an_allowance(provider: Provider, key: Path) -> None:
    """What is set aside for one is not there for another; the sum is never exceeded."""
    models = tuple(f"claude-opus-4-{number}" for number in (5, 6, 7, 8))
    bundled = bundle(models=models)
    worst = [job.worst_cost(bundled, STABLE.digest, model) for model in models]
    assert all(worst)
    allowance = Decimal(2) * max(one for one in worst if one)
    provider.will(answer(cache_creation_input_tokens=80))
    lanes = await warm(provider, key, models, bundle=bundled, allowance=allowance)
    assert sum((lane.usd or Decimal(0) for lane in lanes), Decimal(0)) <= allowance
    assert {lane.state for lane in lanes} == {"Warm", "Skipped"}


async def test_without_a_price_no_allowance_can_be_kept(provider: Provider, key: Path) -> None:
    """Nothing is sent, and it says why."""
    lanes = await warm(
        provider, key, ["house"], bundle=bundle(models=("house",)), allowance=Decimal(9)
    )
    assert [lane.state for lane in lanes] == ["Skipped"]
    assert "no price of house is known" in lanes[0].message
    assert provider.sent == []


async def test_a_write_is_verified(provider: Provider, key: Path) -> None:
    """By requests that have to read it: a first miss is known to happen."""
    provider.will(WRITE, WRITE, READ)
    (lane,) = await warm(provider, key, verify_attempts=3, verify_delay=0)
    assert (lane.state, lane.message, lane.requests) == ("Warm", "", 3)
    assert lane.usage == Usage(8, cache_write_5m=5000)
    assert lane.usd == 2 * Decimal("0.03129") + Decimal("0.00254")


async def test_what_cannot_be_read_is_said(provider: Provider, key: Path) -> None:
    """A gateway that spreads requests over workspaces would make every run a write."""
    provider.will(WRITE)
    (lane,) = await warm(provider, key, verify_attempts=2, verify_delay=0)
    assert (lane.state, len(provider.sent)) == ("Warm", 3)
    assert "not read by 2 requests after it" in lane.message


async def test_a_read_needs_no_verification(provider: Provider, key: Path) -> None:
    """It is its own proof."""
    await warm(provider, key, verify_attempts=3, verify_delay=0)
    assert len(provider.sent) == 1


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("", "it is empty")])
async def test_an_identity_without_a_token(
    provider: Provider, tmp_path: Path, content: str | None, said: str
) -> None:
    """Its lanes fail with what to do, and nothing is sent."""
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    (lane,) = await job.warm(run(provider.url), {"prod": Identity(token, "rule", "org")}, [])
    assert lane.state == "Failed"
    assert said in lane.message
    assert "mount a projected token there" in lane.message
    assert provider.sent == []


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("9" * 400, 0),
        ("-5", 0),
        ("NaN", 0),
        ("1e9", 0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("999999", 86_401),
        ("300", 301),
    ],
)
async def test_a_wait_is_bounded(provider: Provider, key: Path, text: str, wait: int) -> None:
    """However many digits the header has: the run goes on, and the next lane gets its request."""
    provider.will(refusal(429, retry_after=text, x_should_retry="false"), READ)
    first, second = await warm(
        provider, key, bundle=bundle(CANDIDATE), revisions="StableAndCandidate"
    )
    assert (first.state, first.retry_after) == ("Failed", wait)
    assert second.state == "Warm"


@pytest.mark.parametrize(
    "usage",
    [
        {"cache_read_input_tokens": 10**30},
        {"cache_read_input_tokens": -1},
        {"iterations": [{"type": "message", "input_tokens": -1}]},
    ],
)
async def test_a_usage_that_cannot_be_warms_nothing(
    provider: Provider, key: Path, usage: Any
) -> None:
    """It is named, the most that the request may cost counts, and the next lane is warmed."""
    provider.will(answer(**usage), READ)
    first, second = await warm(
        provider, key, bundle=bundle(CANDIDATE), revisions="StableAndCandidate"
    )
    assert (first.state, first.usage) == ("Failed", None)
    assert "a usage that cannot be true" in first.message
    assert first.usd == job.worst_cost(bundle(CANDIDATE), STABLE.digest, OPUS)
    assert second.state == "Warm"


async def test_an_answer_of_a_gateways_own_warms_nothing(provider: Provider, key: Path) -> None:
    """The provider was not asked: it costs nothing, and the report says what to do."""
    provider.will(Says(READ, headers={"cf-aig-cache-status": "HIT"}))
    (lane,) = await warm(provider, key, allowance=Decimal(1))
    assert (lane.state, lane.usage, lane.usd) == ("Failed", None, None)
    assert "cloudflare answered out of a store of its own" in lane.message


async def test_what_has_no_price_counts_at_its_worst(provider: Provider, key: Path) -> None:
    """A tier that is paid for in advance; within a budget it is not free."""
    priority = {"input_tokens": 8, "cache_read_input_tokens": 5000, "service_tier": "priority"}
    provider.will(answer() | {"usage": priority})
    (lane,) = await warm(provider, key, allowance=Decimal(1))
    assert lane.state == "Warm"
    assert lane.usd == job.worst_cost(bundle(), STABLE.digest, OPUS)
    assert "service_tier" in lane.message


async def test_an_endless_answer_is_left(provider: Provider, key: Path) -> None:
    """What no provider sends must not fill the job's memory."""
    provider.will(Says({"padding": "x" * (2 << 20)}, headers={"x-should-retry": "false"}))
    (lane,) = await warm(provider, key)
    assert lane.state == "Failed"
