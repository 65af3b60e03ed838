"""Prefixes that may be declared, and those that may not, on the real API server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headwater.cluster import PROMPT_PREFIX
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import ApiError
from tests.integration.controller.team import Team, manifest, new_team
from tests.integration.webhook.harness import PATIENCE, Replica, Site

WRONG = f"sha256:{'0' * 64}"

pytestmark = pytest.mark.xdist_group("webhook")


@pytest.fixture
def team(site: Site, replica: Replica) -> Iterator[Team]:
    with new_team(site.api) as team:

        def asked() -> bool:
            try:
                dry(site, manifest(team.namespace, digest=WRONG))
            except ApiError:
                return True
            return False

        wait_until(asked, PATIENCE, "the webhook is asked")
        yield team


def dry(site: Site, body: dict[str, Any]) -> None:
    """Create it, but for the last step."""
    body = {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body}
    path = PROMPT_PREFIX.path(body["metadata"]["namespace"])
    site.api.request("POST", path, body, dryRun="All")


def apply(site: Site, body: dict[str, Any]) -> str:
    """What `kubectl apply` says beside its success; a refusal is an AssertionError."""
    body = {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body}
    return site.cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body)).stderr


def test_what_hashes_to_its_digest_is_admitted(site: Site, team: Team) -> None:
    """Without a word."""
    assert apply(site, manifest(team.namespace)) == ""


def test_a_wrong_digest_is_refused_and_the_right_one_named(site: Site, team: Team) -> None:
    """On creation and on every later edit, and nothing changes."""
    body = manifest(team.namespace)
    right = body["spec"]["digest"]
    body["spec"]["digest"] = WRONG
    with pytest.raises(AssertionError, match="DigestMismatch") as caught:
        apply(site, body)
    assert right in str(caught.value)
    assert "headwater digest --write" in str(caught.value)
    team.publish()
    before = team.prefix()
    with pytest.raises(ApiError, match="DigestMismatch"):
        team.edit({"digest": WRONG, "version": "v2"})
    assert team.prefix() == before


def test_content_that_no_schema_can_judge_is_refused(site: Site, team: Team) -> None:
    """Two tools of one name."""
    tools = [{"name": "lookup", "input_schema": {"type": "object"}}] * 2
    body = manifest(team.namespace, source={"tools": tools}, digest=WRONG)
    with pytest.raises(AssertionError, match="ContentInvalid"):
        apply(site, body)


TODAY = {"system": [{"text": "Today is 2026-11-21. Be brief.\n"}]}
CLOCK = {"system": [{"text": "The shop was opened at 2026-11-21T09:41:07Z. Be brief.\n"}]}


def test_lint_refuses_what_no_version_should_say_and_warns_of_the_rest(
    site: Site, team: Team
) -> None:
    """With the rule's name, the place and the remedy."""
    with pytest.raises(AssertionError, match=r"today: spec.content.system\[0\].text: ") as caught:
        apply(site, manifest(team.namespace, source=TODAY))
    assert "it says what day or time it is" in str(caught.value)
    assert "Warning: timestamp: spec.content" in apply(site, manifest(team.namespace, source=CLOCK))


def test_an_author_may_silence_a_rule(site: Site, team: Team) -> None:
    """By its name, in the prefix itself, where a reviewer sees it."""
    body = manifest(team.namespace, source=TODAY)
    body["metadata"]["annotations"] = {"headwater.dev/lint-ignore": "today"}
    assert "today" not in apply(site, body)


TENANT = {"system": [{"text": "Be kind to Acme.\n"}]}


def test_what_names_a_tenant_is_refused(site: Site, team: Team) -> None:
    """Whatever an annotation ignores, and also where the expression alone is new."""
    body = manifest(team.namespace, source=TENANT, tenantPattern=[r"(?i)\bacme\b"])
    body["metadata"]["annotations"] = {"headwater.dev/lint-ignore": "tenant-name"}
    words = r'tenant-name: spec.content.system\[0\].text: it names a tenant: "Acme"'
    with pytest.raises(AssertionError, match=words):
        apply(site, body)
    team.publish(source=TENANT)
    with pytest.raises(ApiError, match=words):
        team.edit({"tenantPattern": [r"(?i)\bacme\b"]})
    team.edit({"tenantPattern": [r"(?i)\bumbrella\b"]})


