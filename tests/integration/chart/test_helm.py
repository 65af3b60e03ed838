"""`helm install`, `helm upgrade` and `helm uninstall`, with a real API server."""

import pytest

from charts.generate import CHART, helm, objects, rendered
from tests.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.xdist_group("chart")  # what is rendered is kept


@pytest.mark.slow
def test_what_helm_installs_it_removes(bare_control_plane: ControlPlane) -> None:
    """An upgrade is no obstacle; only the definitions stay, and nothing that is asked of pods."""
    plane = bare_control_plane
    place = ("headwater", "-n", "headwater")

    def ours(kinds: str) -> set[str]:
        """Objects of the chart, by kind and name; namespaced ones of the chart's namespace."""
        selected = ("-l", "app.kubernetes.io/instance=headwater", "-o", "name", "-n", "headwater")
        return set(plane.kubectl("get", kinds, *selected).stdout.split())

    everything = (
        "clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,serviceaccounts,"
        "networkpolicies,poddisruptionbudgets,validatingadmissionpolicies,"
        "validatingadmissionpolicybindings,mutatingwebhookconfigurations,"
        "validatingwebhookconfigurations"
    )

    def run(*arguments: str) -> str:
        return helm(*arguments, environment=plane.environment).stdout

    said = run("install", *place[:1], str(CHART), *place[1:], "--create-namespace")
    assert "make image" in said
    assert "kubectl label namespace" in said
    installed = ours(everything)
    assert len(installed) == len(objects(rendered("--no-hooks", "--set=crds.enabled=false")))
    run("upgrade", *place[:1], str(CHART), *place[1:], "--set", "controller.replicas=1")
    assert installed - ours(everything) == {"poddisruptionbudget.policy/headwater-controller"}
    # Nothing runs here that could carry a hook out.
    run("uninstall", *place, "--no-hooks")
    assert ours(everything) == set()
    definitions = plane.kubectl("get", "crd", "-o", "name").stdout
    assert "promptprefixes.headwater.dev" in definitions
    assert "cachewarmers.headwater.dev" in definitions
