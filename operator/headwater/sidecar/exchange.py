"""One request's way: which revision, which bytes, whose turn, and what the answer says.

Decides and counts; carries nothing. It knows headers as a mapping of lower-case names and an
answer as a status and chunks, so that whatever speaks HTTP can be put round it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from headwater.contract.assembly import TTL_SECONDS, Frame, Request, Spliced, frame, splice
from headwater.contract.batch import BatchSplicer
from headwater.contract.lane import Lane, check_settings, tool_choice
from headwater.contract.reasons import Reason, RefusalError
from headwater.contract.route import Revision, Route, credential_fingerprint
from headwater.providers.gateways import Layer, layer_of
from headwater.providers.models import one_name
from headwater.providers.usage import (
    SseUsageParser,
    Statement,
    Usage,
    diagnosis_from_json,
    statement_from_json,
)
from headwater.sidecar.bundles import BundleFollower, Served
from headwater.sidecar.lanes import Lanes, Turn
from headwater.sidecar.metrics import Metrics, Outcome, Series
from headwater.sidecar.misses import miss_reason
from headwater.sidecar.paths import MESSAGES, Place, Way
from headwater.sidecar.pinning import Pins
from headwater.sidecar.relay.plan import Ending

_log: Final = logging.getLogger(__name__)

SESSION_HEADER: Final = "x-headwater-session"
ASK_HEADER: Final = "x-headwater-conversation"
"""With any value, the answer says whether the request extended the conversation's one before."""
TOLD_HEADER: Final = "headwater-conversation"

