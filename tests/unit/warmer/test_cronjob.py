"""The CronJob of a CacheWarmer: what its pod may do, and that no key ever passes through it."""

import re
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from headwater.resources.warmer import CacheWarmer, CacheWarmerStatus
from headwater.warmer.cronjob import NextRun, WarmedPrefix, cronjob, name_for

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


def a_cronjob(
    of: CacheWarmer | None = None, prefix: WarmedPrefix = PREFIX, run: NextRun | None = None
) -> dict[str, Any]:
    return cronjob(
        of or warmer(),
        prefix,
        run or NextRun(),
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
        warmer(),
        PREFIX,
        NextRun(),
        image="i",
        bundle_config_map="b",
        provider_url="http://simulator:8080",
    )
    command = command_of(desired)
    assert "--base-url=http://simulator:8080" in command
    assert not any(word.startswith("--base-url") for word in command_of(a_cronjob()))


def test_active_hours_are_the_cronjobs_own() -> None:
    """Hours and days stand in its schedule, and its zone follows summer time by itself."""
    hours = {"timeZone": "Europe/Berlin", "from": "07:00", "to": "20:00", "days": ["Mon", "Fri"]}
    spec = a_cronjob(warmer(activeHours=hours))["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("*/4 7-19 * * MON,FRI", "Europe/Berlin")


def test_a_slow_start_up_makes_it_denser() -> None:
    """What was measured on this cluster stands in the status, and counts."""
    slow = warmer().model_copy(update={"status": CacheWarmerStatus(start_up=timedelta(seconds=75))})
    assert a_cronjob(slow)["spec"]["schedule"] == "*/3 * * * *"


def test_what_was_decided_about_the_next_run() -> None:
    """Its allowance and what it leaves out stand in its command; it may ask nobody."""
    run = NextRun(
        suspended=True,
        skip=(("prod", "claude-opus-4-8", "3f0c9a1b7e52"),),
        allowance=Decimal("0.2500"),
    )
    desired = a_cronjob(run=run)
    assert desired["spec"]["suspend"] is True
    command = command_of(desired)
    assert command[command.index("--skip") + 1] == "prod/claude-opus-4-8/3f0c9a1b7e52"
    assert command[command.index("--allowance") + 1] == "0.2500"


def test_it_is_sent_as_the_real_requests_are() -> None:
    """What else keys the provider's cache, and how a write is verified."""
    settings = {"thinking": "adaptive", "effort": "high", "speed": "fast", "betas": ["a", "b"]}
    command = command_of(
        a_cronjob(warmer(request=settings, verify={"delay": "1m30s", "attempts": 1}))
    )
    said = " ".join(command)
    for words in (
        "--thinking adaptive --effort high --speed fast --beta a --beta b",
        "--verify 1 --verify-delay 90",
    ):
        assert words in said
    assert "--verify" not in command_of(a_cronjob(warmer(verify={"attempts": 0})))


def test_a_workload_identity_instead_of_a_key() -> None:
    """A token for the provider alone, of the account that was named, and still none for the API."""
    identity = {"federationRuleId": "rule", "organizationId": "org", "workspaceId": "ws"}
    desired = a_cronjob(
        warmer(
            credentials=[{"name": "prod", "workloadIdentity": identity}],
            serviceAccountName="warmers",
        )
    )
    pod = desired["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("warmers", False)
    (_, volume) = pod["volumes"]
    assert volume["projected"]["sources"] == [
        {
            "serviceAccountToken": {
                "audience": "https://api.anthropic.com",
                "expirationSeconds": 600,
                "path": "token",
            }
        }
    ]
    command = command_of(desired)
    given = command[command.index("--identity") + 1]
    assert given == "prod=/headwater/credentials/prod/token:rule:org::ws"
    assert "--credential" not in command


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
