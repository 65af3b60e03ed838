"""A real Prometheus as the source of evidence, and its answers to authors' queries."""

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from headwater.cli._manifests import documents, prefixes, read
from headwater.evidence.ledger import Ledger
from headwater.evidence.prometheus import Prometheus, QueryError
from headwater.evidence.queries import fill
from headwater.evidence.source import SourceUnavailableError
from headwater.resources import PromptPrefix
from headwater.rollout.state import Counts
from tests.cluster.prometheus import PrometheusServer
from tests.cluster.waiting import eventually
from tests.integration.evidence.pods import MODEL, PREFIX, Pod

pytestmark = pytest.mark.xdist_group("prometheus")

PATIENCE = 20
EXAMPLE = Path(__file__).parents[3] / "examples" / "rollouts" / "queries.yaml"


async def until(condition: Callable[[], Awaitable[bool]], message: str) -> None:
    """Wait for an async condition, for which a query without an answer is a "not yet"."""

    async def met() -> bool:
        try:
            return await condition()
        except QueryError as error:
            raise AssertionError(error) from error

    await eventually(met, PATIENCE, message)  # type: ignore[arg-type]


class Reader:
    """A ledger that a Prometheus is read into, and what it has of one pod's revision."""

    def __init__(self, prometheus: Prometheus, pod: Pod) -> None:
        self.prometheus = prometheus
        self._digest12 = pod.digest12
        self._ledger = Ledger(datetime.fromtimestamp(0, UTC))

    async def total(self) -> Counts:
        """Read once; what the ledger has then."""
        await self.prometheus.read(lambda sample: self._ledger.record(sample, datetime.now(UTC)))
        return self._ledger.totals(PREFIX, self._digest12).get(MODEL, Counts())

    async def await_hits(self, number: int) -> Counts:
        """Read until that many hits are known: more is wrong, whenever it comes."""

        async def reached() -> bool:
            hits = (await self.total()).hits
            if hits > number:
                pytest.fail(f"{hits} hits of {number}")
            return hits == number

        await until(reached, f"{number} hits")
        return await self.total()


@dataclass
class Scene:
    """A Prometheus, and pods that it scrapes in different ways."""

    server: PrometheusServer
    plain: Pod
    restarted: Pod
    labelled: Pod
    honoured: Pod
    twice: Pod

    def reader(self, pod: Pod) -> Reader:
        return Reader(Prometheus(self.server.url), pod)


TARGET = {"namespace": "elsewhere", "version": "1.2", "pod": "web-1", "prefix": "10.0.0.0/8"}
"""Labels of a target, some of which a sidecar has, too."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for most tests: Prometheus takes five seconds until it scrapes."""
    with ExitStack() as stack:
        pods = [stack.enter_context(Pod()) for _ in range(5)]
        plain, restarted, labelled, honoured, twice = pods
        jobs = [
            plain.job("plain"),
            restarted.job("restarted"),
            labelled.job("labelled", **TARGET),
            {**honoured.job("honoured", **TARGET), "honor_labels": True},
            twice.job("once"),
            twice.job("again", pod="web-2"),
        ]
        server = PrometheusServer(tmp_path_factory.mktemp("prometheus"), jobs)
        yield Scene(stack.enter_context(server), *pods)


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Pod() as pod:
        yield pod


async def test_what_sidecars_counted_is_what_is_read(scene: Scene) -> None:
    """Every count, of an eligible request or not, with the cost and the time that it took."""
    pod = scene.plain
    pod.count("miss", 2, cost=0.05)
    pod.count("miss", 3, eligible=False)
    pod.count("error", 1)
    pod.count("aborted", 4)
    pod.count("hit", 8, cost=0.01)
    assert await scene.reader(pod).await_hits(8) == Counts(
        hits=8,
        misses=2,
        errors=1,
        answers=13,
        cost_micros=180_000,
        first_bytes=18,
        first_byte_ms=9_000,
    )


