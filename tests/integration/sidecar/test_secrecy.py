"""Nothing of a key or of a prompt leaves by another way than the request itself."""

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from headwater.contract.reasons import Reason
from tests.integration.test_sidecar import (
    EVENTS,
    START,
    Running,
    listening,
    running,
)
from tests.unit.sidecar import bundles

KEY: Final = "sk-ant-MARKER-key"
TEXT: Final = "MARKER"
"""In each key, text, header and path of these requests, and in nothing else."""
NAME: Final = "NAMED"
"""Of models and tools: a refusal tells it to whoever sent it, and nobody else."""
SESSION: Final = {"x-headwater-session": f"{TEXT}-session"}
OWN: Final = {"type": "text", "text": f"{TEXT} own", "cache_control": {"type": "ephemeral"}}


def body(**fields: Any) -> bytes:
    return json.dumps(
        {
            "model": bundles.MODEL,
            "max_tokens": 5,
            "metadata": {"user_id": f"{TEXT}-user"},
            "messages": [{"role": "user", "content": f"{TEXT} asks"}],
            **fields,
        }
    ).encode()


def copied(**changed: Any) -> bytes:
    """A copy of the contract, with something else in it."""
    document = json.loads(bundles.contract("v1"))
    return body(**{key: document[key] for key in ("tools", "system")} | changed)


TOOL: Final = {"name": "search", "input_schema": {"type": "object"}}
REQUESTS: Final = [
    body(),
    body(stream=True),
    body(
        system=f"{TEXT} system", tools=[{"name": NAME, "description": TEXT, "defer_loading": True}]
    ),
    TEXT.encode(),
    body()[:-9],
    b'{"' + TEXT.encode() + b'": \xff}',
    body(model=f"claude-{NAME}"),
    body(model={TEXT: TEXT}),
    body(tools=[{"name": NAME, "description": TEXT}]),
    body(tools=[TEXT]),
    body(tools=[{**TOOL, "description": TEXT}]),
    body(tools={TEXT: TEXT}),
    body(system=[TEXT]),
    body(system=[{"type": "text", "text": 1, TEXT: TEXT}]),
    copied(system=[{"type": "text", "text": f"{bundles.TEXT} v1 {TEXT}"}]),
    copied(system=[OWN, {"type": "text", "text": f"{bundles.TEXT} v1 "}]),
    body(system=[OWN] * 4),
    body(system=[{**OWN, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]),
    body(system=[{**OWN, "cache_control": {"type": TEXT, "ttl": TEXT}}]),
    body(messages=[{"role": TEXT, "content": {TEXT: [OWN]}}]),
    body(messages=TEXT),
    body(thinking={"type": TEXT}, output_config={"effort": TEXT}, speed=TEXT),
    body(cache_control=TEXT),
]
HEADERS: Final = {
    "x-api-key": KEY,
    "authorization": f"Bearer {KEY}",
    "anthropic-beta": TEXT,
    "anthropic-workspace-id": TEXT,
    "x-own": TEXT,
}


@pytest.fixture
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def misbehaving(request: web.Request) -> web.StreamResponse:
    """Whole, streaming, or cut, as the request's path says."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in EVENTS if b"stream" in await request.read() else (START,):
        await response.write(event)
    assert request.transport is not None
    if "cut" in request.headers.get("x-do", ""):
        request.transport.close()
    return response


async def ask(sidecar: Running, path: str, data: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Status, and all that the sidecar itself says in an answer: headers and body."""
    try:
        async with sidecar.client.post(sidecar.url + path, data=data, headers=headers) as answer:
            return answer.status, f"{dict(answer.headers)} {(await answer.read()).decode()}"
    except aiohttp.ClientPayloadError:
        return 0, ""


@pytest.mark.parametrize("observing", [False, True])
async def test_no_key_and_no_text_is_logged_counted_or_told(
    tmp_path: Path, everything_is_logged: pytest.LogCaptureFixture,
    *, observing: bool,
) -> None:  # fmt: skip
    """Not at debug level, not in metrics, probes and answers, whatever is refused or goes wrong."""
    declared = bundles.make()
    async with listening(misbehaving) as gone:
        pass
    mounted = bundles.observing(declared) if observing else declared
    async with (
        listening(misbehaving) as upstream,
        running(tmp_path / "bundle", upstream, mounted) as sidecar,
        running(tmp_path / "away", gone, declared) as away,
        running(tmp_path / "none", upstream, None) as bare,
    ):
        paths = ("/v1/messages", "/v1/messages/count_tokens", f"/v1/{TEXT}?key={KEY}")
        answers = [
            await ask(sidecar, path, data, HEADERS | more)
            for data in REQUESTS
            for path in paths
            for more in ({}, SESSION, {"x-do": "cut"})
        ]
        batch = b'{"requests":[{"custom_id":"%b","params":%b}]}' % (TEXT.encode(), body())
        answers += [
            await ask(sidecar, "/v1/messages/batches", batch, HEADERS),
            await ask(sidecar, "/v1/messages/batches", batch.replace(b"params", b"p"), HEADERS),
            await ask(sidecar, "/v1/messages", gzip.compress(body())[:-20],
                      HEADERS | {"content-encoding": "gzip"}),
            await ask(sidecar, "/v1/messages", body(), HEADERS | {"content-encoding": TEXT}),
            await ask(away, "/v1/messages", body(), HEADERS),
            await ask(bare, "/v1/messages", body(), HEADERS),
        ]  # fmt: skip
        assert {status for status, _ in answers} >= ({200, 400, 415, 502, 503})
        told = [each.sidecar.metrics.exposition().decode() for each in (sidecar, away, bare)]
        for probe in ("metrics", "readyz", "nowhere"):
            async with sidecar.client.get(f"{sidecar.metrics_url}/{probe}") as answer:
                told.append(await answer.text())
    reasons = {reason for reason in Reason if f'reason="{reason}"' in told[0] + told[2]}
    assert len(reasons) >= 10, "most refusals were tried"
    for record in everything_is_logged.records:
        formatted = f"{record.getMessage()} {vars(record)} {record.exc_text}"
        if not record.name.startswith("aiohttp"):  # the client and the provider of this test
            assert TEXT not in formatted
            assert NAME not in formatted
    for text in told:
        assert TEXT not in text
        assert NAME not in text
    for _, text in answers:
        assert TEXT not in text
