"""A contract in a program's hands: `request` puts it in front of what the program wants to send."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from headwater.client.placing import is_marked, mark
from headwater.client.plain import plain, plain_blocks, plain_messages
from headwater.contract.assembly import TTL_SECONDS, Frame, PreparedContract, Request, frame
from headwater.contract.content import MARKER_KEY, TTL
from headwater.contract.digest import Digest
from headwater.contract.errors import RequestError
from headwater.contract.placing import Strategy
from headwater.sidecar.bundles import Served
from headwater.sidecar.pinning import Pins

_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[Any]).decode


class Source(Protocol):
    """Gives what is served now, at a clock's seconds."""

    def served(self, now: float) -> Served:
        """The verified contract.

        Raises:
            HeadwaterError: there is none, or not the one that is asked for.
        """


class Contract:
    """The published prefix, as it is now: a mounted bundle is followed, a file stays as it is.

    Safe to share between threads and tasks; one for each prefix and process is enough.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        """Made by `headwater.load`. `clock` gives seconds that never go back."""
        self._source = source
        self._clock = clock
        self.pins = Pins()
        self._lock = threading.Lock()
        self._opened: dict[Digest, _Opened] = {}
        self._last: tuple[object, Frame | None] = (None, None)

    @property
    def name(self) -> str:
        """The prefix: `namespace/name`, or the name alone."""
        route = self.served().route
        return "/".join(part for part in (route.namespace, route.prefix) if part)

    @property
    def version(self) -> str:
        """What most new conversations get."""
        return self.served().route.stable.version

    @property
    def digest(self) -> Digest:
        """The sha256 of the bytes behind `version`."""
        return self.served().route.stable.digest

    @property
    def models(self) -> Sequence[str]:
        """The models that it is published for; of a plain file, none is named and all go."""
        return tuple(self.served().route.models)

    def request(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        system: str | Sequence[Mapping[str, Any]] = (),
        documents: Sequence[str | Mapping[str, Any]] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        strategy: Strategy = "B",
        ttl: TTL = "5m",
        session: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """The keywords for `client.messages.create`: the contract, then what is the program's.

        What is sent has the order tools, system, documents, history, question. `tools` are the
        program's own and have to say `defer_loading`; `documents` go in front of the first
        message. `strategy` and `ttl` are about the markers of the program's own part. `session`
        names the conversation, which stays on its revision; without it, `metadata.user_id` does,
        or the first user message. All other fields are passed on untouched.

        Raises:
            BundleError: no bytes that verify are at hand.
            PinError: the revision that was asked for is no longer there.
            RequestError: something is not JSON, or not in the provider's form.
            RefusalError: it would break the prefix that all consumers share.
        """
        history = plain_messages(messages)
        blocks = plain_blocks(system) if system else []
        own = put_before(history, documents) if documents else blocks
        mark(history, own, strategy=strategy, ttl=ttl)
        marked = [each for each in history if type(each["content"]) is list and is_marked(each)]
        slot = {"model": model, "system": blocks} | ({"tools": list(tools)} if tools else {})
        return self.assembled(history, marked, slot, session=session, fields=fields)

    def assembled(
        self,
        history: list[dict[str, Any]],
        marked: Sequence[Mapping[str, Any]],
        slot: Mapping[str, Any],
        *,
        session: str | None,
        fields: Mapping[str, Any],
    ) -> dict[str, Any]:
        """`request` for messages that are plain, and of which the marked ones are known.

        They become part of what is given back. `slot` has model, system and, if any, tools.
        """
        looked_at = {key: fields[key] for key in (MARKER_KEY, "metadata") if key in fields}
        read = Request.read(plain({**slot, **looked_at}, "request")[1]).fields
        # Of the messages only few are looked at: a long history need not be read.
        first = next((message for message in history if message["role"] == "user"), None)
        told = Request({**read, "messages": _raw([first] if first else [])})
        served, opened = self._choose(told.conversation(session))
        request = Request({**read, "messages": _raw(marked)})
        spliced = self._framed(request, opened.hollow, served).filled(request)
        team = _decode_top(spliced.body)
        ours = {
            "tools": [*msgspec.to_builtins(opened.tools), *_decode_list(team.get("tools", b"[]"))],
            "system": [*msgspec.to_builtins(opened.system), *_decode_list(team["system"])],
        }
        sent = {key: blocks for key, blocks in ours.items() if blocks}
        return {"model": slot["model"], **fields, **sent, "messages": history}

    def served(self) -> Served:
        """What is served now: route and prepared contracts.

        Raises:
            HeadwaterError: nothing, or not the revision that was asked for.
        """
        with self._lock:
            return self._source.served(self._clock())

    def _framed(self, request: Request, contract: PreparedContract, served: Served) -> Frame:
        """What goes round the messages; most requests of a program have one in common."""
        models = served.route.models
        # Whether it holds a copy depends on the other versions, too.
        like = (contract.digest, *served.contracts, models, request.frame_key)
        last, found = self._last
        if found is None or last != like:
            found = frame(request, contract, models, copies=served.copies)
            self._last = (like, found)
        return found

    def _choose(self, conversation: str) -> tuple[Served, "_Opened"]:
        with self._lock:
            now = self._clock()
            served = self._source.served(now)
            ttl = TTL_SECONDS[served.route.ttl]
            digest = self.pins.choose(served.route, conversation, ttl=ttl, now=now).digest
            if digest not in self._opened:
                self._opened = {each: _open(found) for each, found in served.contracts.items()}
            return served, self._opened[digest]


def _raw(messages: Sequence[Mapping[str, Any]]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(messages))


class _Opened(NamedTuple):
    """A contract as values, and what checks a request against it without its bytes."""

    hollow: PreparedContract
    tools: list[Any]
    system: list[Any]


def _open(contract: PreparedContract) -> _Opened:
    tools, system = (_decode_list(b"[" + part + b"]") for part in (contract.tools, contract.system))
    return _Opened(replace(contract, tools=b"", system=b""), tools, system)


def put_before(
    history: list[dict[str, Any]], documents: Sequence[str | Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The documents as blocks, put in front of what the first user message says."""
    if not history or history[0]["role"] != "user":
        raise RequestError("messages[0]", "documents go before the user's first message: add one.")
    blocks = plain_blocks([_document(document) for document in documents], "documents")
    said = history[0]["content"]
    rest = [{"type": "text", "text": said}] if isinstance(said, str) else said
    history[0] = {**history[0], "content": [*blocks, *rest]}
    return blocks


def _document(document: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(document, str):
        return document
    source = {"type": "text", "media_type": "text/plain", "data": document}
    return {"type": "document", "source": source}
