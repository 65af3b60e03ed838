"""An application that sends batches as large as the provider takes them.

No harm is meant. The sidecar's container has 256 MiB, and a batch has as much: it passes one entry
at a time, and whoever else asks is answered meanwhile.
"""

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.cluster.waiting import scaled
from tests.integration.attacks.sidecars import BODY, Victim, victim
from tests.integration.controller.servers import serving

MEBIBYTE = 1 << 20


@dataclass
class Provider:
    """What reached the provider."""

    bytes: int = 0
    batches: int = 0

    async def batch(self, request: web.Request) -> web.Response:
        async for part in request.content.iter_any():
            self.bytes += len(part)
        self.batches += 1
        return web.json_response({"id": "msgbatch_1"})

    async def message(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"usage": {"input_tokens": 1}})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def sidecar(provider: Provider, tmp_path: Path) -> Iterator[Victim]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/messages/batches", provider.batch)
    app.router.add_post("/v1/messages", provider.message)
    with serving(app) as url, victim(url, tmp_path) as found:
        assert found.asks() == b"HTTP/1.1 200 OK"
        yield found


def entry(text: bytes) -> bytes:
    return b'{"custom_id":"a","params":%b}' % BODY.replace(b'"x"', b'"%b"' % text)


def batch(entries: int, text: bytes) -> Iterator[bytes]:
    """Yield the pieces of a batch."""
    yield b'{"requests":['
    for number in range(entries):
        yield (b"," if number else b"") + entry(text)
    yield b"]}"


@pytest.mark.parametrize(
    ("entries", "text"),
    [(64, b"word " * (MEBIBYTE // 5)), (30_000, b"x")],
    ids=["large entries", "many entries"],
)
def test_a_batch_of_many_megabytes_takes_few(
    sidecar: Victim, provider: Provider, entries: int, text: bytes
) -> None:
    """It arrives whole; while it passes, other requests are answered."""
    before = sidecar.memory
    ended = threading.Event()
    statuses: list[int] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=scaled(120))
        kind = {"content-type": "application/json"}
        connection.request(
            "POST", "/v1/messages/batches", batch(entries, text), kind, encode_chunked=True
        )
        statuses.append(connection.getresponse().status)
        connection.close()
        ended.set()

    thread = threading.Thread(target=send)
    thread.start()
    most = others = 0
    while not ended.is_set():
        assert sidecar.asks() == b"HTTP/1.1 200 OK"
        others += 1
        most = max(most, sidecar.memory)
    thread.join()
    assert statuses == [200]
    assert provider.batches == 1
    assert provider.bytes > entries * len(entry(text))
    assert others >= 3
    assert most - before < 48 * MEBIBYTE


def test_one_entry_off_the_contract_and_the_provider_has_no_batch(
    sidecar: Victim, provider: Provider
) -> None:
    """However much of it had been sent."""
    bad = entry(b"x").replace(b'"max_tokens"', b'"tools":[{"name":"mine"}],"max_tokens"')
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=scaled(60))
    body = b'{"requests":[' + b",".join([*(entry(b"y " * 5_000) for _ in range(500)), bad]) + b"]}"
    connection.request("POST", "/v1/messages/batches", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("x-headwater-at")) == (
        400,
        "requests[500].params.tools[0]",
    )
    connection.close()
    assert provider.batches == 0


def test_many_large_requests_take_turns(sidecar: Victim) -> None:
    """Twelve of 25 MiB at once: each is answered, and memory stays within the limit."""
    before = sidecar.memory
    body = BODY.replace(b'"x"', b'"%b"' % (b"word " * (5 * MEBIBYTE)))
    statuses: list[int] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=scaled(120))
        connection.request("POST", "/v1/messages", body, {"content-type": "application/json"})
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        assert sidecar.asks() == b"HTTP/1.1 200 OK"
        most = max(most, sidecar.memory)
    assert statuses == [200] * 12
    assert most - before < 176 * MEBIBYTE
