"""Puts a contract in front of each request of a batch: bytes in, bytes out.

What surrounds the requests' own bodies leaves as the bytes that came, and one that would break
the prefix refuses the batch: a batch that was sent in part cannot be sent again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from headwater.contract.assembly import Request
from headwater.contract.reasons import Reason, RefusalError

Part = bytes | memoryview


def splice_batch(
    body: bytes | bytearray, spliced: Callable[[Request], Sequence[Part]]
) -> list[Part]:
    """The body of a `/v1/messages/batches` request, the `params` of each entry `spliced`.

    Raises:
        RefusalError: an entry's, its place naming the entry; or the batch cannot be read.
    """
    try:
        fields = _decode_fields(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(
            Reason.NOT_JSON,
            f"the request body is not a JSON object ({error}): send what the Message Batches API"
            " takes, as UTF-8 JSON.",
        ) from error
    try:
        entries = _decode_entries(fields["requests"])
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(f"the batch has no list of requests ({error})", "requests") from error
    requests: list[Part] = []
    for index, entry in enumerate(entries):
        place = f"requests[{index}].params"
        params = entry.get("params")
        if params is None:
            raise _malformed("an entry has no params", place)
        try:
            requests += (b",", *_object(entry, "params", spliced(Request.read(bytes(params)))))
        except RefusalError as error:
            at = f"{place}.{error.place}" if error.place else place
            raise RefusalError(error.reason, str(error), at) from error
    return _object(fields, "requests", (b"[", *requests[1:], b"]"))


_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def _object(fields: Mapping[str, msgspec.Raw], replaced: str, value: Sequence[Part]) -> list[Part]:
    """An object whose values are as they came, but for one."""
    parts: list[Part] = []
    for key, raw in fields.items():
        parts += (b",", msgspec.json.encode(key), b":")
        parts += value if key == replaced else (memoryview(raw),)
    return [b"{", *parts[1:], b"}"]


def _malformed(what: str, place: str) -> RefusalError:
    message = f"{what}: send what the Message Batches API takes."
    return RefusalError(Reason.MALFORMED, message, place)
