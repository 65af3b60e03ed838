"""`POST /headwater/warm`: the application says that a request will follow, and does not wait.

`trigger` decides. What it grants is one pre-warming request with the credential of whoever asked:
`max_tokens: 0` writes or refreshes the contract's cache and is not answered. Real requests neither
wait for it nor make it wait, and it is no evidence; what it used is counted, because it is billed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from headwater.providers.gateways import layer_of
from headwater.providers.usage import statement_from_json
from headwater.sidecar.exchange import Exchanges, Form, Made
from headwater.sidecar.lanes import Turn
from headwater.sidecar.relay.carriage import Carriage
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.plan import Ending, Head, Reply, Send
from headwater.sidecar.trigger import Triggers, Verdict

_log: Final = logging.getLogger(__name__)

_VERSION: Final = b"2023-06-01"
"""Of the API, where the wish names none: the one that every release of the SDK may speak."""
_MESSAGES: Final = [{"role": "user", "content": "warm"}]
"""The provider insists on a user turn; unmarked, it is never cached."""
_ANSWER_LIMIT: Final = 64 << 10
_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"content-encoding", b""),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
)


class WishError(Exception):
    """A wish that cannot be understood; the message says what to send."""


class _Wish(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What keys the lane, as the request that will follow has it."""

    model: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    speed: str | None = None


class Wishes:
    """Warms lanes of one sidecar for its own application."""

    def __init__(self, origin: Origin | None, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back; without an origin nothing is sent."""
        self._origin = origin
        self._clock = clock
        self._triggers = Triggers()
        self._sent: set[Carriage] = set()

    def close(self) -> None:
        """Give up what is under way, and send no more."""
        self._origin = None
        for carriage in list(self._sent):
            carriage.abandon()

    def take(
        self, exchanges: Exchanges, head: Head, headers: Mapping[str, str], body: bytes | bytearray
    ) -> tuple[Verdict, Form]:
        """Decide, and send where it is granted; what becomes of it is logged and counted.

        Raises:
            WishError: the wish is none.
            UnservedError: there is no contract to warm.
            RefusalError: the prefix is not for this model.
        """
        if not (headers.get("x-api-key") or headers.get("authorization")):
            raise WishError("there is no credential: send the one that the request will have.")
        try:
            wish = msgspec.json.decode(bytes(body) or b"{}", type=_Wish)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WishError(
                f"the body cannot be read ({error}): send a JSON object with model, thinking,"
                " output_config and speed as the request will have them, or none of these."
            ) from error
        asked = {"max_tokens": 0, "messages": _MESSAGES}
        made = exchanges.made(headers, {**msgspec.to_builtins(wish), **asked})
        lane, now = made.form.lane, self._clock()
        turn = exchanges.lanes.enter_alone(lane, made.route, ttl=made.form.ttl, now=now)
        used = now if turn.warm or turn.led else None
        verdict = self._triggers.decide(lane, now, used=used, ttl=made.form.ttl)
        made.form.series.wished(verdict)
        if verdict == "granted" and self._origin is not None:
            self._send(self._origin, head, made, turn)
        return verdict, made.form

    def _send(self, origin: Origin, head: Head, made: Made, turn: Turn) -> None:
        def ended(*, well: bool) -> None:
            self._sent.discard(carriage)
            if not well:
                self._triggers.failed(made.form.lane)

        given = b"anthropic-version" in head.fields
        added = () if given else ((b"anthropic-version", _VERSION),)
        watcher = _Warming(made.form, turn, ended)
        send = Send(b"/v1/messages", made.parts, (*_HEADERS, *added), watcher)
        carriage = Carriage(_Nobody(), head, send, origin, length=None, chunked=False)
        self._sent.add(carriage)
        carriage.start()


class _Warming:
    """Watches the answer to a pre-warming request."""

    def __init__(self, form: Form, turn: Turn, then: Callable[..., None]) -> None:
        self._then = then
        self._form = form
        self._turn = turn
        self._status = 0
        self._asked = False
        self._answer = b""

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
        self._status = status
        # A gateway that answers by itself has warmed nothing.
        self._asked = status == 200 and layer_of(fields) is None  # noqa: PLR2004 - an answer
        if self._asked:
            self._turn.began()
        return ()

    def data(self, data: bytes) -> None:
        self._answer = (self._answer + data)[:_ANSWER_LIMIT]

    def ended(self, ending: Ending) -> None:
        well = self._asked and ending is Ending.COMPLETE
        if self._asked:
            self._form.series.used(self._form.model, statement_from_json(self._answer))
        self._then(well=well)
        if not well:
            _log.warning(
                "a lane could not be warmed",
                extra={"status": self._status, "ending": ending.name.lower()},
            )


class _Nobody:
    """Who waits for the answer, as a carriage sees it."""

    modern = persists = True
    crowded = False

    def write(self, data: bytes) -> None:
        """It is not read."""

    def interim(self, data: bytes) -> None:
        """It is not read."""

    def hold(self) -> None:
        """Nothing comes that could be held."""

    def go_on(self) -> None:
        """As above."""

    def lighter(self) -> None:
        """It held nothing."""

    def finish(self) -> None:
        """Nobody has to be told."""

    def cut(self) -> None:
        """As above: the watcher knows."""

    def fail(self, status: int, message: str) -> None:
        """As above."""

    def unreadable(self, status: int, message: str) -> None:
        """Nothing is filtered that could be unreadable."""

    def refused(self, reply: Reply) -> None:
        """As above."""
