"""Bad input gets a clear sentence; nothing is lost, and what is served stays as it is."""

import json
import random
import string
from collections.abc import Mapping
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, NAMESPACE, PROMPT_PREFIX
from headwater.contract.content import canonical_bytes, content, digest_of
from headwater.contract.digest import Digest
from headwater.contract.route import Revision
from headwater.controller.objects import Key, revision_config_map
from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api, ApiError, Controller
from tests.integration.controller.team import PATIENCE, Team, contracts, digest_in, manifest, prompt

pytestmark = pytest.mark.xdist_group("controller")

OTHER = Digest.of(b"something else")


def referring(name: str = "prompt", key: str = "prompt.md") -> dict[str, Any]:
    return {"system": [{"textFrom": {"configMapKeyRef": {"name": name, "key": key}}}]}


def tools_from(name: str = "prompt", key: str = "tools.json") -> dict[str, Any]:
    return {"toolsFrom": {"configMapKeyRef": {"name": name, "key": key}}}


def digest_of_text(text: str) -> Digest:
    return digest_of(content(tools=[], system=[{"text": text}], ttl="5m"))


def config_map(team: Team, *, labelled: bool = False, **data: Any) -> dict[str, Any]:
    labels = {"headwater.dev/role": "content"} if labelled else {}
    metadata = {"name": "prompt", "namespace": team.namespace, "labels": labels}
    return {"metadata": metadata, **data}


def noise(size: int) -> str:
    """Text that no compression makes small."""
    return "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=size))


class TestContentThatIsNotServed:
    """The same for each kind: a condition that says it, an Event, and nothing moves."""

    BROKEN = (
        pytest.param(
            {"digest": OTHER},
            {},
            "DigestMismatch",
            [str(OTHER), str(digest_of_text(prompt("v2"))), "headwater digest --write"],
            id="wrong digest",
        ),
        pytest.param(
            {"source": referring("absent"), "digest": OTHER},
            {},
            "ContentMissing",
            ["content.system[0].textFrom", "'absent'", "apply it"],
            id="reference to nothing",
        ),
        pytest.param(
            {"source": referring(key="absent.md"), "digest": OTHER},
            {"data": {"prompt.md": "x"}},
            "ContentMissing",
            ["'absent.md'", "it has prompt.md"],
            id="reference to a key that is not there",
        ),
        pytest.param(
            {"source": referring(), "digest": OTHER},
            {"binaryData": {"prompt.md": "TGF0aW4tMTog/A=="}},
            "ContentInvalid",
            ["'prompt.md'", "is not UTF-8", "byte 9"],
            id="not UTF-8",
        ),
        pytest.param(
            {"source": tools_from(), "digest": OTHER},
            {"data": {"tools.json": "[]"}},
            "ContentInvalid",
            ["tools and system are both empty"],
            id="nothing in it, by reference",
        ),
        pytest.param(
            {"source": tools_from(), "digest": OTHER},
            {"data": {"tools.json": "- name: search"}},
            "ContentInvalid",
            ["'tools.json'", "is not a JSON list of tools"],
            id="tools that are not JSON",
        ),
    )

    @pytest.mark.parametrize(("declared", "data", "reason", "words"), BROKEN)
    def test_as_the_first_version(
        self,
        team: Team,
        api: Api,
        declared: Mapping[str, Any],
        data: Mapping[str, Any],
        reason: str,
        words: list[str],
    ) -> None:
        """Nothing at all is published."""
        consumer = team.consumer("a")
        if data:
            api.apply(CONFIG_MAP, config_map(team, **data))
        team.publish(version="v2", **declared)
        refused(team, reason, words)
        assert team.status()["phase"] == "Pending"
        assert "stable" not in team.status()
        assert not team.revisions()
        assert team.bundle(consumer) is None

    @pytest.mark.parametrize(("declared", "data", "reason", "words"), BROKEN)
    def test_as_a_second_version(
        self,
        team: Team,
        api: Api,
        declared: Mapping[str, Any],
        data: Mapping[str, Any],
        reason: str,
        words: list[str],
    ) -> None:
        """Consumers keep the stable version: not even its ConfigMaps are touched."""
        consumer = team.consumer("a")
        stable = team.serve()
        before = [team.await_bundle(consumer, stable), team.revisions()["v1"]]
        if data:
            api.apply(CONFIG_MAP, config_map(team, **data))
        team.publish(version="v2", **declared)
        refused(team, reason, words)
        status = team.status()
        assert status["phase"] == "Degraded"
        assert status["stable"]["digest"] == stable
        assert [row["version"] for row in status["published"]] == ["v1"]
        after = [team.bundle(consumer), team.revisions()["v1"]]
        assert [versions(found) for found in after] == [versions(found) for found in before]
        assert set(team.revisions()) == {"v1"}

    def test_a_bundle_that_no_config_map_holds(self, team: Team, api: Api) -> None:
        """It says how large the bundle would be and what the limit is; stable stays."""
        consumer = team.consumer("a")
        stable = team.serve()
        before = team.await_bundle(consumer, stable)
        # Each part fits into an object of its own; what is published has both.
        half = noise(780_000)
        api.apply(CONFIG_MAP, config_map(team, data={"prompt.md": half}))
        source = {"system": [{"text": noise(781_000)}, *referring()["system"]]}
        whole = content(
            tools=[], system=[{"text": source["system"][0]["text"]}, {"text": half}], ttl="5m"
        )
        team.publish(version="v2", source=source, digest=digest_of(whole))
        size = f"{len(canonical_bytes(whole)):,} bytes"
        refused(team, "BundleTooLarge", [size, "a ConfigMap holds 1,048,576", "shorten it"])
        assert team.bundle(consumer) == before
        assert set(team.revisions()) == {"v1"}

    def test_the_digest_is_corrected(self, team: Team) -> None:
        """A digest that was mistyped can simply be put right, and is served then."""
        consumer = team.consumer("a")
        team.publish(digest=OTHER)
        team.await_condition("DigestVerified", "False", "DigestMismatch")
        team.await_bundle(consumer, team.serve())


