"""The CronJob of a CacheWarmer: what its pod may do, and that no key ever passes through it."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from headwater.resources.warmer import CacheWarmer
from headwater.warmer.cronjob import WarmedPrefix, cronjob, name_for

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(rf"{DNS_LABEL.pattern}(\.{DNS_LABEL.pattern})*")
LABELS = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[a-z0-9]([-.]?[a-z0-9]){0,31}", fullmatch=True)
PREFIX = WarmedPrefix(ttl="5m", models=("claude-opus-4-8", "claude-haiku-4-5"))


def warmer(name: str = "keep", **spec: Any) -> CacheWarmer:
    usual = {
        "prefixRef": {"name": "org-core"},
        "credentials": [
            {"name": "prod", "secretRef": {"name": "anthropic-prod", "key": "api-key"}},
            {"name": "EU_2.batch", "secretRef": {"name": "anthropic-eu", "key": "token"}},
        ],
    }
    return CacheWarmer.model_validate(
        {
            "metadata": {"name": name, "namespace": "ai", "uid": "9d1c7a9e"},
            "spec": usual | spec,
        }
    )


def a_cronjob(of: CacheWarmer | None = None, prefix: WarmedPrefix = PREFIX) -> dict[str, Any]:
    return cronjob(
        of or warmer(),
        prefix,
        image="example.com/headwater:0.1.0",
        bundle_config_map="headwater.ai.org-core",
    )


def command_of(desired: dict[str, Any]) -> list[str]:
    (container,) = desired["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    command: list[str] = container["command"]
    return command


def test_golden() -> None:
    """The whole object, as reviewers see it."""
    golden = YAML(typ="safe", pure=True).load(Path(__file__).with_name("cronjob.yaml"))
    assert a_cronjob() == golden


@pytest.mark.parametrize(
    ("spec", "prefix", "schedule"),
    [
        ({}, WarmedPrefix("5m", ("m",)), "*/4 * * * *"),
        ({}, WarmedPrefix("1h", ("m",)), "*/30 * * * *"),
        (
            {"schedule": "*/20 8-18 * * MON-FRI"},
            WarmedPrefix("1h", ("m",)),
            "*/20 8-18 * * MON-FRI",
        ),
    ],
)
def test_schedule(spec: dict[str, Any], prefix: WarmedPrefix, schedule: str) -> None:
    """Auto follows the prefix's TTL; five fields are taken as they are."""
    assert a_cronjob(warmer(**spec), prefix)["spec"]["schedule"] == schedule


def test_models_of_the_warmer_go_before_those_of_the_prefix() -> None:
    """Only what was asked for is warmed."""
    command = command_of(a_cronjob(warmer(models=["claude-haiku-4-5"])))
    assert [after for word, after in pairwise(command) if word == "--model"] == ["claude-haiku-4-5"]


def test_suspend_and_candidate_follow_the_spec() -> None:
    """What a person switches off is off in the CronJob."""
    desired = a_cronjob(warmer(suspend=True, warm="Stable"))
    assert desired["spec"]["suspend"] is True
    command = command_of(desired)
    assert command[command.index("--revisions") + 1] == "Stable"


def test_another_base_url() -> None:
    """The provider's URL is named only where it is another than the provider's own."""
    desired = cronjob(
        warmer(), PREFIX, image="i", bundle_config_map="b", provider_url="http://simulator:8080"
    )
    command = command_of(desired)
    assert command[command.index("--base-url") + 1] == "http://simulator:8080"
    assert "--base-url" not in command_of(a_cronjob())


@given(NAMES)
@example("a" * 32 + ".b" + "c" * 20)
def test_name(name: str) -> None:
    """A valid name that leaves a Job its suffix, the same each time, of one warmer alone."""
    made = name_for(name)
    assert len(made) <= 52
    assert DNS_SUBDOMAIN.fullmatch(made)
    assert made != name_for(name + "x")


@given(
    names=st.lists(LABELS, min_size=1, max_size=16, unique=True),
    models=st.lists(st.text(min_size=1, max_size=20), max_size=4, unique=True),
)
def test_any_pod_is_restricted_and_holds_no_key(names: list[str], models: list[str]) -> None:
    """Whatever the spec: keys are files in volumes of their own, and the pod may do nothing."""
    of = warmer(
        credentials=[{"name": n, "secretRef": {"name": "keys", "key": n}} for n in names],
        models=models,
    )
    desired = a_cronjob(of)
    assert desired == a_cronjob(of)
    pod = desired["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert not {"env", "envFrom"} & set(container)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert len(volumes) == len(pod["volumes"]) == 1 + len(names)
    assert all(DNS_LABEL.fullmatch(name) for name in volumes)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert len(mounts) == len(volumes)
    for name in names:
        volume = volumes[mounts[f"/headwater/credentials/{name}"]]
        assert volume["secret"]["items"] == [{"key": name, "path": "api-key"}]
        assert f"{name}=/headwater/credentials/{name}/api-key" in container["command"]
