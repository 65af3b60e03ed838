"""The server's certificate, from two files that somebody else renews, and whom it answers.

All are read again when they change. New connections then get the new certificate, and those
that are open stay open. A pair that does not fit, as in the middle of a renewal, is not taken:
the last good one is served on, expired or not, because a server that nobody trusts can still be
looked into, and the next pair may come any time.
"""

import logging
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)

# X.690, 8.1 and 8.3; RFC 5280, 4.1: tags of DER that stand on the way to a certificate's validity.
_EXPLICIT_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG_FORM: Final = 0x80


class CertificateError(Exception):
    """The files hold no certificate and key that could be served; the message says why."""


class Certificate:
    """The pair that is served.

    Attributes:
        expires: when the served certificate ends to be valid.
        problem: why what is in the files now is not served; None where it is.
    """

    expires: datetime

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files. With `client_ca`, only clients are served that these authorities know.

        Raises:
            CertificateError: they cannot be served.
        """
        self._files = (certificate, key)
        self._client_ca = client_ca
        self._judged = self._state()
        self._serve()
        self.problem: str | None = None
        # What listens keeps one context for life; this one hands each connection to the newest.
        # Whether a client needs a certificate is decided by this one, by whom it is signed by the
        # newest.
        self.listening = _context(client_ca)
        self.listening.sni_callback = self._hand_over

    def poll(self) -> None:
        """Read the files again where they changed."""
        state = self._state()
        if state == self._judged and self.problem is None:
            return
        self._judged = state
        try:
            self._serve()
        except CertificateError as error:
            if self.problem != str(error):
                _log.warning("%s; the last good certificate is served on", error)
            self.problem = str(error)
        else:
            self.problem = None
            _log.info("a certificate is served that expires %s", self.expires.isoformat())

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """The library calls this for every connection, whether or not the client names a host."""
        del name
        connection.context = self._served

    def _serve(self) -> None:
        certificate, key = self._files
        context = _context(self._client_ca)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
            expires = _not_after(ssl.PEM_cert_to_DER_cert(_first_block(certificate.read_text())))
        except (OSError, ValueError, IndexError) as error:  # an ssl.SSLError is an OSError
            raise CertificateError(
                f"{certificate} and {key} are no certificate (PEM) and its unencrypted key: {error}"
            ) from error
        self._served, self.expires = context, expires

    def _state(self) -> tuple[object, ...]:
        files = self._files if self._client_ca is None else (*self._files, self._client_ca)
        return tuple(_stamp(path) for path in files)


def _context(client_ca: Path | None) -> ssl.SSLContext:
    """Return a server's context.

    Raises:
        CertificateError: the file holds no authority.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:  # an ssl.SSLError is one
            raise CertificateError(f"{client_ca} holds no authority (PEM): {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _no_password() -> str:
    """Else the library would ask for one on the terminal."""
    raise ValueError("the key is encrypted")


def _first_block(pem: str) -> str:
    """The server's own certificate, which stands before those that vouch for it."""
    before, end, _ = pem.partition(ssl.PEM_FOOTER)
    return before[before.find(ssl.PEM_HEADER) :] + end


def _not_after(der: bytes) -> datetime:
    """RFC 5280, 4.1: Certificate → tbsCertificate → validity → notAfter."""
    _, certificate = next(_elements(der))
    _, signed = next(_elements(certificate))
    fields = [item for tag, item in _elements(signed) if tag != _EXPLICIT_VERSION]
    _serial, _algorithm, _issuer, validity = fields[:4]
    _, (tag, text) = _elements(validity)
    # RFC 5280, 4.1.2.5.1: two digits of a year from 50 on are of the century before.
    century = ("19" if text[:2] >= b"50" else "20") if tag == _UTC_TIME else ""
    return datetime.strptime(century + text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a DER sequence's content: tag and content of each."""
    while der:
        tag, size, start = der[0], der[1], 2
        if size & _LONG_FORM:
            start += size & ~_LONG_FORM
            size = int.from_bytes(der[2:start], "big")
        yield tag, der[start : start + size]
        der = der[start + size :]
