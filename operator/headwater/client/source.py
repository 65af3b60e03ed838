"""Where a contract comes from: a mounted bundle, a manifest, or a file that a package brings."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from headwater.client.contract import Contract, Source
from headwater.contract import bundle
from headwater.contract.assembly import prepare
from headwater.contract.content import TTL, canonical_bytes, content, content_of
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, DigestError, PinError
from headwater.contract.route import Revision, Route, Weight
from headwater.sidecar.bundles import BundleFollower, Served
from headwater.sidecar.files import read_regular

BUNDLE_VARIABLE: Final = "HEADWATER_BUNDLE"
MOUNTS: Final = Path("/etc/headwater")
"""Where the injected sidecar has its bundles, each at `<namespace>/<prefix>`."""
_POLL_SECONDS: Final = 1.0
_MANIFESTS: Final = (".yaml", ".yml")
_FILES: Final = (".json", ".gz", *_MANIFESTS)
_DIGEST_CHARACTERS: Final = 64


class AnyModel(tuple[str, ...]):
    """The models of a plain file: it names none, and all go."""

    __slots__ = ()

    def __contains__(self, model: object) -> bool:
        return True


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    version: str | None = None,
    digest: str | None = None,
) -> Contract:
    """A contract, verified to the byte.

    `name_or_path` is a prefix's name (`org-core` or `ai-platform/org-core`), whose bundle is in a
    directory that `HEADWATER_BUNDLE` names or below `/etc/headwater`; or a path: a bundle's
    directory, a file with a contract's canonical bytes, or a PromptPrefix manifest. A string is a
    path if it begins with `.`, `/` or `~`, or ends in `.json`, `.gz`, `.yaml` or `.yml`. Without
    it, the one bundle that there is. With `version` or `digest` it is that revision or an error.

    Raises:
        BundleError: nothing is there, or it does not verify.
        PinError: the version or the digest is not there.
        ContentError: the manifest's content cannot be a contract.
    """
    wanted = None if digest is None else Digest(digest)
    path = _path(name_or_path)
    pin = _Pin(version, wanted)
    if path.is_dir():
        source: Source = _Followed(path, pin)
    else:
        source = _Still(pin.of(_from_file(path, version)))
    now = time.monotonic()
    source.served(now)
    return Contract(source, time.monotonic)


def declare(
    *,
    system: str | Sequence[str | Mapping[str, Any]] = (),
    tools: Sequence[Mapping[str, Any]] = (),
    ttl: TTL = "5m",
    name: str = "local",
) -> Contract:
    """A contract that nobody published: the program's own tools and system text, to the byte.

    What begins like this can be published later, with the same digest.

    Raises:
        ContentError: it cannot be a contract.
    """
    texts = [system] if isinstance(system, str) else system
    blocks = [{"text": each} if isinstance(each, str) else each for each in texts]
    canonical = canonical_bytes(content(tools=tools, system=blocks, ttl=ttl))
    served = _served(canonical, name, Digest.of(canonical).short, AnyModel())
    return Contract(_Still(served), time.monotonic)


class _Pin:
    """The revision that a program insists on, if it does."""

    def __init__(self, version: str | None, digest: Digest | None) -> None:
        self._version = version
        self._digest = digest

    def of(self, served: Served) -> Served:
        """What is served, and nothing else than the pinned revision."""
        if self._version is None and self._digest is None:
            return served
        there = served.route.revisions
        named = [each for each in there if self._version in (None, each.version)]
        found = next((each for each in named if self._digest in (None, each.digest)), None)
        if found is None:
            raise self._missing(served.route, named or there)
        route = replace(served.route, stable=found, candidate=None, weight=Weight(0), retained=())
        return Served(route, served.contracts)

    def _missing(self, route: Route, there: Sequence[Revision]) -> PinError:
        wanted = " ".join(filter(None, (self._version, self._digest)))
        held = ", ".join(f"{each.version} {each.digest}" for each in there)
        return PinError(
            str(self._digest or self._version),
            tuple(each.digest for each in there),
            f"{route.prefix}: pinned to {wanted}, and there is {held}: pin what is published, or"
            f" ask {route.owner or 'its owner'} to publish that version again.",
        )


class _Still:
    """A file's contract, which does not change."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def served(self, now: float) -> Served:  # noqa: ARG002 - it is the same at any time
        return self._served


