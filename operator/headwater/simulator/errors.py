"""How the provider says no: a status, a type and a sentence."""

from typing import Final

TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Error types by HTTP status (platform.claude.com/docs/en/api/errors, as of 2026-08-22)."""


class ProviderError(Exception):
    """An answer other than 200.

    Attributes:
        status: one of `TYPES`.
        message: the sentence that the client reads.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep both: one is a status line, the other a body."""
        self.status = status
        self.message = message
        super().__init__(message)
