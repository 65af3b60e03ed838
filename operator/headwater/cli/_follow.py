"""Mirrors one bundle ConfigMap into a directory, for sidecars outside the cluster.

The directory is swapped as the kubelet swaps a mounted ConfigMap, so the sidecar's one loader
verifies both alike. This module verifies nothing itself and never takes a bundle away: an API
server that is gone, or a ConfigMap that was deleted, leaves the last files where they are.
"""

import asyncio
import base64
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import click
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

_log: Final = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 60
"""A watch's length: a connection that died silently is noticed after it, at two calls a minute."""
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
            await _configuration()
        except config.ConfigException as error:
            raise click.ClickException(f"no way to the cluster: {error}") from error
    except click.ClickException:
        serve.close()
        raise
    following = asyncio.create_task(_follow(namespace, name, directory))
    try:
        await serve
    finally:
        following.cancel()


async def _follow(namespace: str, name: str, directory: Path) -> None:
    """List and watch for ever, with growing pauses while the API server does not answer."""
    wait = _FIRST_WAIT
    seen: str | None = None
    while True:
        try:
            # Anew each time: a token in the kubeconfig may have been replaced.
            async with ApiClient(configuration=await _configuration()) as client:
                async for document in _documents(client, namespace, name):
                    version = document["metadata"]["resourceVersion"]
                    if version != seen:
                        swap(directory, files(document))
                        seen = version
                    wait = _FIRST_WAIT
        except Exception as error:  # noqa: BLE001 - logged, and what was mirrored stays in use
            _log.warning(
                "the bundle cannot be followed, the last one stays in use",
                extra={"config_map": f"{namespace}/{name}", "problem": str(error) or repr(error)},
            )
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


async def _documents(client: ApiClient, namespace: str, name: str) -> AsyncIterator[dict[str, Any]]:
    """The ConfigMap as it is, then each newer form, until the watch ends."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/configmaps"
    selector = {"fieldSelector": f"metadata.name={name}"}
    response = await _get(client, path, selector)
    found = msgspec.json.decode(await response.read())
    if not found["items"]:
        _log.warning(
            "no such ConfigMap yet: is the namespace a consumer, is the name right?",
            extra={"config_map": f"{namespace}/{name}"},
        )
    for item in found["items"]:
        yield item
    watch = {
        **selector,
        "watch": "true",
        "resourceVersion": found["metadata"]["resourceVersion"],
        "timeoutSeconds": str(_WATCH_SECONDS),
    }
    response = await _get(client, path, watch)
    async for line in response.content:
        event = msgspec.json.decode(line)
        if event["type"] == "ERROR":
            return  # expired: list again
        if event["type"] in ("ADDED", "MODIFIED"):
            yield event["object"]


async def _get(client: ApiClient, path: str, query: dict[str, str]) -> aiohttp.ClientResponse:
    method, url, headers, _, _ = await client.param_serialize(
        "GET",
        f"{path}?{urlencode(query)}",
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SECONDS + 15)
    answer = await client.call_api(method, url, headers, _request_timeout=timeout)
    response: aiohttp.ClientResponse = answer.response
    if response.status != 200:  # noqa: PLR2004 - HTTP
        text = (await response.text())[:300]
        raise ConnectionError(f"the API server answered {response.status}: {text}")
    return response


async def _configuration() -> Configuration:
    configuration = Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration)
    return configuration


def files(config_map: dict[str, Any]) -> dict[str, bytes]:
    """What the kubelet would write of a ConfigMap."""
    text = config_map.get("data") or {}
    binary = config_map.get("binaryData") or {}
    return {
        **{name: value.encode() for name, value in text.items()},
        **{name: base64.b64decode(value) for name, value in binary.items()},
    }


def swap(directory: Path, contents: dict[str, bytes]) -> None:
    """Replace all files in one step, by the kubelet's symlink (AtomicWriter)."""
    link = directory / _DATA_LINK
    old = directory / link.readlink() if link.is_symlink() else None
    new = directory / f"..{secrets.token_hex(8)}"
    new.mkdir()
    for name, data in contents.items():
        (new / name).write_bytes(data)
    unswapped = directory / f"{_DATA_LINK}_tmp"
    unswapped.unlink(missing_ok=True)
    unswapped.symlink_to(new.name)
    unswapped.rename(link)
    if old is not None:
        shutil.rmtree(old)
