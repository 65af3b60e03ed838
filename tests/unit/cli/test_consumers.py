"""`headwater consumers`: what a person sees, to the letter."""

# ruff: noqa: E501 - what is printed stands as it is
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from headwater.cli._cluster import typed
from headwater.cli.consumers import remarks, rows, table
from headwater.cluster import Object
from headwater.resources import PromptPrefix
from tests.unit.cli.conftest import Printed
from tests.unit.cli.prefixes import NOW, SETTLED

EXCEPTIONS: list[dict[str, Any]] = [
    {
        "namespace": "shop",
        "pod": "web-6d5f7-x2",
        "team": "shop",
        "surface": "chat",
        "workload": "web",
        "deployRevision": "6d5f7",
        "epoch": 7,
        "reason": "tools_order",
        "at": "tools[3]",
        "count": 1240,
        "lastSeen": "2026-11-21T11:58:00Z",
    },
    {"namespace": "shop", "pod": "job-1", "team": "shop", "workload": "job", "epoch": 6},
    {"namespace": "mail", "pod": "in-0"},
    {"namespace": "shop", "pod": "gone", "epoch": 6},
]

AT_120 = """\
NAMESPACE   POD            TEAM   SURFACE   WORKLOAD   REVISION   BUNDLE    OFF CONTRACT              COUNT   SEEN
shop        web-6d5f7-x2   shop   chat      web        6d5f7      current   tools_order at tools[3]   1,240   2m
shop        job-1          shop             job                   old
mail        in-0                                                  unknown
mail        web-9c1d4-b8   mail   inbox     web        9c1d4      current
shop        own                             import
"""


def prefix(**consumers: Any) -> PromptPrefix:
    body = deepcopy(SETTLED)
    body["status"]["epoch"] = 7
    body["status"]["consumers"] = {"namespaces": 2, "pods": 5, **consumers}
    return typed(body)


def pod(namespace: str, name: str, role: str = "sidecar", **labels: str) -> Object:
    """As the API server has it; `labels` are those behind headwater.dev/."""
    metadata = typed(SETTLED).metadata
    bundle = f"headwater.{metadata.namespace}.{metadata.name}"
    workload, hashed = name.split("-", maxsplit=1)[0], name.split("-")[1:2]
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "creationTimestamp": "2026-11-21T11:00:00Z",
            "labels": {"headwater.dev/role": role}
            | {f"headwater.dev/{label}": value for label, value in labels.items()}
            | ({"pod-template-hash": hashed[0]} if hashed else {}),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet" if hashed else "Job",
                    "name": "-".join([workload, *hashed]) if hashed else "import",
                    "uid": "u",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "containers": [{"name": "app"}],
            "volumes": [{"name": "bundle", "configMap": {"name": bundle}}],
        },
    }


def of_another_prefix() -> Object:
    body = pod("shop", "other-1-a")
    body["spec"]["volumes"][0]["configMap"]["name"] = "headwater.a.b"
    return body


PODS = [
    pod("shop", "own", role="consumer"),
    pod("mail", "web-9c1d4-b8", team="mail", surface="inbox"),
    of_another_prefix(),
    pod("mail", "in-0"),
    pod("shop", "job-1"),
    pod("shop", "web-6d5f7-x2"),
]


def test_those_that_are_not_as_they_should_be_come_first(printed: Printed) -> None:
    """What the status says of a pod that is gone is not repeated."""
    found = rows(prefix(oldBundle=2, offContract=1, exceptions=EXCEPTIONS), PODS)
    assert printed(table(found, NOW), 120) == AT_120


def test_uncached_text_of_their_own_has_a_column_where_there_is_any(printed: Printed) -> None:
    """And a sentence that says what it may mean."""
    told = [{**EXCEPTIONS[0], "uncachedSystem": 31}]
    declared = prefix(uncachedSystem=1, exceptions=told)
    found = rows(declared, PODS)
    text = printed(table(found, NOW), 140)
    assert "OFF CONTRACT              COUNT   UNCACHED TEXT   SEEN" in text
    assert "tools_order at tools[3]   1,240   31              2m" in text
    (line,) = remarks(declared, PODS, found)
    assert line.startswith("1 pod with as much system text of their own as the contract has")


def test_wide_has_epochs_and_times(printed: Printed) -> None:
    """In one line each."""
    found = rows(prefix(exceptions=EXCEPTIONS[:1]), PODS[-1:])
    assert found[0].seen == datetime(2026, 11, 21, 11, 58, tzinfo=UTC)
    text = printed(table(found, NOW, wide=True), wide=True)
    assert "current   7       tools_order at tools[3]   1,240   2026-11-21 11:58:00Z" in text


def test_who_may_not_list_pods_sees_what_the_status_names() -> None:
    """And is told that it is not all."""
    declared = prefix(oldBundle=2, offContract=1, exceptions=EXCEPTIONS)
    found = rows(declared, None)
    assert [row.pod for row in found] == ["web-6d5f7-x2", "job-1", "in-0", "gone"]
    (line,) = remarks(declared, None, found)
    assert "you may not list pods in all namespaces: of 5 pods" in line


def test_what_the_status_does_not_name_is_said() -> None:
    """It names fifty; and nobody is nobody."""
    (line,) = remarks(prefix(oldBundle=90, exceptions=EXCEPTIONS), PODS, rows(prefix(), PODS))
    assert "90 on an old bundle: the status names the first 4" in line
    assert list(remarks(prefix(), [], [])) == ["no pod mounts the bundle of help-desk."]
