"""Mirrors one bundle ConfigMap into a directory, for sidecars outside the cluster.

The directory is swapped as the kubelet swaps a mounted ConfigMap, so the sidecar's one loader
verifies both alike. This module verifies nothing itself and never takes a bundle away: an API
server that is gone, or a ConfigMap that was deleted, leaves the last files where they are.
"""

import asyncio
import contextlib
import logging
import secrets
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import click

from headwater.cluster import CONFIG_MAP, ApiError
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.objects import files_of

_log: Final = logging.getLogger(__name__)

_FIRST_LOOK: Final = 5.0
"""Seconds that a start waits for the bundle to be mirrored."""
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_DATA_LINK: Final = "..data"


@contextlib.contextmanager
def mirror_directory() -> Iterator[Path]:
    """A private directory, removed at the end: prompts are nobody else's business."""
    with tempfile.TemporaryDirectory(prefix="headwater-bundle-") as name:
        yield Path(name)


async def alongside(place: str, directory: Path, serve: Coroutine[Any, Any, None]) -> None:
    """Follow `NAMESPACE/NAME` into `directory` for as long as `serve` runs."""
    namespace, _, name = place.partition("/")
    try:
        if not namespace or not name:
            raise click.UsageError(
                f"--from-cluster {place!r}: give NAMESPACE/NAME of the bundle's ConfigMap, such as"
                " team-a/headwater.ai-platform.org-core."
            )
        try:
            cluster = await KubernetesCluster.connect()
        except ApiError as error:
            raise click.ClickException(str(error)) from error
    except click.ClickException:
        serve.close()
        raise
    mirrored = asyncio.Event()
    following = asyncio.create_task(_follow(cluster, namespace, name, directory, mirrored))
    try:
        # A bundle that is there is there before the first look at the directory; one that is not
        # must not keep the sidecar from saying so.
        try:
            await asyncio.wait_for(mirrored.wait(), _FIRST_LOOK)
        except TimeoutError:
            _log.warning(
                "no such ConfigMap yet: is the namespace a consumer, is the name right?",
                extra={"config_map": place},
            )
        await serve
    finally:
        following.cancel()
        await cluster.close()


async def _follow(
    cluster: KubernetesCluster, namespace: str, name: str, directory: Path, mirrored: asyncio.Event
) -> None:
    """List and watch for ever, with growing pauses while the API server does not answer."""
    wait = _FIRST_WAIT
    seen: str | None = None
    while True:
        try:
            async for config_map in cluster.follow(CONFIG_MAP, namespace, name):
                version = config_map["metadata"]["resourceVersion"]
                if version != seen:
                    swap(directory, files_of(config_map))
                    seen = version
                    mirrored.set()
                wait = _FIRST_WAIT
        except Exception as error:  # noqa: BLE001 - logged, and what was mirrored stays in use
            _log.warning(
                "the bundle cannot be followed, the last one stays in use",
                extra={"config_map": f"{namespace}/{name}", "problem": str(error) or repr(error)},
            )
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


def swap(directory: Path, contents: dict[str, bytes]) -> None:
    """Replace all files in one step, by the kubelet's symlink (AtomicWriter).

    Raises:
        OSError: they cannot be written; those before stay, and nothing else.
    """
    link = directory / _DATA_LINK
    old = directory / link.readlink() if link.is_symlink() else None
    new = directory / f"..{secrets.token_hex(8)}"
    try:
        new.mkdir()
        for name, data in contents.items():
            (new / name).write_bytes(data)
        unswapped = directory / f"{_DATA_LINK}_tmp"
        unswapped.unlink(missing_ok=True)
        unswapped.symlink_to(new.name)
        unswapped.rename(link)
    except BaseException:
        # It is tried again for as long as the disk is full, and each time would leave more there.
        shutil.rmtree(new, ignore_errors=True)
        raise
    if old is not None:
        shutil.rmtree(old)
