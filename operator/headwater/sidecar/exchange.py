"""One request's way: which revision, which bytes, whose turn, and what the answer says.

Decides and counts; carries nothing. It knows headers as a mapping of lower-case names and an
answer as a status and chunks, so that whatever speaks HTTP can be put round it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from headwater.contract.assembly import TTL_SECONDS, Request, splice
from headwater.contract.batch import splice_batch
from headwater.contract.lane import Lane, check_settings
from headwater.contract.reasons import Reason, RefusalError
from headwater.contract.route import Revision, Route, credential_fingerprint
from headwater.providers.usage import SseUsageParser, Usage, usage_from_json
from headwater.sidecar.bundles import BundleFollower, Served
from headwater.sidecar.lanes import Lanes, Turn
from headwater.sidecar.metrics import Metrics, Outcome
from headwater.sidecar.pinning import Pins
from headwater.sidecar.relay.plan import Ending

_log: Final = logging.getLogger(__name__)

SESSION_HEADER: Final = "x-headwater-session"

_JSON_LIMIT: Final = 32 << 20
"""Bytes of a JSON answer kept for its usage; a longer one is passed on and not counted."""
_OUR_FAULT: Final = frozenset({400, 413})
"""Client errors that a contract can cause: its own content, its own size."""


class UnservedError(Exception):
    """No bundle verified, so there are no bytes that may be sent; the message says why."""


def headers_of(error: RefusalError) -> dict[str, str]:
    """What an answer's headers say of a request that is off the contract, refused or passed."""
    place = {"x-headwater-at": error.place} if error.place else {}
    return {"x-headwater-reason": error.reason.value, **place}


