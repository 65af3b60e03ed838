"""A platform team that publishes prefixes, and the namespaces of those who consume them."""

import base64
import gzip
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from headwater.cluster import CONFIG_MAP, EVENT, NAMESPACE, PROMPT_PREFIX
from headwater.contract.content import content, digest_of
from headwater.contract.digest import Digest
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import Api

LABEL: Final = "prompts.example.com/team"
"""The label by which a test's prefixes select their consumers' namespaces."""
MODEL: Final = "claude-opus-4-8"
PATIENCE: Final = 30.0
"""Seconds until something must have happened, with the machine's other work in them."""
REPAIR_SECONDS: Final = 10.0
"""What was changed by hand is put back within this time: a promise to users."""


def prompt(version: str, *, size: int = 6_000) -> str:
    """A system prompt of its own for each version, long enough to be cached."""
    line = f"[{version}] Answer in one sentence, and name the article that you took it from.\n"
    return (line * (size // len(line) + 1))[:size]


def manifest(
    namespace: str,
    *,
    name: str = "house",
    version: str = "v1",
    source: Mapping[str, Any] | None = None,
    digest: str | None = None,
    models: Sequence[str] = (MODEL,),
    **spec: Any,
) -> dict[str, Any]:
    """A PromptPrefix whose digest is that of its inline content, unless one is given.

    It selects the namespaces with the label `LABEL` of its own namespace's name.
    """
    source = source or {"system": [{"text": prompt(version)}]}
    if digest is None:
        tools, system = source.get("tools", ()), source.get("system", ())
        digest = digest_of(content(tools=tools, system=system, ttl=spec.get("ttl", "5m")))
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "owner": {"team": "ai-platform"},
            "version": version,
            "digest": str(digest),
            "models": list(models),
            "content": source,
            "consumers": {"namespaceSelector": {"matchLabels": {LABEL: namespace}}},
            **spec,
        },
    }


def digest_in(body: Mapping[str, Any]) -> Digest:
    """The digest that a manifest declares."""
    return Digest(body["spec"]["digest"])


