"""Programs from a package of the distribution that is unpacked into the cache, not installed.

No service starts, no account is made and no root is needed. Debian and Ubuntu have the package;
elsewhere the programs have to be on PATH.
"""

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cache import AssetsError, home, only_writer, say


@dataclass(frozen=True)
class DebianPackage:
    """A package whose programs are used.

    Attributes:
        name: the package's, and that of its directory in the cache.
        programs: what is used of it, all from one directory.
        instead: what to do where the package cannot be had.
    """

    name: str
    programs: Sequence[str]
    instead: str

    def find(self, environ: Mapping[str, str]) -> Path | None:
        """Return the directory of the programs, on PATH or else in the cache; None without."""
        on_path = (Path(entry) for entry in environ.get("PATH", "").split(":") if entry)
        for directory in (*on_path, self._unpacked(environ) / "usr" / "bin"):
            if all(shutil.which(name, path=directory) for name in self.programs):
                return directory
        return None

    def make(self, environ: Mapping[str, str]) -> Path:
        """Download and unpack the package, and return the directory of the programs.

        Raises:
            AssetsError: it could not be had.
        """
        target = self._unpacked(environ)
        with only_writer(target.parent):
            if not target.exists():
                unfinished = target.with_name(".unpacking")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                try:
                    say(f"        unpacking Debian's package {self.name} into {target}")
                    package = self._download(unfinished, environ)
                    self._run(environ, unfinished, "dpkg", "-x", str(package), "root")
                    (unfinished / "root").rename(target)
                finally:
                    shutil.rmtree(unfinished)
        return target / "usr" / "bin"

    def _unpacked(self, environ: Mapping[str, str]) -> Path:
        return home(environ) / self.name / platform.machine()

    def _download(self, directory: Path, environ: Mapping[str, str]) -> Path:
        # A clean machine has no package lists; ours are apart, where no root is needed for them.
        lists, cache = directory / "lists", directory / "cache"
        for made in (lists / "partial", cache / "archives" / "partial"):
            made.mkdir(parents=True)
        apart = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}")
        try:
            self._run(environ, directory, "apt-get", "-qq", "download", self.name)
        except AssetsError:
            self._run(environ, directory, "apt-get", *apart, "-qq", "update")
            self._run(environ, directory, "apt-get", *apart, "-qq", "download", self.name)
        (package,) = directory.glob(f"{self.name}_*.deb")
        return package

    def _run(self, environ: Mapping[str, str], directory: Path, *command: str) -> None:
        program = shutil.which(command[0], path=environ.get("PATH"))
        if program is None:
            raise AssetsError(
                f"{self.name} is not on PATH, and there is no {command[0]} to fetch it with: "
                + self.instead
            )
        done = subprocess.run(
            [program, *command[1:]],
            cwd=directory,
            env={**environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise AssetsError(
                f"{self.name} is not on PATH, and its package could not be had: {self.instead}. "
                f"`{' '.join(command)}` said:\n{done.stderr.strip()}"
            )
