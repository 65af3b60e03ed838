"""What an admission takes, and what a replica weighs after it."""

import asyncio
import ssl
import statistics
import subprocess
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from bench.cluster import on_fresh_cluster, until
from bench.processes import headwater, resident_mb
from bench.rows import Row
from bench.sidecar import address
from headwater.cluster import NAMESPACE, PROMPT_PREFIX, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.content import content, digest_of
from tests.cluster.control_plane import ControlPlane

_PODS: Final = 3_000
_IN_PARALLEL: Final = 50
_ONE_BY_ONE: Final = 300
_WARM_UP: Final = 30
_NAMESPACES: Final = 10
_BYTES: Final = 100_000


def measure() -> list[Row]:
    """One replica, asked as the API server asks: over TLS, connections kept open."""
    return on_fresh_cluster(_measure)


async def _measure(plane: ControlPlane, client: KubernetesCluster, directory: Path) -> list[Row]:
    for number in range(_NAMESPACES):
        annotations = {"headwater.dev/prefixes": "default/core"}
        metadata = {"name": f"shop-{number}", "annotations": annotations}
        await client.apply(NAMESPACE, {"metadata": metadata})
    plane.kubectl("wait", "--for=condition=Established", "crd/promptprefixes.headwater.dev")
    await until(partial(_applied, client), 0.1)
    pods = [_review("", "Pod", f"shop-{number}", _pod()) for number in range(_NAMESPACES)]
    prefixes = [
        _review("headwater.dev", "PromptPrefix", "default", _prefix(number))
        for number in range(_NAMESPACES)
    ]
    authority = _certificate(directory)
    log = directory / "webhook.log"
    with headwater(
        "webhook",
        *("--tls-cert-file", str(directory / "tls.crt"), "--tls-key-file"),
        str(directory / "tls.key"),
        *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--drain-seconds", "0"),
        environment=plane.environment,
        log=log,
    ) as process:
        url = address(log, "listening on ")
        connector = aiohttp.TCPConnector(ssl=authority, limit=_IN_PARALLEL)
        async with aiohttp.ClientSession(connector=connector) as session:
            injected = await _one_by_one(session, f"{url}/inject", pods)
            validated = await _one_by_one(session, f"{url}/validate", prefixes)
            rate = await _rate(session, f"{url}/inject", pods)
        resident = resident_mb(process.pid)
    return [
        Row("webhook.validate_100kb_p50", round(validated, 2), "ms", "<= 25"),
        Row("webhook.inject_p50", round(injected, 2), "ms", "<= 5"),
        Row("webhook.inject_rate_50", round(rate), "pods/s", ">= 200"),
        Row("rss.webhook", round(resident, 1), "MB", "<= 100"),
    ]


async def _applied(client: KubernetesCluster) -> bool:
    """The API server serves a new kind a moment after it has said so."""
    try:
        await client.apply(PROMPT_PREFIX, _prefix(0))
    except NotFoundError:
        return False
    return True


async def _one_by_one(session: aiohttp.ClientSession, url: str, reviews: list[bytes]) -> float:
    """The median of milliseconds that an answer takes."""
    timed = []
    for review in islice(cycle(reviews), _WARM_UP + _ONE_BY_ONE):
        started = time.perf_counter()
        await _ask(session, url, review)
        timed.append((time.perf_counter() - started) * 1000)
    return statistics.median(timed[_WARM_UP:])


async def _rate(session: aiohttp.ClientSession, url: str, reviews: list[bytes]) -> float:
    """Answers a second, as many in flight as there are connections."""
    waiting = islice(cycle(reviews), _PODS)

    async def work() -> None:
        for review in waiting:
            await _ask(session, url, review)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(_IN_PARALLEL)))
    return _PODS / (time.perf_counter() - started)


async def _ask(session: aiohttp.ClientSession, url: str, review: bytes) -> None:
    headers = {"content-type": "application/json"}
    async with session.post(url, data=review, headers=headers) as answer:
        data = await answer.read()
    if answer.status != 200 or b'"allowed":true' not in data:
        raise RuntimeError(f"{url} answered {answer.status}: {data[:500]!r}")
    if url.endswith("/inject") and b'"patch"' not in data:
        raise RuntimeError(f"nothing was put in: {data[:500]!r}")


def _review(group: str, kind: str, namespace: str, body: Object) -> bytes:
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "operation": "CREATE",
        "namespace": namespace,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": body,
    }
    return msgspec.json.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    )


def _pod() -> Object:
    """A pod as usual: three containers, a dozen variables each."""
    env = [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(12)]
    containers: list[dict[str, Any]] = [
        {"name": f"app-{number}", "image": "app:1", "env": env} for number in range(3)
    ]
    labels = {"app": "shop", "pod-template-hash": "6d5f7"}
    return {
        "metadata": {"generateName": "web-", "labels": labels},
        "spec": {"containers": containers},
    }


def _prefix(number: int) -> Object:
    lines = (
        f"Answer in one sentence; article {line} of the handbook says why.\n"
        for line in range(9_000)
    )
    text = f"This is the handbook {number}.\n" + "".join(lines)
    text = text[: text.rindex("\n", 0, _BYTES) + 1]
    digest = digest_of(content(tools=[], system=[{"text": text}], ttl="5m"))
    return {
        "metadata": {"name": "core", "namespace": "default"},
        "spec": {
            "owner": {"team": "bench"},
            "version": f"v{number}",
            "digest": str(digest),
            "models": ["claude-opus-4-8"],
            "content": {"system": [{"text": text}]},
            "consumers": {"namespaceSelector": {}},
        },
    }


def _certificate(directory: Path) -> ssl.SSLContext:
    """Make tls.crt and tls.key for 127.0.0.1; what trusts them."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=webhook"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return ssl.create_default_context(cafile=str(directory / "tls.crt"))