class _Followed:
    """A mounted bundle, looked at once a second at most."""

    def __init__(self, directory: Path, pin: _Pin) -> None:
        self._follower = BundleFollower(directory)
        self._pin = pin
        self._due = 0.0

    def served(self, now: float) -> Served:
        if now >= self._due:
            self._follower.poll()
            self._due = now + _POLL_SECONDS
        if self._follower.served is None:
            self._due = now
            raise BundleError(self._follower.problem or "the bundle was not read yet.")
        return self._pin.of(self._follower.served)


def _path(name: str | os.PathLike[str] | None) -> Path:
    """The directory or the file that is meant.

    Raises:
        BundleError: there is none, or more than one.
    """
    if isinstance(name, os.PathLike) or (name and _is_path(name)):
        path = Path(name).expanduser()
        if not path.exists():
            raise BundleError(f"{path} does not exist: give a bundle's directory or a file.")
        return path
    found = list(_named(name))
    if len(found) == 1:
        return found[0]
    asked = f"the prefix {name!r}" if name else "a bundle"
    if found:
        raise BundleError(
            f"{asked} is ambiguous ({', '.join(map(str, found))}): name it as namespace/prefix."
        )
    raise BundleError(
        f"{asked} was looked for in {os.environ.get(BUNDLE_VARIABLE) or MOUNTS}, and is not there:"
        f" mount its ConfigMap below {MOUNTS}/<namespace>/<prefix>, or name its directory in"
        f" {BUNDLE_VARIABLE}."
    )


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith(_FILES)


def _named(name: str | None) -> Iterator[Path]:
    """The directories whose bundle is for this prefix; for any where none is named."""
    given = os.environ.get(BUNDLE_VARIABLE)
    places = map(Path, given.split(os.pathsep)) if given else sorted(MOUNTS.glob("*/*"))
    namespace, _, prefix = (name or "").rpartition("/")
    for place in places:
        if name is None or _is_for(place, namespace, prefix):
            yield place


def _is_for(place: Path, namespace: str, prefix: str) -> bool:
    route = _Followed(place, _Pin(None, None)).served(0.0).route
    return route.prefix == prefix and namespace in ("", route.namespace)


_MANIFEST_LIMIT: Final = 4 * bundle.CONTRACT_LIMIT
"""Bytes: a manifest may spell a character in several."""


def _from_file(path: Path, version: str | None) -> Served:
    """A manifest, or the canonical bytes of a contract, packed or not.

    Raises:
        BundleError: it is neither, or its bytes are not those that its name or digest says.
        ContentError: the manifest's content cannot be a contract.
    """
    try:
        data = read_regular(path, _MANIFEST_LIMIT)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}.") from error
    if path.suffix in _MANIFESTS:
        return _from_manifest(path, data)
    try:
        stem = path.name.partition(".")[0]
        if len(stem) == _DIGEST_CHARACTERS:
            digest = Digest(f"sha256:{stem}")
            canonical = bundle.decode_contract(digest, {path.name: data})
            return _served(canonical, digest.short, version or digest.short, AnyModel())
        document = json.loads(data)
        if isinstance(document, dict) and document.get("kind") == "PromptPrefix":
            return _from_manifest(path, data)
        if canonical_bytes(content_of(data)) != data:
            raise BundleError(
                f"{path} is a contract, but not to the byte (was it formatted?): take the file of"
                " the bundle as it is."
            )
    except (DigestError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is no contract ({error}).") from error
    return _served(data, stem, version or Digest.of(data).short, AnyModel())


def _served(canonical: bytes, prefix: str, version: str, models: tuple[str, ...]) -> Served:
    prepared = prepare(canonical)
    revision = Revision(version, prepared.digest)
    route = Route(
        namespace="",
        prefix=prefix,
        epoch=0,
        salt="",
        stable=revision,
        models=models,
        ttl=prepared.ttl,
    )
    return Served(route, {prepared.digest: prepared})


def _from_manifest(path: Path, data: bytes) -> Served:
    try:
        from headwater.client import manifest  # noqa: PLC0415 - needs pydantic and a YAML parser
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{path}: reading a manifest needs the Python package {error.name}: pip install"
            " 'headwater[cli]', or load the bundle."
        ) from error
    found = manifest.read(data, str(path))
    return _served(found.canonical, found.name, found.version, found.models)
