"""One warming run: every credential x model x revision gets one request that writes or reads.

The request is the provider's own pre-warm: `max_tokens: 0` returns at once, bills no output, and
bills a write only where the lane was cold. It is assembled by the code that assembles consumers'
requests, and its bytes go out as they are: parsed and written again, a number or an escape could
change and warm another lane than consumers read. Keys come from files and leave only as headers.

No request is sent that could cost more than the run's allowance still holds.

Source: platform.claude.com/docs/en/build-with-claude/prompt-caching ("pre-warm"), as of 2026-08-22.
"""

import asyncio
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import aiohttp
import msgspec
import yarl

from headwater.contract.assembly import PreparedContract, Request, prepare, splice
from headwater.contract.bundle import Bundle
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError
from headwater.contract.reasons import RefusalError
from headwater.contract.route import credential_fingerprint
from headwater.economics.bill import MILLION
from headwater.providers.cost import Unpriced, invoice
from headwater.providers.gateways import layer_of
from headwater.providers.models import lookup
from headwater.providers.tokens import ESTIMATE_MARGIN, estimate_tokens
from headwater.providers.usage import Statement, Usage, statement_from_json
from headwater.warmer.identity import BETA, Identity, IdentityError
from headwater.warmer.report import State, WarmedLane

Revisions = Literal["Stable", "StableAndCandidate"]
Access = Path | Identity
"""The file of an API key, or a workload's identity."""

_PROVIDER: Final = "https://api.anthropic.com"
_VERSION: Final = "2023-06-01"
"""Of the API: the one that every release of the provider's SDK may speak."""
_PARALLEL: Final = 8
"""Requests in flight: enough for a hundred lanes in a run, few for a rate limit."""
_REQUEST_SECONDS: Final = 60.0
_RETRIES: Final = 2
_BACKOFF_SECONDS: Final = 2.0
"""Before the first retry where the provider names no time; it doubles."""
_MESSAGES: Final = [{"role": "user", "content": "warm"}]
"""The provider insists on a user turn; unmarked, it is never cached."""


_MARGIN: Final = 1 + ESTIMATE_MARGIN


