"""Which certificate is served when the files change under a running server."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headwater.webhook.certificates import Certificate, CertificateError
from tests.cluster.waiting import scaled
from tests.integration.webhook.authority import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
def served(tmp_path: Path) -> Pair:
    """The files that a server would be told of."""
    return Pair(tmp_path / "tls.crt", tmp_path / "tls.key")


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
@pytest.mark.parametrize(
    "expires",
    [
        datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),  # written in another form from here on
    ],
)
def test_it_knows_when_it_ends(authority: Authority, key_type: str, expires: datetime) -> None:
    """To the second, whatever the key and the form of the date."""
    pair = authority.issue("ends", key_type=key_type, expires=expires)
    assert Certificate(pair.certificate, pair.key).expires == expires


def test_a_chain_is_judged_by_its_first(authority: Authority, served: Pair) -> None:
    """What follows vouches for it, and lives longer."""
    served.become(authority.issue("leaf", lasts=timedelta(minutes=5)))
    leaf = Certificate(served.certificate, served.key).expires
    with served.certificate.open("ab") as file:
        file.write(authority.certificate.read_bytes())
    assert Certificate(served.certificate, served.key).expires == leaf


@pytest.mark.parametrize("case", ["missing", "empty", "swapped", "of another", "encrypted"])
def test_what_cannot_be_served_is_said_at_the_start(
    authority: Authority, served: Pair, case: str
) -> None:
    """With both files' names, and without a question on the terminal."""
    pair = authority.issue("good")
    served.become(pair)
    match case:
        case "missing":
            served.key.unlink()
        case "empty":
            served.certificate.write_text("")
        case "swapped":
            served.become(Pair(pair.key, pair.certificate))
        case "of another":
            served.key.write_bytes(authority.issue("other").key.read_bytes())
        case "encrypted":
            encrypt = ("pkey", "-in", pair.key, "-aes256", "-passout", "pass:x", "-out", served.key)
            subprocess.run(["openssl", *encrypt], check=True, capture_output=True)
    with pytest.raises(CertificateError) as caught:
        Certificate(served.certificate, served.key)
    assert "tls.crt and " in str(caught.value)


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[int]:
    """A server that sends back what it reads; its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate.listening)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def connect(authority: Authority, port: int, name: str | None = None) -> ssl.SSLSocket:
    """A client that checks whom it talks to, as the API server does."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = name is not None
    raw = socket.create_connection(("127.0.0.1", port), timeout=scaled(30))
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def subject(connection: ssl.SSLSocket) -> str:
    """The name of the server's certificate."""
    found: Any = connection.getpeercert()
    return str(found["subject"][0][0][1])


@pytest.mark.parametrize("name", [None, "127.0.0.1", "headwater-webhook.headwater.svc"])
async def test_new_connections_get_the_new_certificate_and_old_ones_live(
    authority: Authority, served: Pair, name: str | None
) -> None:
    """Whether or not the client names a host, and for another kind of key, too."""
    served.become(authority.issue("first", key_type="rsa"))
    certificate = Certificate(served.certificate, served.key)
    async with serving(certificate) as port:
        old = await asyncio.to_thread(connect, authority, port, name)
        assert subject(old) == "first"
        served.become(authority.issue("second", key_type="ec"))
        certificate.poll()
        new = await asyncio.to_thread(connect, authority, port, name)
        assert subject(new) == "second"
        await asyncio.to_thread(old.sendall, b"still there")
        assert await asyncio.to_thread(old.recv, 100) == b"still there"
        old.close()
        new.close()


async def test_half_a_renewal_is_not_served(authority: Authority, served: Pair) -> None:
    """The old pair is served until the new one is whole; the reason is kept meanwhile."""
    served.become(authority.issue("first"))
    certificate = Certificate(served.certificate, served.key)
    renewed = authority.issue("second")
    async with serving(certificate) as port:
        served.certificate.write_bytes(renewed.certificate.read_bytes())
        certificate.poll()
        assert certificate.problem is not None
        with await asyncio.to_thread(connect, authority, port) as found:
            assert subject(found) == "first"
        served.key.write_bytes(renewed.key.read_bytes())
        certificate.poll()
        with await asyncio.to_thread(connect, authority, port) as found:
            assert subject(found) == "second"


async def test_what_has_expired_is_served_on(authority: Authority, served: Pair) -> None:
    """Clients refuse it, by a reason that tells them what is wrong; the next one is taken."""
    served.become(authority.issue("old", lasts=timedelta(seconds=-5)))
    certificate = Certificate(served.certificate, served.key)
    async with serving(certificate) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await asyncio.to_thread(connect, authority, port)
        served.become(authority.issue("new"))
        certificate.poll()
        with await asyncio.to_thread(connect, authority, port) as found:
            assert subject(found) == "new"
