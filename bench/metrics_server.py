"""`python -m bench.metrics_server COUNT`: the metrics of COUNT sidecars, or as many that hang.

`/sidecar/N` answers what a sidecar with two revisions and two models would. `/hanging/N` never
answers. The address is the first line of standard output.
"""

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from aiohttp import web

from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, salt_for
from headwater.providers.usage import Charge, Statement, Usage
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics, Outcome

_MODELS: Final = ("claude-opus-4-8", "claude-opus-5")
_ANSWERS: Final = 100
"""Of each sidecar, revision and model."""


def expositions(count: int) -> list[bytes]:
    """What real sidecars say once they have served a canary for a while."""
    texts = ("Answer in whole sentences.", "Answer in whole sentences, briefly.")
    canonicals = [
        canonical_bytes(content(tools=[], system=[{"text": text}], ttl="5m")) for text in texts
    ]
    revisions = [
        Revision(f"v{number}", Digest.of(canonical)) for number, canonical in enumerate(canonicals)
    ]
    route = Route(
        namespace="bench",
        prefix="bench",
        epoch=1,
        salt=salt_for("bench", "bench", None),
        stable=revisions[0],
        models=_MODELS,
        ttl="5m",
    )
    with TemporaryDirectory() as directory:
        bundle = Bundle(route, {revisions[0].digest: canonicals[0]})
        for name, data in encode(bundle).items():
            (Path(directory) / name).write_bytes(data)
        bundles = BundleFollower(Path(directory))
        bundles.poll()
        return [
            _exposition(Identity(f"team-{number}", "team", "chat", "web"), bundles, revisions)
            for number in range(count)
        ]


def _exposition(identity: Identity, bundles: BundleFollower, revisions: list[Revision]) -> bytes:
    metrics = Metrics(identity, bundles, Lanes(), time.monotonic)
    usage = Usage(uncached=200, cache_read=5_000, output=300)
    statement = Statement((Charge(usage),), usage)
    for revision in revisions:
        for model in _MODELS:
            series = metrics.of(revision, model)
            for number in range(_ANSWERS):
                outcome = Outcome.MISS if number % 20 == 0 else Outcome.HIT
                series.ended(outcome, eligible=number % 10 != 0)
                series.used(model, statement)
                series.first_byte.add(0.4)
                series.overhead.add(0.0004)
            series.ended(Outcome.ERROR, eligible=True)
            series.ended(Outcome.REJECTED, eligible=True)
    return metrics.exposition()


async def _serve(count: int) -> None:
    answers = expositions(count)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=answers[int(request.match_info["number"])])

    async def hang(_: web.Request) -> web.Response:
        return await asyncio.Future[web.Response]()

    app = web.Application()
    app.router.add_get("/sidecar/{number}", answer)
    app.router.add_get("/hanging/{number}", hang)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site.name, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