class KeyFileError(HeadwaterError):
    """The file of an API key is missing, empty, or holds something else."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What else keys a lane, as the real requests send it.

    Attributes:
        fields: of the request's body, such as `thinking`.
        betas: values of the `anthropic-beta` header.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    betas: Sequence[str] = ()

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        betas = {"anthropic-beta": ",".join(self.betas)} if self.betas else {}
        return {"content-type": "application/json", "anthropic-version": _VERSION, **betas}


@dataclass(frozen=True, slots=True)
class Run:
    """What all lanes of one run share.

    Attributes:
        base_url: None for the provider's own, or what ANTHROPIC_BASE_URL says.
        time_limit: seconds; lanes that have no answer by then are reported as failed.
        now: the time, in UTC.
        skip: lanes to leave out, as credential, model and the digest's first 12 hex characters.
        allowance: US dollars that the run may cost at most; None for any.
        verify_delay: seconds from a write to the request that has to read it, and between tries.
        verify_attempts: how often that is tried; 0 for not at all.
    """

    bundle: Bundle
    revisions: Revisions
    now: Callable[[], datetime]
    base_url: str | None = None
    time_limit: float = 120
    settings: Settings = Settings()
    skip: Collection[tuple[str, str, str]] = ()
    allowance: Decimal | None = None
    verify_delay: float = 5
    verify_attempts: int = 0


async def warm(
    run: Run, accesses: Mapping[str, Access], models: Sequence[str]
) -> tuple[WarmedLane, ...]:
    """Warm every lane, and say what became of each; a lane that fails stops no other.

    Args:
        run: what all lanes share.
        accesses: where the API key of each credential lies, or what stands for it, by the
            credential's name.
        models: one lane for each; where empty, the models of the bundle's route.

    Raises:
        BundleError: a contract of a format that this release does not know.
    """
    route = run.bundle.route
    revisions = route.offered if run.revisions == "StableAndCandidate" else (route.stable,)
    warming = _Warming(
        run=run,
        contracts=[prepare(run.bundle.contracts[revision.digest]) for revision in revisions],
        models=models or route.models,
        gate=asyncio.Semaphore(_PARALLEL),
        deadline=asyncio.get_running_loop().time() + run.time_limit,
        purse=Purse(run.allowance),
    )
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(warming.credential(name, access)) for name, access in accesses.items()
        ]
    return tuple(lane for task in tasks for lane in task.result())


def read_key(path: Path) -> str:
    """The API key in a file, without the one line break that editors add.

    Raises:
        KeyFileError: there is none.
    """
    try:
        key = path.read_text("ascii").removesuffix("\n")
    except OSError as error:
        raise KeyFileError(
            f"the API key's file {path} cannot be read ({error.strerror}): check that the Secret"
            " and the key that secretRef names exist."
        ) from error
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path} holds more than an API key: store the bare key.") from error
    if not key:
        raise KeyFileError(f"{path} is empty: store an API key under the Secret's key.")
    if not key.isprintable() or " " in key:
        raise KeyFileError(f"{path} holds blanks or line breaks: store the bare key.")
    return key


@dataclass(slots=True)
class Purse:
    """What a run may still cost, in US dollars; None for any amount."""

    left: Decimal | None

    def take(self, usd: Decimal | None) -> bool:
        """Set aside what a request may cost at worst (None: nobody knows); whether it may go."""
        if self.left is None:
            return True
        if usd is None or usd > self.left:
            return False
        self.left -= usd
        return True

    def give_back(self, usd: Decimal) -> None:
        """What was set aside and not spent."""
        if self.left is not None:
            self.left += usd


def tokens_of(bundle: Bundle, digest: Digest, model: str) -> int:
    """A contract's tokens: as the provider counted them, else the most that it may have."""
    counted = bundle.route.tokens.get(digest, {}).get(model)
    return counted or int(estimate_tokens(bundle.contracts[digest], model) * _MARGIN) + 1


def worst_cost(bundle: Bundle, digest: Digest, model: str) -> Decimal | None:
    """What a warming request may cost: a write of all of it. None where no price is known."""
    facts = lookup(model)
    if facts is None:
        return None
    tokens = tokens_of(bundle, digest, model)
    prices = facts.prices_for(tokens + facts.warm_uncached_tokens)
    if prices is None:
        return None
    return (
        tokens * prices.write(bundle.route.ttl)
        + facts.warm_uncached_tokens * prices.input
        # One where the provider insists on an answer.
        + max(facts.warm_output_tokens, 1) * prices.output
    ) / MILLION


@dataclass(frozen=True, slots=True)
class _Answer:
    state: State
    usage: Usage | None = None
    message: str = ""
    retry_after: int = 0


@dataclass(slots=True)
class _Lane:
    """One lane on its way: what it is, what was sent, and what that cost."""

    model: str
    contract: PreparedContract
    worst: Decimal | None
    requests: int = 0
    usd: Decimal | None = None
    max_tokens: int = 0
    unpriced: frozenset[Unpriced] = frozenset()

    def billed(self, statement: Statement | None) -> Decimal:
        """Add an answer's cost, and where it cannot be told the most that it can be.

        0 where no price of the model is known.
        """
        found = invoice(statement, self.model)
        self.unpriced |= found.unpriced
        spent = found.cost.actual
        if found.unpriced:
            if self.worst is None:
                return Decimal(0)
            spent = max(spent, self.worst)
        self.usd = (self.usd or Decimal(0)) + spent
        return spent

    @property
    def warning(self) -> str:
        """What of its bill is not known; empty where all is, or where no price of it is."""
        unknown = ", ".join(sorted(self.unpriced))
        if not unknown or self.worst is None:
            return ""
        return (
            f"not all of its bill has a price that is known ({unknown}): the most it can be counts."
        )


