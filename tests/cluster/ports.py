"""Ports for servers whose port has to be known before they listen."""

import random
import socket
from contextlib import suppress
from typing import Final

# Below those that Linux gives to outgoing connections (net.ipv4.ip_local_port_range), of which one
# could be taken between the choice and the server's start.
_RANGE: Final = range(20_000, 32_000)


def free_port() -> int:
    """One of loopback's that nobody listens on."""
    draw = random.SystemRandom()
    while True:
        port = draw.choice(_RANGE)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
