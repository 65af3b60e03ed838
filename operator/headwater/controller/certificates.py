"""The webhook's certificate and the authority that vouches for it: made here, renewed in time.

One Secret holds both, and nobody else writes it. No admission fails for a renewal, because each
step waits for the one before: an authority is made and put beside the former one into the two
configurations; when every API server has had time to learn of it, a certificate of it is made;
the former authority stays trusted while anybody may still serve a certificate of its own.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headwater.cluster import ApiError, Cluster, Kind, NotFoundError, Object
from headwater.cluster.kinds import MUTATING_CONFIGURATION, SECRET, VALIDATING_CONFIGURATION
from headwater.cluster.labels import MANAGED_BY_LABEL
from headwater.controller.objects import Key

_log = logging.getLogger(__name__)

_CONFIGURATIONS: Final = (MUTATING_CONFIGURATION, VALIDATING_CONFIGURATION)
_MARGIN: Final = timedelta(minutes=5)
"""How far clocks differ, and how long an API server may take to learn of an authority."""
_LOOK_AGAIN: Final = timedelta(hours=1)
_TRY_AGAIN: Final = 5.0
_FOLLOW_AGAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line sets.

    `secret` holds the certificate for `service`; both configurations are named `configuration`.
    """

    secret: Key
    service: Key
    configuration: str
    authority_lifetime: timedelta
    certificate_lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is valid."""

    since: datetime
    until: datetime

    @property
    def due(self) -> datetime:
        """When the next one is made: a third of its life is left for all that can go wrong."""
        return self.since + (self.until - self.since) * 2 / 3

    @property
    def margin(self) -> timedelta:
        """Time for clocks and API servers, in proportion where it is not valid for long."""
        return min(_MARGIN, (self.until - self.since) / 10)


@dataclass(frozen=True, slots=True)
class Current:
    """What there is.

    Attributes:
        authority: of the newest one, whose key is at hand.
        certificate: of the one that is served; None where there is none to serve.
        by_newest: whether the newest authority made it.
        announced: since when the configurations name the newest authority; None: not all do.
    """

    authority: Validity
    certificate: Validity | None
    by_newest: bool
    announced: datetime | None


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing is due before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class IssueLeaf:
    """The newest authority makes a certificate."""

    why: str


@dataclass(frozen=True, slots=True)
class RotateCA:
    """A new authority is made, and announced before it makes a certificate."""

    why: str


Due = Keep | IssueLeaf | RotateCA


def certificates_due(now: datetime, current: Current | None) -> Due:
    """What is to be done next; `current` is None where there is no authority of use."""
    if current is None:
        return RotateCA("there is no authority whose key is at hand")
    authority, certificate = current.authority, current.certificate
    if now >= authority.due:
        return RotateCA(f"the authority is valid until {authority.until.isoformat()}")
    if certificate is None:
        return IssueLeaf("there is none for the Service that could be served")
    if now >= certificate.until:
        return IssueLeaf(f"the certificate expired {certificate.until.isoformat()}")
    due = certificate.due if current.by_newest else now
    settled = current.announced and current.announced + authority.margin
    if settled is None:
        return Keep(min(authority.due, certificate.until))
    if now >= max(due, settled):
        return IssueLeaf(
            f"the certificate is valid until {certificate.until.isoformat()}"
            if current.by_newest
            else "the next authority is known by now"
        )
    return Keep(min(authority.due, max(due, settled), certificate.until))


@dataclass(frozen=True, slots=True)
class Material:
    """What the Secret holds.

    Attributes:
        authorities: those that are trusted, the newest first.
        authority_key: of the newest.
        certificate: what is served; None where there is none yet.
        key: of that.
    """

    authorities: tuple[x509.Certificate, ...]
    authority_key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate | None = None
    key: ec.EllipticCurvePrivateKey | None = None

    @property
    def newest(self) -> x509.Certificate:
        """The authority that makes certificates."""
        return self.authorities[0]

    @property
    def bundle(self) -> bytes:
        """The trusted authorities in PEM."""
        return b"".join(_pem(authority) for authority in self.authorities)

    def data(self) -> dict[str, str]:
        """For the Secret; without a certificate it could not be one of type kubernetes.io/tls."""
        assert self.certificate is not None  # noqa: S101 - for the type checker
        assert self.key is not None  # noqa: S101 - for the type checker
        files = {
            "ca.crt": self.bundle,
            "ca.key": _key_pem(self.authority_key),
            "tls.crt": _pem(self.certificate),
            "tls.key": _key_pem(self.key),
        }
        return {name: base64.b64encode(content).decode() for name, content in files.items()}

    def current(self, service: Key, announced: datetime | None) -> Current:
        """What of it matters to the decision."""
        certificate = self.certificate
        served = certificate is not None and _names(certificate) == [_host(service)]
        return Current(
            authority=_validity(self.newest),
            certificate=_validity(certificate) if certificate and served else None,
            by_newest=certificate is not None and _vouches(self.newest, certificate),
            announced=announced,
        )


def read(data: dict[str, str]) -> Material | None:
    """What can be used of a Secret's `data`; None without an authority whose key fits."""
    authorities = _authorities(_decoded(data, "ca.crt"))
    authority_key = _private_key(_decoded(data, "ca.key"))
    if not authorities or authority_key is None or not _fits(authorities[0], authority_key):
        return None
    found = _authorities(_decoded(data, "tls.crt"))
    key = _private_key(_decoded(data, "tls.key"))
    if not found or key is None or not _fits(found[0], key):
        return Material(authorities, authority_key)
    if not any(_vouches(authority, found[0]) for authority in authorities):
        return Material(authorities, authority_key)
    return Material(authorities, authority_key, found[0], key)


