"""What a warming job leaves in its termination message: the one thing that leaves the pod.

The kubelet keeps 4,096 bytes of it, so names stand once and lanes refer to them; where even that
is too much, the sentences go first, then whole lanes, and the report says so. What was cut in the
middle would be no JSON, and so no report at all. No key ever stands in it, only its fingerprint.

Source of the limit: kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from headwater.contract.digest import Digest
from headwater.contract.errors import DigestError, HeadwaterError
from headwater.providers.usage import Usage

FORMAT: Final = 1
SIZE_LIMIT: Final = 4096
"""Bytes of a termination message."""
MESSAGE_LIMIT: Final = 400
"""Characters that one sentence may have: six bytes each at worst, and names beside them."""
_MILLISECOND: Final = timedelta(milliseconds=1)

State = Literal["Warm", "Cold", "Failed", "Skipped"]
_WORST_FIRST: Final[Sequence[State]] = ("Failed", "Cold", "Skipped", "Warm")
_NANO: Final = Decimal("1e-9")
_MOST_NANOS: Final = 10**15
"""Of one lane in one run: a million dollars. More, or less than nothing, cannot be true."""
_MOST_TOKENS: Final = 10**9
_MOST_REQUESTS: Final = 1_000
_LONGEST_WAIT: Final = 7 * 86_400
"""Seconds."""


class ReportError(HeadwaterError):
    """A termination message that is no report, or one of a newer release."""


class WarmedLane(msgspec.Struct, frozen=True):
    """What became of one lane.

    Attributes:
        credential: the credential's name.
        fingerprint: `headwater.contract.route.credential_fingerprint` of the key; empty where
            the key could not be read.
        at: when the request was started (UTC); the provider counts the TTL from there. In a
            report it is exact to the millisecond.
        state: `Warm`: the contract was read from cache or written to it. `Cold`: the provider
            answered and cached nothing. `Failed`: no answer. `Skipped`: nothing was sent, for
            want of budget.
        usage: of the warming request; None where there was no answer.
        message: what went wrong and what to do; empty where nothing did.
        requests: how many were sent, retries and verification included.
        usd: what all of them cost, to the billionth; None where no price is known.
        retry_after: seconds for which the provider wants no request.
    """

    credential: str
    fingerprint: str
    model: str
    digest: Digest
    at: datetime
    state: State
    usage: Usage | None = None
    message: str = ""
    requests: int = 1
    usd: Decimal | None = None
    retry_after: int = 0


class Report(msgspec.Struct, frozen=True):
    """The lanes of one run; `cut` more did not fit, which cost `cut_usd`.

    `message` is about the run as a whole.
    """

    lanes: tuple[WarmedLane, ...] = ()
    cut: int = 0
    message: str = ""
    cut_usd: Decimal = Decimal(0)

    @property
    def usd(self) -> Decimal:
        """What the run cost, as far as prices are known."""
        return self.cut_usd + sum((lane.usd or Decimal(0) for lane in self.lanes), Decimal(0))


class Finished(msgspec.Struct, frozen=True):
    """A run that has ended: its report, and the schedule's time that it was for, where known."""

    report: Report
    scheduled_at: datetime | None = None

    @property
    def began_at(self) -> datetime | None:
        """When its first request was started; None where it had no lanes."""
        return min((lane.at for lane in self.report.lanes), default=None)


class _Lane(msgspec.Struct, array_like=True):
    """Numbers refer to the lists of `_Document`; a newer release may add members at the end."""

    credential: int
    model: int
    digest: int
    after_ms: int
    state: State
    tokens: list[int] | None
    """Read, written for 5m, written for 1h, neither, and output where there was any."""
    message: int | None
    requests: int = 1
    nanos: int | None = None
    retry_after: int = 0


class _Credential(msgspec.Struct, array_like=True, frozen=True):
    name: str
    fingerprint: str


class _Document(msgspec.Struct, omit_defaults=True):
    format: int
    message: str = ""
    cut: int = 0
    cut_nanos: int = 0
    at: datetime | None = None
    credentials: list[_Credential] = []
    models: list[str] = []
    digests: list[str] = []
    messages: list[str] = []
    lanes: list[_Lane] = []


def encode(report: Report) -> bytes:
    """Compact JSON of at most `SIZE_LIMIT` bytes, whatever the report holds."""
    whole = _document(report)
    if len(whole) <= SIZE_LIMIT:
        return whole
    silent = msgspec.structs.replace(
        report,
        lanes=tuple(
            msgspec.structs.replace(lane, message="")
            for lane in sorted(report.lanes, key=lambda lane: _WORST_FIRST.index(lane.state))
        ),
        message=report.message or "what went wrong with each lane stands in the pod's log",
    )

    def first(count: int) -> bytes:
        cut = report.cut + len(report.lanes) - count
        gone = sum((lane.usd or Decimal(0) for lane in silent.lanes[count:]), report.cut_usd)
        kept = silent.lanes[:count]
        return _document(msgspec.structs.replace(silent, lanes=kept, cut=cut, cut_usd=gone))

    fitting = bisect_right(range(len(report.lanes) + 1), SIZE_LIMIT, key=lambda n: len(first(n)))
    return first(fitting - 1)


