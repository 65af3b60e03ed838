"""What was changed by hand is put back within ten seconds, byte for byte, and told."""

from collections.abc import Callable
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP, NAMESPACE
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api
from tests.integration.controller.team import LABEL, REPAIR_SECONDS, Team, content_of, contracts

pytestmark = pytest.mark.xdist_group("controller")

Object = dict[str, Any]
Change = Callable[[Api, Object], None]


def patched(**change: Any) -> Change:
    """Merge something into the object, as a person does with `kubectl edit`."""

    def apply(api: Api, body: Object) -> None:
        metadata = body["metadata"]
        api.patch(CONFIG_MAP, metadata["namespace"], metadata["name"], change)

    return apply


def one_byte(api: Api, body: Object) -> None:
    (file,) = (name for name in body["data"] if name != "route.json")
    changed = body["data"][file].replace("Answer", "answer", 1)
    assert changed != body["data"][file]
    patched(data={file: changed})(api, body)


def deleted(api: Api, body: Object) -> None:
    api.delete(CONFIG_MAP, body["metadata"]["namespace"], body["metadata"]["name"])


def replaced(api: Api, body: Object) -> None:
    """Other bytes under the same name: what is immutable can be deleted and made anew."""
    metadata = {key: body["metadata"][key] for key in ("name", "namespace", "labels")}
    data = dict.fromkeys(body["data"], "{}")
    put_instead(api, {"metadata": metadata, "immutable": True, "data": data})


def put_instead(api: Api, body: Object) -> None:
    """Delete what stands there and make the other before the operator has put it back."""

    def quicker_than_the_operator() -> bool:
        deleted(api, body)
        put_there(api, body)
        return True

    wait_until(quicker_than_the_operator, 30, "the name is free for a moment", interval=0)


def put_there(api: Api, body: Object) -> None:
    """Make a ConfigMap as a person does."""
    api.apply(CONFIG_MAP, body, manager="kubectl-create")


def replaced_bare(api: Api, body: Object) -> None:
    """The same without a label that would tell the operator of it."""
    metadata = {key: body["metadata"][key] for key in ("name", "namespace")}
    put_instead(api, {"metadata": metadata, "immutable": True, "data": {"x": "y"}})


def labels(**change: str | None) -> Change:
    return patched(metadata={"labels": {f"headwater.dev/{key}": to for key, to in change.items()}})


BY_HAND = "by kubectl-edit"
UNLABELLED = "lost its labels"
"""Nobody knows who took something away: the API server keeps no record of that."""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(one_byte, BY_HAND, id="a byte of the contract"),
        pytest.param(patched(data={"route.json": "{}"}), BY_HAND, id="the route"),
        pytest.param(patched(data={"route.json": None}), "by hand", id="the route removed"),
        pytest.param(patched(data=None), "by hand", id="all data removed"),
        pytest.param(patched(data={"notes.txt": "mine"}), BY_HAND, id="a key added"),
        pytest.param(patched(binaryData={"notes": "AAAA"}), BY_HAND, id="a binary key added"),
        pytest.param(deleted, "was deleted", id="deleted"),
        pytest.param(labels(role=None), UNLABELLED, id="the role label removed"),
        pytest.param(labels(prefix="other"), UNLABELLED, id="a label that leads to another prefix"),
        pytest.param(labels(prefix=None), UNLABELLED, id="the prefix label removed"),
        pytest.param(patched(metadata={"labels": None}), UNLABELLED, id="all labels removed"),
    ],
)
def test_a_bundle(team: Team, api: Api, change: Change, told: str) -> None:
    """A bundle that was edited or deleted stands again as it stood; the Event names the editor."""
    consumer, untouched = team.consumer("a"), team.consumer("b")
    digest = team.serve()
    before, other = team.await_bundle(consumer, digest), team.await_bundle(untouched, digest)
    change(api, before)
    restored(api, before)
    team.await_event("Repaired", f"the bundle in {consumer}", told)
    same = api.get(CONFIG_MAP, untouched, other["metadata"]["name"])
    assert same["metadata"]["resourceVersion"] == other["metadata"]["resourceVersion"]


