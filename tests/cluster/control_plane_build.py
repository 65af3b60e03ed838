"""The control plane's programs: a set that somebody else put on the machine, or our own build.

A set has all of them, in one directory, in versions that fit: they are asked for, because neither
`KUBEBUILDER_ASSETS` (the convention of envtest) nor `PATH` says which version it leads to.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cache import AssetsError
from tests.cluster.go_build import GoBuild, lacking

_ETCD: Final = ("v3.5", "v3.6")
_ANSWER_SECONDS: Final = 30


@dataclass(frozen=True)
class ControlPlaneBuild(GoBuild):
    """A `GoBuild` that is not needed where the machine has a fitting set."""

    def find(self, environ: Mapping[str, str]) -> Path | None:
        """Return the first directory with a set: KUBEBUILDER_ASSETS, PATH, the cache."""
        for _, directory in self._places(environ):
            if self.unfit(directory) is None:
                return directory
        return super().find(environ)

    def make(self, environ: Mapping[str, str]) -> Path:
        """Build what is missing, and return the directory.

        Raises:
            AssetsError: no Go, too old a Go, a build that failed or that made another version.
        """
        directory = super().make(environ)
        if reason := self.unfit(directory):
            raise AssetsError(f"what was built in {directory} does not fit ({reason}): remove it")
        return directory

    def passed_over(self, environ: Mapping[str, str]) -> list[str]:
        """Return a line for each place outside the cache that has some of it but no set."""
        return [
            f"skipped {directory} ({source}): {reason}"
            for source, directory in self._places(environ)
            if (reason := self.unfit(directory))
        ]

    def unfit(self, directory: Path) -> str | None:
        """Return why the directory is not a set, or None where it is one."""
        if missing := lacking(directory, self.packages):
            return f"no {', '.join(missing)}"
        kubernetes = (self.version.rpartition(".")[0],)
        wrong = [
            f"{name} is {version}, not {' or '.join(minors)}"
            for name in self.packages
            for minors in (_ETCD if name == "etcd" else kubernetes,)
            if not (version := version_of(directory / name)).startswith(
                tuple(f"{minor}." for minor in minors)
            )
        ]
        return "; ".join(wrong) or None

    def _places(self, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
        """Yield the places outside the cache where a set is meant to be or might be."""
        seen = set()
        if named := environ.get("KUBEBUILDER_ASSETS"):
            seen.add(Path(named).resolve())
            yield "KUBEBUILDER_ASSETS", Path(named).resolve()
        for entry in filter(None, environ.get("PATH", "").split(os.pathsep)):
            directory = Path(entry).resolve()  # /bin is often /usr/bin
            if directory not in seen and any((directory / name).exists() for name in self.packages):
                seen.add(directory)
                yield "PATH", directory


def version_of(program: Path) -> str:
    """Return the version that a program of the control plane says it has, such as `v1.34.4`."""
    return _version_of(program, program.stat().st_mtime_ns)


@functools.cache  # a quarter of a second of each start otherwise
def _version_of(program: Path, _modified: int) -> str:
    kubectl = program.name == "kubectl"
    arguments = ["version", "--client", "--output=json"] if kubectl else ["--version"]
    try:
        answer = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_ANSWER_SECONDS,
            stdin=subprocess.DEVNULL,
        ).stdout
        if kubectl:
            return str(json.loads(answer)["clientVersion"]["gitVersion"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        return f"of an unknown version ({type(error).__name__})"
    found = re.search(r"\d+\.\d+\.\d+\S*", answer)
    return f"v{found[0]}" if found else "of an unknown version"
