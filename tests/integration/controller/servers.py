"""Two small servers on the loopback: a sidecar's counters, and a way to stop a controller's writes.

Both run in a thread of their own, because the tests are plain functions that wait.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until

_READING: Final = ("GET", "HEAD", "OPTIONS")
_HOP_BY_HOP: Final = {"connection", "content-length", "host", "transfer-encoding"}


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return str(site.name)

    async def end() -> None:
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    try:
        yield call(start())
    finally:
        call(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Metrics:
    """The counters of a sidecar that the test plays, as Prometheus would read them."""

    def __init__(self) -> None:
        self.scrapes = 0
        self._started_at = time.time()
        self._counts: dict[tuple[str, str, str, str, str], int] = {}

    def count(
        self, prefix: str, digest: str, *, model: str, hits: int = 0, misses: int = 0
    ) -> None:
        """Count answers to eligible requests of a revision; `prefix` is `namespace/name`."""
        for outcome, number in (("hit", hits), ("miss", misses)):
            series = (prefix, digest[7:19], model, outcome, "true")
            self._counts[series] = self._counts.get(series, 0) + number

    def await_scrape(self) -> None:
        """Wait until a scrape has begun and ended that shows all that was counted so far."""
        before = self.scrapes
        wait_until(lambda: self.scrapes >= before + 2, 20, "the controller scrapes")

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve them; the URL to scrape."""
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        with serving(app) as url:
            yield f"{url}/metrics"

    async def _answer(self, _: web.Request) -> web.Response:
        self.scrapes += 1
        lines = [
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self._started_at}",
            "# TYPE headwater_requests_total counter",
        ]
        names = ("prefix", "digest12", "model", "outcome", "eligible")
        for values, number in sorted(self._counts.items()):
            labels = ",".join(
                f'{name}="{value}"' for name, value in zip(names, values, strict=True)
            )
            lines.append(f"headwater_requests_total{{{labels}}} {number}")
        return web.Response(text="\n".join(lines) + "\n")


@dataclass
class Lane:
    """The writes of one prefix, told by the namespaces that they go to.

    Attributes:
        writes: what was forwarded, as words: `create configmaps`, `replace promptprefixes/status`.
        let_through: how many more are forwarded before the rest is held; None for all.
        holds: whether something is being held: the prefix stands between two writes.
    """

    writes: list[str] = field(default_factory=list)
    let_through: int | None = None
    holds: bool = False


class Gate:
    """A proxy before the API server that can hold a controller between any two writes.

    A write beyond the allowance is not forwarded. The last one of the allowance is forwarded,
    and its answer kept back: the controller does not learn that it was done. Either way the
    request hangs until `release`, before which the controller is to be killed.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lanes: dict[str, Lane] = {}
        self._released = asyncio.Event()

    def lane(self, prefix: str) -> Lane:
        """The writes into all namespaces whose names begin with `prefix`."""
        return self._lanes.setdefault(prefix, Lane())

    def release(self) -> None:
        """Let what hangs end unanswered, and everything pass from now on."""
        for lane in self._lanes.values():
            lane.let_through, lane.holds = None, False
        old, self._released = self._released, asyncio.Event()
        self._loop.call_soon_threadsafe(old.set)

    @contextmanager
    def served(self, directory: Path) -> Iterator[Path]:
        """Serve it; a kubeconfig that leads to it."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.cleanup_ctx.append(self._upstream)
        with serving(app) as url:
            kubeconfig = directory / "gate.json"
            config = json.loads(self._cluster.kubeconfig.read_text())
            config["clusters"][0]["cluster"] = {"server": url}
            kubeconfig.write_text(json.dumps(config))
            try:
                yield kubeconfig
            finally:
                self.release()

    async def _upstream(self, _: web.Application) -> Any:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False, limit=0), auto_decompress=False
        )
        yield
        await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        lane = self._lane_of(request)
        keep_back = False
        if lane is not None:
            if lane.let_through is not None:
                if lane.let_through == 0:
                    return await self._hold(lane)
                lane.let_through -= 1
                keep_back = lane.let_through == 0
            lane.writes.append(_words(request))
        headers = _end_to_end(request.headers)
        headers["Authorization"] = f"Bearer {self._cluster.token}"
        async with self._session.request(
            request.method,
            self._cluster.host + request.raw_path,
            headers=headers,
            data=await request.read() or None,
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if keep_back and lane is not None:
                await answer.read()
                return await self._hold(lane)
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            with contextlib.suppress(ConnectionResetError):  # the controller was killed
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response

    async def _hold(self, lane: Lane) -> web.Response:
        released = self._released
        lane.holds = True
        await released.wait()
        return web.Response(status=503)

    def _lane_of(self, request: web.Request) -> Lane | None:
        if request.method in _READING:
            return None
        _, _, rest = request.path.partition("/namespaces/")
        namespace = rest.partition("/")[0]
        return next(
            (lane for name, lane in self._lanes.items() if namespace.startswith(name)), None
        )


def _words(request: web.Request) -> str:
    parts = request.path.partition("/namespaces/")[2].split("/")[1:]
    verbs = {"POST": "create", "PATCH": "apply", "PUT": "replace", "DELETE": "delete"}
    resource = "/".join([parts[0], *parts[2:]])
    return f"{verbs[request.method]} {resource}"


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
