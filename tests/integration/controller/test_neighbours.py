"""One tenant's namespace does not stop another's."""

import pytest

from headwater.cluster import CONFIG_MAP
from headwater.cluster.kinds import Kind
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError
from tests.integration.controller.team import PATIENCE, Team

pytestmark = pytest.mark.xdist_group("controller")

QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")


def test_a_namespace_without_room_is_named_and_holds_up_nobody(team: Team, api: Api) -> None:
    """A quota here, somebody's immutable ConfigMap of the bundle's name there: Ready all the same.

    Flux and Argo CD wait for Ready. When the way is free the bundle follows by itself.
    """
    full, taken, fine = (team.consumer(name) for name in ("full", "taken", "fine"))
    quota = {"metadata": {"name": "none", "namespace": full}, "spec": {"hard": {"configmaps": "0"}}}
    api.create(QUOTA, quota)
    stranger = {"metadata": {"name": team.bundle_name(), "namespace": taken}, "immutable": True}
    api.create(CONFIG_MAP, {**stranger, "data": {"route.json": "{}"}})

    def refuses() -> bool:
        name = {"metadata": {"name": "trial", "namespace": full}}
        try:
            api.request("POST", CONFIG_MAP.path(full), name, dryRun="All")
        except ApiError:
            return True
        return False

    wait_until(refuses, PATIENCE, "the quota holds")
    digest = team.publish()
    team.await_bundle(fine, digest)
    team.await_condition("Ready", "True", "Stable")

    def told() -> str:
        found = team.condition("ConsumersServed")
        assert (found["status"], found["reason"]) == ("False", "BundleNotWritten")
        message: str = found["message"]
        return message

    assert told().startswith(f"1 of 3 namespaces have the bundle; {full}: ")
    assert "quota" in told()
    api.request("DELETE", QUOTA.path(full, "none"))
    team.await_bundle(full, digest)
    wait_until(
        lambda: (
            told() == f"2 of 3 namespaces have the bundle; {taken}: an immutable ConfigMap"
            f" {team.bundle_name()} of test's stands there: delete it"
        ),
        PATIENCE,
        "the second is named",
    )
    api.delete(CONFIG_MAP, taken, team.bundle_name())
    team.await_bundle(taken, digest)
    team.await_condition("ConsumersServed", "True", "AllServed")
