"""What the demo stands on: processes, mounted directories and a shell, all gone afterwards.

Everything runs under the control plane's supervisor, which ends it however the demo ends, and in
its temporary directory. Nothing here knows the story.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from tests.cluster import supervisor
from tests.cluster.control_plane import Cluster
from tests.cluster.janitor import unmarked
from tests.cluster.volumes import MountedConfigMap
from tests.cluster.waiting import Limit, scaled
from tests.integration.deployed import ACCOUNTS, POLICIES, deployed

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[1]
BIN: Final = Path(sys.executable).parent
WAIT_SECONDS: Final = 40.0
"""The longest that anything may take on a quiet machine that the demo waits for."""
_LOOK_SECONDS: Final = 0.05
_COMMAND_SECONDS: Final = 60
_TAIL_LINES: Final = 12


class DemoError(Exception):
    """Something that the demo promised to show did not happen; the message says what."""


class Stage:
    """Processes by name, a work directory that looks like a checkout, and a shell in it.

    Attributes:
        directory: everything that is written; a process's log is `<name>.log`.
        work: where commands run; holds `crds/`, `examples/quickstart/`, and of `deploy/` what needs
            no node: accounts, roles and policies.
    """

    directory: Path
    work: Path

    def __init__(self, cluster: Cluster) -> None:
        """Use `cluster`; nothing is started before the `with`."""
        self.cluster = cluster
        self._running: list[str] = []
        path = [str(BIN), str(cluster.kubectl_binary.parent), os.environ.get("PATH", "")]
        self._environment = {
            **os.environ,
            **cluster.environment,
            "PATH": os.pathsep.join(path),
        }

    def __enter__(self) -> Self:
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__],
            env=unmarked(self._environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C is for us; it must live to clean up
        )
        self.directory = Path(self._answer()["directory"])
        self.work = self.directory / "work"
        for part in ("crds", "examples/quickstart"):
            shutil.copytree(ROOT / part, self.work / part)
        (self.work / "deploy").mkdir()
        # One policy names the image and the provider of an installation, and here is neither.
        items = [
            each
            for each in deployed(*ACCOUNTS, *POLICIES)
            if each["metadata"]["name"] != "headwater-controller-cron-jobs"
        ]
        whole = {"apiVersion": "v1", "kind": "List", "items": items}
        (self.work / "deploy" / "headwater.yaml").write_text(json.dumps(whole))
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.communicate()  # closes its input, which ends it and all it started

    def start(self, name: str, *arguments: str, kubeconfig: Path | None = None) -> None:
        """Start `headwater <arguments>`; without a kubeconfig it is the administrator's."""
        account = ["env", f"KUBECONFIG={kubeconfig}"] if kubeconfig else []
        argv = [*account, str(BIN / "headwater"), *arguments]
        self._ask({"start": name, "argv": argv, "log": f"{name}.log"})
        self._running.append(name)

    async def kubeconfig_of(self, account: str) -> Path:
        """A kubeconfig with a token of a service account in the namespace headwater."""
        token = await self.shell(f"kubectl create token {account} -n headwater --duration=24h")
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.directory / f"{account}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def end(self, name: str) -> None:
        """End one process."""
        self._running.remove(name)
        self._ask({"kill": name})

    async def announced(self, name: str, what: str) -> str:
        """The URL in a process's line `<what> on <url>`."""
        pattern = re.compile(rf"{what} on (http://\S+)")

        def found() -> str | None:
            match = pattern.search(self._read(name))
            return match[1] if match else None

        return await self.until(found, f"{name} says what it is {what} on", name)

    async def until(self, condition: Callable[[], T | None], what: str, *suspects: str) -> T:
        """The condition's first truthy value.

        Raises:
            DemoError: it took too long, or a process ended; with the suspects' last lines.
        """
        limit = Limit(WAIT_SECONDS)
        while not (value := condition()):
            self.check_alive()
            if limit.passed():
                raise DemoError(
                    f"waited {limit.seconds:.0f} s in vain: {what}{self._tails(suspects)}"
                )
            await asyncio.sleep(_LOOK_SECONDS)
        return value

    def check_alive(self) -> None:
        """Look after every process that was started.

        Raises:
            DemoError: one has ended by itself.
        """
        for name in self._running:
            code = self._ask({"poll": name})["code"]
            if code is not None:
                raise DemoError(f"{name} ended with {code}{self._tails([name])}")

    async def shell(self, command: str) -> str:
        """What a command line prints, run in the work directory.

        Raises:
            DemoError: it failed.
        """
        done = await self._run(command)
        if done.returncode != 0:
            raise DemoError(f"`{command}` failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout.rstrip()

    async def refused(self, command: str) -> str:
        """What a command line says that is refused.

        Raises:
            DemoError: it is not.
        """
        done = await self._run(command)
        if done.returncode == 0:
            raise DemoError(f"`{command}` should have been refused: {done.stdout.strip()}")
        return (done.stderr or done.stdout).strip()

    async def _run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(
            subprocess.run,
            ["/bin/sh", "-c", command],
            cwd=self.work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=scaled(_COMMAND_SECONDS),
        )

    def _read(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def _tails(self, names: Iterable[str]) -> str:
        parts = []
        for name in names:
            lines = self._read(name).splitlines()[-_TAIL_LINES:] or ["(nothing)"]
            parts.append(f"\nthe last lines of {name}:" + "".join(f"\n  {line}" for line in lines))
        return "".join(parts)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._supervisor.stdin is not None:
            self._supervisor.stdin.write(json.dumps(request) + "\n")
            self._supervisor.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._supervisor.stdout.readline() if self._supervisor.stdout else ""
        if not line:
            raise DemoError("the supervisor of the demo's processes has ended: see its stderr")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Mount:
    """A pod's volume with a bundle in it, kept in step with the ConfigMap as by a kubelet."""

    def __init__(self, stage: Stage, namespace: str, config_map: str, directory: Path) -> None:
        """Nothing is followed before `follow`."""
        self.directory = directory
        self._source = (stage.cluster, namespace, config_map, directory)
        self._mounted: MountedConfigMap | None = None

    def follow(self) -> None:
        """Follow the ConfigMap from now on."""
        self._mounted = MountedConfigMap(*self._source)
        self._mounted.__enter__()
        self._mounted.follow()

    def pause(self) -> None:
        """Leave the directory alone, as a kubelet does between two syncs (a minute or more)."""
        if self._mounted is not None:
            self._mounted.__exit__()
            self._mounted = None

    def __enter__(self) -> Self:
        self.follow()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
