"""The provider's error answers: status, type and words.

Source: platform.claude.com/docs/en/api/errors, as of 2026-08-22. Messages that the provider
is known to send are given in its own words; for the rest it only promises the type.
"""

import msgspec

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """A refusal as the provider would phrase it; becomes the JSON body of the answer."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def body(self, request_id: str) -> bytes:
        """The JSON body: `{"type": "error", "error": {…}, "request_id": …}`."""
        error = {"type": _TYPES.get(self.status, "api_error"), "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def invalid(message: str) -> ApiError:
    """A 400 whose message names the place in the body, as the provider's do."""
    return ApiError(400, message)
