"""What holds of every pod."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headwater.controller.objects import Key
from headwater.webhook.injection import Terms
from tests.unit.webhook.pods import CORE, SUPPORT, inject, patched, pod, terms

names = st.sampled_from(["app", "web", "headwater-sidecar", "headwater-bundle-1", "x" * 63])
values = st.sampled_from(["", "disabled", "consumer", "sidecar", "9999", "x~y/z"])
labels = st.dictionaries(
    st.sampled_from(["app", "headwater.dev/inject", "headwater.dev/role", "a~b/c"]), values
)
annotations = st.dictionaries(
    st.sampled_from(
        [
            "headwater.dev/skipped",
            "headwater.dev/injected",
            "headwater.dev/metrics-port",
            "headwater.dev/left-alone",
            "note",
        ]
    ),
    values,
)
env = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["A", "ANTHROPIC_BASE_URL"])},
        optional={
            "value": st.sampled_from(["", "http://127.0.0.1:8484", "https://other.example"]),
            "valueFrom": st.just({"secretKeyRef": {"name": "s", "key": "k"}}),
        },
    ),
    max_size=3,
)
ports = st.lists(
    st.fixed_dictionaries({"containerPort": st.sampled_from([80, 8484, 9484, 9999])}), max_size=2
)
containers = st.fixed_dictionaries(
    {"name": names}, optional={"env": st.none() | env, "ports": ports}
)
pods = st.builds(
    pod,
    labels=st.none() | labels,
    annotations=st.none() | annotations,
    containers=st.lists(containers, min_size=1, max_size=3),
    initContainers=st.none() | st.lists(containers, max_size=3),
    volumes=st.none() | st.lists(st.fixed_dictionaries({"name": names}), max_size=3),
    hostNetwork=st.booleans(),
)
knowledge = st.fixed_dictionaries(
    {
        key: st.sampled_from([None, terms(), terms("Observe"), terms(team="b")])
        for key in (CORE, SUPPORT)
    }
)
asked = st.sampled_from(
    [None, "ai-platform/org-core", "support/answers,ai-platform/org-core", "core"]
)


@given(pods, asked, knowledge)
def test_going_through_twice_changes_nothing(
    body: dict[str, Any], prefixes: str | None, known: dict[Key, Terms | None]
) -> None:
    """The API server asks again when another webhook has changed the pod."""
    once = patched(body, inject(body, prefixes=prefixes, known=known))
    again = inject(once, prefixes=prefixes, known=known)
    assert patched(once, again) == once


@given(pods, asked, knowledge)
def test_what_the_pod_says_itself_stays(
    body: dict[str, Any], prefixes: str | None, known: dict[Key, Terms | None]
) -> None:
    """Nothing is taken away or overwritten: without what came, the pod is what it was."""
    done = inject(body, prefixes=prefixes, known=known)
    found = patched(body, done)
    if done.outcome == "injected":
        found["spec"]["initContainers"].pop(0)
    for kind in ("containers", "initContainers"):
        for was, now in zip(body["spec"][kind] or (), found["spec"][kind] or (), strict=True):
            kept = now.get("env") or []
            assert kept[: len(was.get("env") or ())] == (was.get("env") or [])
            assert {**now, "env": 0} == {**was, "env": 0}
    volumes = body["spec"]["volumes"] or []
    assert (found["spec"]["volumes"] or [])[: len(volumes)] == volumes
    for field in ("labels", "annotations"):
        for key, value in (body["metadata"].get(field) or {}).items():
            if not key.startswith("headwater.dev/"):
                assert found["metadata"][field][key] == value


@given(pods, asked, knowledge)
def test_what_is_in_the_way_never_costs_an_enforced_contract(
    body: dict[str, Any], prefixes: str | None, known: dict[Key, Terms | None]
) -> None:
    """A pod that wants to take part and cannot runs only where all that it asks for is observed."""
    done = inject(body, prefixes=prefixes, known=known)
    if done.outcome == "skipped" and done.reason is not None and done.reason.is_conflict:
        found = [known[key] for key in known if str(key) in (prefixes or "")]
        assert found
        assert all(item is not None and item.enforcement == "Observe" for item in found)
