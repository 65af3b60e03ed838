"""Where the provider is, how one gets there, and the connections that are open to it."""

import asyncio
import contextlib
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit
from urllib.request import (  # type: ignore[attr-defined] # typeshed lacks the second
    getproxies_environment,
    proxy_bypass_environment,
)

from headwater.sidecar.relay.plan import Clock, Patience
from headwater.sidecar.relay.upstream import Upstream

_PORTS: Final = {"http": 80, "https": 443}
_END_SECONDS: Final = 1.0
"""How long the loop may take to end transports that were aborted: it takes one turn."""


class OriginError(ValueError):
    """A URL of the provider, or of a proxy, that cannot be used; the message says why."""


class Origin:
    """The one provider, whatever a request says.

    Attributes:
        host: value of the Host header.
        base: path before every request's.
        clock: to be set by whoever ticks.
    """

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        """`url` is a base URL; proxies and a CA bundle come from the environment.

        `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` as curl knows them, and OpenSSL's
        own `SSL_CERT_FILE` and `SSL_CERT_DIR`.

        Raises:
            OriginError: the URL, or that of a proxy, is none that can be used.
        """
        parsed = urlsplit(url)
        try:
            port = parsed.port
        except ValueError as error:
            raise OriginError(f"the upstream {url!r} has no port that is a number.") from error
        if parsed.scheme not in _PORTS or not parsed.hostname:
            raise OriginError(f"the upstream {url!r} is no http:// or https:// URL.")
        if parsed.query or parsed.fragment or parsed.username is not None:
            raise OriginError("the upstream URL must be scheme, host, port and path alone.")
        self._name = parsed.hostname
        self._port = port or _PORTS[parsed.scheme]
        self._tls = _tls() if parsed.scheme == "https" else None
        self._proxy = _proxy(parsed.scheme, self._name, self._port)
        self._patience = patience or Patience()
        self._idle: list[Upstream] = []
        self.host = parsed.netloc.encode("ascii")
        self.base = parsed.path.rstrip("/").encode("ascii")
        self.connections: set[Upstream] = set()
        self.clock = Clock(0.0)

    def idle(self) -> Upstream | None:
        """An open connection that nobody uses, the last used one first."""
        while self._idle:
            found = self._idle.pop()
            if found.usable:
                return found
        return None

    async def connect(self) -> Upstream:
        """Open a connection. Whoever gives up meanwhile leaves none behind.

        Raises:
            TimeoutError: it took too long.
            OSError: it was refused, or TLS could not be verified.
        """
        connection = self._made()
        loop = asyncio.get_running_loop()
        name = self._name if self._tls else None
        try:
            async with asyncio.timeout(self._patience.connect):
                if self._proxy is None:
                    await loop.create_connection(
                        lambda: connection,
                        self._name,
                        self._port,
                        ssl=self._tls,
                        server_hostname=name,
                    )
                else:
                    tunnel = await _tunnel(self._proxy, self._name, self._port)
                    await loop.create_connection(
                        lambda: connection, sock=tunnel, ssl=self._tls, server_hostname=name
                    )
        except BaseException:
            # Where it is open already, uvloop closes it without a call of `connection_lost`.
            if connection in self.connections:
                connection.abandon()
                self._gone(connection)
            raise
        return connection

    def tick(self) -> None:
        """End what is over; to be called about once a second."""
        now = self.clock.now
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.expired()

    async def close(self) -> None:
        """Close all connections: nobody waits for an answer any more."""
        self._idle.clear()
        for connection in list(self.connections):
            connection.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while self.connections:  # noqa: ASYNC110 - the loop is about to end their transports
                    await asyncio.sleep(0)

    def _made(self) -> Upstream:
        return Upstream(self.clock, self._patience.silence, self._opened, self._rested, self._gone)

    def _opened(self, connection: Upstream) -> None:
        self.connections.add(connection)
        # Until its first request: it may have been opened for one that was given up since.
        connection.deadline = self.clock.now + self._patience.idle

    def _rested(self, connection: Upstream) -> None:
        connection.deadline = self.clock.now + self._patience.idle
        self._idle.append(connection)

    def _gone(self, connection: Upstream) -> None:
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(scheme: str, host: str, port: int) -> str | None:
    """The URL of the proxy that the environment names, if any.

    Raises:
        OriginError: it names one that cannot be used.
    """
    named = getproxies_environment()
    url = named.get(scheme) or named.get("all")
    if not url or proxy_bypass_environment(f"{host}:{port}") or proxy_bypass_environment(host):
        return None
    if "://" not in url:
        url = f"http://{url}"
    kind, _, rest = url.partition("://")
    # The one of the two that leaves the resolution of names to the proxy is what is meant.
    kind = {"socks5h": "socks5", "socks": "socks5", "socks4a": "socks4"}.get(kind, kind)
    if kind not in ("http", "socks4", "socks5") or not urlsplit(f"{kind}://{rest}").hostname:
        raise OriginError(
            f"the environment names a proxy of scheme {kind!r}: it must be an http://, socks5://"
            " or socks4:// URL, or the upstream must stand in NO_PROXY."
        )
    return f"{kind}://{rest}"


async def _tunnel(proxy: str, host: str, port: int) -> socket.socket:
    try:
        from python_socks import ProxyError  # noqa: PLC0415 - few pods have a proxy
        from python_socks.async_.asyncio import Proxy  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise OSError("python-socks is not installed, and a proxy is set") from error
    try:
        return await Proxy.from_url(proxy).connect(host, port)
    except ProxyError as error:
        raise OSError(f"proxy: {error}") from error
