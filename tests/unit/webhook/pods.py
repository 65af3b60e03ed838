"""Pods as the API server sends them, and what a patch makes of them."""

from collections.abc import Mapping
from typing import Any, Final

import jsonpatch
import msgspec

from headwater.contract.route import Enforcement
from headwater.controller.objects import Key
from headwater.resources.prefix import Consumers, LabelSelector
from headwater.webhook import injection
from headwater.webhook.injection import Injection, Namespace, Terms
from headwater.webhook.pods import Pod
from headwater.webhook.sidecar import Settings

SETTINGS: Final = Settings(image="registry.example/headwater-sidecar:1")
CORE: Final = Key("ai-platform", "org-core")
SUPPORT: Final = Key("support", "answers")


def pod(
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of one container, with whatever else is given."""
    given = {"labels": labels, "annotations": annotations}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in given.items() if value is not None}
        | dict(metadata or {}),
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
    }


def terms(enforcement: Enforcement = "Enforce", **labels: str) -> Terms:
    """A prefix for the namespaces with these labels."""
    return Terms(Consumers(namespace_selector=LabelSelector(match_labels=labels)), enforcement)


def inject(
    body: Mapping[str, Any],
    *,
    prefixes: str | None = "ai-platform/org-core",
    known: Mapping[Key, Terms | None] | None = None,
    namespace: str = "team-a",
    settings: Settings = SETTINGS,
) -> Injection:
    """What is done about a pod in a namespace that asks for `prefixes`."""
    decoded = msgspec.convert(body, Pod)
    annotations = {} if prefixes is None else {"headwater.dev/prefixes": prefixes}
    where = Namespace(namespace, {"team": "a"}, annotations)
    known = {CORE: terms(), SUPPORT: terms()} if known is None else known
    wanted = injection.wanted(decoded, where)
    return injection.inject(decoded, where, {key: known.get(key) for key in wanted}, settings)


def patched(body: Mapping[str, Any], done: Injection) -> dict[str, Any]:
    """The pod that the API server makes of it; the patch is applied by another's code."""
    result: dict[str, Any] = jsonpatch.apply_patch(dict(body), list(done.patch))
    return result


def injected(body: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """The pod with its sidecar."""
    done = inject(body, **arguments)
    assert done.outcome == "injected", done
    return patched(body, done)


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container that have a value of their own."""
    return {found["name"]: found.get("value", "") for found in container.get("env", ())}