_JSON_LIMIT: Final = 32 << 20
"""Bytes of a JSON answer kept for its usage; a longer one is passed on and not counted."""
_FORMS: Final = 64
"""Forms remembered: a program has few, and what it sends must not fill the memory."""
_FORM_BYTES: Final = 64 << 10
"""Bytes that a request may have besides its messages for its form to be remembered."""
_LEAST: Final = 2_000
"""Characters of a program's own system text that are worth a word: 512 tokens, which is the least
that any model caches."""
_AS_LONG: Final = 0.9
"""Of the contract's system text: a copy without its indentation or a paragraph is shorter."""
_OF_LANE: Final = ("x-api-key", "authorization", "anthropic-workspace-id", "anthropic-beta")
"""Headers from which a lane follows."""
_OF_SESSION: Final = frozenset(
    {
        Reason.MODEL_CHANGED,
        Reason.THINKING_CHANGED,
        Reason.EFFORT_CHANGED,
        Reason.SPEED_CHANGED,
    }
)
"""Refusals that follow from what a session sent before, whatever the revision."""
_OUR_FAULT: Final = frozenset({400, 413})
"""Client errors that a contract can cause: its own content, its own size."""
_CALLERS_FAULT: Final = frozenset(
    {
        "authentication_error",
        "billing_error",
        "not_found_error",
        "permission_error",
        "rate_limit_error",
    }
)
"""The provider's names for the others, in a stream that it ends with an error."""


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
        pins: Pins | None = None,
    ) -> None:
        """`clock` gives seconds that never go back."""
        self.bundles = bundles
        self.lanes = lanes
        self.metrics = metrics
        self.clock = clock
        self.pins = metrics.pins = pins or Pins()
        self._formed: Served | None = None
        self._forms: dict[object, Form] = {}

    def open(
        self,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        *,
        counted: bool,
    ) -> "Exchange":
        """Decide what is sent. `counted` is False where no answer has a usage to be counted.

        Raises:
            UnservedError: no bundle verified; nothing may be sent.
            RefusalError: the request would break the prefix, and the route enforces it.
        """
        arrived = self.clock()
        served = self.bundles.served
        if served is None:
            if counted:
                self.metrics.of(None, "").ended(Outcome.NO_BUNDLE, eligible=False)
            raise self._unserved()
        request, revision = None, served.route.stable
        try:
            request = Request.read(body)
            conversation = request.conversation(headers.get(SESSION_HEADER))
            ttl = TTL_SECONDS[served.route.ttl]
            revision = self.pins.choose(served.route, conversation, ttl=ttl, now=arrived)
            return self._on_contract(
                served, request, revision, conversation, headers, arrived=arrived, counted=counted
            )
        except RefusalError as error:
            route = served.route
            model = "" if request is None else request.text("model") or ""
            self.note(error, route, revision, model)
            if route.enforcement == "Enforce":
                if counted:
                    alone = request is not None and _refuses_alone(revision, served, request, error)
                    self.metrics.of(revision, model).ended(Outcome.REFUSED, eligible=alone)
                raise _told(error, route) from error
            exchange = Exchange(self, route, (body,), model, arrived=arrived, counted=counted)
            exchange.headers = headers_of(error)
            return exchange

    def open_batch(self, headers: Mapping[str, str]) -> "Batch":
        """Decide what is sent for a body that holds many requests, as it comes.

        Raises:
            UnservedError: no bundle verified; nothing may be sent.
        """
        served = self.bundles.served
        if served is None:
            raise self._unserved()
        return Batch(self, served, headers)

    def pass_by(self, place: Place) -> None:
        """Let a request go past the contract, where the route only observes.

        Raises:
            UnservedError: no bundle verified; nothing may be sent.
            RefusalError: the route enforces the contract.
        """
        served = self.bundles.served
        if served is None:
            raise self._unserved()
        leads = "leads to a model" if place.way is Way.MODEL else "may lead to a model"
        error = RefusalError(
            Reason.OTHER_PATH,
            f"{place.path[:80]!r} {leads} without the contract: send the request to {MESSAGES}.",
            "path",
        )
        self.note(error, served.route, served.route.stable, "")
        if served.route.enforcement == "Enforce":
            raise _told(error, served.route)

    def made(self, headers: Mapping[str, str], fields: Mapping[str, object]) -> "Made":
        """A request of the sidecar's own, on the revision of its session, else on the stable one.

        It moves no conversation, and is not counted. Without a model it is for the first one.

        Raises:
            UnservedError: no bundle verified; nothing may be sent.
            RefusalError: the prefix is not published for this model.
        """
        served = self.bundles.served
        if served is None:
            raise UnservedError(self.bundles.problem or "no bundle was read yet.")
        route = served.route
        request = Request.read(msgspec.json.encode({"model": route.models[0], **fields}))
        session = headers.get(SESSION_HEADER)
        revision = route.stable
        if session:
            conversation, ttl = request.conversation(session), TTL_SECONDS[route.ttl]
            revision = self.pins.choose(route, conversation, ttl=ttl, now=self.clock())
        form = self._form(served, revision, request, headers)
        parts = splice(request, served.contracts[revision.digest], route.models).parts
        return Made(route, form, parts)

    def _unserved(self) -> UnservedError:
        """Count a request for which there is no bundle, and return its error."""
        self.metrics.of(None, "").violated(Reason.NO_BUNDLE)
        return UnservedError(self.bundles.problem or "no bundle was read yet.")

    def note(self, error: RefusalError, route: Route, revision: Revision, model: str) -> None:
        """Count it, and say so in the log now and then; never what the request says."""
        self.metrics.of(revision, model).violated(error.reason)
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
        revision: Revision,
        conversation: str,
        headers: Mapping[str, str],
        *,
        arrived: float,
        counted: bool,
    ) -> "Exchange":
        route, session = served.route, headers.get(SESSION_HEADER)
        form = self._form(served, revision, request, headers)
        spliced = form.frame.filled(request)
        if session and counted:
            # Other keys may stand for several conversations, so of those it cannot be said.
            settings = form.lane.settings
            check_settings(self.pins.begun_with(conversation, settings), settings)
        exchange = Exchange(
            self, route, spliced.parts, form.model, arrived=arrived, counted=counted, form=form
        )
        exchange.headers = form.headers
        exchange.own_markers = spliced.own_markers
        if counted:
            if spliced.uncached >= form.long:
                # It may be a copy of the contract that was not recognised.
                exchange.copied = form.system_share
                form.series.uncached_system()
                self.metrics.uncached_at = arrived
            exchange.before = self.pins.left(conversation, form.lane)
            if session or ASK_HEADER in headers:
                named = conversation if session else ""
                self._follow(exchange, form, request, spliced, named, headers)
        form.series.overhead.add(self.clock() - arrived)
        return exchange

    def _follow(
        self,
        exchange: "Exchange",
        form: "Form",
        request: Request,
        spliced: Spliced,
        conversation: str,
        headers: Mapping[str, str],
    ) -> None:
        """Count and tell whether a session goes on as it was; of no others it can be said."""
        told = "unnamed"
        if conversation:
            began, broken = self.pins.followed(
                conversation, request, spliced, form.lane, form.tool_choice
            )
            if broken is not None:
                form.series.broke(broken)
            told = broken or ("extended" if began else "began")
        if ASK_HEADER in headers:
            exchange.headers = {**exchange.headers, TOLD_HEADER: told}

    def _form(
        self, served: Served, revision: Revision, request: Request, headers: Mapping[str, str]
    ) -> "Form":
        """What a program's requests have in common, made once for all of them.

        Raises:
            RefusalError: such a request would break the prefix.
        """
        if served is not self._formed:
            self._formed = served
            self._forms.clear()
        like = request.frame_key
        # Hashes, because a credential is not to be kept.
        seen = [hash(headers.get(name)) for name in _OF_LANE]
        key = (revision.digest, like, request.cites, *seen)
        found = self._forms.get(key)
        if found is None:
            contract = served.contracts[revision.digest]
            route = served.route
            framed = frame(request, contract, route.models, route.placing, served.copies)
            model = request.text("model") or ""
            lane = Lane.of(
                request,
                revision.digest,
                credential=_credential(headers),
                model=one_name(model),
                workspace=_fingerprint(headers.get("anthropic-workspace-id", "")),
                betas=(headers.get("anthropic-beta", ""),),
            )
            found = Form(
                revision,
                framed,
                lane,
                tool_choice(request),
                model,
                TTL_SECONDS[contract.ttl],
                served.route.tokens.get(revision.digest, {}).get(model),
                _names(revision),
                self.metrics.of(revision, model),
                max(_LEAST, _AS_LONG * sum(map(len, contract.published.blocks))),
                contract.system_share,
            )
            if sum(map(len, like)) <= _FORM_BYTES:
                if len(self._forms) == _FORMS:
                    self._forms.clear()
                self._forms[key] = found
        return found


