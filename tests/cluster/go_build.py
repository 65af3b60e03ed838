"""Programs that are compiled once, from the Go modules that `binaries/**/go.sum` pins.

Nothing prebuilt is ever downloaded. All programs of a module that are missing are built by one
`go build`, which compiles the packages that they share once and links one program while it
compiles another. Each appears in the cache when it is complete. After an interruption Go goes on
from its own cache, and what was linked already stays.
"""

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cache import HEARTBEAT_SECONDS, AssetsError, home, only_writer, say

BINARIES: Final = Path(__file__).parent / "binaries"
KUBERNETES: Final = "k8s.io/kubernetes"
HELM: Final = "helm.sh/helm/v3"
GO_MINIMUM: Final = (1, 24)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_TAIL_LINES: Final = 15


@dataclass(frozen=True)
class GoBuild:
    """Programs that are built together, from one pinned module graph.

    Attributes:
        kept_in: the name of its directory in the cache.
        module: the directory of its go.mod.
        pinned: the module whose version is that of the programs.
        packages: what is built, by the program's name.
    """

    kept_in: str
    module: Path
    pinned: str
    packages: Mapping[str, str]

    @property
    def version(self) -> str:
        """Such as `v1.34.4`: go.mod is where it is decided."""
        return pinned_version(self.module, self.pinned)

    def directory(self, environ: Mapping[str, str]) -> Path:
        """Return where its programs are kept: one directory for each pinned module graph."""
        pinned = (self.module / "go.mod").read_bytes() + (self.module / "go.sum").read_bytes()
        digest = hashlib.sha256(pinned).hexdigest()[:12]
        key = f"{self.version}-{digest}-{sys.platform}-{architecture()}"
        return home(environ) / self.kept_in / key

    def find(self, environ: Mapping[str, str]) -> Path | None:
        """Return the directory where all programs are in the cache, else None.

        Their versions are not asked for: the name of the directory says them.
        """
        directory = self.directory(environ)
        return None if lacking(directory, self.packages) else directory

    def make(self, environ: Mapping[str, str]) -> Path:
        """Build what is missing, and return the directory.

        Raises:
            AssetsError: no Go, too old a Go, or a build that failed.
        """
        directory = self.directory(environ)
        go = _go(environ)
        with only_writer(directory) as lock:
            # None where another process has built all of it while this one waited.
            if missing := lacking(directory, self.packages):
                self._build(go, missing, environ, lock)
        return directory

    def _build(
        self, go: str, programs: Sequence[str], environ: Mapping[str, str], lock: int
    ) -> None:
        directory = self.directory(environ)
        unfinished, log = directory / ".building", directory / "build.log"
        # Go copies from its scratch directory unless both are on one file system. A copy that is
        # killed looks finished to the next `go build`; a rename is whole.
        scratch = unfinished / "scratch"
        packages = [self.packages[program] for program in programs]
        say(f"        building {', '.join(programs)} {self.version} in {directory}")
        with log.open("w") as output, _emptied(scratch):
            build = subprocess.Popen(
                [
                    *(go, "build", "-v", "-trimpath", "-ldflags", _ldflags(self.version)),
                    *("-o", f"{unfinished}/", *packages),
                ],
                cwd=self.module,
                env={
                    **environ,
                    "CGO_ENABLED": "0",
                    "GOTOOLCHAIN": "local",
                    "GOWORK": "off",
                    "GOTMPDIR": str(scratch),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                process_group=0,  # so that its compilers end with it
            )
            code = _awaited(build, log)
        if code != 0:
            # A line without a space is a package that was compiled.
            lines = [line for line in log.read_text(errors="replace").splitlines() if " " in line]
            raise AssetsError(
                f"building {', '.join(programs)} failed (go build ended with {code}); "
                "its last lines:\n  "
                + "\n  ".join(lines[-_TAIL_LINES:])
                + f"\nThe full log is {log}; the next run goes on from here."
            )
        for program, package in zip(programs, packages, strict=True):
            (unfinished / _executable(package, self.module)).rename(directory / program)
        shutil.rmtree(unfinished)
        log.unlink()


def lacking(directory: Path, programs: Mapping[str, str]) -> list[str]:
    """Return the programs that the directory has not."""
    return [
        name
        for name in programs
        if not os.access(directory / name, os.X_OK) or (directory / name).is_dir()
    ]


def pinned_version(module: Path, pinned: str) -> str:
    """Return the version of a module that another one's go.mod requires.

    Raises:
        AssetsError: it requires none.
    """
    found = re.search(
        rf"^\s*(?:require )?{re.escape(pinned)} (v\S+)",
        (module / "go.mod").read_text(),
        re.MULTILINE,
    )
    if found is None:
        raise AssetsError(f"{module / 'go.mod'} requires no {pinned}: restore it from Git")
    return found[1]


def kubernetes_version() -> str:
    """Return the control plane's version, such as `v1.34.4`."""
    return pinned_version(BINARIES, KUBERNETES)


def architecture() -> str:
    """Return this machine's, as Go and container images name it."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def _executable(package: str, module: Path) -> str:
    """Return the name that `go build` gives a package's program (`go help build`)."""
    if package == ".":
        return module.name
    *_, parent, name = package.split("/")
    return parent if re.fullmatch(r"v\d+", name) else name


def _ldflags(version: str) -> str:
    kubernetes = kubernetes_version()
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    # Without these the server calls itself v0.0.0-master, and clients misbehave, and Helm renders
    # for a Kubernetes of 2020 where it asks no cluster.
    return (
        "-s -w"
        f" -X k8s.io/component-base/version.gitVersion={kubernetes}"
        f" -X k8s.io/component-base/version.gitMajor={major}"
        f" -X k8s.io/component-base/version.gitMinor={minor}"
        f" -X k8s.io/client-go/pkg/version.gitVersion={kubernetes}"
        f" -X {HELM}/internal/version.version={version}"
        f" -X {HELM}/pkg/chartutil.k8sVersionMajor={major}"
        f" -X {HELM}/pkg/chartutil.k8sVersionMinor={minor}"
        f" -X {HELM}/pkg/lint/rules.k8sVersionMajor={major}"
        f" -X {HELM}/pkg/lint/rules.k8sVersionMinor={minor}"
    )


@contextmanager
def _emptied(directory: Path) -> Iterator[None]:
    """Make the directory, without what a killed process left in it, and remove it at the end."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # a compiler may have a moment to live yet


def _awaited(build: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the build and say every 15 s how far it is; end it where the wait is interrupted."""
    started = time.monotonic()
    try:
        while True:
            try:
                return build.wait(timeout=HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                compiled = log.read_text(errors="replace").splitlines()
                progress = f"{len(compiled)} packages, now {compiled[-1]}" if compiled else "…"
                say(f"{time.monotonic() - started:6.0f} s  still building: {progress}")
    finally:
        if build.poll() is None:
            os.killpg(build.pid, signal.SIGTERM)
            build.wait()


def _go(environ: Mapping[str, str]) -> str:
    needed = ".".join(map(str, GO_MINIMUM))
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise AssetsError(
            f"Go is not on PATH: the tests' programs are built with Go {needed} or newer "
            "(https://go.dev/dl)"
        )
    # From / so that no go.mod has a say; local so that no other toolchain is downloaded.
    answer = subprocess.run(
        [go, "env", "GOVERSION"],
        cwd="/",
        env={**environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    found = re.match(r"go(\d+)\.(\d+)", answer)
    if found is None or (int(found[1]), int(found[2])) < GO_MINIMUM:
        raise AssetsError(
            f"{go} is {answer or 'of an unknown version'}: the tests' programs are built with "
            f"Go {needed} or newer (https://go.dev/dl)"
        )
    return go