def rotate(before: Material | None, lifetime: timedelta, now: datetime) -> Material:
    """Make an authority; those that vouch for what is served stay trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        # Of its own, so that nobody takes one authority's certificate for another's.
        [x509.NameAttribute(NameOID.COMMON_NAME, f"headwater webhook {now.isoformat()}")]
    )
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        _builder(name, name, key, Validity(now, now + lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    if before is None:
        return Material((authority,), key)
    trusted = tuple(
        former
        for former in before.authorities
        if former.not_valid_after_utc > now
        and (before.certificate is None or _vouches(former, before.certificate))
    )
    return replace(before, authorities=(authority, *trusted), authority_key=key)


def issue(material: Material, service: Key, lifetime: timedelta, now: datetime) -> Material:
    """Make a certificate for the Service; it does not outlive its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + lifetime, material.newest.not_valid_after_utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headwater webhook")])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        material.authority_key.public_key()
    )
    certificate = (
        _builder(name, material.newest.subject, key, Validity(now, until))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_host(service))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(material.authority_key, hashes.SHA256())
    )
    return replace(material, certificate=certificate, key=key)


class Certificates:
    """Keeps the Secret and both configurations as they have to be. One process does it."""

    def __init__(self, cluster: Cluster, wanted: Wanted, clock: Callable[[], datetime]) -> None:
        """Know nothing yet."""
        self._cluster = cluster
        self._wanted = wanted
        self._clock = clock
        self._material: Material | None = None
        self._announced: datetime | None = None
        self._wake = asyncio.Event()
        self._said: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        secret, name = self._wanted.secret, self._wanted.configuration
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(SECRET, *secret))
            for kind in _CONFIGURATIONS:
                group.create_task(self._follow(kind, "", name))
            group.create_task(self._keep())

    async def _follow(self, kind: Kind, namespace: str, name: str) -> None:
        """Notice what others do to it at once."""
        while True:
            try:
                async for _ in self._cluster.follow(kind, namespace, name):
                    self._wake.set()
                self._wake.set()  # it may have been deleted
            except ApiError as error:
                _log.debug("%s %s cannot be followed: %s", kind.kind, name, error)
            await asyncio.sleep(_FOLLOW_AGAIN)

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            try:
                until = await self.look()
                pause = min(until - self._clock(), _LOOK_AGAIN).total_seconds()
            except ApiError as error:
                _log.warning("the webhook's certificate could not be looked after: %s", error)
                pause = _TRY_AGAIN
            try:
                async with asyncio.timeout(max(0.1, pause)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> datetime:
        """Do what is due, and put right what somebody changed; when to look again.

        Raises:
            ApiError: the API server refused something, or is away.
        """
        wanted = self._wanted
        try:
            secret = await self._cluster.get(SECRET, *wanted.secret)
        except NotFoundError:
            secret = None
        if self._material is None:
            self._material = read((secret or {}).get("data") or {})
        while not isinstance(due := self._due(), Keep):
            now = self._clock().astimezone(UTC).replace(microsecond=0)
            if isinstance(due, RotateCA):
                _log.info("an authority is made for the webhook: %s", due.why)
                self._material = rotate(self._material, wanted.authority_lifetime, now)
                self._announced = None
            elif self._material is not None:
                _log.info("a certificate is made for the webhook: %s", due.why)
                lifetime = wanted.certificate_lifetime
                self._material = issue(self._material, wanted.service, lifetime, now)
        assert self._material is not None  # noqa: S101 - something was kept
        await self._write(secret, self._material)
        # Only what is stored may be trusted: a key that was lost could vouch for nothing again.
        told = [await self._tell(kind, self._material.bundle) for kind in _CONFIGURATIONS]
        if self._announced is None and all(told):
            self._announced = self._clock()
        due = self._due()
        return due.until if isinstance(due, Keep) else self._clock()

    def _due(self) -> Due:
        if self._material is None:
            return certificates_due(self._clock(), None)
        current = self._material.current(self._wanted.service, self._announced)
        return certificates_due(self._clock(), current)

    async def _write(self, secret: Object | None, material: Material) -> None:
        """Put the Secret right, where it is not."""
        data = material.data()
        if secret is not None and secret.get("data") == data:
            return
        namespace, name = self._wanted.secret
        metadata: Object = {
            "namespace": namespace,
            "name": name,
            "labels": {MANAGED_BY_LABEL: "headwater"},
        }
        body: Object = {"metadata": metadata, "type": "kubernetes.io/tls", "data": data}
        if secret is not None:
            metadata["resourceVersion"] = secret["metadata"]["resourceVersion"]
        written = await self._cluster.apply(SECRET, body)
        if foreign := sorted(written["data"].keys() - data.keys()):
            # Only what is ours may be in there: replicas mount it.
            _log.warning("the Secret %s/%s had other keys: %s", namespace, name, foreign)
            metadata["resourceVersion"] = written["metadata"]["resourceVersion"]
            await self._cluster.replace(SECRET, body)
        _log.info("the Secret %s/%s was written", namespace, name)

    async def _tell(self, kind: Kind, authorities: bytes) -> bool:
        """Put the authorities into a configuration; False where it could not be done now."""
        name, bundle = self._wanted.configuration, base64.b64encode(authorities).decode()
        try:
            found = await self._cluster.get(kind, None, name)
        except NotFoundError:
            # Nobody asks the webhook by it; whoever creates it wakes us.
            self._say_once(f"there is no {kind.kind} {name} yet: waits for it")
            return True
        service = {"namespace": self._wanted.service.namespace, "name": self._wanted.service.name}
        ours = [
            webhook
            for webhook in found.get("webhooks") or ()
            if service.items() <= (webhook["clientConfig"].get("service") or {}).items()
        ]
        if not ours:
            self._say_once(f"no webhook of the {kind.kind} {name} is at the Service {service}")
        if any(webhook["clientConfig"].get("caBundle") != bundle for webhook in ours):
            # With what was read, an apply creates nothing and goes over no change.
            metadata = {
                part: found["metadata"][part] for part in ("name", "uid", "resourceVersion")
            }
            told = [
                {"name": webhook["name"], "clientConfig": {"caBundle": bundle}} for webhook in ours
            ]
            await self._cluster.apply(kind, {"metadata": metadata, "webhooks": told})
            _log.info("the %s %s was told of the authorities", kind.kind, name)
        return True

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            _log.warning("%s", message)


def _host(service: Key) -> str:
    """The name that the API server expects of a webhook behind a Service."""
    return f"{service.name}.{service.namespace}.svc"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Another machine's clock may be behind.
        .not_valid_before(validity.since - validity.margin)
        .not_valid_after(validity.until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _vouches(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _decoded(data: dict[str, str], name: str) -> bytes:
    try:
        return base64.b64decode(data.get(name) or "", validate=True)
    except binascii.Error:
        return b""


def _authorities(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        return ()


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
