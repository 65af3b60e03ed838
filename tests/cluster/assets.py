"""Finds, or builds once, the binaries of the local control plane, of its node, and Helm.

Only the standard library is imported: this runs before the virtual environment exists. It never
downloads a prebuilt binary: what is not on the machine is compiled from the modules that
`binaries/**/go.sum` pin.

    python -m tests.cluster.assets          prints the directory; progress goes to standard error
    python -m tests.cluster.assets helm     the same for another group of binaries, by its name
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

MODULE: Final = Path(__file__).parent / "binaries"
PACKAGES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
GO_MINIMUM: Final = (1, 24)
HEARTBEAT_SECONDS: Final = 15
KUBERNETES: Final = "k8s.io/kubernetes"
HELM: Final = "helm.sh/helm/v3"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class AssetsError(Exception):
    """The binaries are neither here nor could they be built; the message says what to do."""


@dataclass(frozen=True)
class Group:
    """Binaries that are built together, from one pinned module graph.

    Attributes:
        name: what the group is asked for by.
        module: the directory of its go.mod.
        pinned: the module whose version names the directory in the cache.
        packages: what is built, by the binary's name.
    """

    name: str
    module: Path
    pinned: str
    packages: Mapping[str, str]

    @property
    def version(self) -> str:
        """Such as `v1.34.4`: go.mod is where it is decided."""
        found = re.search(
            rf"^\s*(?:require )?{re.escape(self.pinned)} (v\S+)",
            (self.module / "go.mod").read_text(),
            re.MULTILINE,
        )
        if found is None:
            raise AssetsError(
                f"{self.module / 'go.mod'} requires no {self.pinned}: restore it from Git"
            )
        return found[1]

    def unfit(self, directory: Path) -> str | None:
        """Why the directory is not a full set, or None where it is one."""
        missing = [name for name in self.packages if not os.access(directory / name, os.X_OK)]
        return f"no {', '.join(missing)}" if missing else None


CONTROL_PLANE: Final = Group("kubernetes", MODULE, KUBERNETES, PACKAGES)
GROUPS: Final = {
    group.name: group
    for group in (
        CONTROL_PLANE,
        Group("helm", MODULE / "helm", HELM, {"helm": f"{HELM}/cmd/helm"}),
        Group(
            "node",
            MODULE / "node",
            KUBERNETES,
            {
                "kube-proxy": f"{KUBERNETES}/cmd/kube-proxy",
                "kube-scheduler": f"{KUBERNETES}/cmd/kube-scheduler",
                "kubelet": f"{KUBERNETES}/cmd/kubelet",
                "pause": "./pause",
            },
        ),
        Group("coredns", MODULE / "coredns", "github.com/coredns/coredns", {"coredns": "."}),
    )
}


def kubernetes_version() -> str:
    """The control plane's pinned version, such as `v1.34.4`."""
    return CONTROL_PLANE.version


def architecture() -> str:
    """This machine's, as Go and container images name it."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def cache_directory(environ: Mapping[str, str], group: Group = CONTROL_PLANE) -> Path:
    """Where our own build lies: one directory per pinned module graph, shared by every checkout."""
    pinned = (group.module / "go.mod").read_bytes() + (group.module / "go.sum").read_bytes()
    digest = hashlib.sha256(pinned).hexdigest()[:12]
    key = f"{group.version}-{digest}-{sys.platform}-{architecture()}"
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "headwater" / group.name / key


def unfit(directory: Path) -> str | None:
    """Why the directory is not a full set of the right versions, or None where it is one."""
    minor = kubernetes_version().rpartition(".")[0]
    missing, wrong = [], []
    for name in PACKAGES:
        binary = directory / name
        if not os.access(binary, os.X_OK) or binary.is_dir():
            missing.append(name)
            continue
        version = _version_of(name, binary)
        fits = version.startswith(("v3.5.", "v3.6.") if name == "etcd" else f"{minor}.")
        if not fits:
            wrong.append(f"{name} is {version}, not {'v3.5 or v3.6' if name == 'etcd' else minor}")
    reasons = ([f"no {', '.join(missing)}"] if missing else []) + wrong
    return "; ".join(reasons) or None


def find(environ: Mapping[str, str]) -> tuple[Path | None, list[str]]:
    """The first place with a full set, and a line for each place that was passed over."""
    skipped: list[str] = []
    places = [("KUBEBUILDER_ASSETS", environ.get("KUBEBUILDER_ASSETS"))]
    places += [("PATH", entry) for entry in environ.get("PATH", "").split(os.pathsep)]
    places += [("cache", str(cache_directory(environ)))]
    seen = set()
    for source, entry in places:
        if not entry or (directory := Path(entry).resolve()) in seen:  # /bin is often /usr/bin
            continue
        seen.add(directory)
        if source != "KUBEBUILDER_ASSETS" and not any(
            map(os.path.exists, map(directory.joinpath, PACKAGES))
        ):
            continue
        reason = unfit(directory)
        if reason is None:
            return directory, skipped
        skipped.append(f"skipped {directory} ({source}): {reason}")
    return None, skipped


def find_or_build(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of the binaries, built now if need be (some five minutes, once a version).

    Raises:
        AssetsError: no Go, too old a Go, or a build that failed.
    """
    directory, skipped = find(environ)
    if directory is None or "KUBEBUILDER_ASSETS" in environ:  # else nobody wonders
        for line in skipped:
            _say(line)
    return directory or build(CONTROL_PLANE, environ)


