"""A real Prometheus for tests, on the loopback."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen

from tests.cluster import assets
from tests.cluster.ports import free_port
from tests.cluster.waiting import scaled, wait_until

_PATIENCE: Final = 30


class PrometheusError(Exception):
    """Prometheus ended while it was awaited; the message is its log."""


class PrometheusServer:
    """A Prometheus on the loopback that scrapes once a second. Killed and started at will.

    Its data lie in `directory` and outlive it.
    """

    def __init__(
        self,
        directory: Path,
        jobs: Sequence[Mapping[str, Any]],
        *,
        path: str = "",
        tls: Mapping[str, Any] | None = None,
    ) -> None:
        """Not started yet.

        Args:
            directory: for its configuration, data and log.
            jobs: `scrape_configs`.
            path: under which it serves, like `/metrics-store`.
            tls: `tls_server_config`; readiness is then not waited for.
        """
        self._directory = directory
        self._address = f"127.0.0.1:{free_port()}"
        self.url = f"{'https' if tls else 'http'}://{self._address}{path}"
        self._tls = tls
        directory.mkdir(parents=True, exist_ok=True)
        scraping = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}}
        # JSON is YAML.
        (directory / "config.yaml").write_text(json.dumps({**scraping, "scrape_configs": jobs}))
        (directory / "web.yaml").write_text(json.dumps({"tls_server_config": tls} if tls else {}))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers queries."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    assets.require("prometheus") / "prometheus",
                    f"--config.file={self._directory / 'config.yaml'}",
                    f"--web.config.file={self._directory / 'web.yaml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address={self._address}",
                    f"--web.external-url={self.url}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if self._tls is None:
            wait_until(self._is_ready, _PATIENCE, "Prometheus is ready")

    def kill(self) -> None:
        """End it as a crash would; one that has ended already is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise PrometheusError((self._directory / "log").read_text())
        try:
            with urlopen(f"{self.url}/-/ready", timeout=scaled(10)) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError, TimeoutError):
            return False