async def test_a_restarted_pod_adds_to_what_it_counted_before(scene: Scene) -> None:
    """Its counters begin at zero again, and vanish for a while."""
    pod, reader = scene.restarted, scene.reader(scene.restarted)
    pod.count("hit", 8)
    await reader.await_hits(8)
    pod.stop()

    async def gone() -> bool:
        return await reader.prometheus.number('count(up{job="restarted"} == 0)') == 1

    await until(gone, "Prometheus finds the pod gone")
    assert (await reader.total()).hits == 8
    pod.start()
    pod.count("hit", 5)
    await reader.await_hits(13)


async def test_a_target_has_labels_of_its_own(scene: Scene) -> None:
    """Names that a sidecar uses, too; whichever side Prometheus lets win."""
    for pod in (scene.labelled, scene.honoured):
        pod.count("hit", 8)
        await scene.reader(pod).await_hits(8)


async def test_a_pod_that_two_jobs_scrape_counts_once(scene: Scene) -> None:
    """A PodMonitor beside scraping by annotation is a common accident."""
    reader = scene.reader(scene.twice)
    for total in (8, 9):
        scene.twice.count("hit", 8 if total == 8 else 1)

        async def both(total: int = total) -> bool:
            series = f'headwater_requests_total{{digest12="{scene.twice.digest12}"}}'
            return await reader.prometheus.number(f"count({series} == {total})") == 2

        await until(both, "both jobs have scraped")
        await reader.await_hits(total)


async def test_queries_of_authors(scene: Scene) -> None:
    """One number, or a message that says why there is none."""
    pod = scene.plain
    prometheus = Prometheus(scene.server.url)
    share = fill(
        'sum(headwater_requests_total{digest12="{{digest12}}",prefix="{{prefix}}",outcome="down"})'
        ' / sum(headwater_requests_total{digest12="{{digest12}}",outcome=~"down|up"})',
        namespace="ai-platform",
        prefix=PREFIX,
        digest12=pod.digest12,
    )
    pod.count("up", 8)
    pod.count("down", 2)

    async def answered() -> bool:
        return await prometheus.number(share) == 0.2

    await until(answered, "the share is known")
    assert await prometheus.number("scalar(vector(7))") == 7
    for promql, why in (
        ("headwater_bundle_verified or up", r"\d+ series: aggregate"),
        ("absent_metric", "is empty: no series"),
        ("vector(0) / vector(0)", "is nan"),
        ("vector(1) / vector(0)", "is inf"),
        ("up[5m]", "is a matrix"),
        ('"text"', "is a string"),
        ("sum(", r"cannot be evaluated: .*parse error"),
    ):
        with pytest.raises(QueryError, match=why):
            await prometheus.number(promql)


async def test_the_example_asks_what_can_be_answered(scene: Scene) -> None:
    """Nobody copies a query that Prometheus does not understand."""
    (prefix,) = prefixes(documents(read([str(EXAMPLE)], stdin=BytesIO())))
    spec = PromptPrefix.model_validate(prefix.document.body).spec
    assert spec.rollout.analysis.queries
    for query in spec.rollout.analysis.queries:
        promql = fill(query.promql, namespace="a", prefix="b", digest12=spec.digest[7:19])
        with pytest.raises(QueryError, match="is empty: no series"):
            await Prometheus(scene.server.url).number(promql)


@pytest.mark.slow
async def test_an_outage_of_prometheus_loses_and_doubles_nothing(pod: Pod, tmp_path: Path) -> None:
    """While it is away nothing is known; afterwards what was counted meanwhile comes once."""
    with PrometheusServer(tmp_path, [pod.job()]) as server:
        reader = Reader(Prometheus(server.url), pod)
        pod.count("hit", 8)
        await reader.await_hits(8)
        server.kill()
        with pytest.raises(SourceUnavailableError, match="cannot be reached"):
            await reader.total()
        pod.count("hit", 3)
        server.start()
        await reader.await_hits(11)


