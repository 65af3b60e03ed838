"""Starts `headwater …` by a fork of a process that has imported everything: in 20 ms, not in 1 s.

    python -m tests.cluster.fork_server DESCRIPTOR

It answers requests, one JSON object each, on a socket of packets (`forks` is the other side):
    {"argv": […], "environ": {…}} and three descriptors   -> {"pid": 7}
    {"reap": 7}                                           -> {"code": 0}     once that has ended

It ends when the other side does. A process that it started is then nobody's child, as any other
that a test has left.
"""

import gc
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from headwater.cli import controller, main, sidecar, simulator, webhook

ROLES: Final = (controller, sidecar, simulator, webhook)
"""What is there before the fork: their modules, and all that these import."""
LONGEST: Final = 1 << 18
"""Bytes of a request; an environment is most of it."""


def serve(connection: socket.socket) -> None:
    """Answer until the other side ends; in a process that was forked off, run the command."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, LONGEST, 3)
        if not message:
            return
        request: dict[str, Any] = json.loads(message)
        if reaped := request.get("reap"):
            _, status = os.waitpid(reaped, 0)
            connection.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
            continue
        process = os.fork()
        if process == 0:
            connection.close()
            _become(request["argv"], request["environ"], descriptors)
            main(prog_name="headwater")
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(json.dumps({"pid": process}).encode())


def _become(argv: list[str], environ: dict[str, str], descriptors: list[int]) -> None:
    """Make this process what it would be if it had been started so."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["headwater", *argv]
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the tests
    gc.freeze()  # no collection writes to the pages that are shared
    serve(socket.socket(fileno=int(sys.argv[1])))
