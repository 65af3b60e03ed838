"""Which headers go on, and how a head is written."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headwater.sidecar.relay.plan import PRIVATE, Field, Head

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110, 7.6.1: they are about one connection, and there are two."""
_NOT_IN_REQUESTS: Final = _HOP_BY_HOP | {b"host", b"expect", b"content-length"}
_NOT_IN_ANSWERS: Final = _HOP_BY_HOP | {b"content-length"}
_REASONS: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def request_head(
    head: Head, target: bytes, host: bytes, replaced: tuple[tuple[bytes, bytes], ...]
) -> bytes:
    """The head that goes to the provider, but for the framing and the empty line."""
    if head.written is not None and head.written[0] == target and head.written[1] is replaced:
        return head.written[2]
    left_out = _without(_NOT_IN_REQUESTS, head.fields) | {name for name, _ in replaced}
    lines = [head.method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    for lower, name, value in head.headers:
        if lower not in left_out and not lower.startswith(PRIVATE):
            lines += (name, b": ", value, b"\r\n")
    for name, value in replaced:
        if value:
            lines += (name, b": ", value, b"\r\n")
    written = b"".join(lines)
    head.written = (target, replaced, written)
    return written


def answer_head(
    status: int,
    reason: bytes,
    headers: Iterable[Field],
    fields: Mapping[bytes, bytes],
    added: Iterable[tuple[bytes, bytes]],
    framing: bytes,
) -> bytes:
    """The head that goes to the application; `added` takes the place of the same names."""
    left_out = _without(_NOT_IN_ANSWERS, fields)
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason), framing]
    for name, value in added:
        if name in fields:
            left_out |= {name}
        lines += (name, b": ", value, b"\r\n")
    for lower, name, value in headers:
        if lower not in left_out:
            lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def own_head(status: int, headers: Sequence[tuple[bytes, bytes]], framing: bytes) -> bytes:
    """The head of an answer that is not the provider's."""
    return answer_head(status, _REASONS.get(status, b"Status"), (), {}, headers, framing)


def trailer(fields: Sequence[Field]) -> bytes:
    """The end of a chunked body."""
    if not fields:
        return b"0\r\n\r\n"
    lines = [b"0\r\n"]
    for lower, name, value in fields:
        if lower not in _NOT_IN_REQUESTS:
            lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def _without(always: frozenset[bytes], fields: Mapping[bytes, bytes]) -> frozenset[bytes]:
    named = fields.get(b"connection")
    if named is None or named.lower() in (b"keep-alive", b"close"):
        return always
    return always | {name.strip().lower() for name in named.split(b",")}
