"""What the tests need and Python has not: where it is looked for, and how it is made."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from tests.cluster import assets, go_build, machine
from tests.cluster.assets import CONTROL_PLANE, TABLE, AssetsError, find_or_build, require
from tests.cluster.go_build import kubernetes_version
from tests.cluster.waiting import wait_until
from tests.integration.fake_programs import fake_control_plane, program

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ("cp", "mkdir", "sleep", "touch")
"""What the scripts use that stand in for Go and apt-get."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An empty cache, and a PATH that leads to nothing of the machine's own."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in TOOLS:
        (directory / name).symlink_to(shutil.which(name) or name)
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(directory)}


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """The control plane that a fake Go builds."""
    return fake_control_plane(tmp_path / "fakes", kubernetes_version(), "3.6.4")


def install_go(environ: dict[str, str], build: str) -> None:
    """A fake Go on PATH: `build` runs in place of `go build`, with `$out` and the packages."""
    directory = Path(environ["PATH"])
    program(
        directory / "go",
        "[ $1 = env ] && echo go1.24.0 && exit\n"
        f'echo "$@" >> {directory}/calls\n'
        f'while [ "$1" != -o ]; do shift; done; out=$2; shift 2\n{build}',
    )


def copying(fakes: Path) -> str:
    """What a fake Go does to build: copy, under the name that Go gives it."""
    return (
        "for package in $@; do case $package in */server/v3)"
        f" cp {fakes}/etcd $out/server;; *) cp {fakes}/${{package##*/}} $out;; esac; done"
    )


def calls(tmp_path: Path) -> list[list[str]]:
    """The packages of each `go build` so far."""
    lines = (tmp_path / "bin" / "calls").read_text().splitlines()
    return [line.split(" -o ")[1].split()[1:] for line in lines]


