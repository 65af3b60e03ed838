"""`headwater sidecar` as a process: what it prints, what it needs, how it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.waiting import scaled
from tests.unit.sidecar import bundles

BODY = {"model": bundles.MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = json.dumps({"usage": {"input_tokens": 1, "cache_read_input_tokens": 9}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("headwater"), "sidecar", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    """A POST where there is a body, else a GET: status and text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=scaled(30)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def address(process: subprocess.Popen[str], begins: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(begins), line or process.communicate(timeout=scaled(30))[1]
    return line.split()[-1]


@pytest.fixture
def process(tmp_path: Path, provider: str) -> Iterator[subprocess.Popen[str]]:
    bundles.mount(tmp_path, bundles.make())
    ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
    found = start(
        "--bundle", str(tmp_path), "--upstream", provider, *ports, HEADWATER_TEAM="search"
    )
    yield found
    found.kill()
    found.communicate(timeout=scaled(30))


def test_it_says_where_it_listens_serves_and_ends_on_sigterm(
    process: subprocess.Popen[str],
) -> None:
    """First lines for whoever started it; identity from the environment; exit 0."""
    url = address(process, "listening on http://127.0.0.1:")
    metrics = address(process, "metrics on http://127.0.0.1:")
    assert ask(f"{url}/v1/messages", BODY)[0] == 200
    assert ask(f"{metrics}/readyz") == (200, "ok\n")
    assert 'team="search"' in ask(f"{metrics}/metrics")[1]
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=scaled(30))
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events == ["bundle verified", "stopping, requests in flight are finished first"]


def test_it_never_logs_keys_or_prompts(process: subprocess.Popen[str]) -> None:
    """Not even of requests that are refused."""
    url = address(process, "listening on")
    secret = "sk-very-secret"
    body = {**BODY, "tools": [{"name": "very-private", "description": "very-private"}]}
    assert ask(f"{url}/v1/messages", body, authorization=f"Bearer {secret}")[0] == 400
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=scaled(30))
    assert "own_tools" in log
    assert "very" not in log


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either --bundle DIR or --from-cluster"),
        (("--bundle", "x", "--from-cluster", "a/b"), "give either --bundle DIR"),
        (("--bundle", "x", "--upstream", "api.anthropic.com"), "no http:// or https:// URL"),
        (("--bundle", "x", "--metrics-address", "9484"), "no HOST:PORT"),
        (("--from-cluster", "no-slash"), "give NAMESPACE/NAME of the bundle's ConfigMap"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple[str, ...], says: str) -> None:
    """One sentence, exit 2, no traceback."""
    _, error = (process := start(*arguments)).communicate(timeout=scaled(30))
    assert process.returncode == 2
    assert says in error
    assert "Traceback" not in error


def test_a_port_that_is_taken_is_explained(tmp_path: Path, provider: str) -> None:
    """A second sidecar in one pod is a likely mistake."""
    port = provider.rsplit(":", 1)[1]
    ports = ("--port", port, "--metrics-address", "127.0.0.1:0")
    _, error = (process := start("--bundle", str(tmp_path), *ports)).communicate(timeout=scaled(30))
    assert process.returncode == 1
    assert "cannot listen" in error
    assert "Traceback" not in error
