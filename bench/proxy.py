"""The sidecar beside nginx: processor time for a request, latency, memory.

nginx passes requests on and splices nothing, so a ratio to it says what the contract costs. Both
run in turn on one core, before one provider, under one load generator (wrk, Debian) on another
core, over loopback; the sidecar with all that it does in production.
"""

import asyncio
import compileall
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

import headwater
from bench.processes import HEADWATER, cpu_seconds, peak_mb, resident_mb, started
from bench.rows import Row
from bench.sidecar import address, write_bundle
from tests.cluster.ports import free_port

_ROUNDS: Final = 5
_TURN: Final = "word " * 380
"""A turn of a conversation, of some 2 KB as JSON."""
_STREAMS: Final = 1_000
_NGINX: Final = """
daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.error;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;
  uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;
  upstream provider {{ server {provider}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
_WRK: Final = """
local file = io.open(os.getenv("BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["content-type"] = "application/json"
wrk.headers["x-api-key"] = "bench-key"
wrk.headers["anthropic-version"] = "2023-06-01"
for name, value in os.getenv("HEADERS"):gmatch("([^|:]+): ([^|]+)") do
  wrk.headers[name] = value
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk sends."""

    turns: int
    clients: int
    query: str = ""
    headers: str = ""
    """`name: value`, with | between them, beside those that every proxy needs."""
    stream: str = ""
    """As in `conversation`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One second of one proxy: processor time in us for a request, and its median latency."""

    cpu: float
    p50: float


def measure() -> list[Row]:
    """Rows that need nginx and wrk are left out where these are missing."""
    # As in the image: a start that compiles is no start in production.
    compileall.compile_dir(headwater.__path__[0], quiet=1)
    with TemporaryDirectory() as name, fast_provider(Path(name)) as provider:
        at = Path(name)
        write_bundle(at / "bundle")
        rows = [*_sizes(at, provider), _start(at, provider)]
        missing = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
        if missing:
            print(
                f"no comparison, for want of {' and '.join(missing)}: apt-get install"
                " nginx-light wrk",
                file=sys.stderr,
            )
            return rows
        return [*_ratios(at, provider), *rows]


@contextlib.contextmanager
def fast_provider(at: Path) -> Iterator[str]:
    """The one provider of all proxies; its URL."""
    source = Path(__file__).with_name("provider.go")
    subprocess.run(
        ["go", "build", "-o", at / "provider", source],
        check=True,
        env={**os.environ, "GO111MODULE": "off"},
    )
    log = at / "provider.log"
    with started(*pinned(0, str(at / "provider")), environment={}, log=log):
        yield address(log, "listening on ")


@contextlib.contextmanager
def pinned_sidecar(at: Path, provider: str) -> Iterator[tuple[int, str]]:
    """The sidecar on the measured core: process id and URL."""
    log = at / "sidecar.log"
    # As in its image.
    environment = dict(re.findall(r"(MALLOC_\w+)=(\d+)", Path("Containerfile").read_text()))
    command = (
        str(HEADWATER), "sidecar", "--bundle", str(at / "bundle"), "--upstream", provider,
        "--port", "0", "--metrics-address", "127.0.0.1:0",
    )  # fmt: skip
    with started(*pinned(1, *command), environment=environment, log=log) as process:
        yield process.pid, address(log, "listening on ")


@contextlib.contextmanager
def pinned_nginx(at: Path, provider: str) -> Iterator[tuple[int, str]]:
    """The same of nginx, which passes on (`proxy_pass`) and splices nothing."""
    port = free_port()
    config = at / "nginx.conf"
    config.write_text(_NGINX.format(at=at, provider=urlsplit(provider).netloc, port=port))
    command = pinned(1, "nginx", "-p", str(at), "-c", str(config))
    with started(*command, environment={}, log=at / "nginx.log") as process:
        time.sleep(0.5)
        yield process.pid, f"http://127.0.0.1:{port}"


def pinned(core: int, *command: str) -> tuple[str, ...]:
    """Kept on one core where there are two, so that the load generator takes nothing away."""
    many = (os.cpu_count() or 1) > 1 and shutil.which("taskset") is not None
    return ("taskset", "-c", str(core), *command) if many else command


def conversation(turns: int, stream: str = "") -> bytes:
    """A conversation of so many turns before the last, short one.

    It asks the provider for a stream in a `burst` or `paced`: in its text, which all peers keep.
    """
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": f"{number}: {_TURN}"}
        for number in range(2 * (turns // 2))
    ]
    messages.append({"role": "user", "content": "How do I send an invoice? " * 30})
    asked = {"model": "claude-opus-4-8", "max_tokens": 16, "messages": messages}
    if stream:
        messages[-1]["content"] += f"Answer {stream}."
        asked["stream"] = True
    return json.dumps(asked).encode()


def load(at: Path, pid: int, url: str, given: Load, seconds: int = 1) -> Measured:
    """Load on one proxy from the other core.

    Raises:
        RuntimeError: it answered with an error.
    """
    script, body = at / "wrk.lua", at / f"{given.turns}{given.stream}.json"
    script.write_text(_WRK)
    body.write_bytes(conversation(given.turns, given.stream))
    before = cpu_seconds(pid)
    command = pinned(
        0, "wrk", "-t1", f"-c{given.clients}", f"-d{seconds}", "--latency", "-s", str(script),
        f"{url}/v1/messages{given.query}",
    )  # fmt: skip
    said = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BODY": str(body), "HEADERS": given.headers},
    ).stdout
    used = cpu_seconds(pid) - before
    count = re.search(r"(\d+) requests in", said)
    half = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    if count is None or half is None or "Non-2xx" in said:
        raise RuntimeError(f"{url} did not answer as it should: {said}")
    scale = {"us": 1.0, "ms": 1e3, "s": 1e6}[half[2]]
    return Measured(used / max(1, int(count[1])) * 1e6, float(half[1]) * scale)


def _ratios(at: Path, provider: str) -> list[Row]:
    rows = []
    with pinned_nginx(at, provider) as nginx, pinned_sidecar(at, provider) as sidecar:
        for name, given, target in (
            ("cpu_json_1k", Load(0, 16), "<= 3.0"),
            ("cpu_json_1m", Load(550, 4), "<= 2.2"),
            ("cpu_sse", Load(0, 16, "?burst"), "<= 1.6"),
            ("p50_json_1k", Load(0, 1), "<= 1.3"),
        ):
            # In turn, so that a machine that changes its speed changes both.
            turns = [(load(at, *nginx, given), load(at, *sidecar, given)) for _ in range(_ROUNDS)]
            what = name.partition("_")[0]
            theirs, ours = (
                statistics.median(getattr(each, what) for each in side)
                for side in zip(*turns, strict=True)
            )
            rows.append(Row(f"sidecar.{name}_vs_nginx", round(ours / theirs, 2), "times", target))
            rows.append(Row(f"sidecar.{name}", round(ours, 1), "us"))
    return rows


def _sizes(at: Path, provider: str) -> list[Row]:
    rows = []
    with pinned_sidecar(at, provider) as (pid, url):
        rows.append(Row("rss.sidecar_idle", round(resident_mb(pid), 1), "MB", "<= 36"))
        asyncio.run(_ask(url, 16, conversation(550), rounds=10))
        rows.append(Row("rss.sidecar_1m_x16", round(peak_mb(pid), 1), "MB", "<= 64"))
    with pinned_sidecar(at, provider) as (pid, url):
        size = asyncio.run(_ask(url, _STREAMS, conversation(0), query="?slow", weighed=pid))
        rows.append(Row("rss.sidecar_1000_streams", round(size, 1), "MB", "<= 80"))
    return rows


async def _ask(
    url: str, clients: int, body: bytes, *, query: str = "", rounds: int = 1, weighed: int = 0
) -> float:
    """So many clients at once; the memory of a process when each of them has an answer's begin."""
    split = urlsplit(url)
    begun = asyncio.Semaphore(0)
    request = (
        f"POST /v1/messages{query} HTTP/1.1\r\nHost: {split.netloc}\r\nx-api-key: bench-key\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        for _ in range(rounds):
            writer.write(request + body)
            await reader.readuntil(b"\r\n\r\n")
            begun.release()
            if weighed:
                await weigh.wait()
            else:
                await reader.readuntil(b'"cache_creation_input_tokens":0}}')
        writer.close()

    weigh = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask())
        for _ in range(clients):
            await begun.acquire()
        size = resident_mb(weighed) if weighed else 0.0
        weigh.set()
    return size


def _start(at: Path, provider: str) -> Row:
    """It listens once its bundle is verified, and prints so."""
    took = []
    for _ in range(_ROUNDS):
        begun = time.monotonic()
        with pinned_sidecar(at, provider):
            took.append((time.monotonic() - begun) * 1000)
    return Row("sidecar.start_to_ready", round(statistics.median(took)), "ms", "<= 400")
