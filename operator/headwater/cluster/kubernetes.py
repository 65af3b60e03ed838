"""The Kubernetes API through the official asyncio client.

Only the client's connection, authentication and configuration are used: its typed models would
cost 27 MB and a second and a half of import for objects that are plain dicts here.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from headwater.cluster.api import (
    FIELD_MANAGER,
    ApiError,
    ConflictError,
    NotFoundError,
    Object,
    RefusedError,
    UnavailableError,
)
from headwater.cluster.kinds import Kind

_PAGE: Final = 500
"""Objects a list asks for at once, client-go's page size."""
_TIMEOUT: Final = 30.0
"""Seconds for one request."""
_WATCH_SECONDS: Final = 60
"""A watch's length: a connection that died silently is noticed after it, at two calls a minute."""
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")


class KubernetesCluster:
    """`Cluster` on a real API server. Build it with `connect`, and close it.

    Attributes:
        namespace: the kubeconfig context's, or the pod's own: where a person means to be.
    """

    def __init__(self, client: ApiClient, namespace: str = "default") -> None:
        """Take over `client`, which `close` closes."""
        self.namespace = namespace
        self._client = client
        # Waiting for a connection must not count against a request's time.
        self._gate = asyncio.Semaphore(client.configuration.connection_pool_maxsize)

    @classmethod
    async def connect(
        cls,
        *,
        connections: int = 20,
        context: str | None = None,
        before_write: Callable[[], None] | None = None,
    ) -> Self:
        """Use the service account inside a pod, else the kubeconfig's current context.

        `connections` bounds the requests in flight. `context` is another of the kubeconfig's.
        `before_write` is called before each part of a request that may change something is
        handed to the socket, and raises where that must not be sent any more.

        Raises:
            UnavailableError: neither is there.
        """
        configuration = Configuration()
        # Asked for now: the client library looks at the environment when it is imported.
        kubeconfig = os.environ.get("KUBECONFIG")
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and not (kubeconfig or context):
                config.load_incluster_config(client_configuration=configuration)
                namespace = _POD_NAMESPACE.read_text()
            else:
                loader = await config.load_kube_config(
                    config_file=kubeconfig, context=context, client_configuration=configuration
                )
                namespace = loader.current_context["context"].get("namespace") or "default"
        except config.ConfigException as error:
            raise UnavailableError(
                0,
                f"no cluster is configured ({error}): set KUBECONFIG, or run in a pod with a"
                " service account.",
            ) from error
        configuration.connection_pool_maxsize = connections
        if before_write is not None:
            configuration.trace_configs = [_asking(before_write)]
        return cls(ApiClient(configuration=configuration), namespace)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """See `Cluster`."""
        return await self._request("GET", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Object]:
        """See `Cluster`."""
        query = {"limit": str(_PAGE)}
        if label_selector:
            query["labelSelector"] = label_selector
        while True:
            page = await self._request("GET", kind.path(namespace), query)
            for item in page.get("items") or ():
                yield item
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            query["continue"] = following

    async def follow(self, kind: Kind, namespace: str, name: str) -> AsyncIterator[Object]:
        """See `Cluster`."""
        path, selector = kind.path(namespace), {"fieldSelector": f"metadata.name={name}"}
        found = await self._request("GET", path, selector)
        for item in found.get("items") or ():
            yield item
        query = {
            **selector,
            "watch": "true",
            "resourceVersion": found["metadata"]["resourceVersion"],
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        # Without the gate, and longer than other requests: it is meant to stay open.
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SECONDS + 15)
        try:
            response = await self._send("GET", path, query, limit=limit)
            if response.status >= 300:  # noqa: PLR2004 - HTTP: what is not a success
                raise _error(response.status, await response.read())
            async for line in response.response.content:
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    return  # the version expired: whoever follows on lists again
                if event["type"] != "DELETED":
                    yield event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(error) from error

    async def apply(self, kind: Kind, body: Object) -> Object:
        """See `Cluster`."""
        metadata = body["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata.get("namespace"), metadata["name"]),
            {"fieldManager": FIELD_MANAGER, "force": "true"},
            _yaml({"apiVersion": kind.api_version, "kind": kind.kind, **body}),
            # With a parameter, because the client would write JSON for the bare type.
            "application/apply-patch+yaml; charset=utf-8",
        )

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        """See `Cluster`."""
        # Not an apply, which would keep what others wrote into the status, and believe it.
        metadata = body["metadata"]
        return await self._request(
            "PUT",
            kind.path(metadata.get("namespace"), metadata["name"]) + "/status",
            {"fieldManager": FIELD_MANAGER},
            {"apiVersion": kind.api_version, "kind": kind.kind, **body},
        )

    async def create(self, kind: Kind, body: Object) -> Object:
        """See `Cluster`."""
        return await self._request(
            "POST",
            kind.path(body["metadata"].get("namespace")),
            {"fieldManager": FIELD_MANAGER},
            {"apiVersion": kind.api_version, "kind": kind.kind, **body},
        )

    async def replace(self, kind: Kind, body: Object) -> Object:
        """See `Cluster`."""
        metadata = body["metadata"]
        return await self._request(
            "PUT",
            kind.path(metadata.get("namespace"), metadata["name"]),
            {"fieldManager": FIELD_MANAGER},
            {"apiVersion": kind.api_version, "kind": kind.kind, **body},
        )

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str]
    ) -> None:
        """See `Cluster`."""
        await self._merge(kind, namespace, name, {"annotations": dict(annotations)})

    async def set_finalizers(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        finalizers: Sequence[str],
        *,
        resource_version: int,
    ) -> Object:
        """See `Cluster`."""
        # A merge patch replaces the whole list: the version keeps it from undoing another's change.
        metadata = {"finalizers": list(finalizers), "resourceVersion": str(resource_version)}
        return await self._merge(kind, namespace, name, metadata)

    async def _merge(self, kind: Kind, namespace: str, name: str, metadata: Object) -> Object:
        """Merge something into an object's metadata; unlike apply, this never creates one."""
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": FIELD_MANAGER},
            {"metadata": metadata},
            "application/merge-patch+json",
        )

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Object,
        *,
        field_manager: str,
        dry_run: bool = False,
    ) -> Object:
        """Merge `body` into an object (RFC 7386); a resourceVersion in it must be the current one.

        `field_manager` is who did it, since it was not the operator. `dry_run` has the API server
        check it and answer, and nothing more.
        """
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": field_manager, "fieldValidation": "Strict"}
            | ({"dryRun": "All"} if dry_run else {}),
            body,
            "application/merge-patch+json",
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, resource_version: int | None = None
    ) -> None:
        """See `Cluster`."""
        body: Object = {"propagationPolicy": "Background"}
        if resource_version is not None:
            body["preconditions"] = {"resourceVersion": str(resource_version)}
        try:
            await self._request("DELETE", kind.path(namespace, name), body=body)
        except NotFoundError:
            return

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | str | None = None,
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with self._gate:
                response = await self._send(method, path, query, body, content_type)
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(error) from error
        if response.status >= 300:  # noqa: PLR2004 - HTTP: what is not a success
            raise _error(response.status, data)
        return msgspec.json.decode(data, type=dict[str, Any])

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | str | None = None,
        content_type: str = "application/json",
        *,
        limit: aiohttp.ClientTimeout | float = _TIMEOUT,
    ) -> Any:
        method, url, headers, _, _ = await self._client.param_serialize(
            method,
            path + (f"?{urlencode(query)}" if query else ""),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(method, url, headers, body, _request_timeout=limit)


def _asking(before_write: Callable[[], None]) -> aiohttp.TraceConfig:
    """Ask in the same step in which bytes go out: whatever was awaited before took its time."""

    async def ask(
        _: aiohttp.ClientSession,
        __: object,
        part: aiohttp.TraceRequestHeadersSentParams | aiohttp.TraceRequestChunkSentParams,
    ) -> None:
        if part.method != "GET":
            before_write()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(ask)
    trace.on_request_chunk_sent.append(ask)
    return trace


def _unavailable(error: Exception) -> UnavailableError:
    return UnavailableError(0, f"the API server does not answer ({type(error).__name__}: {error})")


def _yaml(body: Object) -> str:
    """JSON that is YAML as well, which JSON's own escapes are not.

    In YAML a character beyond U+FFFF is one escape and not two halves, and a raw U+2028 or
    U+0085 is a line break, which is folded into a blank (YAML 1.1, 4.1.4 and 5.6).
    """
    text = json.dumps(body, ensure_ascii=False)
    return _NOT_ASCII.sub(lambda found: f"\\U{ord(found[0]):08x}", text)


def _error(status: int, data: bytes) -> ApiError:
    try:
        message = str(msgspec.json.decode(data).get("message"))
    except (msgspec.DecodeError, AttributeError):
        message = data[:500].decode(errors="replace")
    kinds = {404: NotFoundError, 409: ConflictError, 429: UnavailableError}
    kind = kinds.get(status, UnavailableError if status >= 500 else RefusedError)  # noqa: PLR2004
    return kind(status, f"the API server answered {status}: {message}")