class Exchanges:
    """What requests have in common: bundle, pins, lanes, counters."""

    def __init__(
        self,
        bundles: BundleFollower,
        lanes: Lanes,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds that never go back."""
        self.bundles = bundles
        self.lanes = lanes
        self.metrics = metrics
        self.clock = clock
        self.pins = Pins()

    def open(
        self,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        *,
        counted: bool,
        batch: bool = False,
    ) -> "Exchange":
        """Decide what is sent. `counted` is False where no answer has a usage to be counted.

        `batch` is for a body that holds many requests, each of a conversation of its own.

        Raises:
            UnservedError: no bundle verified; nothing may be sent.
            RefusalError: the request would break the prefix, and the route enforces it.
        """
        arrived = self.clock()
        served = self.bundles.served
        if served is None:
            self.metrics.violated(None, "", Reason.NO_BUNDLE)
            if counted:
                self.metrics.ended(None, "", Outcome.NO_BUNDLE, eligible=False)
            raise UnservedError(self.bundles.problem or "no bundle was read yet.")
        model = ""
        try:
            if batch:
                return self._batch(served, body, headers, arrived=arrived)
            request = Request.read(body)
            model = request.text("model") or ""
            return self._on_contract(served, request, headers, arrived=arrived, counted=counted)
        except RefusalError as error:
            route = served.route
            self._note(error, route, model)
            if route.enforcement == "Enforce":
                if counted:
                    self.metrics.ended(route.stable, model, Outcome.REFUSED, eligible=False)
                raise _told(error, route) from error
            exchange = Exchange(self, route, (body,), model, arrived=arrived, counted=counted)
            exchange.headers = headers_of(error)
            return exchange

    def _batch(
        self,
        served: Served,
        body: bytes | bytearray,
        headers: Mapping[str, str],
        *,
        arrived: float,
    ) -> "Exchange":
        route = served.route
        revisions: set[Revision] = set()

        def spliced(request: Request) -> Sequence[bytes | memoryview]:
            conversation = request.conversation(headers.get(SESSION_HEADER))
            ttl = TTL_SECONDS[route.ttl]
            revision = self.pins.choose(route, conversation, ttl=ttl, now=arrived)
            revisions.add(revision)
            return splice(request, served.contracts[revision.digest], route.models).parts

        parts = splice_batch(body, spliced)
        exchange = Exchange(self, route, parts, "", arrived=arrived, counted=False)
        if len(revisions) == 1:
            exchange.headers = _names(*revisions)
        return exchange

    def _note(self, error: RefusalError, route: Route, model: str) -> None:
        """Count it, and say so in the log now and then; never what the request says."""
        self.metrics.violated(route.stable, model, error.reason)
        if times := self.metrics.violations.note(error.reason, error.place, self.clock()):
            _log.warning(
                "off the contract, %s",
                "refused" if route.enforcement == "Enforce" else "passed untouched",
                extra={
                    "prefix": f"{route.namespace}/{route.prefix}",
                    "reason": error.reason.value,
                    "at": error.place,
                    "times": times,
                },
            )

    def _on_contract(
        self,
        served: Served,
        request: Request,
        headers: Mapping[str, str],
        *,
        arrived: float,
        counted: bool,
    ) -> "Exchange":
        route = served.route
        session = headers.get(SESSION_HEADER)
        conversation = request.conversation(session)
        revision = self.pins.choose(route, conversation, ttl=TTL_SECONDS[route.ttl], now=arrived)
        contract = served.contracts[revision.digest]
        spliced = splice(request, contract, route.models)
        lane = Lane.of(
            request,
            revision.digest,
            credential=_credential(headers),
            workspace=_fingerprint(headers.get("anthropic-workspace-id", "")),
            betas=(headers.get("anthropic-beta", ""),),
        )
        if session and counted:
            # Other keys may stand for several conversations, so of those it cannot be said.
            check_settings(self.pins.begun_with(conversation, lane.settings), lane.settings)
        exchange = Exchange(
            self, route, spliced.parts, lane.model, arrived=arrived, counted=counted
        )
        exchange.revision = revision
        exchange.headers = _names(revision)
        exchange.own_markers = spliced.own_markers
        exchange.lane = lane if counted else None
        exchange.ttl = TTL_SECONDS[contract.ttl]
        self.metrics.prepared(revision, lane.model, self.clock() - arrived)
        return exchange


class Exchange:
    """One request: `enter`, send `parts`, `began`, `chunk`…, `end`."""

    def __init__(
        self,
        exchanges: Exchanges,
        route: Route,
        parts: Sequence[bytes | bytearray | memoryview],
        model: str,
        *,
        arrived: float,
        counted: bool,
    ) -> None:
        """Made by `Exchanges.open` alone; without a revision it is off the contract."""
        self._exchanges = exchanges
        self._route = route
        self._arrived = arrived
        self._counted = counted
        self._turn: Turn | None = None
        self._status: int | None = None
        self._stream: SseUsageParser | None = None
        self._answer = bytearray()
        self.model = model
        self.parts = parts
        self.revision: Revision | None = None
        self.headers: Mapping[str, str] = {}
        """What the answer's headers say of it."""
        self.lane: Lane | None = None
        self.own_markers = 0
        self.ttl = 0.0

    def enter_now(self) -> bool:
        """Whether nothing has to be waited for; else `enter`."""
        if self.lane is None:
            return True
        now = self._exchanges.clock()
        self._turn = self._exchanges.lanes.enter_now(self.lane, self._route, ttl=self.ttl, now=now)
        return self._turn is not None

    def enter_alone(self) -> None:
        """Neither wait for another request nor make one wait."""
        if self.lane is not None:
            now = self._exchanges.clock()
            self._turn = self._exchanges.lanes.enter_alone(
                self.lane, self._route, ttl=self.ttl, now=now
            )

    async def enter(self) -> None:
        """Wait where another request is writing the same cold lane."""
        if self.lane is not None:
            self._turn = await self._exchanges.lanes.enter(
                self.lane, self._route, ttl=self.ttl, clock=self._exchanges.clock
            )

    def began(self, status: int, content_type: str) -> None:
        """The answer's head is here."""
        self._status = status
        if not self._counted:
            return
        elapsed = self._exchanges.clock() - self._arrived
        self._exchanges.metrics.began(self.revision, self.model, elapsed)
        if content_type.startswith("text/event-stream"):
            self._stream = SseUsageParser()
        if self._turn is not None:
            if status == 200:  # noqa: PLR2004 - the one status of an answer
                self._turn.began()
            else:
                self._turn.leave()

    def chunk(self, data: bytes) -> None:
        """Look at a part of the answer on its way."""
        if not self._counted or self._status != 200:  # noqa: PLR2004 - as above
            return
        if self._stream is not None:
            self._stream.feed(data)
        elif len(self._answer) + len(data) <= _JSON_LIMIT:
            self._answer += data

    def end(self, ending: Ending) -> None:
        """Count. What was used is counted even of an answer that nobody waited for."""
        if self._turn is not None:
            self._turn.leave()
        if not self._counted:
            return
        usage = self._stream.usage if self._stream else usage_from_json(bytes(self._answer))
        if usage is not None:
            self._exchanges.metrics.used(self.revision, self.model, usage)
        outcome = self._outcome(ending, usage)
        eligible = self._turn is not None and self._turn.eligible
        self._exchanges.metrics.ended(self.revision, self.model, outcome, eligible=eligible)
        if outcome is Outcome.ERROR:
            _log.warning(
                "upstream failed", extra={"status": self._status, "ending": ending.name.lower()}
            )

    def _outcome(self, ending: Ending, usage: Usage | None) -> Outcome:
        if ending is Ending.ABORTED:
            return Outcome.ABORTED
        if self.revision is None:
            return Outcome.OFF_CONTRACT
        if ending is Ending.CUT or self._status is None:
            return Outcome.ERROR
        if self._status >= 500 or self._status in _OUR_FAULT:  # noqa: PLR2004 - HTTP
            return Outcome.ERROR
        if self._status != 200:  # noqa: PLR2004 - as above
            return Outcome.REJECTED
        if self._turn is None or usage is None:
            return Outcome.UNKNOWN
        published = self._route.tokens.get(self.revision.digest, {}).get(self.model)
        hit = self._turn.hit(usage, own_markers=self.own_markers, published_tokens=published)
        return Outcome.HIT if hit else Outcome.MISS


def _names(revision: Revision) -> Mapping[str, str]:
    """What an answer's headers say of a request that is on the contract."""
    return {"x-headwater-version": revision.version, "x-headwater-digest": revision.digest}


def _told(error: RefusalError, route: Route) -> RefusalError:
    """The refusal as a person reads it: what, where, what to do, and whom to ask."""
    where = f"{error.place}: " if error.place else ""
    prefix = f"{route.namespace}/{route.prefix}"
    whose = f" {prefix} belongs to {route.owner}." if route.owner else ""
    return RefusalError(error.reason, f"{error.reason}: {where}{error}{whose}", error.place)


def _credential(headers: Mapping[str, str]) -> str:
    """The fingerprint of the API key, in whichever of its two forms it came."""
    secret = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    return _fingerprint(secret)


def _fingerprint(value: str) -> str:
    # Header bytes that are no UTF-8 arrive as surrogates, which cannot be hashed.
    return credential_fingerprint(value.encode("utf-8", "replace").decode()) if value else ""
