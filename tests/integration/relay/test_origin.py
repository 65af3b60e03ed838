"""The way to the provider: TLS that is verified, proxies from the environment, IPv6."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headwater.sidecar.relay.origin import Origin, OriginError
from headwater.sidecar.relay.server import Relay
from tests.integration.relay.wire import Desk, Reader, Writer, echo, message, provider

ASK = b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def certificate(directory: Path, name: str) -> Path:
    """A file with a key and a certificate for `name` that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextlib.asynccontextmanager
async def relaying(url: str) -> AsyncIterator[tuple[Reader, Writer]]:
    relay = Relay(Desk(), Origin(url))
    port = await relay.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        await relay.close(0)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def secure(file: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def serve(reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await echo(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    ("trusted", "named", "status"),
    [(True, "localhost", 200), (False, "localhost", 502), (True, "other.example", 502)],
)
async def test_the_provider_is_who_its_certificate_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool, named: str, status: int
) -> None:
    """An own CA bundle is OpenSSL's `SSL_CERT_FILE`; an unknown CA or another name is refused."""
    file = certificate(tmp_path, named)
    other = certificate(tmp_path, "unrelated")
    monkeypatch.setenv("SSL_CERT_FILE", str(file if trusted else other))
    async with (
        secure(file) as port,
        relaying(f"https://localhost:{port}/base/") as (reader, writer),
    ):
        big = b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + bytes(
            3_000_000
        )
        for request in (ASK, big, ASK):
            writer.write(request)
            head, body = await message(reader)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            if status == 200:
                assert body.startswith(b"POST /base/held HTTP/1.1\r\nhost: localhost:%d\r\n" % port)
            else:
                assert b"SSLCertVerificationError" in body


async def test_ipv6() -> None:
    """An address in brackets, as in any URL."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = await asyncio.start_server(echo, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    async with relaying(f"http://[::1]:{port}") as (reader, writer):
        writer.write(ASK)
        assert b"host: [::1]:%d" % port in (await message(reader))[1]
    server.close()


async def splice(reader: Reader, writer: Writer, host: str, port: int) -> None:
    there = await asyncio.open_connection(host, port)

    async def copy(source: Reader, target: Writer) -> None:
        while data := await source.read(1 << 16):
            target.write(data)
        target.close()

    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))


class Proxy:
    """CONNECT and SOCKS5, with a user's name and password; remembers where it was sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def http(self, reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"proxy-authorization: basic dXNlcjpwYXNz" in head.replace(b"Pro", b"pro").replace(
            b"-Auth", b"-auth"
        ).replace(b"Basic", b"basic")
        target = head.split()[1].decode()
        self.asked.append(target)
        host, port = target.rsplit(":", 1)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await splice(reader, writer, host, int(port))

    async def socks(self, reader: Reader, writer: Writer) -> None:
        _, count = await reader.readexactly(2)
        assert 2 in await reader.readexactly(count)
        writer.write(b"\x05\x02")
        (_, size) = await reader.readexactly(2)
        assert await reader.readexactly(size) == b"user"
        (size,) = await reader.readexactly(1)
        assert await reader.readexactly(size) == b"pass"
        writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            (size,) = await reader.readexactly(1)
            host = (await reader.readexactly(size)).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await splice(reader, writer, host, port)


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    """By its credentials, and with the provider's name left for the proxy to resolve."""
    proxy = Proxy()
    script = proxy.http if kind == "http" else proxy.socks
    async with provider(script) as (at, _), provider(echo) as (port, _):
        monkeypatch.setenv(variable.lower(), f"{kind}://user:pass@127.0.0.1:{at}")
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        async with relaying(f"http://localhost:{port}") as (reader, writer):
            for _ in range(2):
                writer.write(ASK)
                assert (await message(reader))[1].endswith(b"[hi]")
        assert proxy.asked == [f"localhost:{port}"]


async def test_tls_goes_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy sees a name and a port, and no more."""
    proxy = Proxy()
    file = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with provider(proxy.http) as (at, _), secure(file) as port:
        monkeypatch.setenv("https_proxy", f"http://user:pass@127.0.0.1:{at}")
        async with relaying(f"https://localhost:{port}") as (reader, writer):
            writer.write(ASK)
            assert (await message(reader))[1].endswith(b"[hi]")
        assert proxy.asked == [f"localhost:{port}"]


async def test_no_proxy_and_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NO_PROXY names is reached directly; a proxy's refusal is a 502 with its reason."""

    async def refusing(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    async with provider(refusing) as (at, _), provider(echo) as (port, _):
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{at}")
        for exception, status in (("localhost", 200), ("other", 502)):
            monkeypatch.setenv("no_proxy", exception)
            async with relaying(f"http://localhost:{port}") as (reader, writer):
                writer.write(ASK)
                assert (await message(reader))[0].startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("api.example.com", "no http:// or https:// URL"),
        ("ftp://api.example.com", "no http:// or https:// URL"),
        ("http://", "no http:// or https:// URL"),
        ("http://a:b", "no port that is a number"),
        ("http://user:pass@a", "scheme, host, port and path alone"),
        ("http://a/?b", "scheme, host, port and path alone"),
    ],
)
def test_an_upstream_that_is_none_is_explained(url: str, says: str) -> None:
    """At the start, and not with the first request."""
    with pytest.raises(OriginError, match=says):
        Origin(url)


def test_a_proxy_that_cannot_be_used_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going round it would send what was meant to be looked at."""
    monkeypatch.setenv("https_proxy", "https://proxy.example:443")
    with pytest.raises(OriginError, match="NO_PROXY"):
        Origin("https://api.example.com")
