"""What the sidecar adds to a request, and what it weighs."""

import http.client
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

from bench.processes import headwater, resident_mb
from bench.rows import Row
from headwater.contract.bundle import Bundle, encode
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, salt_for

_REQUESTS: Final = 1_000
_MODEL: Final = "claude-opus-4-8"
_PATIENCE: Final = 30.0


def measure() -> list[Row]:
    """One client, JSON, a 20 KB contract; direct and through the sidecar in turn."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        bundle = directory / "bundle"
        contract = write_bundle(bundle)
        with headwater(
            "simulator",
            "--port",
            "0",
            "--latency-base-ms",
            "0",
            "--latency-ms-per-1k-uncached",
            "0",
            environment={},
            log=directory / "simulator.log",
        ) as _:
            upstream = address(directory / "simulator.log", "listening on ")
            with headwater(
                "sidecar",
                "--bundle",
                str(bundle),
                "--upstream",
                upstream,
                "--port",
                "0",
                "--metrics-address",
                "127.0.0.1:0",
                environment={},
                log=directory / "sidecar.log",
            ) as sidecar:
                proxy = address(directory / "sidecar.log", "listening on ")
                team = {"system": "You help the billing team."}
                whole = {"tools": contract["tools"], "system": contract["system"]}
                # In turn, so that a machine that changes its speed changes both.
                direct, through = [], []
                for _ in range(_REQUESTS // 100):
                    direct += _timed(upstream, whole, 100)
                    through += _timed(proxy, team, 100)
                resident = resident_mb(sidecar.pid)
    added = (statistics.median(through) - statistics.median(direct)) * 1000
    return [
        Row("rss.sidecar", round(resident, 1), "MB", "<= 50"),
        Row("sidecar.added_p50", round(added, 3), "ms"),
    ]


def write_bundle(directory: Path) -> dict[str, list[dict[str, object]]]:
    """A bundle with a contract of 20 KB; its tools and system."""
    tools = [{"name": "lookup", "description": "Looks it up.", "input_schema": {"type": "object"}}]
    system = [{"text": "Answer in whole sentences, and name your source.\n" * 400}]
    canonical = canonical_bytes(content(tools=tools, system=system, ttl="5m"))
    digest = Digest.of(canonical)
    route = Route(
        namespace="bench",
        prefix="bench",
        epoch=1,
        salt=salt_for("bench", "bench", None),
        stable=Revision("v1", digest),
        models=(_MODEL,),
        ttl="5m",
    )
    directory.mkdir()
    for name, data in encode(Bundle(route, {digest: canonical})).items():
        (directory / name).write_bytes(data)
    parsed: dict[str, list[dict[str, object]]] = json.loads(canonical)
    return parsed


def address(log: Path, marker: str) -> str:
    """The URL that a process prints once it listens."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            if marker in line:
                return line.split(marker)[1].strip()
        time.sleep(0.005)
    raise TimeoutError(f"nothing listens: {log.read_text()}")


def _timed(url: str, extra: Mapping[str, object], count: int) -> list[float]:
    """Seconds of each of `count` requests over one connection."""
    body = json.dumps(
        {
            "model": _MODEL,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": "How do I send an invoice? " * 30}],
            **extra,
        }
    )
    headers = {
        "content-type": "application/json",
        "x-api-key": "bench-key",
        "anthropic-version": "2023-06-01",
    }
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE)
    timed = []
    for _ in range(count):
        started = time.perf_counter()
        connection.request("POST", "/v1/messages", body, headers)
        response = connection.getresponse()
        answer = response.read()
        timed.append(time.perf_counter() - started)
        if response.status != http.client.OK:
            raise RuntimeError(f"{url} answered {response.status}: {answer[:500]!r}")
    connection.close()
    return timed