async def test_a_server_under_a_path(tmp_path: Path) -> None:
    """With it, with a slash after it, and the message without it."""
    with PrometheusServer(tmp_path, [], path="/metrics-store") as server:
        for url in (server.url, server.url + "/"):
            assert await Prometheus(url).number("42") == 42
        with pytest.raises(QueryError, match="404: give the URL with the path"):
            await Prometheus(server.url.removesuffix("/metrics-store")).number("42")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that answers everything in one way; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


async def test_a_token_is_read_at_each_request_and_never_told(scene: Scene, tmp_path: Path) -> None:
    """It rotates; and a refusal must not put it into the log."""
    valid = "first-secret"
    token = tmp_path / "token"

    async def guarded(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {valid}":
            return web.Response(status=401, text="no")
        async with (
            aiohttp.ClientSession() as session,
            session.post(scene.server.url + request.path, data=await request.post()) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())

    async with answering(guarded) as url:
        with pytest.raises(QueryError, match=r"401.*--prometheus-token-file"):
            await Prometheus(url).number("1")
        prometheus = Prometheus(url, token_file=token)
        with pytest.raises(QueryError, match=r"cannot be read.*/token"):
            await prometheus.number("1")
        token.write_text("first-secret\n")
        assert await prometheus.number("1") == 1
        valid = "second-secret"
        with pytest.raises(QueryError, match="refused") as refused:
            await prometheus.number("1")
        token.write_text("second-secret")
        assert await prometheus.number("1") == 1
        for wrong in ("", "two words", "a\nb", "näh"):
            token.write_text(wrong)
            with pytest.raises(QueryError, match="holds no token"):
                await prometheus.number("1")
    assert "secret" not in str(refused.value)


def _certificate(directory: Path) -> dict[str, str]:
    """An authority's and a server's in one, for 127.0.0.1."""
    made = {"cert_file": str(directory / "tls.crt"), "key_file": str(directory / "tls.key")}
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=prometheus"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", made["key_file"], "-out", made["cert_file"]),
        ],
        check=True,
        capture_output=True,
    )
    return made


async def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """Without it the certificate is refused; a file that is none is told apart."""
    certificate = _certificate(tmp_path)
    trusted = Path(certificate["cert_file"])
    with PrometheusServer(tmp_path / "data", [], tls=certificate) as server:

        async def answers() -> bool:
            return await Prometheus(server.url, ca_file=trusted).number("1") == 1

        await until(answers, "Prometheus answers over TLS")
        with pytest.raises(QueryError, match=r"cannot be reached.*(?i:certificate)"):
            await Prometheus(server.url).number("1")
        for wrong in (tmp_path / "none", Path(certificate["key_file"])):
            with pytest.raises(QueryError, match=r"authorities in .* cannot be read"):
                await Prometheus(server.url, ca_file=wrong).number("1")


VECTOR = '{"status":"success","data":{"resultType":"vector","result":RESULT}}'


@pytest.mark.parametrize(
    ("status", "text", "headers", "why"),
    [
        (503, '{"status":"error","errorType":"timeout","error":"too slow"}', {}, "503: too slow"),
        (503, "upstream unavailable", {}, "503 with something else"),
        (200, "<html>hello</html>", {}, "does it speak the HTTP API of Prometheus"),
        (200, '{"status":"success"}', {}, "no reason given"),
        (
            200,
            VECTOR.replace("RESULT", "7"),
            {},
            "cannot be read",
        ),
        (
            200,
            VECTOR.replace("RESULT", '[{"metric":{},"value":[1,"x"]}]'),
            {},
            "cannot be read",
        ),
        (403, "no", {}, "403: it wants a token"),
        (302, "", {"Location": "https://elsewhere"}, "points to https://elsewhere"),
    ],
)
async def test_answers_that_are_none(
    status: int, text: str, headers: dict[str, str], why: str
) -> None:
    """For a query a problem, for the source an outage; the message says what to do."""

    async def odd(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    async with answering(odd) as url:
        with pytest.raises(QueryError, match=why):
            await Prometheus(url).number("1")
        with pytest.raises(SourceUnavailableError, match=why):
            await Prometheus(url).read(lambda _: None)