def test_the_way_back_does_not_lead_to_a_tenant(site: Site, team: Team) -> None:
    """The controller would not serve it, so it is not admitted."""
    team.publish()
    body = manifest(team.namespace, version="v0", source=TENANT, tenantPattern=["Acme"])
    status = {"status": {"published": [{"version": "v0", "digest": body["spec"]["digest"]}]}}
    team.api.patch(PROMPT_PREFIX, team.namespace, "house", status, subresource="/status")
    with pytest.raises(AssertionError, match="tenant-name"):
        apply(site, body)
    del body["spec"]["tenantPattern"]
    apply(site, body)
    assert team.prefix()["spec"]["version"] == "v0"


def test_the_way_back_does_not_depend_on_rules(site: Site, team: Team) -> None:
    """What was published once is warned of, and who pauses is not asked about content."""
    team.publish()
    body = manifest(team.namespace, version="v0", source=TODAY)
    published = [{"version": "v0", "digest": body["spec"]["digest"]}]
    status = {"status": {"published": published}}
    team.api.patch(PROMPT_PREFIX, team.namespace, "house", status, subresource="/status")
    assert "Warning: today: " in apply(site, body)
    assert team.prefix()["spec"]["version"] == "v0"
    team.edit({"suspend": True})


def test_what_stands_in_a_config_map_is_left_to_the_controller(site: Site, team: Team) -> None:
    """It is admitted without a word."""
    source = {"system": [{"textFrom": {"configMapKeyRef": {"name": "house", "key": "text"}}}]}
    body = manifest(team.namespace, source=source, digest=WRONG)
    assert apply(site, body) == ""


def test_another_namespace_cannot_even_be_written_down(site: Site, team: Team) -> None:
    """The reference has no such field."""
    reference = {"name": "house", "key": "text", "namespace": "kube-system"}
    source = {"system": [{"textFrom": {"configMapKeyRef": reference}}]}
    body = manifest(team.namespace, source=source, digest=WRONG)
    with pytest.raises(AssertionError, match="namespace: field not declared in schema"):
        apply(site, body)


def test_what_leaves_the_spec_alone_is_not_asked_about(
    site: Site, team: Team, replica: Replica
) -> None:
    """A finalizer, a status, a deletion."""
    team.publish()
    before = replica.counted("headwater_webhook_reviews_total", webhook="validate")
    team.api.patch(
        PROMPT_PREFIX, team.namespace, "house", {"metadata": {"annotations": {"a": "b"}}}
    )
    team.api.patch(
        PROMPT_PREFIX,
        team.namespace,
        "house",
        {"status": {"phase": "Stable"}},
        subresource="/status",
    )
    team.api.delete(PROMPT_PREFIX, team.namespace, "house")
    assert replica.counted("headwater_webhook_reviews_total", webhook="validate") == before


def test_who_asked_stands_in_the_log(site: Site, team: Team, replica: Replica) -> None:
    """One line a change: user, verbs, prefix, version, digest; the approval and the pause, too."""
    digest = team.publish()
    team.edit({"rollout": {"approvedDigest": str(digest)}})
    team.edit({"suspend": True})
    with pytest.raises(ApiError):
        team.edit({"digest": WRONG, "version": "v2"})
    lines = [json.loads(line) for line in replica.said().splitlines()]
    found = [line for line in lines if line.get("prefix") == f"{team.namespace}/house"]
    assert [(line["event"], line["verbs"]) for line in found] == [
        ("a prefix was admitted", ["publish"]),
        ("a prefix was admitted", ["approve"]),
        ("a prefix was admitted", ["steer"]),
        ("a prefix was refused", ["publish"]),
    ], "and no dry run"
    assert {line["user"] for line in found} == {"headwater-test-admin"}
    assert [line["version"] for line in found] == ["v1", "v1", "v1", "v2"]
    assert [line["digest"] for line in found] == [digest, digest, digest, WRONG]
    assert found[1]["approved_digest"] == digest
    assert len({line["request"] for line in found}) == len(found)
