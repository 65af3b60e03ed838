"""Every error of the contract that can reach a person, in one place.

Each says what was wrong, where, and what to do next.
"""


class HeadwaterError(Exception):
    """The base of every error that Headwater raises on purpose."""


class _PlacedError(HeadwaterError):
    """An error about one part of a request."""

    def __init__(self, where: str, message: str) -> None:
        """Keep the place apart from the sentence, so that both can be shown."""
        self.where = where
        super().__init__(f"{where}: {message}")


class ContentError(_PlacedError):
    """The declared content cannot be a contract.

    Attributes:
        where: the path of the offending part, as in `system[2].text`.
    """


class DigestError(HeadwaterError):
    """A string that should be a digest is not `sha256:` and 64 lower-case hex characters."""


class BundleError(HeadwaterError):
    """A bundle is missing, incomplete, of an unknown format, or holds bytes that do not verify."""


class BundleTooLargeError(BundleError):
    """The files of a bundle do not fit into one ConfigMap.

    Attributes:
        size: bytes that the files need, compressed where that is allowed.
        limit: bytes that the API server takes.
    """

    def __init__(self, size: int, limit: int) -> None:
        """Say both figures: an author has to know how far off the content is."""
        self.size = size
        self.limit = limit
        super().__init__(
            f"the bundle needs {size:,} bytes after compression and a ConfigMap holds"
            f" {limit:,}: shorten the content, or move rarely used parts into deferred tools."
        )


class PinError(HeadwaterError):
    """The revision that a program is pinned to is not the one that is there.

    Attributes:
        expected: the version or the digest that was asked for.
        found: the digests that are there.
    """

    def __init__(self, expected: str, found: tuple[str, ...], message: str) -> None:
        """Keep both sides apart from the sentence, which shows them, too."""
        self.expected = expected
        self.found = found
        super().__init__(message)


class RequestError(_PlacedError):
    """What a program wants to send cannot be sent as it is.

    Attributes:
        where: the path of the offending part, as in `messages[3].content[0].text`.
    """


class HistoryError(_PlacedError):
    """A history that does not continue the one before it: what is cached of that would be lost.

    Attributes:
        where: the path of the first difference, as in `messages[3].content[0].text`.
    """


class BusyError(HeadwaterError):
    """A conversation is asked for a turn while another thread or task waits for its answer."""
