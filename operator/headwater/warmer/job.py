"""One warming run: every credential x model x revision gets one request that writes or reads.

The request is the provider's own pre-warm: `max_tokens: 0` returns at once, bills no output, and
bills a write only where the lane was cold. It is assembled by the code that assembles consumers'
requests, and its bytes go out as they are: parsed and written again, a number or an escape could
change and warm another lane than consumers read. Keys come from files and leave only as headers.

Source: platform.claude.com/docs/en/build-with-claude/prompt-caching ("pre-warm"), as of 2026-08-22.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import anthropic
import msgspec

from headwater.contract.assembly import PreparedContract, Request, prepare, splice
from headwater.contract.bundle import Bundle
from headwater.contract.errors import HeadwaterError
from headwater.contract.reasons import RefusalError
from headwater.contract.route import credential_fingerprint
from headwater.providers.models import lookup
from headwater.providers.usage import Usage, usage_from_json
from headwater.warmer.report import State, WarmedLane

Revisions = Literal["Stable", "StableAndCandidate"]

_PARALLEL: Final = 8
"""Requests in flight: enough for a hundred lanes in a run, few for a rate limit."""
_REQUEST_SECONDS: Final = 60.0
_REQUEST: Final[Mapping[str, object]] = {
    "max_tokens": 0,
    # The provider insists on a user turn; unmarked, it is never cached.
    "messages": [{"role": "user", "content": "warm"}],
}


class KeyFileError(HeadwaterError):
    """The file of an API key is missing, empty, or holds something else."""


@dataclass(frozen=True, slots=True)
class Run:
    """What all lanes of one run share.

    Attributes:
        base_url: None for the provider's own, or what ANTHROPIC_BASE_URL says.
        time_limit: seconds; lanes that have no answer by then are reported as failed.
        now: the time, in UTC.
    """

    bundle: Bundle
    revisions: Revisions
    now: Callable[[], datetime]
    base_url: str | None = None
    time_limit: float = 120


async def warm(
    run: Run, key_files: Mapping[str, Path], models: Sequence[str]
) -> tuple[WarmedLane, ...]:
    """Warm every lane, and say what became of each; a lane that fails stops no other.

    Args:
        run: what all lanes share.
        key_files: where the API key of each credential lies, by the credential's name.
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
    )
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(warming.credential(name, path)) for name, path in key_files.items()
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


@dataclass(frozen=True, slots=True)
class _Answer:
    state: State
    usage: Usage | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Warming:
    run: Run
    contracts: Sequence[PreparedContract]
    models: Sequence[str]
    gate: asyncio.Semaphore
    deadline: float
    """On the event loop's clock."""

    async def credential(self, name: str, key_file: Path) -> list[WarmedLane]:
        """Warm every lane of one API key."""
        try:
            key = read_key(key_file)
        except KeyFileError as error:
            answer = _Answer("Failed", message=str(error))
            at = self.run.now()
            return [
                _lane(name, "", model, contract, at, answer)
                for model in self.models
                for contract in self.contracts
            ]
        fingerprint = credential_fingerprint(key)

        async def warm_model(model: str) -> list[WarmedLane]:
            lanes = []
            # One after the other: the tools that both revisions share are written once.
            for contract in self.contracts:
                async with self.gate:
                    at = self.run.now()
                    answer = await self._ask(client, model, contract)
                # A gateway may quote what it was sent.
                quiet = replace(answer, message=answer.message.replace(key, "[key]"))
                lanes.append(_lane(name, fingerprint, model, contract, at, quiet))
            return lanes

        async with (
            anthropic.AsyncAnthropic(
                api_key=key, base_url=self.run.base_url, timeout=_REQUEST_SECONDS
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(warm_model(model)) for model in self.models]
        return [lane for task in tasks for lane in task.result()]

    async def _ask(
        self, client: anthropic.AsyncAnthropic, model: str, contract: PreparedContract
    ) -> _Answer:
        host = client.base_url.host or "a URL without a host"
        request = Request.read(msgspec.json.encode({"model": model, **_REQUEST}))
        try:
            body = splice(request, contract, self.run.bundle.route.models).body
            async with asyncio.timeout_at(self.deadline):
                # `messages.create` takes parsed JSON and writes it anew; `post` sends these bytes.
                answer = await client.post(
                    "/v1/messages",
                    cast_to=bytes,
                    content=body,
                    options={"headers": {"Content-Type": "application/json"}},
                )
        except RefusalError as error:
            return _Answer("Failed", message=str(error))
        except TimeoutError:
            return _Answer(
                "Failed",
                message=f"the run's {self.run.time_limit:g} s were over before this lane's answer:"
                " warm fewer lanes, or find out why the provider is slow.",
            )
        except anthropic.APIStatusError as error:
            return _Answer("Failed", message=_refusal(error, model))
        except anthropic.APIConnectionError:
            return _Answer(
                "Failed",
                message=f"no answer from {host}: check that the job's pods may reach it (network"
                " policies, proxy, DNS) and that the base URL is right.",
            )
        usage = usage_from_json(answer)
        if usage is None:
            return _Answer(
                "Failed", message=f"{host} answered without any usage: check the base URL."
            )
        if usage.prompt > usage.uncached:
            return _Answer("Warm", usage)
        return _Answer("Cold", usage, _uncached(usage, model))


def _lane(
    credential: str,
    fingerprint: str,
    model: str,
    contract: PreparedContract,
    at: datetime,
    answer: _Answer,
) -> WarmedLane:
    return WarmedLane(
        credential=credential,
        fingerprint=fingerprint,
        model=model,
        digest=contract.digest,
        at=at,
        state=answer.state,
        usage=answer.usage,
        message=answer.message,
    )


def _refusal(error: anthropic.APIStatusError, model: str) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    detail = body.get("error")
    said = detail.get("message") if isinstance(detail, dict) else None
    match error.status_code:
        case 401 | 403:
            advice = "put a valid API key of the right workspace into the Secret"
        case 402:
            advice = "settle the account's billing with the provider"
        case 404:
            advice = f"remove {model} from the models, or use a key that may use it"
        case 429:
            advice = "the next run tries again; if it stays, ask the provider for a higher limit"
        case status if status >= 500:  # noqa: PLR2004 - HTTP's own boundary
            advice = "the provider has trouble, and the next run tries again"
        case _:
            advice = "the prefix or the model does not fit the provider: correct what it names"
    words = f": {str(said)[:200]!r}" if said else ""
    return f"the provider answered {error.status_code}{words}; {advice}."


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
