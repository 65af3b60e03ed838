"""An application whose clients give up, at every moment of a request's life.

No harm is meant. What a request took (connections, descriptors, memory) is given back whenever it
ends, and the pod ends when the kubelet says so.
"""

import random
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.waiting import scaled, wait_until
from tests.integration.attacks.sidecars import REQUEST, Victim, victim
from tests.integration.relay.test_origin import certificate

ROUNDS: Final = 40
AT_ONCE: Final = 50
_RESET: Final = struct.pack("ii", 1, 0)
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def provider(context: ssl.SSLContext | None) -> Iterator[str]:
    """Answer at once whatever comes, and then close."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            connection, _ = listening.accept()
            threading.Thread(target=answer, args=(connection,)).start()

    def answer(connection: socket.socket) -> None:
        connection.settimeout(scaled(30))
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                while connection.recv(1 << 16):
                    connection.sendall(ANSWER)
        except OSError:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    try:
        yield f"{'http' if context is None else 'https'}://localhost:{port}"
    finally:
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listening.close()


@pytest.fixture(params=["http", "https"])
def sidecar(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Victim]:
    file = certificate(tmp_path, "localhost")
    context = None
    if request.param == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
    with (
        provider(context) as url,
        victim(url, tmp_path, SSL_CERT_FILE=str(file), NO_PROXY="localhost") as found,
    ):
        yield found


def give_up(connections: list[socket.socket]) -> None:
    """Close them at once, so that nothing more may be sent to them."""
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()


def test_what_is_given_up_leaves_nothing_behind(sidecar: Victim) -> None:
    """Two thousand requests, reset before, in and after their bytes: all is as it was."""
    assert sidecar.asks() == b"HTTP/1.1 200 OK"
    draw = random.Random(7)
    before, memory = sidecar.descriptors, sidecar.memory
    for _ in range(ROUNDS):
        opened = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(AT_ONCE)]
        for connection in opened:
            connection.sendall(REQUEST[: draw.choice([0, 20, len(REQUEST) - 1, len(REQUEST)])])
        draw.shuffle(opened)
        give_up(opened[: AT_ONCE // 2])
        # Some of these have been sent on, and answered.
        assert sidecar.asks() == b"HTTP/1.1 200 OK"
        give_up(opened[AT_ONCE // 2 :])
    # A connection to the provider is kept for the next request, or one for each that was whole.
    kept = AT_ONCE
    wait_until(lambda: sidecar.descriptors <= before + kept, 60, "what was opened is closed")
    assert sidecar.memory - memory < 32 << 20
