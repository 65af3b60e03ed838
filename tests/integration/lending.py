"""A control plane that tests of one worker use in turn, each as if it were its own.

To start one takes seconds, and more of a processor than most tests. A test that stops or pauses
the API server, or runs a controller for all of the cluster, needs it for itself, but not new.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from urllib3.exceptions import HTTPError

from headwater.cluster import CACHE_WARMER, CONFIG_MAP, NAMESPACE, PROMPT_PREFIX, Kind
from headwater.cluster.kinds import LEASE
from headwater.cluster.labels import ROLE_LABEL
from tests.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.integration.controller.harness import Api, install_crds

_KUBERNETES: Final = {"default", "kube-node-lease", "kube-public", "kube-system"}
"""The namespaces of every cluster."""
_WRITING: Final = ("create", "update", "patch", "delete", "deletecollection")
_NO_CONTROLLERS: Final = ("kubectl", "kube-apiserver", "kube-controller-manager", "test")
"""User agents that are no controller of ours."""


@dataclass(frozen=True)
class Audit:
    """What an API server was asked since a moment, from its own log."""

    path: Path
    begin: int = 0
    """In bytes."""

    @classmethod
    def from_now(cls, path: Path) -> Self:
        """Leave out what stands in the log already."""
        return cls(path, path.stat().st_size)

    def writes(self) -> list[str]:
        """Return every write of a controller of ours."""
        with self.path.open("rb") as log:
            log.seek(self.begin)
            # The last line may be half a line.
            lines = [json.loads(line) for line in log.read().split(b"\n")[:-1]]
        return [
            f"{line['verb']} {line['requestURI']}"
            for line in lines
            if line["verb"] in _WRITING
            and line.get("userAgent", "").split("/")[0] not in _NO_CONTROLLERS
        ]


class Lender:
    """Lends a control plane to one test at a time, with the CRDs on it and nothing else of ours.

    One that does not come back so is ended, and the next test gets another one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._plane: ControlPlane | None = None
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._plane is not None:
            self._plane.__exit__()

    @property
    def audit_log(self) -> Path:
        """The log of the control plane that was started last."""
        return self._directory / f"audit-{self._started}.log"

    @contextmanager
    def lent(self) -> Iterator[ControlPlane]:
        """Lend it to a test."""
        with ExitStack() as unless_given_back:
            plane, self._plane = self._plane or self._start(), None
            unless_given_back.push(plane)
            try:
                yield plane
                plane.resume()
                _tidy_up(plane)
            except (AssertionError, ControlPlaneError, HTTPError) as error:
                print(f"the control plane is not used again: {error}")
            else:
                unless_given_back.pop_all()
                self._plane = plane

    def _start(self) -> ControlPlane:
        self._started += 1
        plane = ControlPlane(audit_log=self.audit_log).__enter__()
        with ExitStack() as on_failure:
            on_failure.push(plane)
            install_crds(plane)
            on_failure.pop_all()
        return plane


def _tidy_up(plane: ControlPlane) -> None:
    """Remove what a test made; namespaces end without being waited for."""
    with Api(plane) as api:
        for prefix in _all(api, PROMPT_PREFIX):
            if prefix["metadata"].get("finalizers"):  # nobody is there to take them off
                where = prefix["metadata"]["namespace"], prefix["metadata"]["name"]
                api.patch(PROMPT_PREFIX, *where, {"metadata": {"finalizers": None}})
        for kind in (PROMPT_PREFIX, CACHE_WARMER, CONFIG_MAP):
            # Now, and not with their namespaces: the next test's controller would look at them.
            for namespace in sorted({one["metadata"]["namespace"] for one in _all(api, kind)}):
                api.request("DELETE", kind.path(namespace), labelSelector=_selector(kind))
        for kind in (LEASE, CONFIG_MAP):
            api.request("DELETE", kind.path("default"))
        for one in _all(api, NAMESPACE):
            if one["metadata"]["name"] not in _KUBERNETES:
                api.delete(NAMESPACE, None, one["metadata"]["name"])


def _all(api: Api, kind: Kind) -> list[dict[str, Any]]:
    found = json.loads(api.request("GET", kind.path(), labelSelector=_selector(kind)))
    items: list[dict[str, Any]] = found["items"]
    return items


def _selector(kind: Kind) -> str:
    return ROLE_LABEL if kind == CONFIG_MAP else ""