@contextlib.contextmanager
def builder(environ: dict[str, str], name: assets.Name) -> Iterator[subprocess.Popen[str]]:
    """`python -m tests.cluster.assets NAME` as another checkout would run it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.assets", name],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class TestASet:
    """A control plane that is on the machine already."""

    def test_takes_the_first(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """KUBEBUILDER_ASSETS goes before PATH, and PATH before the cache."""
        named = fake_control_plane(tmp_path / "named", "v1.34.9", "3.5.21")
        path = fake_control_plane(tmp_path / "path", "v1.34.4", "3.6.4")
        kept = CONTROL_PLANE.directory(environ)
        kept.parent.mkdir(parents=True)
        fake_control_plane(kept, "v1.34.4", "3.6.4")
        assert require("control-plane", environ) == kept
        environ["PATH"] = f"/nowhere:{path}"
        assert require("control-plane", environ) == path
        environ["KUBEBUILDER_ASSETS"] = str(named)
        assert require("control-plane", environ) == named

    def test_passes_over_what_does_not_fit(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """Another minor version, an old etcd, half a set: each is named with its place."""
        old = fake_control_plane(tmp_path / "old", "v1.32.4", "3.4.1")
        half = fake_control_plane(tmp_path / "half", "v1.34.4", "3.6.4")
        (half / "kube-controller-manager").unlink()
        broken = fake_control_plane(tmp_path / "broken", "v1.34.4", "3.6.4")
        program(broken / "kubectl", "exit 1")
        environ |= {"KUBEBUILDER_ASSETS": str(half), "PATH": f"{old}:{broken}"}
        assert CONTROL_PLANE.find(environ) is None
        assert CONTROL_PLANE.passed_over(environ) == [
            f"skipped {half} (KUBEBUILDER_ASSETS): no kube-controller-manager",
            (
                f"skipped {old} (PATH): etcd is v3.4.1, not v3.5 or v3.6; "
                "kube-apiserver is v1.32.4, not v1.34; "
                "kube-controller-manager is v1.32.4, not v1.34; kubectl is v1.32.4, not v1.34"
            ),
            (
                f"skipped {broken} (PATH): "
                "kubectl is of an unknown version (CalledProcessError), not v1.34"
            ),
        ]

    def test_passes_over_a_lone_kubectl(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """A machine's own kubectl is never taken, and not even started."""
        lone = fake_control_plane(tmp_path / "usr-bin", "v1.34.4", "3.6.4")
        for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
            (lone / name).unlink()
        environ["PATH"] = str(lone)
        assert CONTROL_PLANE.find(environ) is None
        assert CONTROL_PLANE.passed_over(environ) == [
            f"skipped {lone} (PATH): no etcd, kube-apiserver, kube-controller-manager"
        ]
        assert not (lone / "asked").exists()

    def test_asks_for_versions_once(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """Each start of a control plane looks for the set, and only the first starts programs."""
        directory = fake_control_plane(tmp_path / "path", "v1.34.4", "3.6.4")
        environ["PATH"] = str(directory)
        for _ in range(3):
            assert require("control-plane", environ) == directory
        assert (directory / "asked").read_text().split() == [*CONTROL_PLANE.packages]

    def test_knows_the_versions_of_its_own_build(self, environ: dict[str, str]) -> None:
        """In the cache the directory's name says them: nothing is started."""
        kept = CONTROL_PLANE.directory(environ)
        kept.parent.mkdir(parents=True)
        fake_control_plane(kept, "v0.0.0", "0.0.0")
        assert require("control-plane", environ) == kept
        assert not (kept / "asked").exists()


class TestRequire:
    @pytest.mark.parametrize("name", TABLE)
    def test_builds_nothing(self, environ: dict[str, str], name: assets.Name) -> None:
        """What is not there is an error with the command that makes it and the time it takes."""
        install_go(environ, "exit 1")
        takes = TABLE[name].takes
        with pytest.raises(AssetsError, match=rf"Run `make {name}` \(about {takes} the first"):
            require(name, environ)
        assert not Path(environ["XDG_CACHE_HOME"]).exists()


class TestGoBuild:
    @pytest.mark.parametrize(
        ("go", "words"),
        [
            (None, "Go is not on PATH"),
            ("echo go1.19.8", r"go1.19.8: .* are built with Go 1.24 or newer"),
            (
                "test $1 = env && echo go1.26.8 || { echo k8s.io/api; echo disk full; exit 1; }",
                r"building etcd, .*kubectl failed .*last lines:\n  disk full\nThe full log is",
            ),
        ],
    )
    def test_says_what_is_lacking(
        self, environ: dict[str, str], go: str | None, words: str
    ) -> None:
        """No Go, an old one, a failing one: the error says so and what to do."""
        if go:
            program(Path(environ["PATH"]) / "go", go)
        with pytest.raises(AssetsError, match=words):
            find_or_build("control-plane", environ)

    def test_builds_all_at_once_and_once(
        self,
        tmp_path: Path,
        environ: dict[str, str],
        fakes: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """One `go build` makes all that is missing, and leaves nothing else behind."""
        install_go(environ, copying(fakes))
        target = CONTROL_PLANE.directory(environ)
        target.mkdir(parents=True)
        (fakes / "kubectl").rename(target / "kubectl")
        assert find_or_build("control-plane", environ) == target
        said = capsys.readouterr().err
        assert "control-plane: not here yet; this takes about 7 minutes, once" in said
        assert "building etcd, kube-apiserver, kube-controller-manager v1.34." in said
        missing = [p for name, p in CONTROL_PLANE.packages.items() if name != "kubectl"]
        assert calls(tmp_path) == [missing]
        assert {path.name for path in target.iterdir()} == {*CONTROL_PLANE.packages, ".lock"}
        assert find_or_build("control-plane", environ) == target
        assert calls(tmp_path) == [missing]
        assert capsys.readouterr().err == ""

    def test_refuses_another_version(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """A server that was built without its version would be believed by nobody."""
        install_go(environ, copying(fake_control_plane(tmp_path / "new", "v0.0.0", "3.6.4")))
        with pytest.raises(AssetsError, match=r"does not fit \(kube-apiserver is v0.0.0, not v1"):
            find_or_build("control-plane", environ)

    def test_goes_on_where_it_stopped(
        self, tmp_path: Path, environ: dict[str, str], fakes: Path
    ) -> None:
        """What a failed build has linked is still there for the next, and used by nobody before."""
        first, then = f"cp {fakes}/kubectl $out; exit 1", f"cp {fakes}/kube-* $out"
        etcd = f"cp {fakes}/etcd $out/server"
        install_go(environ, f"if [ -e $out/kubectl ]; then {etcd}; {then}; else {first}; fi")
        target = CONTROL_PLANE.directory(environ)
        with pytest.raises(AssetsError, match="the next run goes on from here"):
            find_or_build("control-plane", environ)
        assert not any((target / name).exists() for name in CONTROL_PLANE.packages)
        assert find_or_build("control-plane", environ) == target
        assert {path.name for path in target.iterdir()} == {*CONTROL_PLANE.packages, ".lock"}

    def test_says_what_it_does(
        self,
        tmp_path: Path,
        environ: dict[str, str],
        fakes: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """While it compiles, a line now and then says how far it is."""
        go_on = tmp_path / "go-on"
        waiting = f"echo k8s.io/api; echo k8s.io/client; until [ -e {go_on} ]; do sleep .01; done"
        install_go(environ, f"{waiting}; {copying(fakes)}")
        heard: list[str] = []

        def say(line: str) -> None:
            heard.append(line)
            if "2 packages" in line:
                go_on.touch()

        monkeypatch.setattr(go_build, "HEARTBEAT_SECONDS", 0.01)
        monkeypatch.setattr(go_build, "say", say)
        find_or_build("control-plane", environ)
        assert heard[-1].endswith(" s  still building: 2 packages, now k8s.io/client")

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_an_interruption_ends_the_compilers(
        self, tmp_path: Path, environ: dict[str, str], how: signal.Signals
    ) -> None:
        """Ctrl-C and a polite request: Go and what it has started end, and its files are gone."""
        fifo = tmp_path / "alive"
        os.mkfifo(fifo)
        # Reading ends when nobody has the pipe open for writing: neither Go nor its compiler.
        begun = tmp_path / "begun"
        install_go(environ, f"touch {begun}; exec 5> {fifo}; sleep 600 & echo compiling >&5; wait")
        with builder(environ, "helm") as process:
            wait_until(begun.exists, 60, "the build has begun")
            with fifo.open() as alive:
                assert alive.readline() == "compiling\n"
                process.send_signal(how)
                assert alive.read() == ""
            _, stderr = process.communicate()
        assert process.returncode == 1
        assert "interrupted: the next run goes on where this one stopped" in stderr
        target = next((tmp_path / "cache" / "headwater" / "helm").iterdir())
        assert [*(target / ".building").iterdir()] == []

    def test_waits_for_another_builder(
        self, tmp_path: Path, environ: dict[str, str], fakes: Path
    ) -> None:
        """Two checkouts do not build at once: the second says that it waits, then takes over."""
        install_go(environ, "exit 1")
        target = CONTROL_PLANE.directory(environ)
        target.mkdir(parents=True)
        with (target / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with builder(environ, "control-plane") as second:
                assert second.stderr is not None
                assert "not here yet" in second.stderr.readline()
                assert "waiting for it" in second.stderr.readline()
                for name in CONTROL_PLANE.packages:
                    (fakes / name).rename(target / name)
                fcntl.flock(lock, fcntl.LOCK_UN)
                answer, _ = second.communicate()
        assert second.returncode == 0
        assert f", kept in {target}\n" in answer

    def test_a_build_without_its_parent_is_not_joined(
        self, tmp_path: Path, environ: dict[str, str]
    ) -> None:
        """After SIGKILL Go goes on, and who comes next waits until it has ended."""
        fifo, begun = tmp_path / "go-on", tmp_path / "begun"
        os.mkfifo(fifo)
        install_go(environ, f"touch {begun}; read line < {fifo}")
        with builder(environ, "helm") as process:
            wait_until(begun.exists, 60, "the build has begun")
            with fifo.open("w"):  # Go reads until this is closed
                process.kill()
                process.wait()
                target = next((tmp_path / "cache" / "headwater" / "helm").iterdir())
                with (target / ".lock").open() as lock, pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (target / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # Go has ended


class TestDebianPackage:
    APT: Final = "touch prometheus_1_amd64.deb"
    DPKG: Final = (
        "mkdir -p $3/usr/bin; for name in prometheus promtool; do cp $0 $3/usr/bin/$name; done"
    )

    def install(self, environ: dict[str, str], apt: str) -> None:
        directory = Path(environ["PATH"])
        program(directory / "apt-get", f"echo $@ >> {directory}/calls\n{apt}")
        program(directory / "dpkg", self.DPKG)

    def run(self, tmp_path: Path, environ: dict[str, str], apt: str) -> list[str]:
        """What apt-get was asked for."""
        self.install(environ, apt)
        found = find_or_build("prometheus", environ)
        assert found == require("prometheus", environ)
        assert {path.name for path in found.iterdir()} == {"prometheus", "promtool"}
        kept = tmp_path / "cache" / "headwater" / "prometheus"
        assert {path.name for path in kept.iterdir()} == {".lock", found.parts[-3]}
        return (tmp_path / "bin" / "calls").read_text().splitlines()

    def test_is_unpacked_and_not_installed(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """One download, and nothing is left but the package's files."""
        assert self.run(tmp_path, environ, self.APT) == ["-qq download prometheus"]

    def test_brings_its_own_lists(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """On a clean machine apt-get knows no package: lists are fetched, apart from its own."""
        said = self.run(tmp_path, environ, f"case $@ in *Dir*) {self.APT};; *) exit 100;; esac")
        assert [line.rpartition("-qq ")[2] for line in said] == [
            "download prometheus",
            "update",
            "download prometheus",
        ]
        lists = f"-o Dir::State::lists={tmp_path / 'cache'}/"
        assert [line.startswith(lists) for line in said] == [False, True, True]

    def test_is_taken_from_path(self, tmp_path: Path, environ: dict[str, str]) -> None:
        """One of the machine's own is used, where its promtool is beside it."""
        first, second = tmp_path / "first", tmp_path / "second"
        for directory in (first, second):
            directory.mkdir()
            program(directory / "prometheus", "true")
        program(second / "promtool", "true")
        environ["PATH"] = f"{first}:{second}"
        assert require("prometheus", environ) == second

    @pytest.mark.parametrize(
        ("apt", "words"),
        [
            (None, "there is no apt-get to fetch it with: put Prometheus 2.40"),
            ("echo no network >&2; exit 100", r"put Prometheus 2.40.*\n?.*said:\nno network"),
        ],
    )
    def test_says_what_to_do_instead(
        self, environ: dict[str, str], apt: str | None, words: str
    ) -> None:
        """No apt-get, or one that fails: the error names the way that is left."""
        if apt:
            self.install(environ, apt)
        with pytest.raises(AssetsError, match=words):
            find_or_build("prometheus", environ)


class TestTheTable:
    def test_each_is_a_target(self) -> None:
        """`make NAME` makes each, by its name in the table."""
        assert get_args(assets.Name) == (*TABLE,)
        for name in TABLE:
            assert prerequisites(name) == {name}
        assert prerequisites("assets") == {*TABLE}

    @pytest.mark.parametrize("target", get_args(assets.Target))
    def test_each_target_has_what_it_needs(self, target: assets.Target) -> None:
        """The Makefile and the table say the same."""
        assert prerequisites(target) == {
            name for name, asset in TABLE.items() if target in asset.targets
        }

    @pytest.mark.parametrize(
        ("arguments", "needed"),
        [
            (("test", "T=tests/unit"), set()),
            (("test", "T=tests/unit/contract tests/unit/rollout"), set()),
            (("test", "T=tests/unit tests/e2e"), {"control-plane", "helm", "prometheus"}),
            (("proofs", "T=tests/integration/webhook"), {"control-plane", "helm", "prometheus"}),
            (("e2e", "T=tests/e2e/test_soak.py"), {"control-plane"}),
            (("e2e", "T=tests/e2e/node"), {*TABLE} - {"prometheus"}),
            (("demo", "HEADWATER_CLUSTER=current"), set()),
            (("lint",), set()),
            (("install",), set()),
        ],
    )
    def test_a_part_needs_less(self, arguments: tuple[str, ...], needed: set[str]) -> None:
        """Decided by the path: where the unit tests are, nothing is built for them."""
        assert prerequisites(*arguments) == needed

    def test_says_what_and_why_and_where(self, environ: dict[str, str]) -> None:
        """A line for each that is asked for, in that order."""
        build = TABLE["helm"].source
        assert isinstance(build, go_build.GoBuild)
        kept = build.directory(environ)
        kept.mkdir(parents=True)
        program(kept / "helm", "true")
        done = command(environ, "helm")
        assert done.returncode == 0
        assert done.stdout == (f"helm: Helm (renders the chart and installs it): found in {kept}\n")

    def test_a_machine_without_pods_needs_no_node(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where no node can run, nothing is built for one, and the line says why."""
        monkeypatch.setattr(machine, "missing", lambda: "a node needs Linux and root")
        line = assets._settle("coredns", environ)
        assert line.endswith(": not needed here, a node needs Linux and root")

    @pytest.mark.parametrize("names", [(), ("helm", "hlem")])
    def test_lists_what_there_is(self, environ: dict[str, str], names: tuple[str, ...]) -> None:
        """Without a name, or with one that is not known, nothing is made."""
        done = command(environ, *names)
        assert (done.returncode, done.stdout) == (1, "")
        for name, asset in TABLE.items():
            assert f"{name} " in done.stderr
            assert f"{asset.what}: {asset.why} ({asset.takes} the first time)" in done.stderr


def command(environ: dict[str, str], *names: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.cluster.assets NAME …`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.assets", *names],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def prerequisites(*arguments: str) -> set[str]:
    """The assets that make would find or build before the target."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # a make that runs this test hands its variables down
        capture_output=True,
        text=True,
        check=True,
    )
    before = "-m tests.cluster.assets "
    return {line.rpartition(before)[2] for line in done.stdout.splitlines() if before in line}
