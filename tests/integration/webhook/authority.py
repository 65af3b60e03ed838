"""An authority of a test's own, which makes certificates for 127.0.0.1 by openssl."""

import base64
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_TIME = "%Y%m%d%H%M%SZ"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files that are replaced in one step each."""

    certificate: Path
    key: Path

    def become(self, other: "Pair") -> None:
        """Put another pair's content into these files."""
        for mine, theirs in ((self.certificate, other.certificate), (self.key, other.key)):
            part = mine.with_suffix(".part")
            part.write_bytes(theirs.read_bytes())
            part.rename(mine)


class Authority:
    """Signs what `issue` asks for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self.certificate = directory / "ca.crt"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", "-days", "2"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    @property
    def bundle(self) -> str:
        """For `caBundle`."""
        return base64.b64encode(self.certificate.read_bytes()).decode()

    def issue(
        self,
        name: str,
        *,
        key_type: str = "ec",
        lasts: timedelta = timedelta(days=1),
        expires: datetime | None = None,
        usage: str = "serverAuth",
    ) -> Pair:
        """A certificate that is valid from an hour ago on."""
        kind = {
            "ec": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
            "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        }[key_type]
        self._openssl("genpkey", *kind, "-out", f"{name}.key")
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", "csr")
        (self._directory / "extensions").write_text(
            "subjectAltName=IP:127.0.0.1,DNS:headwater-webhook.headwater.svc\n"
            f"extendedKeyUsage={usage}\nbasicConstraints=CA:false\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        now = datetime.now(UTC)
        expires = expires or now + lasts
        (self._directory / "index").write_text("")
        (self._directory / "index.attr").write_text("unique_subject = no\n")
        (self._directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = .\n"
            "default_md = sha256\nrand_serial = yes\npolicy = any\n[any]\ncommonName = supplied\n"
        )
        self._openssl(
            *("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key"),
            *("-in", "csr", "-out", f"{name}.crt", "-notext", "-extfile", "extensions"),
            *("-startdate", (now - timedelta(hours=1)).strftime(_TIME)),
            *("-enddate", expires.strftime(_TIME)),
        )
        return Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments],
            cwd=self._directory,
            env={**os.environ, "RANDFILE": str(self._directory / "rnd")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
