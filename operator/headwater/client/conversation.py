"""A conversation whose cached past is never rewritten: turn n + 1 extends turn n to the byte."""

import asyncio
import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final

import msgspec

from headwater.client.contract import Contract, put_before
from headwater.client.placing import is_marked, mark, mark_last
from headwater.client.plain import plain, plain_blocks, plain_messages, statement_of
from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.errors import BusyError, HistoryError, RequestError
from headwater.contract.placing import Strategy
from headwater.economics.warming import Lane
from headwater.providers.cost import Cost, invoice
from headwater.providers.models import lookup
from headwater.providers.usage import Usage

_log: Final = logging.getLogger(__name__)
_NOT_WARMED: Final = "a conversation could not be warmed"

FORMAT: Final = 1
_FROZEN: Final = frozenset(
    {
        "cache_control",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
"""Another value of these is another cache, or none."""
PING_MARGIN: Final = 60.0
"""Seconds before the end of a TTL at which a ping is sent: a request must not come too late."""


class Conversation:
    """Messages that only grow, on one contract, one model and one set of tools.

    `request` gives the keywords of the next call, `add` takes its answer. One turn at a time; to
    ask from several threads or tasks, give each a conversation or a `subagent` of its own.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        model: str,
        system: str | Sequence[Mapping[str, Any]] = (),
        documents: Sequence[str | Mapping[str, Any]] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        strategy: Strategy = "A",
        ttl: TTL = "5m",
        session: str | None = None,
        triggers: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        **fields: Any,
    ) -> None:
        """Begin one; arguments as of `Contract.request`, and frozen from here on.

        `session` is its name, a new one by default; `triggers` are events of the program that
        make a question likely; `clock` gives Unix seconds.

        Raises:
            RequestError: something is not JSON, or not in the provider's form.
        """
        self.session = session or uuid.uuid4().hex
        self.model = model
        self.usage = Usage()
        self.subagents: list[Conversation] = []
        self._contract = contract
        self._strategy = strategy
        self._ttl = ttl
        self._clock = clock
        self._triggers = frozenset(triggers)
        self._warming: asyncio.Task[None] | None = None
        self._fields = plain(fields, "fields")[0]
        self._slot = {
            "model": model,
            "system": plain_blocks(system) if system else [],
            "tools": plain(list(tools), "tools")[0],
        }
        self._documents = plain(list(documents), "documents")[0]
        self._messages: list[dict[str, Any]] = []
        self._began = 0
        self._sent: float | None = None
        self._last_prompt = 0
        self._cost: Cost | None = Cost(Decimal(0), Decimal(0))
        self._asking: tuple[threading.Thread, asyncio.Task[Any] | None] | None = None
        self._lock = threading.RLock()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """A copy of all of them."""
        with self._lock:
            copied: list[dict[str, Any]] = msgspec.to_builtins(self._messages)
            return copied

    @property
    def cost(self) -> Cost | None:
        """What its answers cost and would have cost uncached; None where a price is not known."""
        return self._cost

    @property
    def warm_until(self) -> dt.datetime | None:
        """Until when the provider likely keeps what is cached of it; None before the first turn."""
        if self._sent is None:
            return None
        return dt.datetime.fromtimestamp(self._sent + TTL_SECONDS[self._ttl], dt.UTC)

    @property
    def likely_warm(self) -> bool:
        """Whether that time is not over."""
        return self._sent is not None and self._clock() < self._sent + TTL_SECONDS[self._ttl]

    def user(self, content: str | Sequence[Any]) -> None:
        """Append what the user says, or tool results, as they came.

        Raises:
            RequestError: it is not in the provider's form, or has a cache marker.
            BusyError: another thread or task waits for an answer.
        """
        self._append({"role": "user", "content": content})

    def inject(self, text: str, *, role: str = "user") -> None:
        """Append what changes from turn to turn: the date, memory, a skill, what a search found.

        At the tail it costs itself alone, anywhere before it all that follows. Models that take
        system messages in mid-conversation may get it with `role="system"`, after a user's turn.

        Raises:
            RequestError, BusyError: as `user`.
        """
        self._append({"role": role, "content": text})

    def add(self, answer: Any) -> None:
        """Append the answer to a request, one of the SDK's messages or the same as a dict.

        Raises:
            RequestError: it is no answer.
            BusyError: as `user`.
        """
        said = plain(answer, "answer")[0]
        if not isinstance(said, dict) or not said.get("content"):
            raise RequestError("answer", "it has no content: there is nothing to go on from.")
        statement = statement_of(answer)
        usage = statement.usage
        bill = invoice(statement, self.model)
        priced = None if bill.unpriced else bill.cost
        with self._lock:
            self._append({"role": "assistant", "content": said["content"]})
            self._asking = None
            self._last_prompt = statement.first.prompt
            self.usage = self.usage + usage
            both = self._cost is not None and priced is not None
            self._cost = _costs(self._cost, priced) if both else None

    def follow(self, messages: Sequence[Any]) -> None:
        """Take over the list of whoever keeps it: it has to begin with what is here.

        Raises:
            HistoryError: it does not; the error shows the first difference.
            RequestError, BusyError: as `user`.
        """
        theirs = plain_messages(messages)
        with self._lock:
            for index, (ours, other) in enumerate(zip_longest(self._messages, theirs)):
                if ours is None:
                    break
                if ours != other:
                    _differ(ours, other, f"messages[{index}]")
            for message in theirs[len(self._messages) :]:
                self._append(message)

    def request(self, **fields: Any) -> dict[str, Any]:
        """The keywords of the next call: what the one before had, and what was appended since.

        `fields` are for this call alone, and none that the cache depends on.

        Raises:
            RequestError: there is no message yet, or a field would change the prefix.
            BusyError: another thread or task waits for an answer.
            HeadwaterError: as `Contract.request`.
        """
        frozen = sorted(_FROZEN & set(fields))
        if frozen:
            raise RequestError(
                frozen[0],
                "it is frozen with the beginning of a conversation, whose cache would be lost:"
                " begin another, or a subagent.",
            )
        with self._lock:
            if not self._messages:
                raise RequestError("messages", "there are none yet: call user first.")
            self._refuse_others()
            request = self._assembled(self.messages, {**self._fields, **fields})
            self._asking = (threading.current_thread(), _task())
            self._sent = self._clock()
            self._began = len(self._messages)
            return request

    def cancel(self) -> None:
        """Say that no answer will come, so that another thread or task may ask."""
        with self._lock:
            self._asking = None

    def warming(self) -> dict[str, Any]:
        """The keywords of a call that writes or refreshes its cache and is not answered.

        At its start that is the contract and, with strategy C, the program's own part; later all
        that was sent. The provider takes no such call with thinking enabled.

        Raises:
            HeadwaterError: as `Contract.request`.
        """
        with self._lock:
            sent = self.messages[: self._began] or [{"role": "user", "content": "."}]
            fields = {key: value for key, value in self._fields.items() if key != "stream"}
            request = self._assembled(sent, {**fields, "max_tokens": 0})
            self._sent = self._clock()
            return request

    def keep_alive(self, back_in: dt.timedelta, *, chance: float = 1.0) -> dict[str, Any] | None:
        """`warming`, where it pays to keep the cache until the next turn; else None.

        `back_in` is when that turn is expected, and `chance` how likely it comes. It pays if the
        pings until then cost less than the rewrite that they save, at the model's list price.

        Raises:
            HeadwaterError: as `Contract.request`.
        """
        facts = lookup(self.model)
        if facts is None or facts.prices_for(self._last_prompt) is None or self._sent is None:
            return None
        left = self._sent + TTL_SECONDS[self._ttl] - self._clock()
        pings = -((left - back_in.total_seconds()) // (TTL_SECONDS[self._ttl] - PING_MARGIN))
        lane = Lane(self._last_prompt, facts, self._ttl)
        pays = Decimal(pings) * lane.ping < Decimal(chance) * lane.penalty
        return self.warming() if left > 0 and pings > 0 and pays else None

    def trigger(self, event: str, send: Callable[..., Any]) -> bool:
        """Warm it in the background where `event` makes a question likely; whether it is done.

        It is not for an event that is none of the `triggers`, nor where the cache is likely warm.
        `send` is `client.messages.create`: a coroutine function where an event loop runs, else it
        gets a thread. What becomes of it is logged and nothing more.

        Raises:
            HeadwaterError: as `Contract.request`.
        """
        with self._lock:
            if event not in self._triggers or self.likely_warm:
                return False
            request = self.warming()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            threading.Thread(target=self._warm, args=(send, request), daemon=True).start()
        else:
            self._warming = loop.create_task(self._warm_async(send, request))
        return True

    def subagent(self, *, model: str, **options: Any) -> "Conversation":
        """A conversation of its own on the same contract: another model, its own lane.

        `options` are those of a `Conversation`.
        """
        other = Conversation(self._contract, model=model, clock=self._clock, **options)
        self.subagents.append(other)
        return other

    def save(self) -> bytes:
        """All of it as JSON, without the sub-agents."""
        with self._lock:
            return msgspec.json.encode(
                {
                    "format": FORMAT,
                    "contract": self._contract.name,
                    "session": self.session,
                    "strategy": self._strategy,
                    "ttl": self._ttl,
                    "triggers": sorted(self._triggers),
                    "slot": self._slot,
                    "documents": self._documents,
                    "fields": self._fields,
                    "messages": self._messages,
                    "began": self._began,
                    "sent": self._sent,
                    "last_prompt": self._last_prompt,
                    "usage": self.usage,
                    "cost": self._cost,
                }
            )

    @classmethod
    def resume(
        cls, contract: Contract, saved: bytes, *, clock: Callable[[], float] = time.time
    ) -> "Conversation":
        """The conversation that was saved.

        Raises:
            RequestError: it is none, or one on another contract.
        """
        try:
            state = msgspec.json.decode(saved, type=_Saved)
        except msgspec.MsgspecError as error:
            raise RequestError("saved", f"it is no saved conversation ({error}).") from error
        if state.format != FORMAT or state.contract != contract.name:
            raise RequestError(
                "saved",
                f"it has format {state.format} on the contract {state.contract}, and this is"
                f" {FORMAT} on {contract.name}: resume it where it was saved.",
            )
        found = cls(
            contract,
            **state.slot,
            documents=state.documents,
            strategy=state.strategy,
            ttl=state.ttl,
            triggers=state.triggers,
            session=state.session,
            clock=clock,
            **state.fields,
        )
        found._messages = state.messages
        found._began, found._sent = state.began, state.sent
        found._last_prompt = state.last_prompt
        found.usage, found._cost = state.usage, state.cost
        return found

    def _warm(self, send: Callable[..., Any], request: Mapping[str, Any]) -> None:
        try:
            send(**request)
        except Exception:  # noqa: BLE001 - nobody waits for it
            _log.warning(_NOT_WARMED, exc_info=True)
            self._sent = None

    async def _warm_async(self, send: Callable[..., Any], request: Mapping[str, Any]) -> None:
        try:
            await send(**request)
        except Exception:  # noqa: BLE001 - nobody waits for it
            _log.warning(_NOT_WARMED, exc_info=True)
            self._sent = None

    def _append(self, message: Mapping[str, Any]) -> None:
        (plainly,) = plain_messages([message])
        if is_marked(plainly):
            raise RequestError("messages", "a conversation places its cache markers itself.")
        with self._lock:
            self._refuse_others()
            self._messages.append(plainly)

    def _assembled(
        self, history: list[dict[str, Any]], fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        slot = msgspec.to_builtins(self._slot)
        own = put_before(history, self._documents) if self._documents else slot["system"]
        if self._messages:
            marked = mark(history, own, strategy=self._strategy, ttl=self._ttl, began=self._began)
        else:
            marked = []  # what stands for the first message is not what will be sent
            mark_last(own if self._strategy == "C" else [], self._ttl)
        if is_marked(history[0]) and history[0] not in marked:
            marked.insert(0, history[0])  # for its documents
        return self._contract.assembled(history, marked, slot, session=self.session, fields=fields)

    def _refuse_others(self) -> None:
        """While one waits for an answer, nobody else may go on; whoever is gone waits no more."""
        if self._asking is None:
            return
        thread, task = self._asking
        alive = thread.is_alive() if task is None else not task.done()
        if alive and self._asking != (threading.current_thread(), _task()):
            raise BusyError(
                f"conversation {self.session}: another thread or task waits for its answer, and"
                " a history has one order: wait, use a subagent, or cancel what will not come."
            )


class _Saved(msgspec.Struct):
    format: int
    contract: str
    session: str
    strategy: Strategy
    ttl: TTL
    triggers: list[str]
    slot: dict[str, Any]
    documents: list[Any]
    fields: dict[str, Any]
    messages: list[dict[str, Any]]
    began: int
    sent: float | None
    last_prompt: int
    usage: Usage
    cost: Cost | None


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _costs(one: Cost | None, other: Cost | None) -> Cost | None:
    if one is None or other is None:
        return None
    return Cost(one.actual + other.actual, one.uncached + other.uncached)


def _differ(ours: Any, theirs: Any, where: str) -> None:
    """Raise at the first place in which two values differ; they do."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                _differ(ours.get(key), theirs.get(key), f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        for index, (one, other) in enumerate(zip_longest(ours, theirs)):
            if one != other:
                _differ(one, other, f"{where}[{index}]")
    at = 0
    if isinstance(ours, str) and isinstance(theirs, str):
        pairs = enumerate(zip(ours, theirs, strict=False))
        at = next((place for place, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
        ours, theirs = ours[at : at + 40], theirs[at : at + 40]
    raise HistoryError(
        where,
        f"at character {at} it was {ours!r} and is {theirs!r}: what was sent is cached and must"
        " stay; append what is new.",
    )
