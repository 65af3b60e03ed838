"""Requests and what they used, as they pass a local port: lines that `audit` and `capture` read.

Nothing of a request's headers is kept, so no key is.
"""

import collections
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from headwater.client.audit import Privacy, hashed
from headwater.contract.errors import RequestError
from headwater.providers.gateways import layer_of
from headwater.providers.usage import SseUsageParser, Usage, usage_from_json
from headwater.sidecar.relay.plan import Collect, Ending, Head, Reply, Send

_MESSAGES: Final = b"/v1/messages"
_AS_IT_IS: Final = (
    # The body is uncompressed by now; the answer has to be read for its usage.
    (b"content-encoding", b""),
    (b"accept-encoding", b"identity"),
)


class Recorder:
    """Passes every request to the provider untouched, and writes down those of the Messages API."""

    def __init__(
        self,
        write: Callable[[bytes], Any],
        now: Callable[[], dt.datetime],
        *,
        fields: Mapping[str, str],
        privacy: Privacy,
        salt: bytes = b"",
    ) -> None:
        """`write` gets a line for each, in the order in which they were sent; `fields` are in all.

        With privacy `hash` they are kept as hashes, with `salt`.
        """
        self._write = write
        self._now = now
        self._fields = fields
        self._salt = salt if privacy == "hash" else None
        self._open: collections.deque[_Exchange] = collections.deque()
        self._collect = Collect(self._decide)
        self.recorded = 0

    def arrived(self, head: Head) -> Send | Collect:
        """Hold a request that is to be recorded."""
        asks = head.method == b"POST" and head.target.partition(b"?")[0] == _MESSAGES
        return self._collect if asks else Send(head.target)

    def fault(self, status: int, message: str) -> Reply:
        """What the relay refuses or could not carry, in the provider's shape."""
        error = {"type": "api_error", "message": f"headwater record: {message}"}
        body = msgspec.json.encode({"type": "error", "error": error})
        return Reply(status, ((b"content-type", b"application/json"),), body)

    def ended(self) -> None:
        """Write what is finished, and nothing before what was sent earlier."""
        while self._open and self._open[0].finished:
            self._write(msgspec.json.encode(self._open.popleft().line) + b"\n")
            self.recorded += 1

    def _decide(self, head: Head, body: bytes | bytearray) -> Send:
        watcher = None
        try:
            kept = self._kept(bytes(body))
        except (RequestError, msgspec.MsgspecError, UnicodeDecodeError):
            pass  # It is no request, as the provider will say.
        else:
            line = {"time": self._now().isoformat(), **self._fields, "request": kept}
            watcher = _Exchange(line, self.ended)
            self._open.append(watcher)
        return Send(head.target, (body,), _AS_IT_IS, watcher)

    def _kept(self, body: bytes) -> Any:
        if self._salt is not None:
            return hashed(body, self._salt)
        msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.Raw(msgspec.json.format(body, indent=-1))


class _Exchange:
    """One request, and what its answer says of it."""

    def __init__(self, line: dict[str, Any], ended: Callable[[], None]) -> None:
        self.line = line
        self.finished = False
        self._of_provider = True
        self._ended = ended
        self._stream: SseUsageParser | None = None
        self._body = bytearray()

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
        self.line["status"] = status
        if layer := layer_of(fields):
            # Its usage is that of another request.
            self.line["layer"] = layer.value
            self._of_provider = False
        if fields.get(b"content-type", b"").startswith(b"text/event-stream"):
            self._stream = SseUsageParser()
        return ()

    def data(self, data: bytes) -> None:
        if self._stream is None:
            self._body += data
        else:
            self._stream.feed(data)

    def ended(self, ending: Ending) -> None:
        del ending  # what was counted until then is what there is
        usage = usage_from_json(bytes(self._body)) if self._stream is None else self._stream.usage
        if usage is not None and self._of_provider:
            self.line["usage"] = _as_the_provider_says(usage)
        self.finished = True
        self._ended()


def _as_the_provider_says(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.uncached,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    }
