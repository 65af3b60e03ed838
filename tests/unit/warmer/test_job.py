"""What a warming run sends, and what it makes of every kind of answer.

The provider here is a loopback server that answers what a test says and keeps what it was sent;
`tests/integration/test_warm.py` runs against the simulator's caches.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, credential_fingerprint
from headwater.providers.usage import Usage
from headwater.warmer import job
from headwater.warmer.report import Report, WarmedLane, encode

KEY = "sk-test-0123456789"
NOW = datetime(2026, 11, 21, 7, 20, tzinfo=UTC)


def contract(text: str) -> bytes:
    tool = {
        "name": "find",
        "input_schema": {
            "type": "object",
            # Python's json writes 1e-07, RFC 8785 writes 1e-7; and \u2028 has two spellings.
            "properties": {"z": {"minimum": 1e-7}, "a": {"description": "\u2028 é 🌊 </b> \u0007"}},
        },
    }
    return canonical_bytes(content(tools=[tool], system=[{"text": text}], ttl="5m"))


V1, V2 = contract("one\r\n"), contract("two")
STABLE, CANDIDATE = (
    Revision("v1", Digest.of(V1)),
    Revision("v2", Digest.of(V2)),
)


def bundle(
    candidate: Revision | None = None, models: tuple[str, ...] = ("claude-opus-4-8",)
) -> Bundle:
    return Bundle(
        Route(
            namespace="ai",
            prefix="org-core",
            epoch=1,
            salt="",
            stable=STABLE,
            models=models,
            ttl="5m",
            candidate=candidate,
        ),
        {STABLE.digest: V1, CANDIDATE.digest: V2},
    )


def answer(**usage: int) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": 8, "output_tokens": 0} | usage,
    }


@dataclass
class Provider:
    """Answers everything with `status` and `body`, and keeps what it was sent."""

    url: str = ""
    status: int = 200
    body: Any = field(default_factory=lambda: answer(cache_read_input_tokens=5000))
    sent: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.sent.append(await request.read())
        # The SDK's retries are its own affair and would cost these tests seconds.
        headers = {"x-should-retry": "false"}
        return web.json_response(self.body, status=self.status, headers=headers)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = web.Application()
    app.router.add_post("/v1/messages", found.handle)
    async with TestServer(app) as server:
        found.url = str(server.make_url(""))
        yield found


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text(f"{KEY}\n")
    return path


def run(url: str, **given: Any) -> job.Run:
    usual: dict[str, Any] = {"bundle": bundle(), "revisions": "Stable"}
    return job.Run(**(usual | given), now=lambda: NOW, base_url=url)


async def test_the_contracts_own_bytes_are_sent(provider: Provider, key_file: Path) -> None:
    """Between the request's own fields stand the canonical bytes: escapes, numbers, key order."""
    await job.warm(run(provider.url), {"prod": key_file}, ["claude-opus-4-8"])
    (sent,) = provider.sent
    system, tools = (
        V1.removeprefix(b'{"format":1,"provider":"anthropic","system":')
        .removesuffix(b"}")
        .split(b',"tools":')
    )
    assert sent == (
        b'{"tools":'
        + tools
        + b',"system":'
        + system
        + b',"model":"claude-opus-4-8","max_tokens":0,'
        # Unmarked: a marker here would write an entry that nobody ever reads.
        b'"messages":[{"role":"user","content":"warm"}]}'
    )


async def test_consumers_send_the_same_prefix(provider: Provider, key_file: Path) -> None:
    """A cache is found by its content: what is warmed is how every consumer's request begins."""
    await job.warm(run(provider.url), {"prod": key_file}, [])
    question = (
        b'{ "system": "You help the billing team.", "max_tokens": 16,'
        b' "messages": [{"role": "user", "content": "Why?"}], "model": "claude-opus-4-8" }'
    )
    consumers = splice(Request.read(question), prepare(V1), ["claude-opus-4-8"])
    warmed, asked = (
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        for body in (provider.sent[0], consumers.body)
    )
    assert bytes(asked["tools"]) == bytes(warmed["tools"])
    assert bytes(asked["system"]).startswith(bytes(warmed["system"]).removesuffix(b"]") + b",")


async def test_a_model_that_consumers_may_not_use(provider: Provider, key_file: Path) -> None:
    """Warming what every sidecar refuses would only cost: nothing is sent, and it says why."""
    (lane,) = await job.warm(run(provider.url), {"prod": key_file}, ["gpt-9"])
    assert lane.state == "Failed"
    assert "the model is 'gpt-9', and this prefix is published for" in lane.message
    assert provider.sent == []


async def test_every_lane_is_warmed_once(provider: Provider, tmp_path: Path) -> None:
    """Credential x model x revision, each reported with its key's fingerprint and its usage."""
    keys = {}
    for name in ("prod", "batch"):
        keys[name] = tmp_path / name
        keys[name].write_text(f"sk-{name}")
    models = ("claude-opus-4-8", "claude-haiku-4-5")
    asked = run(provider.url, bundle=bundle(CANDIDATE, models), revisions="StableAndCandidate")
    lanes = await job.warm(asked, keys, ())
    assert set(lanes) == {
        WarmedLane(
            credential=name,
            fingerprint=credential_fingerprint(f"sk-{name}"),
            model=model,
            digest=revision.digest,
            at=NOW,
            state="Warm",
            usage=Usage(uncached=8, cache_read=5000),
            usd={"claude-opus-4-8": Decimal("0.00254"), "claude-haiku-4-5": Decimal("0.000508")}[
                model
            ],
        )
        for name in keys
        for model in models
        for revision in (STABLE, CANDIDATE)
    }
    assert len(lanes) == len(provider.sent) == 8