class _RefusedError(Exception):
    """The provider's refusal of one request, in our words."""

    def __init__(
        self, status: int, message: str, *, again: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.again = again
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class _Warming:
    run: Run
    contracts: Sequence[PreparedContract]
    models: Sequence[str]
    gate: asyncio.Semaphore
    deadline: float
    """On the event loop's clock."""
    purse: Purse

    async def credential(self, name: str, access: Access) -> list[WarmedLane]:
        """Warm every lane of one credential."""
        key, fingerprint = "", ""
        try:
            if isinstance(access, Path):
                key = read_key(access)
                fingerprint = credential_fingerprint(key)
            else:
                access.check()
        except HeadwaterError as error:
            answer = _Answer("Failed", message=str(error))
            return [
                self._lane(name, "", lane, self.run.now(), answer)
                for model in self.models
                for lane in self._lanes(name, model)
            ]
        client = _Client(self.run, key, access if isinstance(access, Identity) else None)

        async def warm_model(model: str) -> list[WarmedLane]:
            warmed = []
            # One after the other: the tools that both revisions share are written once.
            for lane in self._lanes(name, model):
                async with self.gate:
                    at = self.run.now()
                    answer = await self._ask(client, lane)
                # A gateway may quote what it was sent.
                said = answer.message.replace(client.key, "[key]") if client.key else answer.message
                warmed.append(
                    self._lane(name, fingerprint, lane, at, replace(answer, message=said))
                )
            return warmed

        async with client.session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(warm_model(model)) for model in self.models]
        return [lane for task in tasks for lane in task.result()]

    def _lanes(self, credential: str, model: str) -> list[_Lane]:
        return [
            _Lane(
                model,
                contract,
                worst_cost(self.run.bundle, contract.digest, model),
            )
            for contract in self.contracts
            if (credential, model, contract.digest.short) not in self.run.skip
        ]

    @staticmethod
    def _lane(
        credential: str, fingerprint: str, lane: _Lane, at: datetime, answer: _Answer
    ) -> WarmedLane:
        return WarmedLane(
            credential=credential,
            fingerprint=fingerprint,
            model=lane.model,
            digest=lane.contract.digest,
            at=at,
            state=answer.state,
            usage=answer.usage,
            message=answer.message,
            requests=lane.requests,
            usd=lane.usd,
            retry_after=answer.retry_after,
        )

    async def _ask(self, client: "_Client", lane: _Lane) -> _Answer:
        """One lane's request, its retries, and its verification."""
        if client.refused:
            return _Answer("Failed", message=client.refused)
        try:
            async with asyncio.timeout_at(self.deadline):
                statement = await self._send(client, lane)
        except _NoBudgetError as error:
            return _Answer("Skipped", message=str(error))
        except RefusalError as error:
            return _Answer("Failed", message=str(error))
        except TimeoutError:
            return _Answer(
                "Failed",
                message=f"the run's {self.run.time_limit:g} s were over before this lane's answer:"
                " warm fewer lanes, or find out why the provider is slow.",
            )
        except _RefusedError as error:
            if error.status in _OF_THE_CREDENTIAL:
                client.refused = str(error)
            wait = int(error.retry_after or 0) + bool(error.retry_after)
            return _Answer("Failed", message=str(error), retry_after=wait)
        if statement is None:
            message = f"{client.host} answered without any usage: check the base URL."
            return _Answer("Failed", message=message)
        if statement.flawed:
            message = (
                f"{client.host} answered with a usage that cannot be true: find out what stands"
                " between this job and the provider. The most that it can have cost is counted."
            )
            return _Answer("Failed", message=message)
        usage = statement.usage
        if usage.prompt == usage.uncached:
            return _Answer("Cold", usage, _uncached(usage, lane.model))
        if usage.cache_write_5m + usage.cache_write_1h and self.run.verify_attempts:
            return _Answer("Warm", usage, await self._verify(client, lane) or lane.warning)
        return _Answer("Warm", usage, lane.warning)

    async def _verify(self, client: "_Client", lane: _Lane) -> str:
        """Whether what was written can be read; what is wrong where it cannot."""
        try:
            async with asyncio.timeout_at(self.deadline):
                for _ in range(self.run.verify_attempts):
                    await asyncio.sleep(self.run.verify_delay)
                    statement = await self._send(client, lane)
                    if statement is not None and statement.usage.cache_read:
                        return ""
        except (_NoBudgetError, _RefusedError, TimeoutError) as error:
            why = str(error) or "the run's time was over"
            return f"written, and not verified: {why}"
        return (
            f"written, and not read by {self.run.verify_attempts} requests after it: if that stays,"
            " check that no gateway changes the request or spreads it over several workspaces."
        )

    async def _send(self, client: "_Client", lane: _Lane) -> Statement | None:
        """Send it, and again where the provider asks for that and the run has time.

        Raises:
            _NoBudgetError: it may cost more than is left.
            _RefusedError: the provider's last word.
            RefusalError: the model is none of the prefix's.
            TimeoutError: the run is over.
        """
        loop, retries = asyncio.get_running_loop(), 0
        while True:
            try:
                return await self._send_once(client, lane)
            except _RefusedError as error:
                wait = error.retry_after or _BACKOFF_SECONDS * 2**retries
                last = retries == _RETRIES or loop.time() + wait >= self.deadline
                if last or not error.again:
                    raise
                retries += 1
                await asyncio.sleep(wait)

    async def _send_once(self, client: "_Client", lane: _Lane) -> Statement | None:
        if not self.purse.take(lane.worst):
            raise _NoBudgetError(_no_budget(lane, self.purse))
        lane.requests += 1
        kept = lane.worst or Decimal(0)
        try:
            statement = await client.post(self._body(lane), lane.model)
        except _RefusedError as error:
            if error.status:  # a refusal costs nothing; what was answered and lost may have
                self.purse.give_back(kept)
            if lane.max_tokens == 0 and error.status == _BAD_REQUEST and "max_tokens" in str(error):
                lane.max_tokens = 1  # this one wants an answer, however short
                return await self._send_once(client, lane)
            raise
        self.purse.give_back(max(kept - lane.billed(statement), Decimal(0)))
        return statement

    def _body(self, lane: _Lane) -> bytes:
        asked = {
            "model": lane.model,
            "max_tokens": lane.max_tokens,
            **self.run.settings.fields,
            "messages": _MESSAGES,
        }
        request = Request.read(msgspec.json.encode(asked))
        return splice(request, lane.contract, self.run.bundle.route.models).body


