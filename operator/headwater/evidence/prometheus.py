"""A Prometheus, or whatever speaks its HTTP API: as a source, and for authors' own queries.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import asyncio
import logging
import math
import re
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from headwater.contract.errors import HeadwaterError
from headwater.evidence.counters import LABELS, READ, REQUESTS, START, Reading, sample_of
from headwater.evidence.ledger import Sample
from headwater.evidence.source import SourceUnavailableError

_log = logging.getLogger(__name__)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_SIZE_LIMIT: Final = 64 << 20
"""Bytes of an answer: some 200,000 series."""

_EVIDENCE: Final = (
    f'{{__name__=~"{"|".join(READ)}",outcome=~"hit|miss|error|refused|"}}'
    f' or ({START} and on (job, instance) {{__name__=~"headwater_bundle_verified|{REQUESTS}"}})'
)
"""One query, so that counters and starts are of one instant. A sidecar without requests is asked
for, too: its counters are then known to have begun at zero."""
_COUNTED_LABELS: Final = frozenset((*LABELS, "namespace", "version", "__name__"))
"""Labels of the sidecar's own. The others are those by which Prometheus tells its targets apart."""
_EXPORTED: Final = "exported_"
"""What Prometheus puts before a label of the sidecar's that a target has, too."""


class QueryError(HeadwaterError):
    """A query got no answer; the message says why and what to do."""


class _Element(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str] | None = None  # a native histogram has none


class _Data(msgspec.Struct):
    kind: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_vector: Final = msgspec.json.Decoder(list[_Element]).decode
_decode_scalar: Final = msgspec.json.Decoder(tuple[float, str]).decode


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that answers PromQL.

    `url` is what `/api/v1/query` is appended to. The files are read at every request, since
    tokens and authorities are rotated.

    Raises:
        ValueError: the URL cannot be one, or holds what does not belong there.
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a URL that could never work, or that would put a password into logs."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                f"{self.url!r} is no address of a Prometheus: give one like"
                " https://prometheus.monitoring.svc:9090"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL holds credentials, which logs would show: use a token file")
        if parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} has more than a path: leave out all from ? or #")

    async def read(self, take: Callable[[Sample], object]) -> None:
        """Hand over a sample of every sidecar that Prometheus has read of late.

        Raises:
            SourceUnavailableError: it does not answer, or not with counters.
        """
        try:
            kind, result = await self._ask(_EVIDENCE)
            samples = await asyncio.to_thread(_samples, result)
        except QueryError as error:
            raise SourceUnavailableError(str(error)) from error
        except (msgspec.MsgspecError, ValueError) as error:
            raise SourceUnavailableError(
                f"{self.url} answered a {kind} that cannot be read: {error}"
            ) from error
        for sample in samples:
            take(sample)

    async def number(self, promql: str) -> float:
        """The one number that a query asks for.

        Raises:
            QueryError: there is no answer, more than one, or one that is no number.
        """
        kind, result = await self._ask(promql)
        try:
            match kind:
                case "scalar":
                    answers = [_decode_scalar(result)]
                case "vector":
                    answers = [element.value or (0.0, "NaN") for element in _decode_vector(result)]
                case _:
                    raise QueryError(f"the answer is a {kind}, not a number")
            values = [float(value) for _, value in answers]
        except (msgspec.MsgspecError, ValueError) as error:
            raise QueryError(f"the answer of {self.url} cannot be read: {error}") from error
        if not values:
            raise QueryError("the answer is empty: no series matches the query at present")
        if len(values) > 1:
            raise QueryError(f"the answer has {len(values)} series: aggregate them, as with sum()")
        if not math.isfinite(values[0]):
            raise QueryError(f"the answer is {values[0]}: there is nothing yet to calculate with")
        return values[0]

    async def _ask(self, promql: str) -> tuple[str, bytes]:
        """The type of an instant query's result, and its JSON."""
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._trusted()),
                    timeout=_TIMEOUT,
                    trust_env=False,
                ) as session,
                session.post(
                    f"{self.url.rstrip('/')}/api/v1/query",
                    data={"query": promql},
                    headers=self._authorization(),
                    allow_redirects=False,
                ) as response,
            ):
                body = await _whole(response)
        except TimeoutError as error:
            raise QueryError(f"{self.url} did not answer in {_TIMEOUT.total:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise QueryError(f"{self.url} cannot be reached: {error}") from error
        return self._result(response, body)

    def _result(self, response: aiohttp.ClientResponse, body: bytes) -> tuple[str, bytes]:
        status = response.status
        match status:
            case 401 | 403:
                raise QueryError(f"{self.url} answered {status}: {self._about_the_token()}")
            case 404:
                raise QueryError(
                    f"{self.url} answered 404: give the URL with the path under which"
                    " the server's API is found, without /api/v1"
                )
            case 301 | 302 | 303 | 307 | 308:
                raise QueryError(
                    f"{self.url} answered {status} and points to"
                    f" {response.headers.get('Location', 'nowhere')}: give the final URL"
                )
        try:
            answer = _decode_answer(body)
        except msgspec.MsgspecError as error:
            raise QueryError(
                f"{self.url} answered {status} with something else than a query's result:"
                " does it speak the HTTP API of Prometheus?"
            ) from error
        if answer.status != "success" or answer.data is None:
            problem = answer.error[:500] or "no reason given"
            if status in {400, 422}:
                raise QueryError(f"the query cannot be evaluated: {problem}")
            raise QueryError(f"{self.url} answered {status}: {problem}")
        return answer.data.kind, bytes(answer.data.result)

    def _about_the_token(self) -> str:
        if self.token_file is None:
            return "it wants a token: start the controller with --prometheus-token-file"
        return f"the token in {self.token_file} is refused, or may not query"

    def _authorization(self) -> dict[str, str]:
        if self.token_file is None:
            return {}
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise QueryError(f"the token cannot be read: {error}") from error
        if not re.fullmatch(r"[!-~]+", token):
            raise QueryError(f"{self.token_file} holds no token: it must be one word")
        return {"Authorization": f"Bearer {token}"}

    def _trusted(self) -> ssl.SSLContext | bool:
        if self.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise QueryError(
                f"the authorities in {self.ca_file} cannot be read: {error}"
            ) from error


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > _SIZE_LIMIT:
            raise ValueError(f"the answer has more than {_SIZE_LIMIT:,} bytes")
    return bytes(data)


def _samples(result: bytes) -> list[Sample]:
    """A sample for each target that Prometheus reads, where its start is in the result.

    Two targets may be one process read twice. Their samples have its address and its start in
    common, so the ledger takes them for what they are.
    """
    targets: dict[frozenset[tuple[str, str]], list[Reading]] = defaultdict(list)
    for element in _decode_vector(result):
        own = {
            name: value
            for name, value in element.metric.items()
            if name in _COUNTED_LABELS or name.startswith(_EXPORTED)
        }
        target = frozenset(element.metric.items() - own.items())
        labels = own | {
            label: own[_EXPORTED + label] for label in LABELS if _EXPORTED + label in own
        }
        value = float(element.value[1]) if element.value is not None else math.nan
        targets[target].append(Reading(own.get("__name__", ""), labels, value))
    samples = []
    for target, readings in targets.items():
        instance = dict(target).get("instance", "")
        try:
            samples.append(sample_of(instance, readings))
        except ValueError as error:
            _log.debug("no evidence from %s: %s", instance, error)
    return samples
