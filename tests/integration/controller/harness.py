"""A plain client of the API server, and the real process of the controller.

The client is not the product's own: what the controller wrote is read back by other code. The
controller is the process that an operator's pod would run, but that its imports were done before.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import kubernetes

from headwater.cluster import CACHE_WARMER, NAMESPACE, POD, PROMPT_PREFIX, Kind
from tests.cluster.control_plane import Cluster
from tests.cluster.forks import Forked
from tests.cluster.waiting import scaled, wait_until

ROOT: Final = Path(__file__).parents[3]
CRDS: Final = ROOT / "crds"


class ApiError(AssertionError):
    """The API server's refusal; an AssertionError, so that a wait takes it for "not yet"."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"{status}: {message}")


class Api:
    """The API server's plain JSON.

    Args:
        cluster: whose API server is asked.
        person: who asks, as by `kubectl --as`; the kubeconfig's user where nobody is named.

    Attributes:
        warnings: what the API server warned of in its last answer.
    """

    warnings: Sequence[str] = ()

    def __init__(self, cluster: Cluster, person: str = "") -> None:
        self._client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
        self._client.user_agent = "test"  # an audit log tells it from the controller
        if person:
            self._client.set_default_header("Impersonate-User", person)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.rest_client.pool_manager.clear()
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        *,
        accept: str = "*/*",
        **query: str,
    ) -> str:
        """The text of the answer.

        Raises:
            ApiError: it is none of 2xx.
        """
        prepared = self._client.param_serialize(
            method,
            path + (f"?{urlencode(query)}" if query else ""),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*prepared, _request_timeout=scaled(30))
        text: str = answer.read().decode()
        self.warnings = answer.headers.getlist("warning")
        if answer.status >= 300:
            try:
                message = str(json.loads(text)["message"])
            except (ValueError, KeyError):
                message = text
            raise ApiError(answer.status, message)
        return text

    def _json(self, *arguments: Any, **query: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.request(*arguments, **query))
        return answer

    def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        return self._json("GET", kind.path(namespace, name))

    def find(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """The object; None where there is none."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._json(
            "GET", kind.path(namespace), labelSelector=selector
        )["items"]
        return items

    def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        path = kind.path(body["metadata"].get("namespace"))
        return self._json("POST", path, {**_typed(kind), **body})

    def apply(self, kind: Kind, body: Mapping[str, Any], manager: str = "kubectl") -> None:
        """Server-side apply, as `kubectl apply --server-side --force-conflicts` does it."""
        metadata = body["metadata"]
        self._json(
            "PATCH",
            kind.path(metadata.get("namespace"), metadata["name"]),
            {**_typed(kind), **body},
            "application/apply-patch+yaml",
            fieldManager=manager,
            force="true",
            fieldValidation="Strict",
        )

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        manager: str = "kubectl-edit",
        subresource: str = "",
    ) -> dict[str, Any]:
        """A merge patch."""
        path = kind.path(namespace, name) + subresource
        return self._json("PATCH", path, body, "application/merge-patch+json", fieldManager=manager)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        try:
            self.request("DELETE", kind.path(namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise

    def leave(self, *namespaces: str) -> None:
        """Take away what a controller would go on looking after; the namespaces stay.

        Deleting a namespace takes the API server some ninety requests, and a control plane of our
        own is thrown away with the run. In a cluster that stays, the namespaces are deleted.
        """
        for namespace in namespaces:
            if os.environ.get("HEADWATER_CLUSTER"):
                self.delete(NAMESPACE, None, namespace)
                continue
            for kind in (POD, CACHE_WARMER, PROMPT_PREFIX):
                with contextlib.suppress(ApiError):  # a cluster without our resources has none
                    self.request("DELETE", kind.path(namespace), gracePeriodSeconds="0")


def _typed(kind: Kind) -> dict[str, str]:
    return {"apiVersion": kind.api_version, "kind": kind.kind}


def install_crds(cluster: Cluster) -> None:
    """Apply the generated CRDs and wait until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    names = ("crd/promptprefixes.headwater.dev", "crd/cachewarmers.headwater.dev")
    wait = ("wait", "--for=condition=Established", "--timeout=120s")
    # kubectl itself does not wait for the list of conditions to be there.
    wait_until(lambda: cluster.kubectl(*wait, *names), 30, "the CRDs are served")


class Controller:
    """`headwater controller` as a process of its own."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self.log = log
        self._kubeconfig = kubeconfig
        self._arguments = arguments
        self._process: Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process that was started last still runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it is at work within two seconds or so."""
        with self.log.open("ab") as output:
            self._process = Forked(
                (
                    *("controller", "--no-leader-election", "--scrape-interval", "0.2"),
                    *self._arguments,
                ),
                {**os.environ, "KUBECONFIG": str(self._kubeconfig)},
                stdout=output,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            return process.wait(scaled(30))
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it between two instructions (SIGKILL)."""
        self.stop(signal.SIGKILL)

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextmanager
def reporting(controller: Controller) -> Iterator[None]:
    """No bug may hide in the log: a trace back fails the test, a failure shows the last lines."""
    before = len(controller.said())
    try:
        yield
    except BaseException:
        print(controller.said()[before:][-4000:])
        raise
    said = controller.said()[before:]
    assert "Traceback" not in said, said[-4000:]