async def test_a_candidate_is_left_out_where_asked(provider: Provider, key_file: Path) -> None:
    """`Stable` warms the stable revision alone, and no model given means those of the route."""
    lanes = await job.warm(run(provider.url, bundle=bundle(CANDIDATE)), {"prod": key_file}, [])
    assert [(lane.model, lane.digest) for lane in lanes] == [("claude-opus-4-8", STABLE.digest)]


@pytest.mark.parametrize(
    ("model", "tokens", "said"),
    [
        ("claude-haiku-4-5", 2310, ("claude-haiku-4-5 caches from 4,096", "2,310", "lengthen")),
        ("claude-haiku-4-5", 5000, ("nothing of 5,000 tokens", "4,096", "cache_control")),
        ("house-model", 5000, ("the least that house-model caches is not known",)),
    ],
)
async def test_silently_uncached(
    provider: Provider, key_file: Path, model: str, tokens: int, said: tuple[str, ...]
) -> None:
    """An answer that neither read nor wrote is Cold, and the sentence names the model's minimum."""
    provider.body = answer(input_tokens=tokens)
    asked = run(provider.url, bundle=bundle(models=(model,)))
    (lane,) = await job.warm(asked, {"prod": key_file}, [])
    assert (lane.state, lane.usage) == ("Cold", Usage(uncached=tokens))
    assert [part for part in said if part not in lane.message] == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "correct what it names"),
        (401, "put a valid API key"),
        (402, "billing"),
        (403, "put a valid API key"),
        (404, "remove claude-opus-4-8 from the models"),
        (429, "tried again with the next run"),
        (500, "the provider has trouble"),
        (529, "the provider has trouble"),
    ],
)
async def test_refused(provider: Provider, key_file: Path, status: int, advice: str) -> None:
    """Each refusal is Failed with the provider's words and what to do; the key it quotes is not."""
    provider.status = status
    provider.body = {"type": "error", "error": {"type": "any", "message": f"no {KEY} here"}}
    (lane,) = lanes = await job.warm(run(provider.url), {"prod": key_file}, [])
    assert (lane.state, lane.usage) == ("Failed", None)
    assert f"answered {status}: 'no [key] here'" in lane.message
    assert advice in lane.message
    assert KEY.encode() not in encode(Report(lanes))


@pytest.mark.parametrize("body", ["an error page", ["a list"], {"usage": None}, {}])
async def test_another_server(provider: Provider, key_file: Path, body: Any) -> None:
    """A server that answers 200 and is no provider warms nothing."""
    provider.body = body
    (lane,) = await job.warm(run(provider.url), {"prod": key_file}, [])
    assert lane.state == "Failed"
    assert "127.0.0.1 answered without any usage: check the base URL" in lane.message


async def test_no_answer(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens: the sentence names the host, and what may stand between."""
    monkeypatch.setattr(job, "_BACKOFF_SECONDS", 0.01)
    asked = run(f"http://127.0.0.1:{unused_port()}", time_limit=30)
    (lane,) = await job.warm(asked, {"prod": key_file}, [])
    assert lane.state == "Failed"
    assert "no answer from 127.0.0.1: check that the job's pods may reach it" in lane.message


async def test_the_time_limit_is_for_the_whole_run(provider: Provider, key_file: Path) -> None:
    """Lanes that have no answer in time are reported, so that a report is always written."""
    models = tuple(f"claude-{number}" for number in range(20))
    asked = run(provider.url, bundle=bundle(models=models), time_limit=0)
    lanes = await job.warm(asked, {"prod": key_file}, [])
    assert {lane.state for lane in lanes} == {"Failed"}
    assert "the run's 0 s were over" in lanes[-1].message
    assert tuple(lane.model for lane in lanes) == models


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "cannot be read (No such file or directory): check that the Secret"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("\n"), "is empty"),
        (lambda path: path.write_text(f"{KEY}\n\n"), "blanks or line breaks"),
        (lambda path: path.write_text(f"key: {KEY}"), "blanks or line breaks"),
        (lambda path: path.write_text("ключ"), "more than an API key"),
    ],
)
async def test_no_key(
    provider: Provider,
    key_file: Path,
    tmp_path: Path,
    write: Callable[[Path], object],
    said: str,
) -> None:
    """A key that cannot be used fails its own lanes with what to do, and stops no other."""
    path = tmp_path / "other"
    write(path)
    failed, warm = await job.warm(run(provider.url), {"other": path, "prod": key_file}, [])
    assert (failed.credential, failed.fingerprint, failed.state) == ("other", "", "Failed")
    assert said in failed.message
    assert KEY not in failed.message
    assert (warm.credential, warm.state) == ("prod", "Warm")
