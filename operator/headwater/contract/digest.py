"""The name of a contract: the sha256 of its canonical bytes."""

import hashlib
import re
from typing import Final, Self

from headwater.contract.errors import DigestError

_FORM: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """`sha256:` and 64 lower-case hex characters.

    A str, so that it travels through JSON and YAML unchanged; a type of its own, so that a
    version label or a file name cannot be passed where a digest is meant.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the form.

        Raises:
            DigestError: `text` has another form.
        """
        if _FORM.fullmatch(text) is None:
            raise DigestError(
                f"{text!r} is no digest: it takes 'sha256:' and 64 lower-case hex characters;"
                " `headwater digest -f FILE` prints the right one."
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The digest of exactly these bytes."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def hex(self) -> str:
        """The 64 hex characters: what `sha256sum` prints, and a bundle file's name."""
        return self[7:]

    @property
    def short(self) -> str:
        """The first 12 hex characters: what metrics, messages and object names carry."""
        return self[7:19]
