"""Two replicas behind one address: one of them goes while pods are created."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from headwater.cluster import NAMESPACE, POD
from tests.integration.controller.harness import ApiError
from tests.integration.controller.team import new_team
from tests.integration.webhook.harness import Balancer, Replica, Site, until_asked

PODS = 120
IN_PARALLEL = 20
SPEC = {"containers": [{"name": "app", "image": "app:1"}]}

pytestmark = pytest.mark.xdist_group("webhook")


@dataclass
class Pair:
    site: Site
    namespace: str
    replicas: list[Replica]
    balancer: Balancer

    def create_while(self, at: int, meanwhile: Callable[[], object]) -> list[str]:
        """Create many pods, and do something once `at` of them are there; the refusals."""
        path = POD.path(self.namespace)
        done: list[None] = []

        def create(number: int) -> str:
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}}
            try:
                text = self.site.api.request("POST", path, {**body, "spec": SPEC})
            except ApiError as error:
                return str(error)
            finally:
                done.append(None)
            assert json.loads(text)["spec"]["initContainers"]
            return ""

        with ThreadPoolExecutor(IN_PARALLEL) as executor:
            answers = executor.map(create, range(PODS))
            while len(done) < at:
                time.sleep(0.001)  # the creation goes on in other threads
            meanwhile()
            return [answer for answer in answers if answer]


@pytest.fixture
def pair(site: Site, replica: Replica) -> Iterator[Pair]:
    with ExitStack() as stack:
        team = stack.enter_context(new_team(site.api))
        team.publish()
        namespace = team.consumer("shop")
        labels = {"headwater.dev/inject": "enabled"}
        annotations = {"headwater.dev/prefixes": f"{team.namespace}/house"}
        metadata = {"metadata": {"labels": labels, "annotations": annotations}}
        site.api.patch(NAMESPACE, None, namespace, metadata)
        replicas = [stack.enter_context(site.replica("--drain-seconds", "1.5")) for _ in range(2)]
        balancer = Balancer([replica.port for replica in replicas])
        stack.enter_context(balancer.served())
        stack.callback(site.ask, replica.port)
        site.ask(balancer.port)
        until_asked(site, namespace, {"metadata": {"name": "first"}, "spec": SPEC})

        def both() -> bool:
            until_asked(site, namespace, {"metadata": {"name": "first"}, "spec": SPEC})
            return all(found.counted("headwater_webhook_reviews_total") for found in replicas)

        deadline = time.monotonic() + 30
        with ThreadPoolExecutor(4) as executor:
            while not both():
                assert time.monotonic() < deadline
                list(executor.map(lambda _: both(), range(8)))
        yield Pair(site, namespace, replicas, balancer)


def test_a_replica_that_ends_costs_no_pod(pair: Pair) -> None:
    """As when its pod is deleted or its node is drained, with `failurePolicy: Fail`."""
    leaving, staying = pair.replicas

    def end() -> None:
        leaving.signal(signal.SIGTERM)
        # The endpoint goes while the process still serves, as in a cluster.
        pair.balancer.ports = [staying.port]

    assert pair.create_while(PODS // 4, end) == []
    assert leaving.wait() == 0


def test_a_replica_that_is_killed_costs_what_it_had_in_hand(pair: Pair) -> None:
    """Nobody can answer those; whoever makes pods tries again. All others are admitted."""
    dying, staying = pair.replicas

    def kill() -> None:
        dying.signal(signal.SIGKILL)
        pair.balancer.ports = [staying.port]

    refused = pair.create_while(PODS // 4, kill)
    assert len(refused) <= IN_PARALLEL
    assert all("failed calling webhook" in answer for answer in refused)
    print(f"{len(refused)} of {PODS} pods were in the hands of the one that was killed")
