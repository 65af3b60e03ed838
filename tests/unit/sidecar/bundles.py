"""Bundles to serve, on disk as a plain directory or as the kubelet lays them out."""

import secrets
from dataclasses import replace
from pathlib import Path

from headwater.contract import bundle
from headwater.contract.content import TTL, canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, Weight

MODEL = "claude-opus-4-8"
TEXT = "Windows\r\n trailing \u0061\u0301 \U0001f30a"


def contract(version: str, *, ttl: TTL = "5m", size: int = 0) -> bytes:
    """A small contract; `size` adds so many words, to get over a model's minimum."""
    return canonical_bytes(
        content(
            tools=[{"name": "search", "input_schema": {"type": "object"}}],
            system=[{"text": f"{TEXT} {version} {'steady ' * size}"}],
            ttl=ttl,
        )
    )


def make(
    stable: str = "v1", candidate: str | None = None, *, weight: int = 0, size: int = 0
) -> bundle.Bundle:
    """A bundle of versions; the bytes follow from a version's name."""
    bytes_of = {name: contract(name, size=size) for name in (stable, candidate) if name}
    revisions = {name: Revision(name, Digest.of(data)) for name, data in bytes_of.items()}
    route = Route(
        namespace="ai-platform",
        prefix="org-core",
        epoch=1,
        salt="salt",
        stable=revisions[stable],
        candidate=revisions[candidate] if candidate else None,
        weight=Weight(weight),
        models=(MODEL,),
        ttl="5m",
    )
    return bundle.Bundle(route, {Digest.of(data): data for data in bytes_of.values()})


def observing(declared: bundle.Bundle) -> bundle.Bundle:
    return replace(declared, route=replace(declared.route, enforcement="Observe"))


def write_plain(directory: Path, declared: bundle.Bundle) -> None:
    directory.mkdir(exist_ok=True)
    for name, data in bundle.encode(declared).items():
        (directory / name).write_bytes(data)


def mount(directory: Path, declared: bundle.Bundle) -> None:
    """Swap the files in one step, as the kubelet's AtomicWriter does."""
    directory.mkdir(exist_ok=True)
    link = directory / "..data"
    old = directory / link.readlink() if link.is_symlink() else None
    new = directory / f"..{secrets.token_hex(4)}"
    write_plain(new, declared)
    unswapped = directory / "..data_tmp"
    unswapped.symlink_to(new.name)
    unswapped.rename(link)
    if old is not None:
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