def test_what_somebody_made_under_the_bundles_name(team: Team, api: Api) -> None:
    """A ConfigMap that stood there before becomes the bundle, and nothing of it stays."""
    consumer, other = team.consumer("a", labelled=False), team.consumer("b")
    metadata = {"name": team.bundle_name(), "namespace": consumer}
    put_there(api, {"metadata": metadata, "data": {"route.json": "{}", "notes.txt": "mine"}})
    digest = team.serve()
    right = team.await_bundle(other, digest)
    api.patch(NAMESPACE, None, consumer, {"metadata": {"labels": {LABEL: team.namespace}}})

    def is_the_bundle() -> bool:
        return content_of(team.bundle(consumer) or {"metadata": {}}) == content_of(right)

    wait_until(is_the_bundle, REPAIR_SECONDS, "the bundle is put there", promised=True)
    team.await_event("Repaired", f"in {consumer}", "kubectl-create made a", team.bundle_name())


def test_a_bundle_that_was_made_immutable_still_follows(team: Team, api: Api) -> None:
    """Sealing a bundle by hand cannot keep a consumer on an old version."""
    consumer = team.consumer("a")
    before = team.await_bundle(consumer, team.serve())
    patched(immutable=True)(api, before)
    team.await_bundle(consumer, team.serve(version="v2", rollout={"strategy": "Immediate"}))


def test_a_repaired_bundle_follows_as_before(team: Team, api: Api) -> None:
    """A repair leaves nothing behind that would stay when the next version comes."""
    consumer = team.consumer("a")
    before = team.await_bundle(consumer, team.serve())
    one_byte(api, before)
    patched(data={"notes.txt": "mine"})(api, before)
    restored(api, before)
    team.await_bundle(consumer, team.serve(version="v2", rollout={"strategy": "Immediate"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(deleted, "put back", id="deleted"),
        pytest.param(replaced, "kubectl-create put others", id="replaced"),
        pytest.param(replaced_bare, "kubectl-create put others", id="replaced without labels"),
        pytest.param(labels(role=None), None, id="the role label removed"),
        pytest.param(patched(metadata={"ownerReferences": None}), None, id="the owner removed"),
    ],
)
def test_a_revision(team: Team, api: Api, change: Change, told: str | None) -> None:
    """A revision's bytes come back from wherever they still are, and consumers notice nothing."""
    consumer = team.consumer("a")
    digest = team.serve()
    before, served = team.revisions()["v1"], team.await_bundle(consumer, digest)
    change(api, before)
    restored(api, before)
    if told:
        team.await_event("Repaired", "the bytes of v1", told)
    after = api.get(CONFIG_MAP, consumer, served["metadata"]["name"])
    assert after["metadata"]["resourceVersion"] == served["metadata"]["resourceVersion"]


def test_revision_and_bundle_at_once(team: Team, api: Api) -> None:
    """With the revision and one bundle gone, the bytes come back from another namespace."""
    lost, kept = team.consumer("a"), team.consumer("b")
    digest = team.serve()
    revision, bundle = team.revisions()["v1"], team.await_bundle(lost, digest)
    team.await_bundle(kept, digest)
    deleted(api, revision)
    deleted(api, bundle)
    restored(api, revision)
    restored(api, bundle)


def restored(api: Api, before: Object) -> None:
    """Wait until an object stands again as it did, within the promised time."""
    metadata = before["metadata"]

    def is_restored() -> bool:
        found = api.find(CONFIG_MAP, metadata["namespace"], metadata["name"])
        assert found is not None
        assert content_of(found) == content_of(before)
        assert contracts(found) == contracts(before)
        owners = [found["metadata"].get("ownerReferences"), metadata.get("ownerReferences")]
        assert owners[0] == owners[1]
        return True

    wait_until(is_restored, REPAIR_SECONDS, f"{metadata['name']} stands as it did", promised=True)
