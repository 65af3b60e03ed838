"""The bytes that were hashed are the bytes that are sent, however odd they are."""

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP
from headwater.contract.content import canonical_bytes, content
from tests.integration.controller.harness import Controller
from tests.integration.controller.team import contracts, manifest, prompt
from tests.integration.scenarios.world import World

pytestmark = pytest.mark.xdist_group("scenarios")

LONG = prompt("odd")
ODD = {
    "CRLF": "Answer in one sentence.\r\nName the article.\r\n",
    "trailing blanks": "Answer in one sentence.  \n\t\nName the article. \t",
    "no final newline": "Answer in one sentence.",
    "NFD": unicodedata.normalize("NFD", "Café, Ångström, 한국어.\n"),
    "emoji": "👩\u200d🚀 Ask 🇩🇪 before 👍🏽.\n",
    "a lone byte order mark": "\ufeff",
    "a byte order mark before text": "\ufeffAnswer in one sentence.\n",
    "what JSON escapes": 'A "quoted" \\ back\u2028slash, \x7f and \t.\n',
}
SCHEMA = {
    "type": "object",
    "required": ["query"],
    "properties": {"query": {"type": "string"}, "limit": {"type": "number", "default": 1.50}},
}
TOOL: dict[str, Any] = {"name": "search", "description": "Süche\r\n ", "input_schema": SCHEMA}


def shuffled(part: Any) -> Any:
    """The same with the keys of every object in the opposite order."""
    if isinstance(part, dict):
        return {key: shuffled(part[key]) for key in reversed(part)}
    return [shuffled(item) for item in part] if isinstance(part, list) else part


def source(*texts: str, tool: dict[str, Any] = TOOL) -> dict[str, Any]:
    return {"tools": [tool], "system": [{"text": text} for text in (LONG, *texts)]}


def canonical(texts: tuple[str, ...]) -> bytes:
    declared = source(*texts)
    return canonical_bytes(content(tools=declared["tools"], system=declared["system"], ttl="5m"))


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def publish(world: World, **arguments: Any) -> None:
    """As a person does: `kubectl apply` of a file in UTF-8."""
    body = {"apiVersion": "headwater.dev/v1alpha1", "kind": "PromptPrefix"}
    body |= manifest(world.team.namespace, **arguments)
    world.site.plane.kubectl("apply", "-f", "-", input=json.dumps(body, ensure_ascii=False))


@pytest.mark.parametrize("referred", [False, True], ids=["inline", "from ConfigMaps"])
def test_one_digest_from_the_manifest_to_the_wire(
    world: World, controller: Controller, tmp_path: Path, *, referred: bool
) -> None:
    """At the prefix, in the revision, in the bundle, in the pod's file, and at the provider."""
    team = world.team
    shop = team.consumer("shop")
    data = canonical(tuple(ODD.values()))
    declared = source(*ODD.values())
    if referred:
        texts = {f"{number}.md": text for number, text in enumerate((LONG, *ODD.values()))}
        team.api.create(
            CONFIG_MAP,
            {
                "metadata": {"name": "odd", "namespace": team.namespace},
                "data": {**texts, "tools.json": json.dumps([TOOL], indent=3)},
            },
        )
        declared = {
            "toolsFrom": {"configMapKeyRef": {"name": "odd", "key": "tools.json"}},
            "system": [{"textFrom": {"configMapKeyRef": {"name": "odd", "key": k}}} for k in texts],
        }
    digest = sha256(data)
    publish(world, source=declared, digest=digest)
    team.await_stable(digest)
    assert team.prefix()["spec"]["digest"] == digest
    assert contracts(team.revisions()["v1"]) == {digest: data}
    assert contracts(team.await_bundle(shop, digest)) == {digest: data}

    application = world.pod(shop, "web", key="sk-shop")
    world.await_synced()
    mounted = tmp_path / shop / "web" / f"{digest.removeprefix('sha256:')}.json"
    assert mounted.read_bytes() == data
    assert application.ask("a user").version == "v1"

    (received,) = world.provider.received()
    assert received.digest == digest, "cut out of the request's bytes and hashed"
    sent = json.loads(received.body)
    assert sent["tools"][0]["description"] == TOOL["description"]
    for name, block in zip(ODD, sent["system"][1:], strict=False):
        assert block["text"] == ODD[name], name


def test_shuffled_keys_are_the_same_contract(world: World, controller: Controller) -> None:
    """JSON says nothing about the order of keys, so no other bytes follow from it."""
    team = world.team
    digest = team.serve(source=source())
    revision = team.revisions()["v1"]
    team.serve(source=source(tool=shuffled(TOOL)), digest=digest)
    other = team.serve(version="v2", source=source(tool=shuffled(TOOL)), digest=digest)
    assert other == digest
    assert team.status()["stable"]["version"] == "v2"
    assert [row["event"] for row in team.status()["history"]] == ["FirstVersion", "Relabelled"]
    assert set(team.revisions()) == {"v1"}
    assert team.revisions()["v1"]["data"] == revision["data"]


def test_a_digest_that_is_a_byte_off_is_served_to_nobody(
    world: World, controller: Controller
) -> None:
    """What a tool on the way might have "put right" hashes otherwise, and stable stays."""
    team = world.team
    shop = team.consumer("shop")
    first = team.serve()
    bundle = team.await_bundle(shop, first)
    for number, (name, text) in enumerate(ODD.items(), 2):
        right, wrong = canonical((text,)), canonical((text + "\n",))
        publish(world, version=f"v{number}", source=source(text), digest=sha256(wrong))
        told = team.await_condition("DigestVerified", "False", "DigestMismatch")
        assert sha256(right) in told["message"], name
        assert sha256(wrong) in told["message"], name
    assert set(team.revisions()) == {"v1"}
    status = team.status()
    assert (status["phase"], status["stable"]["digest"]) == ("Degraded", first)
    after = team.bundle(shop)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == bundle["metadata"]["resourceVersion"]
