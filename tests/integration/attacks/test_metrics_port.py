"""A pod anywhere in the cluster, with nothing but a TCP connection to a sidecar's metrics port.

That port listens on all addresses, because the kubelet and Prometheus come from outside of the
pod. Whatever comes there, the pod's own requests go on, the probes are answered, and the
container's memory stays far from its limit.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.waiting import scaled
from tests.integration.attacks.sidecars import Victim, victim
from tests.integration.test_sidecar_process import provider

__all__ = ["provider"]  # a fixture

ASKED: Final = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
MEBIBYTE: Final = 1 << 20


@pytest.fixture
def sidecar(provider: str, tmp_path: Path) -> Iterator[Victim]:
    with victim(provider, tmp_path) as found:
        assert found.asks() == b"HTTP/1.1 200 OK"
        yield found


def attacker(sidecar: Victim) -> socket.socket:
    """Return a connection to the metrics port from another address than the kubelet's."""
    connection = socket.socket()
    connection.settimeout(scaled(30))
    connection.bind(("127.0.0.2", 0))
    connection.connect(("127.0.0.1", sidecar.metrics_port))
    return connection


def pushed(connection: socket.socket, data: bytes) -> int:
    """Return how many of these bytes were taken before the other side stopped reading."""
    connection.settimeout(0)
    taken = 0
    try:
        while taken < len(data):
            taken += connection.send(data[taken:])
    except (BlockingIOError, ConnectionError):
        pass
    return taken


def test_answers_that_nobody_reads_are_not_made(sidecar: Victim) -> None:
    """Eight peers ask 60,000 times and read nothing: the application is served, memory is not."""
    before = sidecar.memory
    with ExitStack() as stack:
        peers = [stack.enter_context(attacker(sidecar)) for _ in range(8)]
        for _ in range(20):
            for peer in peers:
                pushed(peer, ASKED * 400)
            assert sidecar.asks() == b"HTTP/1.1 200 OK"
        assert sidecar.probed() == b"HTTP/1.1 200 OK"
        assert sidecar.memory - before < 16 * MEBIBYTE


def test_who_reads_late_gets_every_answer(sidecar: Victim) -> None:
    """What was asked in one go is answered in order, as fast as it is read."""
    with attacker(sidecar) as peer:
        peer.sendall(ASKED * 200 + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answers = b""
        while not answers.endswith(b"\r\n\r\nok\n"):
            data = peer.recv(1 << 16)
            assert data, "it was closed before the last answer"
            answers += data
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 201


def test_heads_that_never_end_take_no_memory(sidecar: Victim) -> None:
    """Thousands of connections with most of a head each: the kubelet still gets its answer."""
    before = sidecar.memory
    with ExitStack() as stack:
        for _ in range(2_500):
            peer = stack.enter_context(attacker(sidecar))
            pushed(peer, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (60 << 10))
        assert sidecar.probed() == b"HTTP/1.1 200 OK"
        assert sidecar.asks() == b"HTTP/1.1 200 OK"
        assert sidecar.memory - before < 64 * MEBIBYTE
        assert sidecar.descriptors < 200