def contracts(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    """The contracts in a revision or a bundle, each proved by the sha256 of its very bytes."""
    files = {name: text.encode() for name, text in (config_map.get("data") or {}).items()}
    for name, text in (config_map.get("binaryData") or {}).items():
        files[name.removesuffix(".gz")] = gzip.decompress(base64.b64decode(text))
    files.pop("route.json", None)
    for name, data in files.items():
        assert name == f"{hashlib.sha256(data).hexdigest()}.json"
    return {f"sha256:{name.removesuffix('.json')}": data for name, data in files.items()}


def route(config_map: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle's route says."""
    decoded: dict[str, Any] = json.loads(config_map["data"]["route.json"])
    return decoded


def content_of(config_map: Mapping[str, Any]) -> dict[str, Any]:
    """What a pod sees, and what makes the operator find it again."""
    metadata = config_map["metadata"]
    return {
        "labels": metadata.get("labels"),
        **{name: config_map.get(name) for name in ("data", "binaryData", "immutable")},
    }


@dataclass
class Team:
    """A namespace with prefixes, and the namespaces of the consumers that these select."""

    api: Api
    namespace: str
    others: list[str] = field(default_factory=list)

    def consumer(self, name: str, *, labelled: bool = True) -> str:
        """A consumer's namespace; without the label no prefix selects it."""
        namespace = f"{self.namespace}-{name}"
        labels = {LABEL: self.namespace} if labelled else {}
        self.api.create(NAMESPACE, {"metadata": {"name": namespace, "labels": labels}})
        self.others.append(namespace)
        return namespace

    def publish(self, **arguments: Any) -> Digest:
        """Apply a prefix (see `manifest`); its digest."""
        body = manifest(self.namespace, **arguments)
        self.api.apply(PROMPT_PREFIX, body)
        return digest_in(body)

    def serve(self, **arguments: Any) -> Digest:
        """Publish, and wait until the prefix is Ready with it."""
        digest = self.publish(**arguments)
        self.await_stable(digest, name=arguments.get("name", "house"))
        return digest

    def edit(self, patch: Mapping[str, Any], name: str = "house") -> None:
        """Merge something into a prefix's spec."""
        self.api.patch(PROMPT_PREFIX, self.namespace, name, {"spec": patch})

    def await_stable(self, digest: str, name: str = "house") -> None:
        """Wait until everyone has been given these bytes."""

        def is_stable() -> bool:
            ready = self.condition("Ready", name)
            assert ready["status"] == "True", ready
            return bool(self.status(name)["stable"]["digest"] == digest)

        wait_until(is_stable, PATIENCE, f"{self.namespace}/{name} serves {digest[:19]} to all")

    def prefix(self, name: str = "house") -> dict[str, Any]:
        """The whole object."""
        return self.api.get(PROMPT_PREFIX, self.namespace, name)

    def status(self, name: str = "house") -> dict[str, Any]:
        """The status, empty before the first."""
        found: dict[str, Any] = self.prefix(name).get("status", {})
        return found

    def condition(self, kind: str, name: str = "house") -> dict[str, Any]:
        """One condition of the newest generation.

        Raises:
            AssertionError: the controller has not said it of the newest generation yet.
        """
        body = self.prefix(name)
        for condition in body.get("status", {}).get("conditions", ()):
            if condition["type"] == kind:
                assert condition["observedGeneration"] == body["metadata"]["generation"]
                found: dict[str, Any] = condition
                return found
        raise AssertionError(f"there is no condition {kind} yet")

    def await_condition(
        self, kind: str, status: str, reason: str, name: str = "house"
    ) -> dict[str, Any]:
        """Wait for a condition of the newest generation; the condition."""

        def holds() -> dict[str, Any]:
            found = self.condition(kind, name)
            assert (found["status"], found["reason"]) == (status, reason), found
            return found

        return wait_until(holds, PATIENCE, f"{kind}={status} for {reason}")

    def bundle(self, namespace: str, name: str = "house") -> dict[str, Any] | None:
        """The bundle in a namespace."""
        return self.api.find(CONFIG_MAP, namespace, self.bundle_name(name))

    def bundle_name(self, name: str = "house") -> str:
        return f"headwater.{self.namespace}.{name}"

    def await_bundle(self, namespace: str, digest: str, name: str = "house") -> dict[str, Any]:
        """Wait until a namespace's bundle routes everyone to these bytes; the bundle."""

        def is_served() -> dict[str, Any] | None:
            found = self.bundle(namespace, name)
            if found is None or route(found)["stable"]["digest"] != digest:
                return None
            retained = {row["digest"] for row in route(found).get("retained", ())}
            return found if set(contracts(found)) == {digest, *retained} else None

        found = wait_until(is_served, PATIENCE, f"{namespace} has the bundle of {digest[:19]}")
        assert found is not None
        return found

    def revisions(self, name: str = "house") -> dict[str, dict[str, Any]]:
        """The ConfigMaps of all revisions, by the version that they are labelled with."""
        selector = f"headwater.dev/role=revision,headwater.dev/prefix={name}"
        return {
            found["metadata"]["labels"]["headwater.dev/version"]: found
            for found in self.api.list(CONFIG_MAP, self.namespace, selector)
        }

    def events(self, reason: str, name: str = "house") -> list[str]:
        """What the Events of a reason say about a prefix."""
        return [
            event["note"]
            for event in self.api.list(EVENT, self.namespace)
            if event["reason"] == reason and event["regarding"]["name"] == name
        ]

    def await_event(self, reason: str, *words: str, name: str = "house") -> None:
        """Wait for an Event whose note has all these words."""

        def told() -> bool:
            notes = self.events(reason, name)
            assert any(all(word in note for word in words) for note in notes), notes
            return True

        wait_until(told, PATIENCE, f"an Event {reason} says {', '.join(words)}")


@contextmanager
def new_team(api: Api) -> Iterator[Team]:
    """A team of its own, whose prefixes are deleted afterwards, without waiting."""
    team = Team(api, f"team-{secrets.token_hex(3)}")
    api.create(NAMESPACE, {"metadata": {"name": team.namespace}})
    try:
        yield team
    finally:
        api.leave(*team.others, team.namespace)
