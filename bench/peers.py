"""The sidecar beside other gateways: `make bench-peers` installs them and measures.

LiteLLM and Portkey pass the same request on to the same provider, one worker each, on the core on
which the sidecar is measured. None of them splices a contract. Run apart from `make bench`: it
takes minutes, and some 200 packages that nothing else needs.
"""

import contextlib
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import proxy
from bench.processes import started
from bench.rows import Row, show, write
from bench.sidecar import write_bundle
from tests.cluster.ports import free_port

_PEERS: Final = Path("build/peers").absolute()
_ROUNDS: Final = 3
_SECONDS: Final = 3
_PATIENCE: Final = 120.0
_LITELLM: Final = """
model_list:
  - model_name: claude-opus-4-8
    litellm_params:
      {{model: anthropic/claude-opus-4-8, api_base: "{provider}", api_key: bench-key}}
"""


def measure() -> list[Row]:
    """Processor time for a request of 1 KB, as a share of what each peer takes."""
    with TemporaryDirectory() as name, proxy.fast_provider(Path(name)) as provider:
        at = Path(name)
        write_bundle(at / "bundle")
        rows = []
        for peer, running, headers, target in (
            ("litellm", _litellm(at, provider), {}, "<= 0.02"),
            ("portkey", _portkey(at), _routed(provider), "<= 0.25"),
        ):
            with running as theirs, proxy.pinned_sidecar(at, provider) as ours:
                _answers(theirs[1], headers)
                # In turn, so that a machine that changes its speed changes both.
                turns = [(_cpu(at, ours, {}), _cpu(at, theirs, headers)) for _ in range(_ROUNDS)]
            sidecar, other = (statistics.median(side) for side in zip(*turns, strict=True))
            ratio = round(sidecar / other, 4)
            rows += [
                Row(f"sidecar.cpu_json_1k_vs_{peer}", ratio, "times", target),
                Row(f"{peer}.cpu_json_1k", round(other), "us"),
            ]
    return rows


def _cpu(at: Path, process: tuple[int, str], headers: Mapping[str, str]) -> float:
    joined = "|".join(f"{name}: {value}" for name, value in headers.items())
    load = proxy.Load(0, 16, headers=joined)
    return proxy.load(at, *process, load, _SECONDS).cpu


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
    with _running(at / "litellm.log", command, environment) as pid:
        yield pid, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _portkey(at: Path) -> Iterator[tuple[int, str]]:
    port = free_port()
    server = _PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ("node", str(server), f"--port={port}", "--headless")
    with _running(at / "portkey.log", command, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}) as pid:
        yield pid, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(log: Path, command: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[int]:
    with started(*proxy.pinned(1, *command), environment=environment, log=log) as process:
        yield process.pid


def _routed(provider: str) -> Mapping[str, str]:
    """What tells Portkey where to go."""
    return {"x-portkey-provider": "anthropic", "x-portkey-custom-host": f"{provider}/v1"}


def _answers(url: str, headers: Mapping[str, str]) -> None:
    """Wait until it does."""
    sent = {"content-type": "application/json", "x-api-key": "k", **headers}
    sent["anthropic-version"] = "2023-06-01"
    request = urllib.request.Request(f"{url}/v1/messages", proxy.conversation(0), sent)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with opener.open(request, timeout=_PATIENCE):
                return
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{url}: {error.read()[:300]!r}") from error
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    found = measure()
    show(found)
    write(found, Path("build/bench-peers.json"))
