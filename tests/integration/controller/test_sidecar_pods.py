"""Evidence from pods: the controller finds sidecars by their label and asks each for its counters.

Without a node no pod runs, so the test plays both the sidecar and the kubelet, who alone knows
a pod's address.
"""

import pytest

from headwater.cluster import POD
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api
from tests.integration.controller.servers import Metrics
from tests.integration.controller.team import MODEL, PATIENCE, Team

pytestmark = pytest.mark.xdist_group("controller")


def pod(namespace: str, port: str, bundle: str) -> dict[str, object]:
    return {
        "metadata": {
            "name": "billing",
            "namespace": namespace,
            "labels": {"headwater.dev/role": "sidecar"},
            "annotations": {"headwater.dev/metrics-port": port},
        },
        "spec": {
            "containers": [{"name": "app", "image": "app"}],
            "volumes": [{"name": "bundle", "configMap": {"name": bundle}}],
        },
    }


def test_a_pod_counts_from_its_address_to_its_end(team: Team, api: Api, metrics: Metrics) -> None:
    """With an address its requests count; once it is gone it is asked no more."""
    consumer = team.consumer("a")
    digest = team.serve(version="pods")
    shared, metrics = metrics, Metrics()
    metrics.count("house", digest, model=MODEL, hits=3, misses=1)
    with metrics.served() as url:
        port = url.removesuffix("/metrics").rpartition(":")[2]
        api.create(POD, pod(consumer, port, team.bundle_name()))
        address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"}
        api.patch(POD, consumer, "billing", {"status": address}, subresource="/status")
        wait_until(
            lambda: team.status().get("hitRate") == "75%", PATIENCE, "the pod's requests count"
        )
        api.delete(POD, consumer, "billing")

        def left_alone() -> bool:
            seen = metrics.scrapes
            shared.await_scrape()  # two rounds over every other target
            return metrics.scrapes == seen

        wait_until(left_alone, PATIENCE, "rounds pass without this target")
