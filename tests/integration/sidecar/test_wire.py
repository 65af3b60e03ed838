"""The wire matrix: nobody can tell a sidecar from the provider, but for the contract.

The SDK, an old and a current major, sends a team's requests through a sidecar, through one whose
provider packs its answers, and, with the contract spelled out, to the simulator itself. Each way
begins with a cold cache, so that what comes back has to be the same to the token.
"""

import asyncio
import hashlib
import json
import os
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from headwater.contract.assembly import prepare
from headwater.simulator.server import Settings, serving
from tests.cluster.waiting import eventually
from tests.integration.sidecar import mixed
from tests.integration.test_sidecar import Running, listening, running
from tests.integration.test_simulator_sdk import INTERPRETERS
from tests.unit.sidecar import bundles

pytestmark = pytest.mark.xdist_group("simulator-sdk")  # the client runs once in one worker

CLIENT: Final = Path(__file__).with_name("wire_client.py")
CONTRACT: Final = bundles.contract("v1", size=3_000)
DIRECT, SIDECAR, PACKED = "direct", "sidecar", "packed"
SECONDS: Final = 60


def packing(upstream: str, client: aiohttp.ClientSession) -> Callable[..., Awaitable[Any]]:
    """A provider that packs its answers although nobody asked, part by part as they come."""

    async def handle(request: web.Request) -> web.StreamResponse:
        kept = {"x-api-key", "authorization", "anthropic-version", "content-type"}
        kept |= {"x-simulator-fault", "anthropic-beta"}
        headers = {name: value for name, value in request.headers.items() if name.lower() in kept}
        url = upstream + request.raw_path
        body = await request.read()
        assert request.transport is not None
        try:
            async with client.request(request.method, url, headers=headers, data=body) as answer:
                passed = {"content-type", "request-id", "retry-after"}
                response = web.StreamResponse(
                    status=answer.status,
                    headers={key: value for key, value in answer.headers.items()
                             if key.lower() in passed} | {"content-encoding": "gzip"},
                )  # fmt: skip
                packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH))
                await response.write(packer.flush())
                return response
        except aiohttp.ClientError:
            request.transport.close()
            return web.Response(status=500)

    return handle


async def observe(python: Path, directory: Path) -> dict[str, Any]:
    """What the client saw, what the simulator got, and what the sidecars counted."""
    declared = bundles.make(size=3_000)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        simulator = await enter(serving(Settings(latency_base_ms=0, latency_ms_per_1k=0),
                                        clock=time.monotonic))  # fmt: skip
        client = await enter(aiohttp.ClientSession(auto_decompress=False))
        packer = await enter(listening(packing(simulator, client)))
        async with listening(packing("", client)) as away:
            pass
        found: dict[str, Running] = {}
        for name, upstream in ((SIDECAR, simulator), (PACKED, packer), ("away", away)):
            found[name] = await enter(running(directory / name, upstream, declared))
        document = json.loads(CONTRACT)
        process = await asyncio.create_subprocess_exec(
            python, "-W", "error", CLIENT,
            # Nothing of the caller's environment but the search path: no key, no proxy.
            env={"PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        given = {
            "simulator": simulator,
            "contract": {key: document[key] for key in ("tools", "system")},
            **{name: running.url for name, running in found.items()},
        }
        output, log = await asyncio.wait_for(
            process.communicate(json.dumps(given).encode()), SECONDS
        )
        assert process.returncode == 0, log.decode()
        seen: dict[str, Any] = json.loads(output)

        def tokens(name: str) -> Any:
            exposition = found[name].sidecar.metrics.exposition().decode()
            return mixed.told(exposition, "headwater_input_tokens_total", "kind")

        await eventually(lambda: tokens(SIDECAR) == tokens(PACKED), 5, "both counted the same")
        async with client.get(f"{simulator}/_simulator/requests") as answer:
            seen["requests"] = json.loads(await answer.read())
    return seen


@pytest.fixture(scope="module", params=INTERPRETERS)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    python = INTERPRETERS[request.param]
    observed = asyncio.run(observe(python, tmp_path_factory.mktemp("wire")))
    assert observed["version"].split(".")[0] == request.param.split()[-1]
    return observed


def differences(seen: dict[str, Any], way: str, *but: str) -> dict[str, Any]:
    """The cases in which a way shows something else than the direct one."""
    expected = seen[DIRECT]
    assert set(seen[way]) == set(expected)
    return {
        case: (expected[case], got)
        for case, got in seen[way].items()
        if got != expected[case] and not any(name in case for name in but)
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", [SIDECAR, PACKED])
def test_every_shape_answer_and_fault_is_as_without_a_sidecar(
    seen: dict[str, Any], way: str
) -> None:
    """The same texts, usages, events, errors, words and waits.

    Six ways to ask, twenty shapes, ten refusals, three broken answers, counts and other paths.
    """
    assert differences(seen, way) == {}


@pytest.mark.slow
def test_the_matrix_is_about_something(seen: dict[str, Any]) -> None:
    """Whole answers, reads and writes, each kind of error: so that two failures are not equal."""
    direct = seen[DIRECT]
    answers = [seen_here for case, seen_here in direct.items() if case.startswith("create: ")]
    whole = [answer for answer in answers if answer.get("type") == "message"]
    assert len(whole) == 20
    assert all(answer["usage"]["cache_read_input_tokens"] for answer in whole[1:])
    assert {answer.get("status") for answer in answers} >= {400, 401, 413, 429, 500, 529}
    assert len(direct["events: empty / no tools / automatic"]) > 5
    assert direct["create: hang"]["class"] == "APITimeoutError"
    assert direct["create: truncate"]["class"] == "APIConnectionError"
    assert "Overloaded" in str(direct["stream: error-event"])
    assert direct["create: 429"]["retry-after"] is not None
    counts = [answer for case, answer in direct.items() if case.startswith("count / ")]
    assert len(set(counts)) == 3
    assert direct["waited"]
    assert direct["after 429"] == direct["after disconnect"] == "max_tokens"


def test_each_request_carried_the_contracts_very_bytes(seen: dict[str, Any]) -> None:
    """Tools and system first, as they were hashed; asked of the simulator's journal."""
    contract = prepare(CONTRACT)
    blocks = [hashlib.sha256(contract.system).hexdigest()]
    tools = hashlib.sha256(b"[" + contract.tools + b"]").hexdigest()
    got = seen["requests"]
    assert len(got) > 400
    assert all(request["system_blocks_sha256"][:1] == blocks for request in got)
    assert sum(request["tools_sha256"] == tools for request in got) > len(got) / 3


def test_a_provider_that_is_away_is_a_502(seen: dict[str, Any]) -> None:
    """In the provider's shape, with a request id, whichever way was asked."""
    for failure in seen["away"].values():
        assert (failure["class"], failure["status"]) == ("InternalServerError", 502)
        assert failure["error"]["type"] == "api_error"
        assert "the provider could not be reached" in failure["error"]["message"]
        assert failure["named"]
