"""The sidecar beside other gateways: `make bench-peers` installs them and measures.

nginx, LiteLLM and Portkey pass the same requests on to the same provider, one worker each, on the
core on which the sidecar is measured, under wrk on the other core. None of them splices a contract.
Run apart from `make bench`: it takes minutes, and some 200 packages that nothing else needs.
"""

import contextlib
import http.client
import os
import socket
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import proxy
from bench.peers_plot import Costs, draw
from bench.processes import started
from bench.rows import Row, show, write
from bench.sidecar import write_bundle
from tests.cluster.ports import free_port

_PEERS: Final = Path("build/peers").absolute()
_ROUNDS: Final = 3
_PATIENCE: Final = 120.0
_LITELLM: Final = """
model_list:
  - model_name: claude-opus-4-8
    litellm_params:
      {{model: anthropic/claude-opus-4-8, api_base: "{provider}", api_key: bench-key}}
"""
_TURNS: Final = {"1k": 0, "100k": 50, "1m": 550}
"""Turns of a history that make a request of that size."""
_STREAMS: Final = {"json": "", "burst": "burst", "paced": "paced"}
_TARGETS: Final = {"litellm": "<= 0.02", "portkey": "<= 0.25"}


@dataclass(frozen=True, slots=True)
class _Peer:
    process: int
    url: str
    seconds: int
    """Of one turn: a slow peer needs more of them for enough requests."""
    headers: str = ""


def measure() -> Costs:
    """Processor time for a request in us, or why there is none: by kind and size, then by peer."""
    with TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        at = Path(name)
        write_bundle(at / "bundle")
        _say("starting")
        provider = stack.enter_context(proxy.fast_provider(at))
        routed = f"x-portkey-provider: anthropic|x-portkey-custom-host: {provider}/v1"
        peers = {
            "nginx": _Peer(*stack.enter_context(proxy.pinned_nginx(at, provider)), 2),
            "sidecar": _Peer(*stack.enter_context(proxy.pinned_sidecar(at, provider)), 2),
            "portkey": _Peer(*stack.enter_context(_portkey(at)), 4, routed),
            "litellm": _Peer(*stack.enter_context(_litellm(at, provider)), 4),
        }
        cells = [(kind, size) for kind in _STREAMS for size in _TURNS]
        measured: dict[tuple[str, str], dict[str, float | str]] = {}
        for number, (kind, size) in enumerate(cells, 1):
            _say(f"{number} of {len(cells)}: {kind}, {size}")
            # Few at once where an answer takes long, lest much be cut off uncounted at the end.
            clients = 16 if size == "1k" and kind != "paced" else 4
            given = proxy.Load(_TURNS[size], clients, stream=_STREAMS[kind])
            measured[kind, size] = _beside(at, peers, given)
    return measured


def rows(measured: Costs) -> list[Row]:
    """The ratios that have a target, then each figure."""
    figures = {
        (peer, kind, size): cost
        for (kind, size), costs in measured.items()
        for peer, cost in costs.items()
        if isinstance(cost, float)
    }
    small = {peer: cost for (peer, *cell), cost in figures.items() if cell == ["json", "1k"]}
    return [
        *(
            Row(
                f"sidecar.cpu_json_1k_vs_{peer}",
                round(small["sidecar"] / small[peer], 4),
                "times",
                target,
            )
            for peer, target in _TARGETS.items()
            if peer in small
        ),
        *(
            Row(f"{peer}.cpu_{kind}_{size}", round(cost, 1), "us")
            for (peer, kind, size), cost in figures.items()
        ),
    ]


def table(measured: Costs) -> Table:
    """The peers beside each other; where one has no figure, the reason."""
    peers = list(next(iter(measured.values())))
    shown = Table(title="processor time for a request, us")
    for heading in ("answer", "request", *peers):
        shown.add_column(heading, justify="right")
    for cell, costs in measured.items():
        found = [costs[peer] for peer in peers]
        shown.add_row(*cell, *(each if isinstance(each, str) else f"{each:,.0f}" for each in found))
    return shown


def _beside(at: Path, peers: Mapping[str, _Peer], given: proxy.Load) -> dict[str, float | str]:
    found: dict[str, list[float] | str] = {
        name: _refusal(peer, given) or [] for name, peer in peers.items()
    }
    # In turn, so that a machine that changes its speed changes all.
    for _ in range(_ROUNDS):
        for name, turns in found.items():
            if isinstance(turns, list):
                peer = peers[name]
                load = replace(given, headers=peer.headers)
                try:
                    turns.append(proxy.load(at, peer.process, peer.url, load, peer.seconds).cpu)
                except RuntimeError:
                    found[name] = f"fails with {given.clients} clients"
    return {
        name: turns if isinstance(turns, str) else statistics.median(turns)
        for name, turns in found.items()
    }


def _refusal(peer: _Peer, given: proxy.Load) -> str | None:
    """What a peer says to a request that it does not pass on, or why its answer is not whole."""
    sent = {"content-type": "application/json", "x-api-key": "k", "anthropic-version": "2023-06-01"}
    sent |= dict(each.split(": ", 1) for each in peer.headers.split("|") if each)
    body = proxy.conversation(given.turns, given.stream)
    request = urllib.request.Request(f"{peer.url}/v1/messages", body, sent)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_PATIENCE) as answer:
            whole = answer.read()
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read()[:60].decode()}"
    except (OSError, http.client.HTTPException) as error:
        return f"{error}"[:60]
    return None if (b"message_stop" if given.stream else b"end_turn") in whole else "cut off"


@contextlib.contextmanager
def _litellm(at: Path, provider: str) -> Iterator[tuple[int, str]]:
    config, port = at / "litellm.yaml", free_port()
    config.write_text(_LITELLM.format(provider=provider))
    command = (
        str(_PEERS / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1",
        "--port", str(port), "--num_workers", "1", "--telemetry", "False",
    )  # fmt: skip
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would be fetched
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # spares it the checking
    }
    with _running(at / "litellm.log", command, environment, port) as pid:
        yield pid, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _portkey(at: Path) -> Iterator[tuple[int, str]]:
    port = free_port()
    server = _PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ("node", str(server), f"--port={port}", "--headless")
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    with _running(at / "portkey.log", command, environment, port) as pid:
        yield pid, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(
    log: Path, command: tuple[str, ...], environment: Mapping[str, str], port: int
) -> Iterator[int]:
    """A gateway on the measured core, once it listens."""
    with started(*proxy.pinned(1, *command), environment=environment, log=log) as process:
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield process.pid


def _say(what: str) -> None:
    print(f"bench-peers: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    busy = os.getloadavg()[0]
    found = measure()
    Console(width=100).print(table(found))
    print(f"others ran on this machine when it began: load average {busy:.1f}")
    listed = rows(found)
    show([row for row in listed if row.target])
    write(listed, Path("build/bench-peers.json"))
    draw(found, Path("build/bench-peers.svg"))
