"""The models: what is read from a cluster, and what is written back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from headwater.contract.digest import Digest
from headwater.resources import CacheWarmer, PromptPrefix
from headwater.resources.prefix import Consumers, LabelSelector
from headwater.resources.schema import MESSAGE_LIMIT
from headwater.resources.status import PromptPrefixStatus
from headwater.resources.warmer import CacheWarmerStatus

DIGEST = "sha256:" + "0" * 64
NOW = "2026-11-21T07:00:00Z"
PREFIX: dict[str, Any] = {
    "apiVersion": "headwater.dev/v1alpha1",
    "kind": "PromptPrefix",
    "metadata": {"name": "p", "namespace": "n", "generation": 2, "managedFields": []},
    "spec": {
        "owner": {"team": "platform"},
        "version": "v1",
        "digest": DIGEST,
        "models": ["claude-opus-5"],
        "content": {"system": [{"text": "x", "cache_control": {"type": "ephemeral"}}]},
        "consumers": {"namespaceSelector": {}},
        "rollout": {"steps": [{"setWeight": 5}, {"pause": {"duration": "1h30m"}}, {"pause": {}}]},
        "ofALaterRelease": True,
    },
}
COUNTED = {
    "hits": 3,
    "misses": 0,
    "errors": 0,
    "answers": 5,
    "costMicros": 0,
    "firstBytes": 0,
    "firstByteMs": 0,
}
STATUS: dict[str, Any] = {
    "observedGeneration": 2,
    "phase": "Progressing",
    "message": "v2 gets 5 %.",
    "epoch": 4,
    "stable": {"version": "v1", "digest": DIGEST, "configMap": "a", "promotedAt": NOW},
    "candidate": {
        "version": "v2",
        "digest": DIGEST,
        "configMap": "b",
        "weight": 5,
        "step": 1,
        "startedAt": NOW,
        "stepStartedAt": NOW,
        "clockFrom": NOW,
        "clockStoppedAt": NOW,
        "heardAt": NOW,
        "retry": 0,
        "verdict": {"result": "Waiting", "reason": "3 of 50 requests.", "at": NOW},
        "evidence": [
            {
                "model": "claude-opus-5",
                **COUNTED,
                "stable": COUNTED,
                "windows": {
                    "cost": 2,
                    "costWorse": 1,
                    "latency": 2,
                    "latencyWorse": 0,
                    "candidateFrom": COUNTED,
                    "stableFrom": COUNTED,
                },
            }
        ],
        "queries": [{"name": "quality", "failures": 0, "value": "0.5", "problem": "", "at": NOW}],
    },
    "rolledBack": {"version": "v0", "digest": DIGEST, "retry": 0, "reason": "misses", "at": NOW},
    "retained": [{"version": "v0", "digest": DIGEST, "until": NOW}],
    "withdrawn": {"epoch": 3, "at": NOW},
    "history": [
        {
            "version": "v1",
            "digest": DIGEST,
            "event": "NoData",
            "reason": "silence",
            "at": NOW,
            "retry": 0,
        }
    ],
    "published": [{"version": "v1", "digest": DIGEST}],
    "consumers": {
        "namespaces": 2,
        "pods": 7,
        "oldBundle": 0,
        "offContract": 1,
        "exceptions": [
            {
                "namespace": "shop",
                "pod": "web-6d5f7-x",
                "team": "shop",
                "surface": "chat",
                "workload": "web",
                "deployRevision": "6d5f7",
                "epoch": 4,
                "reason": "tools_order",
                "at": "tools[3]",
                "count": 12,
                "lastSeen": "2026-11-21T09:00:00Z",
            }
        ],
    },
    "hitRate": "98%",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 2,
            "lastTransitionTime": NOW,
            "reason": "Served",
            "message": "ok",
        }
    ],
}


def dumped(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_defaults_are_those_of_the_crd() -> None:
    """An object that never went through the API server reads the same."""
    prefix = PromptPrefix.model_validate(PREFIX)
    spec = prefix.spec
    assert (spec.provider, spec.ttl, spec.enforcement, spec.suspend, spec.retry) == (
        "anthropic",
        "5m",
        "Enforce",
        False,
        0,
    )
    assert (spec.rollout.strategy, spec.rollout.approval) == ("Canary", "Automatic")
    assert (spec.rollout.analysis.min_hit_rate, spec.rollout.analysis.min_requests) == (0.9, 50)
    assert (spec.revision_history_limit, prefix.metadata.generation) == (10, 2)
    assert prefix.status == PromptPrefixStatus()


def test_values_have_their_types() -> None:
    """A digest is a Digest, a duration a timedelta, a time has a zone."""
    prefix = PromptPrefix.model_validate({**PREFIX, "status": STATUS})
    assert isinstance(prefix.spec.digest, Digest)
    first, second, third = prefix.spec.rollout.canary_steps
    assert first.set_weight == 5
    assert second.pause is not None
    assert second.pause.duration == timedelta(hours=1, minutes=30)
    assert third.pause is not None
    assert third.pause.duration is None
    assert prefix.status.stable is not None
    assert prefix.status.stable.promoted_at == datetime(2026, 11, 21, 7, tzinfo=UTC)


def test_a_canary_without_steps_has_some() -> None:
    """Nobody has to think about steps before the first canary."""
    plain = {**PREFIX, "spec": {**PREFIX["spec"], "rollout": {}}}
    steps = PromptPrefix.model_validate(plain).spec.rollout.canary_steps
    assert [step.set_weight for step in steps] == [10, 50]


def test_a_status_is_written_as_it_was_read() -> None:
    """Else the controller would write although nothing changed."""
    assert dumped(PromptPrefixStatus.model_validate(STATUS)) == STATUS


def test_a_warmers_status_is_written_as_it_was_read() -> None:
    """The names of the token kinds are those of the metrics."""
    status = {
        "observedGeneration": 1,
        "schedule": "*/4 * * * *",
        "lanes": [
            {
                "credential": "prod",
                "model": "claude-opus-5",
                "digest": DIGEST,
                "state": "Warm",
                "lastWarmAt": NOW,
                "fingerprint": "0123456789ab",
                "lastUsage": {"cacheRead": 9, "cacheWrite5m": 1, "cacheWrite1h": 2, "uncached": 0},
            }
        ],
        "conditions": [],
    }
    assert dumped(CacheWarmerStatus.model_validate(status)) == status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)],
)
def test_durations_are_written_as_everywhere_in_kubernetes(text: str, seconds: float) -> None:
    """Go's notation."""
    steps = {**PREFIX["spec"], "rollout": {"steps": [{"pause": {"duration": text}}]}}
    (step,) = PromptPrefix.model_validate({**PREFIX, "spec": steps}).spec.rollout.canary_steps
    assert step.pause is not None
    assert step.pause.duration == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "P1D", "-5m", "5 m", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With an example of one."""
    steps = {**PREFIX["spec"], "rollout": {"steps": [{"pause": {"duration": text}}]}}
    with pytest.raises(ValidationError, match="write it like 90s, 10m or 1h30m"):
        PromptPrefix.model_validate({**PREFIX, "spec": steps})


def test_a_message_that_is_too_long_is_cut() -> None:
    """A status that is refused for its length would say nothing at all."""
    cut = PromptPrefixStatus(message="x" * 5000).message
    assert cut is not None
    assert (len(cut), cut[-1]) == (MESSAGE_LIMIT, "…")


def test_a_naive_time_is_refused() -> None:
    """A time without a zone is a bug."""
    stable = {**STATUS["stable"], "promotedAt": "2026-11-21T07:00:00"}
    with pytest.raises(ValidationError, match="timezone"):
        PromptPrefixStatus.model_validate({"stable": stable})


LABELS = {"team": "search", "tier": "gold"}
SELECTORS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"matchLabels": {"team": "search"}}, True),
    ({"matchLabels": {"team": "search", "tier": "silver"}}, False),
    ({"matchLabels": {"other": ""}}, False),
    ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "search"]}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}, False),
    ({"matchExpressions": [{"key": "other", "operator": "In", "values": ["a"]}]}, False),
    ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["search"]}]}, False),
    ({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["a"]}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
    ({"matchExpressions": [{"key": "other", "operator": "Exists"}]}, False),
    ({"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
    (
        {
            "matchLabels": {"tier": "gold"},
            "matchExpressions": [{"key": "team", "operator": "DoesNotExist"}],
        },
        False,
    ),
]


@pytest.mark.parametrize(("selector", "expected"), SELECTORS)
def test_a_selector_selects_as_in_kubernetes(selector: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a table
    """Absent labels are in no set, and an empty selector selects everything."""
    assert LabelSelector.model_validate(selector).matches(LABELS) is expected


def test_a_warmer_needs_little() -> None:
    """A prefix and a key; the rest has defaults."""
    warmer = CacheWarmer.model_validate(
        {
            "metadata": {"name": "w"},
            "spec": {
                "prefixRef": {"name": "p"},
                "credentials": [{"name": "prod", "secretRef": {"name": "s", "key": "k"}}],
            },
        }
    )
    assert (warmer.spec.schedule, warmer.spec.warm, warmer.spec.models) == (
        "Auto",
        "StableAndCandidate",
        (),
    )


@pytest.mark.parametrize(
    ("declared", "included"),
    [
        pytest.param({"namespaceSelector": {}}, {"a", "b"}, id="all"),
        pytest.param({"namespaceSelector": {"matchLabels": {"team": "a"}}}, {"a"}, id="selected"),
        pytest.param({"namespaces": ["b"]}, {"b"}, id="named"),
        pytest.param(
            {"namespaceSelector": {"matchLabels": {"team": "a"}}, "namespaces": ["b"]},
            {"a", "b"},
            id="either is enough",
        ),
        pytest.param({"isolation": "Dedicated", "namespaces": ["b"]}, {"b"}, id="dedicated"),
        pytest.param(
            {"isolation": "Dedicated", "namespaces": ["b"], "namespaceSelector": {}},
            {"b"},
            id="dedicated, whatever a schema of another release let through",
        ),
        pytest.param({"isolation": "Dedicated"}, set(), id="dedicated to nobody"),
        pytest.param({}, set(), id="for nobody"),
    ],
)
def test_whom_a_prefix_is_for(declared: dict[str, Any], included: set[str]) -> None:
    """By labels, by names, or by either; Dedicated is by names alone."""
    consumers = Consumers.model_validate(declared)
    labels = {"a": {"team": "a"}, "b": {"team": "b"}}
    assert {name for name in labels if consumers.include(name, labels[name])} == included
