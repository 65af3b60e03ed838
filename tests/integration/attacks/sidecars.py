"""A sidecar as a process, beside a provider that answers at once; and what the process holds."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.forks import Forked
from tests.cluster.waiting import scaled
from tests.unit.sidecar import bundles

BODY: Final = (
    b'{"model":"%b","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
    % bundles.MODEL.encode()
)
REQUEST: Final = (
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


@dataclass(frozen=True)
class Victim:
    """A sidecar under attack.

    Attributes:
        port: where its application connects to.
        metrics_port: where anybody does.
    """

    process: Forked
    port: int
    metrics_port: int

    @property
    def memory(self) -> int:
        """Return its resident memory in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - names are enough

    def asks(self) -> bytes:
        """Return the first line of the answer to a request of the application."""
        return first_line(self.port, REQUEST)

    def probed(self) -> bytes:
        """Return the first line of the answer to a probe of the kubelet."""
        return first_line(self.metrics_port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")


def first_line(port: int, request: bytes) -> bytes:
    """Return the first line of the answer; empty where the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), scaled(30)) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().rstrip()


@contextmanager
def victim(upstream: str, directory: Path, **environment: str) -> Iterator[Victim]:
    """Start a sidecar; with whatever was done to it, SIGTERM must end it."""
    bundle = directory / "bundle"
    bundle.mkdir()
    bundles.mount(bundle, bundles.make())
    arguments = ("--bundle", str(bundle), "--upstream", upstream, "--port", "0")
    with (
        (directory / "log").open("wb") as log,
        Forked(
            ("sidecar", *arguments, "--metrics-address", "127.0.0.1:0"),
            {**os.environ, "NO_PROXY": "127.0.0.1", **environment},
            stderr=log,
        ) as process,
    ):
        assert process.stdout is not None
        ports = [int(process.stdout.readline().rsplit(":", 1)[1]) for _ in range(2)]
        yield Victim(process, *ports)
        process.terminate()
        assert process.wait(scaled(30)) == 0, (directory / "log").read_text()[-2000:]
