"""Replicas of `headwater webhook` as processes, and an API server that asks them.

The account, the roles and the configurations are those of the chart. What a Service
would do is done by a balancer of TCP connections on the loopback, for there is no node.
"""

import asyncio
import contextlib
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families

from headwater.cluster import POD
from headwater.cluster.kinds import MUTATING_CONFIGURATION, VALIDATING_CONFIGURATION
from tests.cluster.control_plane import Cluster
from tests.cluster.forks import Forked
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api
from tests.integration.deployed import WEBHOOKS, deployed
from tests.integration.webhook.authority import Authority, Pair

PATIENCE: Final = 30.0
ACCOUNT: Final = "headwater-webhook"
CONFIGURATIONS: Final = {
    kind.kind: kind for kind in (MUTATING_CONFIGURATION, VALIDATING_CONFIGURATION)
}


class Replica:
    """One process."""

    def __init__(self, kubeconfig: Path, pair: Pair, log: Path, *arguments: str) -> None:
        self.log = log
        listen = ("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0")
        files = ("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key))
        with log.open("ab") as errors:
            self._process = Forked(
                ("webhook", *listen, *files, *arguments),
                {**os.environ, "KUBECONFIG": str(kubeconfig)},
                stderr=errors,
            )
        assert self._process.stdout is not None
        lines = [self._process.stdout.readline() for _ in range(2)]
        assert all(lines), self.said()
        self.url, self.metrics_url = (line.split()[-1] for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def port(self) -> int:
        """Of the webhooks."""
        return int(self.url.rpartition(":")[2])

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(scaled(30))

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        finally:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of `/healthz`, `/readyz` or `/metrics`."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.metrics_url + path, timeout=scaled(30)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = self.probe("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@dataclass
class Balancer:
    """Gives each new connection to the next port in the list, as kube-proxy would."""

    ports: list[int]
    port: int = 0
    _turn: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def served(self) -> Iterator[Self]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="balancer")
        thread.start()

        async def start() -> asyncio.Server:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            return server

        async def end(server: asyncio.Server) -> None:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self._turn += 1
            port = self.ports[self._turn % len(self.ports)]
            theirs, ours = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
            finally:
                ours.close()
        except OSError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@dataclass
class Site:
    """A control plane whose admission asks replicas of ours.

    Attributes:
        api: the administrator's.
        account: the cluster as the webhook's account has it.
    """

    cluster: Cluster
    api: Api
    account: Cluster
    authority: Authority
    directory: Path

    def replica(self, *arguments: str, pair: Pair | None = None) -> Replica:
        """Start one; it listens when this returns."""
        pair = pair or self.authority.issue("webhook")
        log = self.directory / f"replica-{len(list(self.directory.glob('*.log')))}.log"
        log.touch()
        return Replica(self.account.kubeconfig, pair, log, *arguments)

    def ask(self, port: int, **changes: Any) -> None:
        """Point the chart's configurations to a port of this machine."""
        for body in deployed(*WEBHOOKS):
            for webhook in body["webhooks"]:
                service = webhook["clientConfig"].pop("service")
                webhook["clientConfig"] = {
                    "url": f"https://127.0.0.1:{port}{service['path']}",
                    "caBundle": self.authority.bundle,
                }
                webhook.update(changes)
            self.api.apply(CONFIGURATIONS[body["kind"]], body)


def as_account(cluster: Cluster, kubeconfig: Path, account: str = ACCOUNT) -> Cluster:
    """The cluster as a pod of an account would see it."""
    path = f"/api/v1/namespaces/headwater/serviceaccounts/{account}/token"
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    with Api(cluster) as api:
        token = json.loads(api.request("POST", path, wanted))["status"]["token"]
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig.write_text(json.dumps(config))
    return Cluster(kubeconfig, cluster.kubectl_binary)


def until_asked(site: Site, namespace: str, body: Mapping[str, Any]) -> None:
    """Wait until the API server knows of the webhooks: it learns of them by a watch."""

    def asked() -> bool:
        pod = {"apiVersion": "v1", "kind": "Pod", **body}
        return "headwater.dev/" in site.api.request("POST", POD.path(namespace), pod, dryRun="All")

    wait_until(asked, PATIENCE, "the webhooks are asked")
