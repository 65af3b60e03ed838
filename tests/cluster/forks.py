"""`headwater …` as a process of its own, started in a moment: see `fork_server`.

It is the same program with the same arguments, environment, streams and end, but for the import of
what was imported once. What is about a process itself (its start, its memory, its console script)
is tested with `subprocess`.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

ROOT: Final = Path(__file__).parents[2]


class _Server:
    """The process that forks, and our side of the socket."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.fork_server", str(its.fileno())],
                cwd=ROOT,
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = ours
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> dict[str, Any]:
        """Return the answer to a request."""
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode()], descriptors)
            answer = self._connection.recv(1 << 12)
        assert answer, "the fork server has ended: see its standard error"
        found: dict[str, Any] = json.loads(answer)
        return found

    def end(self) -> None:
        """Wait until it has ended."""
        self._connection.close()
        self._process.wait()


_servers: Final[list[_Server]] = []
"""This process's one, once it was needed."""


def end() -> None:
    """End the fork server of this process, if there is one."""
    while _servers:
        _servers.pop().end()


class Forked:
    """A running `headwater …`, with the methods that `subprocess.Popen` has for it.

    Args:
        arguments: what follows `headwater`.
        environ: the environment.
        stdout: where its standard output goes; None for a pipe, which is `stdout` then.
        stderr: where its standard error goes; None for where its output goes.
    """

    stdout: IO[str] | None = None

    def __init__(
        self,
        arguments: tuple[str, ...],
        environ: Mapping[str, str],
        *,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        if not _servers:
            _servers.append(_Server())
        with Path(os.devnull).open("rb") as nothing:
            if stdout is None:
                ours, its = os.pipe()
                self.stdout = os.fdopen(ours)
            else:
                its = os.dup(stdout.fileno())
            streams = (nothing.fileno(), its, stderr.fileno() if stderr else its)
            request = {"argv": arguments, "environ": dict(environ)}
            self.pid: int = _servers[0].ask(request, *streams)["pid"]
            os.close(its)
        self.returncode: int | None = None
        self._handle = os.pidfd_open(self.pid)  # its number stays its own until it is reaped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        if self.stdout is not None:
            self.stdout.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code.

        Raises:
            TimeoutError: it still runs after so many seconds.
        """
        code = self._ended_within(timeout)
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout:.0f} s")
        return code

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._handle], [], [], seconds)[0]:
            self.returncode = _servers[0].ask({"reap": self.pid})["code"]
            os.close(self._handle)
        return self.returncode
