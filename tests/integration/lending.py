"""A control plane that tests of one worker use in turn, each as if it were its own.

To start one takes seconds, and more of a processor than most tests. A test that stops or pauses
the API server, or runs a controller for all of the cluster, needs it for itself, but not new.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from urllib3.exceptions import HTTPError

from headwater.cluster import CACHE_WARMER, CONFIG_MAP, NAMESPACE, PROMPT_PREFIX, Kind
from headwater.cluster.kinds import LEASE, MUTATING_CONFIGURATION, VALIDATING_CONFIGURATION
from headwater.cluster.labels import ROLE_LABEL
from tests.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, install_crds

_KUBERNETES: Final = {"default", "kube-node-lease", "kube-public", "kube-system"}
"""The namespaces of every cluster."""
_OURS: Final = "headwater"
"""The chart's namespace, which many tests have: it is emptied, since its end would take seconds."""
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_WRITING: Final = ("create", "update", "patch", "delete", "deletecollection")
_NO_CONTROLLERS: Final = ("kubectl", "kube-apiserver", "kube-controller-manager", "test")
"""User agents that are no controller of ours."""


def _cluster_wide(group: str, kind: str) -> Kind:
    plural = re.sub("ys$", "ies", f"{kind.lower()}s")
    return Kind(group, "v1", plural, kind, namespaced=False)


_CLUSTER_WIDE: Final = (
    MUTATING_CONFIGURATION,
    VALIDATING_CONFIGURATION,
    _cluster_wide("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    _cluster_wide("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    _cluster_wide("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    _cluster_wide("rbac.authorization.k8s.io", "ClusterRole"),
    _cluster_wide("apiextensions.k8s.io", "CustomResourceDefinition"),
)


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

    def events(self) -> list[dict[str, Any]]:
        """Return what the API server wrote of each request."""
        with self.path.open("rb") as log:
            log.seek(self.begin)
            # The last line may be half a line.
            return [json.loads(line) for line in log.read().split(b"\n")[:-1]]

    def writes(self) -> list[str]:
        """Return every write of a controller of ours."""
        return [
            f"{line['verb']} {line['requestURI']}"
            for line in self.events()
            if line["verb"] in _WRITING
            and line.get("userAgent", "").split("/")[0] not in _NO_CONTROLLERS
        ]


class Lender:
    """Lends control planes, each to one borrower at a time: with the CRDs and nothing else of ours.

    One that does not come back so is ended, and the next borrower gets another one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._free: list[Lent] = []
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lent in self._free:
            lent.plane.__exit__()

    @contextmanager
    def lent(self) -> Iterator["Lent"]:
        """Lend one, to a test or to a fixture that many tests share."""
        with ExitStack() as unless_given_back:
            lent = self._free.pop() if self._free else self._start()
            unless_given_back.push(lent.plane)
            yield lent
            try:
                lent.plane.resume()
                lent.tidy_up()
            except (AssertionError, ControlPlaneError, HTTPError, TimeoutError) as error:
                print(f"the control plane is not used again: {error}")
            else:
                unless_given_back.pop_all()
                self._free.append(lent)

    def _start(self) -> "Lent":
        self._started += 1
        audit_log = self._directory / f"audit-{self._started}.log"
        plane = ControlPlane(audit_log=audit_log).__enter__()
        with ExitStack() as on_failure:
            on_failure.push(plane)
            install_crds(plane)
            lent = Lent(plane, audit_log)
            on_failure.pop_all()
        return lent


class Lent:
    """A control plane on loan.

    Attributes:
        plane: the control plane.
        audit_log: what its API server was asked, since it was started.
    """

    def __init__(self, plane: ControlPlane, audit_log: Path) -> None:
        self.plane, self.audit_log = plane, audit_log
        with Api(plane) as api:
            self._of_the_cluster = {kind: _names(api, kind) for kind in _CLUSTER_WIDE}

    @property
    def audit(self) -> Audit:
        """What its API server is asked from now on."""
        return Audit.from_now(self.audit_log)

    def tidy_up(self) -> None:
        """Remove what a borrower made; namespaces end without being waited for."""
        with Api(self.plane) as api:
            for kind in _CLUSTER_WIDE:  # what decides about others first
                for name in sorted(_names(api, kind) - self._of_the_cluster[kind]):
                    api.delete(kind, None, name)
            # A policy that is gone is obeyed for a moment more.
            wait_until(lambda: _removed(api), 30, "what a test has left may be removed")


def _removed(api: Api) -> bool:
    """Remove our objects, now and not with their namespaces: a controller would look at them.

    Raises:
        ApiError: not all of it could be removed yet.
    """
    for kind in (PROMPT_PREFIX, CACHE_WARMER, CONFIG_MAP):
        found = _all(api, kind)
        for one in found:
            if kind != CONFIG_MAP and one["metadata"].get("finalizers"):  # nobody takes them off
                where = one["metadata"]["namespace"], one["metadata"]["name"]
                api.patch(kind, *where, {"metadata": {"finalizers": None}})
        for namespace in sorted({one["metadata"]["namespace"] for one in found}):
            api.request("DELETE", kind.path(namespace), labelSelector=_selector(kind))
    for kind in (LEASE, CONFIG_MAP):
        api.request("DELETE", kind.path("default"))
    namespaces = _names(api, NAMESPACE)
    if _OURS in namespaces:
        _empty(api, _OURS)
    for name in sorted(namespaces - _KUBERNETES - {_OURS}):
        api.delete(NAMESPACE, None, name)
    return True


def _empty(api: Api, namespace: str) -> None:
    """Delete whatever is in a namespace, as its own end would."""
    for root in ("/api", "/apis"):
        found = json.loads(api.request("GET", root, accept=_DISCOVERY))
        for group in found["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"][:1]:
                for kind in version["resources"]:
                    if kind["scope"] == "Namespaced" and "deletecollection" in kind["verbs"]:
                        of = Kind(name, version["version"], kind["resource"], "")
                        api.request("DELETE", of.path(namespace))


def _all(api: Api, kind: Kind) -> list[dict[str, Any]]:
    """Return all objects of a kind, in all namespaces."""
    found = json.loads(api.request("GET", kind.path(), labelSelector=_selector(kind)))
    items: list[dict[str, Any]] = found["items"]
    return items


def _names(api: Api, kind: Kind) -> set[str]:
    return {one["metadata"]["name"] for one in _all(api, kind)}


def _selector(kind: Kind) -> str:
    return ROLE_LABEL if kind == CONFIG_MAP else ""
