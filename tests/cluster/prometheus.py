"""A real Prometheus for tests: found, or unpacked once from the distribution's package.

The package is not installed: no service starts, no account is made, no root is needed. Debian and
Ubuntu have it; elsewhere put `prometheus` on PATH.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen

from tests.cluster.ports import free_port
from tests.cluster.waiting import wait_until

_PATIENCE: Final = 30


class PrometheusError(Exception):
    """There is no Prometheus and none could be had; the message says what to do."""


def find_or_unpack(environ: Mapping[str, str] = os.environ) -> Path:
    """The binary: from PATH, from the cache, or unpacked into the cache now.

    Raises:
        PrometheusError: it is neither here nor could the package be had.
    """
    found = shutil.which("prometheus", path=environ.get("PATH"))
    if found is not None:
        return Path(found)
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    unpacked = home / "headwater" / "prometheus" / platform.machine()
    if not unpacked.exists():
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked.parent) as directory:
            _unpack(_download(Path(directory), environ), Path(directory) / "root")
            try:
                Path(directory, "root").rename(unpacked)
            except OSError:
                if not unpacked.exists():  # else another worker was quicker
                    raise
    return unpacked / "usr" / "bin" / "prometheus"


def _download(directory: Path, environ: Mapping[str, str]) -> Path:
    if shutil.which("apt-get", path=environ.get("PATH")) is None:
        raise PrometheusError(
            "there is no prometheus on PATH, and no apt-get to fetch one with: install Prometheus"
            " 2.40 or newer (https://prometheus.io/download)"
        )
    # A clean machine has no package lists; ours lie apart, where no root is needed for them.
    lists, cache = directory / "lists", directory / "cache"
    for made in (lists / "partial", cache / "archives" / "partial"):
        made.mkdir(parents=True)
    apart = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}")
    attempts = ((("download", "prometheus"),), (("update",), ("download", "prometheus")))
    problem = ""
    for options, commands in zip(((), apart), attempts, strict=True):
        for command in commands:
            done = subprocess.run(
                ["apt-get", *options, "-qq", *command],
                cwd=directory,
                env={**environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            problem = done.stderr.strip() or problem
        for package in directory.glob("prometheus_*.deb"):
            return package
    raise PrometheusError(
        "there is no prometheus on PATH, and apt-get could not fetch the package; put a"
        f" Prometheus 2.40 or newer on PATH. apt-get said:\n{problem}"
    )


def _unpack(package: Path, directory: Path) -> None:
    subprocess.run(["dpkg", "-x", package, directory], check=True, stdin=subprocess.DEVNULL)


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
                    find_or_unpack(),
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
            with urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError, TimeoutError):
            return False