def build(group: Group, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory in the cache with the group's binaries, built now where they are missing.

    Raises:
        AssetsError: no Go, too old a Go, or a build that failed.
    """
    target = cache_directory(environ, group)
    lacking = unfit if group is CONTROL_PLANE else group.unfit
    if lacking(target) is None:
        return target
    go = _go(environ)
    target.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _only_one_builder(target / ".lock"):
        if lacking(target) is None:  # the one we waited for has built it
            return target
        for leftover in target.glob(".building-*"):
            leftover.unlink()
        _say(f"{group.name} {group.version} is built once into {target}")
        for step, name in enumerate(group.packages, 1):
            elapsed = time.monotonic() - started
            if (target / name).exists():
                continue
            _say(
                f"{elapsed:4.0f} s  building {name} ({step} of {len(group.packages)}, "
                "some minutes the first time) …"
            )
            _build_one(go, group, name, target, environ)
        _say(f"{time.monotonic() - started:4.0f} s  done")
        if reason := lacking(target):
            raise AssetsError(f"what was built in {target} does not fit ({reason}): remove it")
    return target


def _build_one(go: str, group: Group, name: str, target: Path, environ: Mapping[str, str]) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    # Without these the server calls itself v0.0.0-master, and clients misbehave, and Helm renders
    # for a Kubernetes of 2020 where it asks no cluster.
    ldflags = (
        "-s -w"
        f" -X k8s.io/component-base/version.gitVersion={version}"
        f" -X k8s.io/component-base/version.gitMajor={major}"
        f" -X k8s.io/component-base/version.gitMinor={minor}"
        f" -X k8s.io/client-go/pkg/version.gitVersion={version}"
        f" -X {HELM}/internal/version.version={group.version}"
        f" -X {HELM}/pkg/chartutil.k8sVersionMajor={major}"
        f" -X {HELM}/pkg/chartutil.k8sVersionMinor={minor}"
        f" -X {HELM}/pkg/lint/rules.k8sVersionMajor={major}"
        f" -X {HELM}/pkg/lint/rules.k8sVersionMinor={minor}"
    )
    unfinished = target / f".building-{name}-{os.getpid()}"
    log = target / f"{name}.log"
    started = time.monotonic()
    with log.open("w") as output:
        build = subprocess.Popen(
            [go, "build", "-trimpath", "-ldflags", ldflags, "-o", unfinished, group.packages[name]],
            cwd=group.module,
            env={**environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    code = build.wait(timeout=HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    elapsed = time.monotonic() - started
                    last = log.read_text(errors="replace").splitlines()[-1:]
                    _say(" ".join([f"        still at {name} after {elapsed:.0f} s", *last]))
        finally:
            if build.poll() is None:
                build.terminate()
                build.wait()
    if code != 0:
        lines = log.read_text(errors="replace").splitlines()[-15:]
        raise AssetsError(
            f"building {name} failed (go build ended with {code}); its last lines:\n  "
            + "\n  ".join(lines)
            + f"\nThe full log is {log}; the next run goes on from here."
        )
    unfinished.rename(target / name)
    log.unlink()


def _go(environ: Mapping[str, str]) -> str:
    needed = ".".join(map(str, GO_MINIMUM))
    instead = "or set KUBEBUILDER_ASSETS to a directory with " + ", ".join(PACKAGES)
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise AssetsError(
            f"Go is not on PATH: the control plane is built with Go {needed} or newer "
            f"(https://go.dev/dl), {instead}"
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
            f"{go} is {answer or 'of an unknown version'}: the control plane is built with "
            f"Go {needed} or newer (https://go.dev/dl), {instead}"
        )
    return go


def _version_of(name: str, binary: Path) -> str:
    arguments = ["version", "--client", "--output=json"] if name == "kubectl" else ["--version"]
    try:
        answer = subprocess.run(
            [binary, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        ).stdout
        if name == "kubectl":
            return str(json.loads(answer)["clientVersion"]["gitVersion"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        return f"of an unknown version ({type(error).__name__})"
    found = re.search(r"\d+\.\d+\.\d+\S*", answer)
    return f"v{found[0]}" if found else "of an unknown version"


@contextmanager
def _only_one_builder(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        if not _lock(lock):
            _say("another checkout or worker builds the control plane: waiting for it …")
            started = heard = time.monotonic()
            while not _lock(lock):
                time.sleep(0.5)
                if time.monotonic() - heard >= HEARTBEAT_SECONDS:
                    heard = time.monotonic()
                    _say(f"        still waiting after {heard - started:.0f} s")
        yield


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case []:
                for skipped_place in find(os.environ)[1]:
                    _say(skipped_place)
                print(find_or_build())
            case [asked] if asked in GROUPS:
                print(build(GROUPS[asked]))
            case _:
                sys.exit(f"usage: python -m tests.cluster.assets [{' | '.join(GROUPS)}]")
    except AssetsError as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit("interrupted: the next run goes on where this one stopped")