_ANSWER_LIMIT: Final = 1 << 20
"""Bytes: an answer to a warming request has no text."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
"""Of Retry-After; what has more digits is no time that anybody means."""
_LONGEST_WAIT: Final = 86_400.0
_OK: Final = 200
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_PASSING: Final = (408, 409, 429)
"""Beside the server's own errors, what may be right the next time."""
_OF_THE_CREDENTIAL: Final = (401, 402, 403)
"""What no other lane of the same credential would be spared."""


class _NoBudgetError(Exception):
    """A request that may cost more than is left."""


@dataclass(slots=True)
class _Client:
    """The provider, for one credential. `refused` says why nothing more is sent with it.

    Not the provider's SDK: its import takes most of a second and 80 MB, each time a job starts.
    """

    run: Run
    key: str
    identity: Identity | None
    url: yarl.URL = field(init=False)
    session: aiohttp.ClientSession = field(init=False)
    refused: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Nothing is sent yet. A proxy of the environment is used, as the SDK would."""
        self.url = yarl.URL(self.run.base_url or os.environ.get("ANTHROPIC_BASE_URL") or _PROVIDER)
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        self.session = aiohttp.ClientSession(timeout=timeout, trust_env=True)

    @property
    def host(self) -> str:
        """Whom it asks, for people."""
        return self.url.host or "a URL without a host"

    async def post(self, body: bytes, model: str) -> Statement | None:
        """What a request is billed for; None where the answer has no usage.

        Raises:
            _RefusedError: there is no answer, or a refusal.
        """
        try:
            async with self.session.post(
                self.url / "v1/messages",
                data=body,
                headers={**self.run.settings.headers, **await self._authorization()},
                allow_redirects=False,
            ) as response:
                answer = await _whole(response)
        except TimeoutError as error:
            message = (
                f"{self.host} did not answer in {_REQUEST_SECONDS:g} s: the provider, or what"
                " stands between, hangs; the next run tries again."
            )
            raise _RefusedError(0, message, again=True) from error
        except (aiohttp.ClientError, ValueError) as error:
            message = (
                f"no answer from {self.host}: check that the job's pods may reach it (network"
                " policies, proxy, DNS) and that the base URL is right."
            )
            raise _RefusedError(0, message, again=True) from error
        if response.status == _OK:
            layer = layer_of({name.lower(): value for name, value in response.raw_headers})
            if layer is None:
                return statement_from_json(answer)
            message = (
                f"{layer} answered out of a store of its own, so that the provider warmed nothing:"
                " exempt warming requests from its response cache."
            )
            raise _RefusedError(_OK, message, again=False)
        wait = _retry_after(response.headers)
        raise _RefusedError(
            response.status,
            _refusal(response.status, answer, model, wait),
            again=_is_passing(response.status, response.headers),
            retry_after=wait,
        )

    async def _authorization(self) -> dict[str, str]:
        if self.identity is None:
            return {"x-api-key": self.key}
        if not self.key:
            try:
                self.key = await asyncio.to_thread(self.identity.token, str(self.url.origin()))
            except IdentityError as error:
                raise _RefusedError(401, str(error), again=False) from error
        betas = ",".join((*self.run.settings.betas, BETA))
        return {"authorization": f"Bearer {self.key}", "anthropic-beta": betas}


def _no_budget(lane: _Lane, purse: Purse) -> str:
    if lane.worst is None:
        return (
            f"no price of {lane.model} is known, so no budget can be kept: drop the budget, or the"
            " model."
        )
    left = purse.left or Decimal(0)
    return (
        f"the budget has {left:.4f} USD left for this run, and a request may cost"
        f" {lane.worst:.4f}: it goes on with the next day, or with a higher budget."
    )


def _is_passing(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may be right a little later; the provider may say so itself."""
    match headers.get("x-should-retry"):
        case "true":
            return True
        case "false":
            return False
    return status in _PASSING or status >= _SERVER_ERROR


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > _ANSWER_LIMIT:
            raise ValueError(f"the answer has more than {_ANSWER_LIMIT:,} bytes")
    return bytes(data)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds for which the provider wants no request, a day at most; None where it says none."""
    text = headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT) if _SECONDS.fullmatch(text) else None


class _Detail(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Detail


def _refusal(status: int, body: bytes, model: str, wait: float | None) -> str:
    try:
        said = msgspec.json.decode(body, type=_Error).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = ""  # a gateway's own page, perhaps
    match status:
        case 401 | 403:
            advice = "put a valid API key of the right workspace into the Secret"
        case 402:
            advice = "settle the account's billing with the provider"
        case 400 if "limit" in said or "credit" in said:
            advice = "raise the spend limit with the provider, or wait until it is renewed"
        case 404:
            advice = f"remove {model} from the models, or use a key that may use it"
        case 429:
            when = f"in {wait:g} s" if wait else "with the next run"
            advice = f"it is tried again {when}; if it stays, ask the provider for a higher limit"
        case _ if status >= _SERVER_ERROR:
            advice = "the provider has trouble, and the next run tries again"
        case _:
            advice = "the prefix or the model does not fit the provider: correct what it names"
    words = f": {said[:200]!r}" if said else ""
    return f"the provider answered {status}{words}; {advice}."


def _uncached(usage: Usage, model: str) -> str:
    facts = lookup(model)
    if facts is None:
        why = f"the least that {model} caches is not known here"
    elif usage.prompt < facts.min_cacheable_tokens:
        why = f"{model} caches from {facts.min_cacheable_tokens:,} tokens on"
    else:
        return (
            f"the provider cached nothing of {usage.prompt:,} tokens, though {model} caches from"
            f" {facts.min_cacheable_tokens:,} on: check that no gateway strips cache_control."
        )
    return (
        f"the provider cached nothing: {why}, and this request had {usage.prompt:,}: lengthen the"
        f" prefix, or do not warm it for {model}."
    )