def decode(message: str | bytes) -> Report:
    """The report in a termination message; what a newer release added is ignored.

    Numbers that cannot be true are left out, and the message of their lane names them.

    Raises:
        ReportError: it is no report (a crash leaves the end of its log there), or of a format
            that this release does not know.
    """
    try:
        found = msgspec.json.decode(message, type=dict[str, Any]).get("format")
        if found != FORMAT:
            raise ReportError(
                f"the warming report has format {found!r}, and this release reads {FORMAT}: give"
                " the controller and the warmer's image the same version."
            )
        document = msgspec.json.decode(message, type=_Document)
        return Report(
            lanes=tuple(_lane(document, lane) for lane in document.lanes),
            cut=max(document.cut, 0),
            message=document.message,
            cut_usd=_usd(document.cut_nanos) or Decimal(0),
        )
    except (msgspec.MsgspecError, DigestError, IndexError, ValueError, OverflowError) as error:
        raise ReportError(
            f"the termination message is no warming report ({error}): see the pod's log."
        ) from error


def _document(report: Report) -> bytes:
    credentials: dict[_Credential, int] = {}
    models: dict[str, int] = {}
    digests: dict[str, int] = {}
    messages: dict[str, int] = {}
    began = min((_milliseconds(lane.at) for lane in report.lanes), default=None)
    lanes = []
    for lane in report.lanes:
        key = _Credential(lane.credential, lane.fingerprint)
        lanes.append(
            _Lane(
                credential=credentials.setdefault(key, len(credentials)),
                model=models.setdefault(lane.model, len(models)),
                digest=digests.setdefault(str(lane.digest), len(digests)),
                after_ms=round((_milliseconds(lane.at) - began) / _MILLISECOND) if began else 0,
                state=lane.state,
                tokens=None if lane.usage is None else _tokens(lane.usage),
                message=messages.setdefault(_shortened(lane.message), len(messages))
                if lane.message
                else None,
                requests=lane.requests,
                nanos=None if lane.usd is None else _nanos(lane.usd),
                retry_after=lane.retry_after,
            )
        )
    return msgspec.json.encode(
        _Document(
            format=FORMAT,
            message=_shortened(report.message),
            cut=report.cut,
            cut_nanos=_nanos(report.cut_usd),
            at=began,
            credentials=list(credentials),
            models=list(models),
            digests=list(digests),
            messages=list(messages),
            lanes=lanes,
        )
    )


def _lane(document: _Document, lane: _Lane) -> WarmedLane:
    if document.at is None or document.at.tzinfo is None:
        raise ReportError(
            "the warming report has lanes and no time with its zone: see the pod's log."
        )
    if min(lane.credential, lane.model, lane.digest, lane.message or 0) < 0:
        raise IndexError("a lane refers to what comes before the first name")
    credential = document.credentials[lane.credential]
    usage = None if lane.tokens is None else _usage(lane.tokens)
    usd = None if lane.nanos is None else _usd(lane.nanos)
    requests = lane.requests if 0 <= lane.requests <= _MOST_REQUESTS else None
    wait = lane.retry_after if 0 <= lane.retry_after <= _LONGEST_WAIT else None
    said = "" if lane.message is None else document.messages[lane.message]
    wrong = [
        name
        for name, given, kept in (
            ("tokens", lane.tokens, usage),
            ("cost", lane.nanos, usd),
            ("number of requests", lane.requests, requests),
            ("wait", lane.retry_after, wait),
        )
        if given is not None and kept is None
    ]
    if wrong:
        said = f"its {', '.join(wrong)} cannot be true and is not counted. {said}".strip()
    return WarmedLane(
        credential=credential.name,
        fingerprint=credential.fingerprint,
        model=document.models[lane.model],
        digest=Digest(document.digests[lane.digest]),
        at=document.at + lane.after_ms * _MILLISECOND,
        # A lane whose tokens cannot be true is not known to be warm.
        state="Failed" if lane.tokens is not None and usage is None else lane.state,
        usage=usage,
        message=said,
        requests=1 if requests is None else requests,
        usd=usd,
        retry_after=wait or 0,
    )


def _tokens(usage: Usage) -> list[int]:
    tokens = [usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.uncached]
    return [*tokens, usage.output] if usage.output else tokens


def _usage(tokens: Sequence[int]) -> Usage | None:
    """The usage; None where it cannot be true."""
    read, write_5m, write_1h, uncached, *output = tokens
    if not all(0 <= count <= _MOST_TOKENS for count in tokens):
        return None
    return Usage(uncached, read, write_5m, write_1h, sum(output))


def _usd(nanos: int) -> Decimal | None:
    """US dollars; None where they cannot be true."""
    return nanos * _NANO if 0 <= nanos <= _MOST_NANOS else None


def _nanos(usd: Decimal) -> int:
    return round(usd / _NANO)


def _milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= MESSAGE_LIMIT else sentence[: MESSAGE_LIMIT - 1] + "…"
