"""`headwater abort`: back to the stable version, at once."""

import json
from collections.abc import Mapping
from typing import Any, Unpack

import click

from headwater.cli._cluster import ask
from headwater.cli._revisions import contract_of
from headwater.cli.steer import (
    Change,
    NothingToDoError,
    Where,
    change_in_cluster,
    digest_in,
    where_options,
)
from headwater.cluster import Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.content import MARKER_KEY, TTL, digest_of
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import resolve


@click.command(name="abort")
@click.argument("name")
@where_options
def command(name: str, **where: Unpack[Where]) -> None:
    """Go back to the stable version: declare its version, digest and content again."""
    if where["filename"] is not None:
        raise click.UsageError(
            "an abort brings content back, and the commit before has it as it was written:"
            f" `git revert` that commit (`git log -- {where['filename']}` names it), or, at once,"
            f" `headwater abort {name} --cluster`."
        )
    if not where["in_cluster"]:
        raise click.UsageError(
            "say where:\n\n  git revert COMMIT  brings the manifest back as it was written: the way"
            " where Git is applied\n  --cluster          declares the stable version in the cluster"
            " at once, with your permissions"
        )

    async def work(cluster: KubernetesCluster) -> None:
        async def decide(body: Object) -> Change:
            digest = _stable(body)
            return _back_to(body, digest, await contract_of(cluster, body, digest))

        await change_in_cluster(cluster, name, decide, where)

    ask(where["context"], work)


def _stable(body: Object) -> Digest:
    name, digest = body["metadata"]["name"], digest_in(body, "stable")
    if digest is None:
        raise NothingToDoError(f"{name} has no stable version: there is nothing to go back to.")
    if digest == body["spec"]["digest"]:
        version = body["status"]["stable"]["version"]
        raise NothingToDoError(f"{name} declares its stable version already, {version}.")
    return Digest(digest)


def _back_to(body: Object, digest: Digest, canonical: bytes) -> Change:
    """The fields that declare the stable version again, its content inline."""
    name, spec, version = (
        body["metadata"]["name"],
        body["spec"],
        body["status"]["stable"]["version"],
    )
    contract = json.loads(canonical)
    # The only type that there is; the resource does not have it.
    blocks = [{k: part for k, part in block.items() if k != "type"} for block in contract["system"]]
    source = {"tools": contract["tools"] or None, "system": blocks or None}
    parts = (*contract["tools"], *blocks)
    short = any(part.get(MARKER_KEY, {}).get("ttl") == "5m" for part in parts)
    ttl: TTL = "5m" if short else spec.get("ttl", "5m")
    declared = resolve(
        ContentSource.model_validate(source),
        lambda _: None,
        ttl=ttl,
        provider=contract["provider"],
    )
    if digest_of(declared) != digest:
        raise HeadwaterError(
            f"{name}: this release makes other bytes of the content of {digest}: `git revert` the"
            " commit instead."
        )
    told = [f"{name}: {version} is declared again ({digest}), {spec['version']} is not."]
    if _refers(spec["content"]):
        told.append("Its content stands in the manifest now; before, it came from ConfigMaps.")
    told.append(
        "Where Git is applied to the cluster, `git revert` the commit as well, or it declares"
        f" {spec['version']} again. `headwater get {name} -w` shows what follows."
    )
    content = {**source, "toolsFrom": None}
    fields = {"version": version, "digest": str(digest), "ttl": ttl, "content": content}
    return Change(fields, tuple(told))


def _refers(content: Mapping[str, Any]) -> bool:
    blocks = content.get("system") or ()
    return "toolsFrom" in content or any("textFrom" in block for block in blocks)
