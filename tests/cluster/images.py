"""Images for a node that has no registry, built here: a base, the product's two, an application's.

The base is Debian's Python, made by mmdebstrap from Debian's packages alone, with `BASE` another
one that buildah knows. It needs root, as the node does.

    python -m tests.cluster.images [DIRECTORY]     writes an archive of each there (build/images),
                                                   and prints where; progress: standard error
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.cluster import machine

ROOT: Final = Path(__file__).parents[2]
DEBIAN: Final = "bookworm"
ARCHIVES: Final = ROOT / "build" / "images"
_INPUTS: Final = (
    *(".containerignore", "Containerfile", "LICENSE", "README.md", "operator", "pyproject.toml"),
    *("requirements", "scripts", "tests/e2e/node/application"),
)
TAG: Final = "node"
OPERATOR: Final = f"localhost/headwater:{TAG}"
SIDECAR: Final = f"localhost/headwater-sidecar:{TAG}"
APPLICATION: Final = f"localhost/headwater-application:{TAG}"
# What `python:3-slim` has beside Python: authorities, C++'s library, names of ports, time zones.
_PACKAGES: Final = "python3,python3-venv,ca-certificates,libstdc++6,netbase,tzdata"
_BORN: Final = "1700000000"
BASE: Final = (
    f"localhost/headwater-base:{DEBIAN}-{hashlib.sha256(_PACKAGES.encode()).hexdigest()[:8]}"
)


class ImageError(Exception):
    """An image could not be built; the message has the last lines of the build."""


def missing() -> str | None:
    """Why no image can be built here, in one sentence; None where one can."""
    needed = ["buildah"] if "BASE" in os.environ else ["buildah", "mmdebstrap"]
    lacking = [command for command in needed if not shutil.which(command)]
    if lacking:
        return f"images need what `make node` installs, and this is missing: {', '.join(lacking)}"
    return None


def build() -> tuple[str, ...]:
    """Build all that is not there or has changed; the names of the product's and the application's.

    Raises:
        ImageError: with the last lines of what failed.
    """
    product(TAG)
    _application()
    return OPERATOR, SIDECAR, APPLICATION


def archives(directory: Path = ARCHIVES) -> list[Path]:
    """Build what is not there or has changed, and write an archive of each; where these are.

    `NodeCluster.load`, `ctr` and `kind` can read them. Where nothing has changed this takes a
    second, and half a minute if the builder had to find that out.

    Raises:
        ImageError: with the last lines of what failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = {
        image: directory / f"{image.removeprefix('localhost/').partition(':')[0]}.tar"
        for image in (OPERATOR, SIDECAR, APPLICATION)
    }
    written = directory / "written.json"
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another node of this checkout may want them, too
        inputs = _inputs()
        if _written(written, found) == inputs:
            return list(found.values())
        written.unlink(missing_ok=True)
        for image in build():
            found[image].unlink(missing_ok=True)  # who reads it now, reads on
            _run("buildah", "push", "--quiet", image, f"docker-archive:{found[image]}:{image}")
        digests = {image: digest(image) for image in found}
        written.write_text(json.dumps({"inputs": inputs, "digests": digests}))
    return list(found.values())


def _written(written: Path, found: Mapping[str, Path]) -> str | None:
    """Of which inputs the archives and the builder's images are; None where one is missing."""
    if not written.exists() or not all(archive.exists() for archive in found.values()):
        return None
    known = json.loads(written.read_text())
    try:
        digests = {image: digest(image) for image in found}
    except ImageError:  # somebody has removed it
        return None
    inputs: str = known["inputs"]
    return inputs if digests == known["digests"] else None


def _inputs() -> str:
    """A hash of all that the images are made of: see .containerignore, and scripts/image.sh."""
    seen = hashlib.sha256()
    for place in _INPUTS:
        top = ROOT / place
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                seen.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
                seen.update(path.read_bytes())
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False
    ).stdout
    seen.update(revision + os.environ.get("BASE", BASE).encode())
    return seen.hexdigest()


def product(tag: str, *arguments: str) -> None:
    """Build operator and sidecar as `make image` does, with arguments for `buildah build`."""
    script = str(ROOT / "scripts" / "image.sh")
    _run("sh", script, *arguments, TOOL="buildah", BASE=base(), TAG=tag)


def base() -> str:
    """The image that the others stand on, made where it is missing."""
    if given := os.environ.get("BASE"):
        return given
    if _run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return BASE
    with tempfile.TemporaryDirectory(prefix="headwater-base-") as directory:
        archive = f"{directory}/base.tar"
        _run(
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=essential"),
            *(f"--include={_PACKAGES}", "--dpkgopt=path-exclude=/usr/share/man/*"),
            *("--dpkgopt=path-exclude=/usr/share/doc/*", DEBIAN, archive),
            SOURCE_DATE_EPOCH=_BORN,
        )
        container = _run("buildah", "from", "scratch")
        try:
            _run("buildah", "add", container, archive, "/")
            _run("buildah", "config", "--cmd", "python3", container)
            _run("buildah", "commit", "--quiet", "--timestamp", _BORN, container, BASE)
        finally:
            _run("buildah", "rm", container)
    return BASE


def digest(image: str) -> str:
    """Of its manifest."""
    return _run("buildah", "inspect", "--type=image", "--format={{.FromImageDigest}}", image)


def config(image: str) -> dict[str, Any]:
    """What the image says about itself, as the OCI image specification has it."""
    found: dict[str, Any] = json.loads(_run("buildah", "inspect", "--type=image", image))
    said: dict[str, Any] = found["OCIv1"]["config"]
    return said


def files(image: str) -> dict[str, int]:
    """The size in bytes of each file, by its path."""
    container = _run("buildah", "from", "--pull-never", image)
    try:
        root = Path(_run("buildah", "mount", container))
        return {
            f"/{path.relative_to(root)}": path.lstat().st_size
            for place, _, names in os.walk(root)
            for path in map(Path(place).joinpath, names)
        }
    finally:
        _run("buildah", "rm", container)


def _application() -> None:
    """A team's image, which knows nothing of the product: the provider's SDK and a script."""
    source = ROOT / "tests" / "e2e" / "node" / "application"
    authorities = os.environ.get("PIP_CERT")
    secret = (f"--secret=id=authorities,src={authorities}",) if authorities else ()
    _run(
        *("buildah", "build", "--layers", "--timestamp", _BORN, "--tag", APPLICATION),
        *("--build-arg", f"BASE={base()}", "--file", str(source / "Containerfile"), *secret),
        *(f"--build-arg={name}" for name in ("PIP_INDEX_URL",) if name in os.environ),
        str(source),
    )


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(
        command,
        # No container's network is needed, and none is set up: a build step uses the machine's.
        env={**os.environ, "BUILDAH_ISOLATION": "chroot", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()[-15:]
        raise ImageError(f"{' '.join(command)} ended with {done.returncode}:\n" + "\n".join(lines))
    return done.stdout.strip()


def _say(line: str) -> None:
    print(f"images: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    named = len(sys.argv) > 1
    place = Path(sys.argv[1]) if named else ARCHIVES
    if lacking := missing() or (None if named else machine.missing()):
        _say(lacking)
        sys.exit(named)  # by no name they are for stories that are skipped without them
    began = time.monotonic()
    _say(f"those for a node without a registry are brought up to date in {place} …")
    try:
        print(*archives(place), sep="\n")
    except ImageError as problem:
        sys.exit(str(problem))
    _say(f"{time.monotonic() - began:.0f} s")