def versions(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """What would tell of any write to an object."""
    assert found is not None
    return {key: found["metadata"][key] for key in ("name", "uid", "resourceVersion")}


def refused(team: Team, reason: str, words: list[str]) -> None:
    """Wait until conditions, message and an Event say all these words."""
    ready = team.await_condition("Ready", "False", reason)
    assert all(word in ready["message"] for word in words), ready["message"]
    stalled = team.condition("Stalled")["status"] == "True"
    # What may yet appear is waited for; anything else takes another commit.
    assert stalled == (reason != "ContentMissing")
    assert team.condition("Reconciling")["status"] == ("False" if stalled else "True")
    assert team.condition("DigestVerified")["status"] == "False"
    assert team.status()["message"] == ready["message"]
    team.await_event(reason, *words)


class TestReferences:
    def test_content_that_comes_late_is_served(self, team: Team, api: Api) -> None:
        """A ConfigMap without any label of ours is looked for again every few seconds."""
        consumer = team.consumer("a")
        digest = digest_of_text("late " * 1000)
        team.publish(source=referring(), digest=digest)
        team.await_condition("Ready", "False", "ContentMissing")
        api.create(CONFIG_MAP, config_map(team, data={"prompt.md": "late " * 1000}))
        team.await_bundle(consumer, digest)
        team.await_condition("Ready", "True", "Stable")

    def test_labelled_content_is_followed_at_once(self, team: Team, api: Api) -> None:
        """With the role label a deletion is seen and said, stable stays, and it may come back."""
        consumer = team.consumer("a")
        body = config_map(team, labelled=True, data={"prompt.md": "here " * 1000})
        api.create(CONFIG_MAP, body)
        digest = team.serve(source=referring(), digest=digest_of_text("here " * 1000))
        before = team.await_bundle(consumer, digest)
        api.delete(CONFIG_MAP, team.namespace, "prompt")
        team.await_condition("DigestVerified", "False", "ContentMissing")
        assert team.status()["stable"]["digest"] == digest
        assert team.bundle(consumer) == before
        api.create(CONFIG_MAP, {**body, "data": {"prompt.md": "there " * 1000}})
        team.await_condition("DigestVerified", "False", "DigestMismatch")
        assert team.bundle(consumer) == before
        api.patch(CONFIG_MAP, team.namespace, "prompt", {"data": body["data"]})
        team.await_condition("Ready", "True", "Stable")
        assert team.bundle(consumer) == before

    def test_unlabelled_content_that_was_deleted_later(self, team: Team, api: Api) -> None:
        """The next time the prefix itself changes, it is missed; what is served stays."""
        consumer = team.consumer("a")
        api.create(CONFIG_MAP, config_map(team, data={"prompt.md": "here " * 1000}))
        digest = team.serve(source=referring(), digest=digest_of_text("here " * 1000))
        before = team.await_bundle(consumer, digest)
        api.delete(CONFIG_MAP, team.namespace, "prompt")
        team.edit({"revisionHistoryLimit": 5})
        refused(team, "ContentMissing", ["'prompt'"])
        assert team.bundle(consumer) == before


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("line\r\nline\r\n", id="CRLF"),
            pytest.param("blanks at the end  \t\n \n", id="trailing blanks"),
            pytest.param("Cafe\u0301 Zu\u0308rich", id="NFD"),
            pytest.param("\ufeffwith a byte order mark", id="byte order mark"),
            pytest.param("👩‍🚀 🏳️‍🌈 \U0001f9ff", id="emoji"),
            pytest.param('\x00 \x7f \u2028 \u0085 </script> \\u0041 "', id="controls"),
        ],
    )
    def test_is_kept_to_the_byte(self, team: Team, control_plane: Cluster, text: str) -> None:
        """Inline text comes out as it went in, and its digest is what the contract says."""
        consumer = team.consumer("a")
        text += prompt("v1")
        body = manifest(team.namespace, source={"system": [{"text": text}]})
        body = {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix", **body}
        control_plane.kubectl("apply", "-f", "-", input=json.dumps(body))
        digest = digest_in(body)
        (data,) = contracts(team.await_bundle(consumer, digest)).values()
        assert data == canonical_bytes(content(tools=[], system=[{"text": text}], ttl="5m"))

    def test_from_a_file_by_kubectl(
        self, team: Team, control_plane: Cluster, tmp_path: Any
    ) -> None:
        """The same through `kubectl create configmap --from-file` and a reference."""
        text = "Cafe\u0301\r\n👩‍🚀  \r\n" + prompt("v1")
        file = tmp_path / "prompt.md"
        file.write_bytes(text.encode())
        control_plane.kubectl(
            *("create", "configmap", "prompt", "-n", team.namespace, f"--from-file={file}")
        )
        consumer = team.consumer("a")
        digest = team.serve(source=referring(), digest=digest_of_text(text))
        team.await_bundle(consumer, digest)


class TestSchema:
    def test_refuses_what_says_nothing(self, team: Team) -> None:
        """Without tools and system the API server itself refuses, and says what to do."""
        with pytest.raises(ApiError, match="tools and system are both empty"):
            team.publish(source={"system": []}, digest=OTHER)

    def test_a_published_version_is_bound(self, team: Team) -> None:
        """Another content under a published version is refused where it is written."""
        team.serve()
        with pytest.raises(ApiError, match="publish a new version with the changed content"):
            team.publish(source={"system": [{"text": prompt("v2")}]})


def test_a_version_stays_bound_though_the_status_never_said_so(team: Team, api: Api) -> None:
    """A revision that was stored before a crash binds its version: others may be using it."""
    consumer = team.consumer("a")
    team.publish(digest="sha256:" + "0" * 64)
    team.await_condition("DigestVerified", "False", "DigestMismatch")
    other = team.await_bundle(consumer, team.serve(name="other"), name="other")["metadata"]
    uid = api.get(PROMPT_PREFIX, team.namespace, "house")["metadata"]["uid"]
    stored = canonical_bytes(content(tools=[], system=[{"text": prompt("stored")}], ttl="5m"))
    before = Revision("v1", Digest.of(stored))
    key = Key(team.namespace, "house")
    api.create(CONFIG_MAP, revision_config_map(key, uid, before, stored, 0))
    # What happens to a ConfigMap later is repaired: the controller knows the revision by then.
    api.delete(CONFIG_MAP, consumer, other["name"])

    def stands_again() -> bool:
        found = team.bundle(consumer, "other")
        return found is not None and found["metadata"]["uid"] != other["uid"]

    wait_until(stands_again, PATIENCE, "the other bundle stands again")
    declared = team.publish()
    refused(team, "VersionRebound", [str(before.digest), str(declared), "as a new version"])
    team.serve(version="v2")


class TestMinimum:
    def test_a_contract_that_a_model_does_not_cache(self, team: Team) -> None:
        """Served all the same, and `Cacheable` names the model, the tokens and its minimum."""
        consumer = team.consumer("a")
        models = ["claude-opus-4-8", "claude-haiku-4-5"]
        # Enough for the one (1,024), not for the other (4,096).
        digest = team.serve(models=models, source={"system": [{"text": prompt("v1", size=7_000)}]})
        team.await_bundle(consumer, digest)
        found = team.await_condition("Cacheable", "False", "BelowMinimum")
        assert "claude-haiku-4-5 has about 1,8" in found["message"]
        assert "at least 4,096" in found["message"]
        assert "claude-opus-4-8" not in found["message"]


def complaints(controller: Controller, since: int, team: Team) -> list[str]:
    """Failed reconciles of a team's prefixes; others' namespaces go at the same time."""
    lines = controller.said()[since:].splitlines()
    return [line for line in lines if "failed, again in" in line and team.namespace in line]


class TestTerminatingNamespace:
    def test_is_left_alone(self, team: Team, api: Api, controller: Controller) -> None:
        """While a namespace goes, the others are served, and nothing is tried over and over."""
        kept, going = team.consumer("kept"), team.consumer("going")
        api.apply(
            CONFIG_MAP,
            {
                "metadata": {
                    "name": "held",
                    "namespace": going,
                    "finalizers": ["example.com/hold"],
                }
            },
        )
        team.await_bundle(going, team.serve())
        before = len(controller.said())
        api.delete(NAMESPACE, None, going)
        try:
            second = team.serve(version="v2", rollout={"strategy": "Immediate"})
            team.await_bundle(kept, second)
            wait_until(lambda: team.bundle(going) is None, PATIENCE, "the namespace is emptied")
            third = team.serve(version="v3", rollout={"strategy": "Immediate"})
            team.await_bundle(kept, third)
            assert team.status()["consumers"]["namespaces"] == 1
            assert team.bundle(going) is None
            assert complaints(controller, before, team) == []
        finally:
            api.patch(CONFIG_MAP, going, "held", {"metadata": {"finalizers": None}})

    def test_with_the_prefix_in_it(self, team: Team, api: Api, controller: Controller) -> None:
        """A team's namespace that goes takes its prefix along, and the bundles elsewhere go."""
        consumer = team.consumer("a")
        team.await_bundle(consumer, team.serve())
        before = len(controller.said())
        api.delete(NAMESPACE, None, team.namespace)
        wait_until(lambda: team.bundle(consumer) is None, PATIENCE, "the bundle goes")
        wait_until(
            lambda: api.find(PROMPT_PREFIX, team.namespace, "house") is None,
            PATIENCE,
            "the prefix goes",
        )
        assert complaints(controller, before, team) == []


def test_one_bad_prefix_stops_no_other(team: Team, api: Api) -> None:
    """Beside prefixes that cannot be served, another one is, as fast as ever."""
    for index in range(3):
        body = manifest(team.namespace, name=f"bad-{index}", digest=OTHER)
        api.apply(PROMPT_PREFIX, body)
    consumer = team.consumer("a")
    team.await_bundle(consumer, team.serve())