@dataclass(frozen=True, slots=True)
class Form:
    """All that follows from a request but for its messages, on one revision.

    Of the messages only whether they enable citations, which keys the lane.
    """

    revision: Revision
    frame: Frame
    lane: Lane
    tool_choice: str
    model: str
    """As requests name it."""
    ttl: float
    tokens: int | None
    """The contract's, as the route publishes them."""
    headers: Mapping[str, str]
    series: Series
    long: float
    """Characters of system text that may be a copy of the contract's."""
    system_share: float
    """Of the contract, by length: the rest is tools."""


class Made(NamedTuple):
    """A request of the sidecar's own."""

    route: Route
    form: Form
    parts: Sequence[bytes | memoryview]


class Exchange:
    """One request: `enter`, send `parts`, `began`, `chunk`…, `end`."""

    __slots__ = (
        "_answer", "_arrived", "_clock", "_counted", "_form", "_lanes", "_layer", "_route",
        "_series", "_size", "_status", "_stream", "_turn", "before", "chunk", "copied", "headers",
        "model", "outcome", "own_markers", "parts", "usage",
    )  # fmt: skip

    def __init__(
        self,
        exchanges: Exchanges,
        route: Route,
        parts: Sequence[bytes | bytearray | memoryview],
        model: str,
        *,
        arrived: float,
        counted: bool,
        form: Form | None = None,
    ) -> None:
        """Made by `Exchanges.open` alone; without a form it is off the contract, or a batch."""
        self._clock = exchanges.clock
        self._lanes = exchanges.lanes
        self._series = exchanges.metrics.of(None, model) if form is None else form.series
        self._route = route
        self._form = form
        self._arrived = arrived
        self._counted = counted
        self._turn: Turn | None = None
        self._status: int | None = None
        self._layer: Layer | None = None
        self._stream: SseUsageParser | None = None
        self._answer: list[bytes] = []
        self._size = 0
        self.model = model
        self.parts = parts
        self.headers: Mapping[str, str] = {}
        """What the answer's headers say of it."""
        self.own_markers = 0
        self.copied = 0.0
        """Share of the contract that the application may have sent besides, as a copy."""
        self.chunk: Callable[[bytes], None] = _pass
        """Looks at a part of the answer on its way; another one when the answer began."""
        self.before: Lane | None = None
        """The lane of the conversation's request before this one."""
        self.usage: Usage | None = None
        """What it used, at its end, as far as that was told."""
        self.outcome: Outcome | None = None
        """How it ended, where it is counted."""

    @property
    def prefix(self) -> str:
        """Of its route: namespace and name."""
        return f"{self._route.namespace}/{self._route.prefix}"

    @property
    def counted(self) -> bool:
        """Whether its answer has a usage."""
        return self._counted

    @property
    def revision(self) -> Revision | None:
        """What it was put on."""
        return None if self._form is None else self._form.revision

    def enter_now(self) -> bool:
        """Whether nothing has to be waited for; else `enter`."""
        form = self._form
        if form is None or not self._counted:
            return True
        now = self._clock()
        self._turn = self._lanes.enter_now(form.lane, self._route, ttl=form.ttl, now=now)
        return self._turn is not None

    def enter_alone(self) -> None:
        """Neither wait for another request nor make one wait."""
        form = self._form
        if form is not None and self._counted:
            now = self._clock()
            self._turn = self._lanes.enter_alone(form.lane, self._route, ttl=form.ttl, now=now)

    async def enter(self) -> None:
        """Wait where another request is writing the same cold lane."""
        form = self._form
        if form is not None and self._counted:
            self._turn = await self._lanes.enter(
                form.lane, self._route, ttl=form.ttl, clock=self._clock
            )

    def began(
        self, status: int, content_type: str, fields: Mapping[bytes, bytes] | None = None
    ) -> None:
        """The answer's head is here; `fields` are its headers, by lower-case name."""
        self._status = status
        if not self._counted:
            return
        self._layer = layer_of(fields) if fields and status == 200 else None  # noqa: PLR2004
        if self._layer is not None:
            # The provider was not asked: nothing was warmed, billed, or proven.
            if self._turn is not None:
                self._turn.leave()
            return
        self._series.first_byte.add(self._clock() - self._arrived)
        if status != 200:  # noqa: PLR2004 - the one status of an answer
            if self._turn is not None:
                self._turn.leave()
            return
        if self._turn is not None:
            self._turn.began()
        if content_type.startswith("text/event-stream"):
            self._stream = SseUsageParser()
            self.chunk = self._stream.feed
        else:
            self.chunk = self._keep

    def _keep(self, data: bytes) -> None:
        if self._size + len(data) <= _JSON_LIMIT:
            self._size += len(data)
            self._answer.append(data)

    def end(self, ending: Ending) -> None:
        """Count. What was used is counted even of an answer that nobody waited for."""
        if self._turn is not None:
            self._turn.leave()
        if not self._counted:
            return
        statement = self._statement()
        outcome = self._outcome(ending, statement)
        answered = self._status == 200 and self._layer is None  # noqa: PLR2004 - HTTP
        if answered:
            ours = self._form is not None
            self._series.used(self.model, statement, ours=ours, copied=self.copied)
        self.usage = None if statement is None else statement.usage
        self.outcome = outcome
        eligible = self._turn is not None and self._turn.eligible and self._layer is None
        self._series.ended(outcome, eligible=eligible, layer=self._layer)
        if outcome is Outcome.ERROR:
            _log.warning(
                "upstream failed", extra={"status": self._status, "ending": ending.name.lower()}
            )

    def _statement(self) -> Statement | None:
        if self._stream is not None:
            return self._stream.statement
        return statement_from_json(b"".join(self._answer))

    def _outcome(self, ending: Ending, statement: Statement | None) -> Outcome:
        if self._layer is not None:
            return Outcome.GATEWAY
        failure = self._stream.failure if self._stream else ""
        # Whoever reads of an error leaves, which makes it no less of one.
        if ending is Ending.ABORTED and not failure:
            return Outcome.ABORTED
        if self._form is None:
            return Outcome.OFF_CONTRACT
        if failure:
            return Outcome.REJECTED if failure in _CALLERS_FAULT else Outcome.ERROR
        if ending is Ending.CUT or self._status is None:
            return Outcome.ERROR
        if self._status >= 500 or self._status in _OUR_FAULT:  # noqa: PLR2004 - HTTP
            return Outcome.ERROR
        if self._status != 200:  # noqa: PLR2004 - as above
            return Outcome.REJECTED
        if self._turn is None or statement is None or statement.flawed:
            return Outcome.UNKNOWN
        usage = statement.first
        tokens = self._form.tokens
        hit = self._turn.hit(usage, own_markers=self.own_markers, published_tokens=tokens)
        if hit:
            return Outcome.HIT
        diagnosis = (
            self._stream.diagnosis if self._stream else diagnosis_from_json(b"".join(self._answer))
        )
        self._series.missed(miss_reason(self._turn, usage, self.before, diagnosis))
        return Outcome.MISS


