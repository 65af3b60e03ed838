"""Puts a contract in front of each request of a batch, one entry at a time as they come.

What surrounds the requests' own bodies leaves as the bytes that came. A batch may be as large as
the provider takes, and is never held: of it there is one entry in memory. One entry that would
break the prefix refuses the batch, of which the provider then has a part that it cannot read.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from headwater.contract.assembly import Request
from headwater.contract.reasons import Reason, RefusalError

Part = bytes | memoryview

_LIST: Final = "requests"
_KEY_LIMIT: Final = 6 * len(_LIST)
"""Bytes of the key, however it is escaped."""
_ENTRY_LIMIT: Final = 34 << 20
"""Bytes of an entry: what the provider takes of a single request, and some for its id."""
_REST_LIMIT: Final = 1 << 20
"""Bytes of a batch besides its entries: some for each of the most that the provider takes."""
_TOKEN: Final = re.compile(rb'["{}\[\]:,]')
_IN_STRING: Final = re.compile(rb'["\\]')
_SPACES: Final = re.compile(rb"([ \t\r\n])[ \t\r\n]+")


class BatchSplicer:
    """Reads a batch's JSON as far as its entries begin and end, and at its end the rest."""

    def __init__(
        self,
        spliced: Callable[[Request], Sequence[Part]],
        refused: Callable[[RefusalError], None],
    ) -> None:
        """`spliced` gives what is sent for an entry's params.

        `refused` is told of what is off the contract; it raises, or the entry passes untouched.
        """
        self._spliced = spliced
        self._refused = refused
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._depth = 0
        self._in_string = self._escaped = False
        self._key: bytearray | None = None
        """The key that is being read, at the top level."""
        self._name = b""
        self._key_follows = False
        self._in_list = self._list_seen = self._closed = False
        self._entry: bytearray | None = None
        self._rest = bytearray()
        """The rest of the document, with an empty object in each entry's place."""
        self._index = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """Yield what is to be sent for the next bytes.

        Raises:
            RefusalError: an entry's, its place naming the entry; or the batch cannot be read.
        """
        self._check_text(data)
        position = kept = 0
        while (found := self._next(data, position)) is not None:
            start, token = found
            position = start + 1
            if self._entry is None and token == b"{" and self._among_entries:
                yield self._outside(data[kept:start])
                kept, self._entry = start, bytearray()
            self._took(token)
            if self._entry is not None and token in b"}]" and self._among_entries:
                self._entry += data[kept:position]
                entry, self._entry, kept = self._entry, None, position
                self._outside(b"{}")
                yield from self._put(bytes(entry))
        if self._entry is None:
            yield self._outside(data[kept:])
            return
        self._entry += data[kept:]
        if len(self._entry) > _ENTRY_LIMIT:
            raise _malformed(
                f"an entry has more than {_ENTRY_LIMIT:,} bytes", f"{_LIST}[{self._index}]"
            )

    def end(self) -> None:
        """Do nothing where the batch is whole.

        Raises:
            RefusalError: it is not.
        """
        self._check_text(b"", final=True)
        if not self._closed:
            raise _no_object("it is cut")
        if not self._list_seen:
            raise _malformed("the batch has no list of requests", _LIST)
        try:
            _decode(bytes(self._rest))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _no_object(str(error)) from error

    @property
    def _among_entries(self) -> bool:
        """Return whether what follows is in the list of requests and in none of them."""
        return self._in_list and self._depth == 2  # noqa: PLR2004 - the object, and the list in it

    def _outside(self, data: bytes) -> bytes:
        self._rest += _SPACES.sub(rb"\1", data)
        if len(self._rest) > _REST_LIMIT:
            raise _malformed(f"it has more than {_REST_LIMIT:,} bytes besides its requests", "")
        return data

    def _check_text(self, data: bytes, *, final: bool = False) -> None:
        if data.isascii() and not self._utf8.getstate()[0]:
            return
        try:
            self._utf8.decode(data, final)
        except UnicodeDecodeError:
            raise _no_object("it is no UTF-8") from None

    def _next(self, data: bytes, position: int) -> tuple[int, bytes] | None:
        """Return where the next token outside of strings is, and which; None for none."""
        while True:
            if self._in_string:
                end = self._string_end(data, position)
                if end is None:
                    return None
                position = end
            match = _TOKEN.search(data, position)
            self._check_between(data[position : match.start() if match else len(data)])
            if match is None:
                return None
            if match[0] != b'"':
                return match.start(), match[0]
            if self._depth == 0 or self._among_entries:
                raise self._misplaced()
            self._in_string = True
            self._key = bytearray() if self._depth == 1 and self._key_follows else None
            position = match.end()

    def _string_end(self, data: bytes, position: int) -> int | None:
        """Return where the string that is open has ended; None where it goes on."""
        start = position
        if self._escaped and data:
            self._escaped = False
            position += 1
        while True:
            match = _IN_STRING.search(data, position)
            end = len(data) if match is None else match.start()
            if match is None or match[0] == b"\\":
                position = end + 2
                self._escaped = match is not None and position > len(data)
                if match is None or self._escaped or position == len(data):
                    self._keep(data[start:])
                    return None
                continue
            self._keep(data[start:end])
            self._in_string = False
            if self._key is not None:
                self._name, self._key = bytes(self._key), None
            return match.end()

    def _keep(self, data: bytes) -> None:
        if self._key is not None and len(self._key) <= _KEY_LIMIT:
            self._key += data[: _KEY_LIMIT + 1]

    def _check_between(self, data: bytes) -> None:
        """Refuse what stands where nothing may: before and behind the object, among the entries."""
        if (self._depth == 0 or self._among_entries) and data.strip(b" \t\r\n"):
            raise self._misplaced()

    def _took(self, token: bytes) -> None:
        """Follow where in the document we are."""
        if token in b"{[":
            self._open(token)
        elif token in b"}]":
            self._depth -= 1
            if self._depth < 0:
                raise _no_object("it ends before it begins")
            self._in_list = self._in_list and self._depth > 1
            self._closed = self._depth == 0
        elif self._depth == 1:
            self._key_follows = token == b","

    def _open(self, token: bytes) -> None:
        if self._depth == 0:
            if token == b"[" or self._closed:
                raise self._misplaced()
            self._key_follows = True
        elif self._depth == 1 and _text(self._name) == _LIST:
            if token == b"{":
                raise _malformed("the batch has no list of requests", _LIST)
            self._in_list = self._list_seen = True
        elif self._among_entries and token == b"[":
            raise self._misplaced()
        self._depth += 1

    def _misplaced(self) -> RefusalError:
        if self._depth == 0:
            return _no_object("it is none")
        return _malformed("an entry is no object", _LIST)

    def _put(self, raw: bytes) -> Sequence[Part]:
        place, self._index = f"{_LIST}[{self._index}]", self._index + 1
        try:
            entry = _decode(raw)
            if "params" not in entry:
                raise _malformed("an entry has no params", f"{place}.params")
            try:
                return _object(entry, "params", self._spliced(Request.read(bytes(entry["params"]))))
            except RefusalError as error:
                at = f"{place}.params.{error.place}" if error.place else f"{place}.params"
                raise RefusalError(error.reason, str(error), at) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            refusal = RefusalError(
                Reason.NOT_JSON, f"an entry is not a JSON object ({error}): {_SEND}", place
            )
        except RefusalError as error:
            refusal = error
        self._refused(refusal)
        return (raw,)


_SEND: Final = "send what the Message Batches API takes."
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _text(key: bytes) -> str:
    try:
        return str(json.loads(b'"%b"' % key))
    except ValueError:
        return ""


def _object(fields: Mapping[str, msgspec.Raw], replaced: str, value: Sequence[Part]) -> list[Part]:
    """An object whose values are as they came, but for one."""
    parts: list[Part] = []
    for key, raw in fields.items():
        parts += (b",", msgspec.json.encode(key), b":")
        parts += value if key == replaced else (memoryview(raw),)
    return [b"{", *parts[1:], b"}"]


def _malformed(what: str, place: str) -> RefusalError:
    return RefusalError(Reason.MALFORMED, f"{what}: {_SEND}", place)


def _no_object(why: str) -> RefusalError:
    message = f"the request body is not a JSON object ({why}): {_SEND}"
    return RefusalError(Reason.NOT_JSON, message)
