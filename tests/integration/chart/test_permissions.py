"""The chart gives no account more than `permissions.yaml` gives a reason for, and nothing less."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from charts.generate import matrix, objects, rendered

pytestmark = pytest.mark.xdist_group("chart")  # what is rendered is kept

Permission = tuple[str, str, str, str, str, str]
"""Account, namespace (empty for all), group, resource, name (empty for any), verb."""

LIST = YAML(typ="safe").load(Path(__file__).with_name("permissions.yaml").read_text())
WATCHED = ("team-a", "team-b")


def given(*arguments: str) -> set[Permission]:
    """What is bound to accounts of the chart."""
    found = objects(rendered(*arguments))
    return {
        permission
        for body in found.values()
        if body["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for permission in _bound(found, body)
    }


def _bound(found: dict[str, Any], binding: dict[str, Any]) -> Iterator[Permission]:
    namespace = binding["metadata"].get("namespace", "")
    kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
    role = found[f"{kind} {namespace or '-'} {name}" if kind == "Role" else f"{kind} - {name}"]
    for subject, rule in product(binding["subjects"], role["rules"]):
        account = subject["name"].removeprefix("headwater-")
        assert subject["namespace"] == "headwater"
        for rest in product(
            rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        ):
            yield account, namespace, *rest


def listed(places: dict[str, Sequence[str]]) -> set[Permission]:
    """What the list has, for where its places are."""
    return {
        (account, namespace, *rest)
        for account, entries in LIST.items()
        for entry in entries
        for namespace in places.get(entry["where"], ())
        for rest in product(
            [entry["group"]], entry["resources"], entry.get("names", [""]), entry["verbs"]
        )
    }


def test_each_permission_has_its_reason() -> None:
    """The list and the rendered roles say the same, for all of the cluster."""
    expected = listed({"everywhere": [""], "cluster": [""], "own": ["headwater"]})
    assert given() == expected


def test_with_namespaces_there_is_no_cluster_role() -> None:
    """Each namespace that is looked after has its Roles; the certificate is cert-manager's."""
    expected = listed({"everywhere": WATCHED, "watched": WATCHED, "own": ["headwater"]})
    certificate = {permission for permission in expected if permission[3] == "secrets"}
    assert given("-f", str(matrix()["namespaced"])) == expected - certificate


@pytest.mark.parametrize("case", ["namespaced", "namespaced-bare"])
def test_the_only_cluster_roles_are_for_people(case: str) -> None:
    """Of the custom resources; and none where those are left out."""
    kinds = ("ClusterRole", "ClusterRoleBinding")
    found = objects(rendered("-f", str(matrix()[case]))).values()
    roles = [body for body in found if body["kind"] in kinds]
    assert all(
        body["metadata"]["labels"]["app.kubernetes.io/component"] == "roles" for body in roles
    )
    assert bool(roles) == (case == "namespaced")


def test_roles_for_people_go_with_the_chart() -> None:
    """Their rules are their own: what is gathered by labels is written again when it is deleted."""
    roles = [body for body in objects(rendered()).values() if body["kind"] == "ClusterRole"]
    assert [body["metadata"]["name"] for body in roles if not body.get("rules")] == []
    assert [body["metadata"]["name"] for body in roles if "aggregationRule" in body] == []


def test_pods_are_left_alone_where_that_is_wanted() -> None:
    """Without `tellPods` the controller may not patch pods."""
    told = ("controller", "", "", "pods", "", "patch")
    assert given() - given("--set", "controller.tellPods=false") == {told}


@pytest.mark.parametrize("case", matrix())
def test_nothing_is_given_wholesale(case: str) -> None:
    """No `*`, and no Secret but the webhook's own by its name."""
    for body in objects(rendered("-f", str(matrix()[case]))).values():
        for rule in body.get("rules", ()) if body["kind"].endswith("Role") else ():
            named = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not any("*" in word for word in named), body["metadata"]["name"]
            assert not {"impersonate", "bind", "escalate", "deletecollection"} & set(named)
            if "secrets" in rule["resources"]:
                assert len(rule["resourceNames"]) == 1, rule


def test_each_reason_is_a_sentence() -> None:
    """And no entry stands without one."""
    reasons = [entry["why"] for entries in LIST.values() for entry in entries]
    assert all(reason.endswith(".") and len(reason) > 20 for reason in reasons)