def _pass(data: bytes) -> None:
    """Where nothing of an answer is to be counted."""


def _names(revision: Revision) -> Mapping[str, str]:
    """What an answer's headers say of a request that is on the contract."""
    return {"x-headwater-version": revision.version, "x-headwater-digest": revision.digest}


class Batch:
    """One batch's way: each of its requests is of a conversation of its own."""

    def __init__(self, exchanges: Exchanges, served: Served, headers: Mapping[str, str]) -> None:
        """Keep to the bundle that is served now, to the batch's end."""
        self._exchanges = exchanges
        self._served = served
        self._session = headers.get(SESSION_HEADER)
        self._arrived = exchanges.clock()
        self._revisions: set[Revision] = set()
        self._noted: RefusalError | None = None
        self._last: tuple[Request, Revision] | None = None
        """Of the entry that is being spliced."""
        self._splicer = BatchSplicer(self._spliced, self._refused)
        self.exchange = Exchange(
            exchanges, served.route, (), "", arrived=self._arrived, counted=False
        )

    def feed(self, data: bytes) -> Iterator[bytes | memoryview]:
        """Yield what is to be sent for the next bytes.

        Raises:
            RefusalError: an entry would break the prefix, and the route enforces it; or the batch
                cannot be read.
        """
        try:
            yield from self._splicer.feed(data)
        except RefusalError as error:
            raise self._final(error) from error

    def end(self) -> None:
        """Take the end of the body.

        Raises:
            RefusalError: the batch is not whole.
        """
        try:
            self._splicer.end()
        except RefusalError as error:
            raise self._final(error) from error
        if len(self._revisions) == 1:
            self.exchange.headers = _names(*self._revisions)

    def _spliced(self, request: Request) -> Sequence[bytes | memoryview]:
        served, route = self._served, self._served.route
        conversation = request.conversation(self._session)
        ttl = TTL_SECONDS[route.ttl]
        revision = self._exchanges.pins.choose(route, conversation, ttl=ttl, now=self._arrived)
        self._revisions.add(revision)
        self._last = request, revision
        contract = served.contracts[revision.digest]
        parts = splice(request, contract, route.models, route.placing, served.copies).parts
        self._last = None
        return parts

    def _refused(self, error: RefusalError) -> None:
        self._noted, route = error, self._served.route
        request, revision = self._last or (None, route.stable)
        self._last = None
        self._exchanges.note(error, route, revision, "")
        if route.enforcement == "Enforce":
            if request is not None and _refuses_alone(revision, self._served, request, error):
                series = self._exchanges.metrics.of(revision, request.text("model") or "")
                series.ended(Outcome.REFUSED, eligible=True)
            raise error

    def _final(self, error: RefusalError) -> RefusalError:
        """Note what was not yet, and return the refusal in full words.

        What is no batch is refused also where the route only observes: the provider takes none.
        """
        route = self._served.route
        if error is not self._noted:
            self._exchanges.note(error, route, route.stable, "")
        return _told(error, route)


def _refuses_alone(
    revision: Revision, served: Served, request: Request, error: RefusalError
) -> bool:
    """Return whether the stable revision would have sent what this one refuses."""
    route = served.route
    if revision == route.stable or error.reason in _OF_SESSION:
        return False
    contract = served.contracts[route.stable.digest]
    try:
        splice(request, contract, route.models, route.placing, served.copies)
    except RefusalError:
        return False
    return True


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
