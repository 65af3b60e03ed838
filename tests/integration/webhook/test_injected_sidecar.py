"""The container that a pod gets, run as its node would run it: it takes what it is told."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headwater.webhook.sidecar import Settings
from tests.cluster.waiting import scaled
from tests.integration.controller.servers import serving
from tests.unit.sidecar import bundles
from tests.unit.webhook.pods import injected, pod

BODY = {"model": bundles.MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def provider() -> Iterator[str]:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.json_response({"usage": {"input_tokens": 1, "cache_read_input_tokens": 9}})

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    with serving(app) as url:
        yield url


def on_this_machine(sidecar: dict[str, Any], directory: Path) -> list[str]:
    """Its command, with this machine's directories and free ports."""
    command = [*sidecar["command"], *sidecar["args"]]
    for mount in sidecar["volumeMounts"]:
        command = [
            word.replace(mount["mountPath"], str(directory / mount["name"])) for word in command
        ]
    command = [re.sub(r"^--port=\d+$", "--port=0", word) for word in command]
    command = [re.sub(r"^(--metrics-address=).*", r"\g<1>127.0.0.1:0", word) for word in command]
    assert command[0] == "headwater"
    return [str(Path(sys.executable).with_name("headwater")), *command[1:]]


def test_it_serves_every_prefix_of_the_pod(tmp_path: Path, provider: str) -> None:
    """By the flags, the mounts and the probe that are in the pod."""
    body = injected(
        pod(),
        prefixes="ai-platform/org-core,support/answers",
        settings=Settings("x", provider_url=provider),
    )
    (sidecar,) = body["spec"]["initContainers"]
    for number, (name, version) in enumerate((("org-core", "v1"), ("answers", "v7")), start=1):
        declared = bundles.make(version)
        declared = replace(declared, route=replace(declared.route, prefix=name))
        bundles.mount(tmp_path / f"headwater-bundle-{number}", declared)
    values = {item["name"]: item.get("value", "from-a-field") for item in sidecar["env"]}
    process = subprocess.Popen(
        on_this_machine(sidecar, tmp_path),
        env={**os.environ, **values},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url, metrics = (process.stdout.readline().split()[-1] for _ in range(2))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        probe = sidecar["startupProbe"]["httpGet"]["path"]
        with opener.open(metrics + probe, timeout=scaled(30)) as answer:
            assert answer.status == 200
        for path, version in (("/v1/messages", "v1"), ("/p/answers/v1/messages", "v7")):
            request = urllib.request.Request(url + path, json.dumps(BODY).encode())
            with opener.open(request, timeout=scaled(30)) as answer:
                assert answer.headers["x-headwater-version"] == version
        with opener.open(f"{metrics}/metrics", timeout=scaled(30)) as answer:
            assert 'team="from-a-field"' in answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=scaled(30))
    assert process.returncode == 0, log
