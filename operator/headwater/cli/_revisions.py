"""The bytes of published revisions, from the cluster, verified against their digests."""

from headwater.cluster import CONFIG_MAP, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.bundle import decode_contract
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, HeadwaterError
from headwater.controller.objects import Key, files_of, revision_name


class RevisionError(HeadwaterError):
    """A version was never published, or its bytes are not kept any more."""


def digest_of_version(body: Object, version: str) -> Digest:
    """What a published version of a prefix is bound to.

    Raises:
        RevisionError: there is none; says which there are.
    """
    published = body.get("status", {}).get("published", ())
    for row in published:
        if row["version"] == version:
            return Digest(row["digest"])
    known = ", ".join(row["version"] for row in published)
    raise RevisionError(
        f"{body['metadata']['name']} has no published version {version!r};"
        f" {f'there are {known}' if known else 'nothing is published yet'}."
    )


async def contract_of(cluster: KubernetesCluster, body: Object, digest: Digest) -> bytes:
    """The canonical bytes of a revision of a prefix.

    Raises:
        RevisionError: they are gone, or were changed.
    """
    prefix = Key(body["metadata"]["namespace"], body["metadata"]["name"])
    name = revision_name(prefix, digest)
    try:
        config_map = await cluster.get(CONFIG_MAP, prefix.namespace, name)
    except NotFoundError as error:
        raise RevisionError(
            f"the bytes of {digest} are not kept any more (there is no ConfigMap {name}):"
            " spec.revisionHistoryLimit says how many former revisions are. Git has them."
        ) from error
    try:
        return decode_contract(digest, files_of(config_map))
    except BundleError as error:
        raise RevisionError(
            f"the ConfigMap {name}: {error} A controller that runs puts it back."
        ) from error
