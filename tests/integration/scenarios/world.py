"""A small world round a real controller: pods with real sidecars, applications, a provider.

Only two things are played: the kubelet, because there is no node, and the provider, which is the
simulator. Everything else is what a user would run.
"""

import itertools
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self
from urllib.request import urlopen

import anthropic

from headwater.cluster import CONFIG_MAP, POD
from tests.cluster.control_plane import ControlPlane
from tests.cluster.volumes import MountedConfigMap
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller import pods
from tests.integration.controller.harness import Api
from tests.integration.controller.team import MODEL, PATIENCE, Team, prompt, route
from tests.integration.lending import Audit
from tests.integration.scenarios.kubelet import Kubelet
from tests.integration.scenarios.provider import Provider, running

BATCH: Final = 20
"""Conversations between two looks at what became of them."""
_AT_ONCE: Final = 6


@dataclass(frozen=True)
class Site:
    """Where the controller is, and what its API server was asked."""

    plane: ControlPlane
    api: Api
    audit: Audit

    def writes(self) -> list[str]:
        """All that controllers wrote so far, but for their Lease."""
        return [write for write in self.audit.writes() if "/leases/" not in write]


@dataclass(frozen=True)
class Answer:
    """What an application saw."""

    version: str
    at: datetime


class Application:
    """A team's program in a pod: the provider's SDK, which knows the sidecar's address alone."""

    def __init__(self, url: str, metrics: str, key: str) -> None:
        self.url, self.metrics = url, metrics
        self._client = anthropic.Anthropic(
            api_key=key, base_url=url, max_retries=0, timeout=scaled(30)
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, user: str, system: Any = "Be brief.") -> Answer:
        """One question of a user, whose conversation it belongs to."""
        answer = self._client.messages.with_raw_response.create(
            model=MODEL,
            max_tokens=5,
            system=system,
            messages=[{"role": "user", "content": "Where is the printer?"}],
            metadata={"user_id": user},
        )
        return Answer(answer.headers["x-headwater-version"], datetime.now(UTC))

    @property
    def epoch(self) -> int:
        """Of the route that its sidecar follows; 0 before the first."""
        with urlopen(f"{self.metrics}/metrics", timeout=scaled(30)) as answer:
            found = re.search(
                r"^headwater_bundle_epoch\S* (\d+)", answer.read().decode(), re.MULTILINE
            )
        return int(found[1]) if found else 0


class World:
    """One prefix, the pods that use it, and the talk in them."""

    def __init__(self, site: Site, team: Team, provider: Provider, directory: Path) -> None:
        self.site, self.team, self.provider = site, team, provider
        self.applications: list[Application] = []
        self._directory = directory
        self._users = map("user {}".format, itertools.count())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.kubelet = self._stack.enter_context(Kubelet(self.site.plane))
        self._threads = self._stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def source(self, version: str, added: str = "") -> dict[str, Any]:
        """Content of this world's own."""
        return {"system": [{"text": f"{added}{prompt(f'{self.team.namespace} {version}')}"}]}

    def pod(
        self, namespace: str, name: str, *, key: str, upstream: str = "", **served: str
    ) -> Application:
        """Start a pod with a sidecar in it; the application beside it.

        `served` is whom the sidecar serves: `surface="chat"`.
        """
        directory = self._directory / namespace / name
        bundle = self.team.bundle_name()
        wait_until(
            lambda: self.team.api.find(CONFIG_MAP, namespace, bundle),
            PATIENCE,
            f"{namespace} has the bundle",
        )
        mounted = self._stack.enter_context(
            MountedConfigMap(self.site.plane, namespace, bundle, directory)
        )
        mounted.sync()
        announced = self._stack.enter_context(
            running(
                self._directory / f"{name}.log",
                *("sidecar", "--bundle", str(directory), "--namespace", namespace),
                *("--upstream", upstream or self.provider.url, "--team", name),
                *("--port", "0", "--metrics-address", "127.0.0.1:0"),
                *(f"--{flag.replace('_', '-')}={value}" for flag, value in served.items()),
            )
        )
        application = Application(announced("listening"), announced("metrics"), key)
        self._stack.callback(application.close)
        self._schedule(namespace, name, application.metrics.rpartition(":")[2])
        self.kubelet.mount(namespace, name, mounted)
        self.applications.append(application)
        return application

    def _schedule(self, namespace: str, name: str, metrics_port: str) -> None:
        """The pod as the API server knows it, and what its kubelet reports."""
        body = pods.mounting(namespace, name, self.team.bundle_name())
        body["metadata"]["labels"]["headwater.dev/role"] = "sidecar"
        body["metadata"]["annotations"]["headwater.dev/metrics-port"] = metrics_port
        wait_until(lambda: self.team.api.create(POD, body), PATIENCE, f"{namespace} admits pods")
        address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"}
        self.team.api.patch(POD, namespace, name, {"status": address}, subresource="/status")

    def talk(self, conversations: int = BATCH) -> list[Answer]:
        """So many new conversations of one question each, over all applications."""
        applications = itertools.islice(itertools.cycle(self.applications), conversations)
        return list(self._threads.map(Application.ask, applications, self._users))

    def talk_until(
        self, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = PATIENCE
    ) -> list[Answer]:
        """Talk on, and let nodes sync, until the status is so; all that was answered."""
        answers: list[Answer] = []

        def reached() -> bool:
            self.kubelet.sync()
            answers.extend(self.talk())
            return bool(condition(self.team.status()))

        wait_until(reached, timeout, what)
        return answers

    def await_phase(self, phase: str, *, weight: int | None = None) -> dict[str, Any]:
        """Wait until the status says so; the status. None is for any weight."""

        def reached() -> dict[str, Any]:
            status = self.team.status()
            assert status["phase"] == phase, status
            assert weight in (None, status.get("candidate", {}).get("weight")), status
            return status

        return wait_until(reached, PATIENCE, f"{phase} at {weight}%" if weight else phase)

    def await_sidecars(self) -> None:
        """Wait until every sidecar follows the route that the status tells of."""

        def follow() -> bool:
            epoch = self.team.status()["epoch"]
            return all(application.epoch == epoch for application in self.applications)

        wait_until(follow, PATIENCE, "every sidecar follows the route")

    def await_synced(self) -> None:
        """Let the bundles be written and every node sync, and wait until the sidecars follow."""

        def written() -> bool:
            status = self.team.status()
            bundles = [self.team.bundle(namespace) for namespace in self.team.others]
            assert all(found and route(found)["epoch"] == status["epoch"] for found in bundles)
            self.kubelet.sync()
            return True

        wait_until(written, PATIENCE, "every namespace has the bundle")
        self.await_sidecars()

    def history(self) -> list[tuple[str, str]]:
        """What happened to which version."""
        return [(row["version"], row["event"]) for row in self.team.status()["history"]]
