"""From a PromptPrefix to its verified bytes: follow the references, canonicalise, compare.

This is where content that hashes otherwise than declared is kept from being served.
"""

import asyncio
from collections.abc import Iterable, Mapping

from headwater.cluster import CONFIG_MAP, Cluster, NotFoundError
from headwater.contract import bundle
from headwater.contract.content import canonical_bytes
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, HeadwaterError
from headwater.controller.objects import Found, Key, files_of
from headwater.controller.store import Resolution
from headwater.providers.tokens import estimate_tokens
from headwater.resources import MissingReferenceError, PromptPrefix, resolve
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import ConfigMapData

_ROUTE_ROOM = 32 << 10
"""Bytes kept free for `route.json`, which grows with models and warm lanes."""


async def resolve_content(
    cluster: Cluster, prefix: PromptPrefix, revisions: Iterable[Found]
) -> tuple[Resolution, bytes | None]:
    """What became of the declared content, and its bytes where they are what was declared.

    `revisions` are the prefix's stored ones: they bind their versions, and the stable one shares
    a bundle with a candidate.
    """
    names = references(prefix.spec.content)
    namespace = prefix.metadata.namespace
    found = await asyncio.gather(*(_config_map(cluster, namespace, name) for name in names))
    return resolved(prefix, dict(zip(names, found, strict=True)), revisions)


def resolved(
    prefix: PromptPrefix, data: Mapping[str, ConfigMapData | None], revisions: Iterable[Found]
) -> tuple[Resolution, bytes | None]:
    """Do as `resolve_content`, with what the ConfigMaps hold at hand, by their names. Pure."""
    names, spec = references(prefix.spec.content), prefix.spec
    try:
        content = resolve(spec.content, data.get, ttl=spec.ttl, provider=spec.provider)
        canonical = canonical_bytes(content)
        digest = Digest.of(canonical)
        _, file = bundle.encode_contract(digest, canonical)
    except MissingReferenceError as error:
        return _refused("ContentMissing", str(error), names, missing=True), None
    except HeadwaterError as error:
        return _refused("ContentInvalid", str(error), names), None
    tokens = {model: estimate_tokens(canonical, model) for model in spec.models}
    revisions = list(revisions)
    bound = _bound_to(prefix, revisions)
    if bound is not None and bound != spec.digest:
        # The schema refuses this, unless the edit outran the status that it looks at.
        message = (
            f"version {spec.version} was published as {bound} and is bound to it:"
            f" publish {spec.digest} as a new version"
        )
        return _refused("VersionRebound", message, names, tokens=tokens), None
    if digest != spec.digest:
        message = (
            f"spec.digest is {spec.digest} and the content hashes to {digest}: it is not served;"
            " `headwater digest --write -f FILE` puts the right digest into the manifest"
        )
        return _refused("DigestMismatch", message, names, tokens=tokens), None
    stable = prefix.status.stable
    beside = set() if stable is None or stable.digest == digest else {stable.digest}
    size = len(file) + sum(item.size for item in revisions if item.digests & beside) + _ROUTE_ROOM
    if size > bundle.SIZE_LIMIT:
        message = (
            f"the bundle would have {size:,} bytes and a ConfigMap holds {bundle.SIZE_LIMIT:,}:"
            f" the contract itself has {len(canonical):,} bytes, {len(file):,} compressed;"
            " shorten it"
        )
        return _refused("BundleTooLarge", message, names, tokens=tokens), None
    return Resolution(digest=digest, tokens=tokens, references=frozenset(names)), canonical


def _bound_to(prefix: PromptPrefix, revisions: Iterable[Found]) -> str | None:
    """The digest to which the declared version is bound already, if it is."""
    version = prefix.spec.version
    for row in prefix.status.published:
        if row.version == version:
            return row.digest
    # A crash can come between a revision and the status that tells of it.
    owner = prefix.metadata.uid
    stored = (
        item.digests for item in revisions if item.version == version and owner in item.owners
    )
    return next((digest for digests in stored for digest in digests), None)


def references(source: ContentSource) -> list[str]:
    """The ConfigMaps that the content refers to, each once."""
    sources = [source.tools_from, *(block.text_from for block in source.system or ())]
    return sorted({ref.config_map_key_ref.name for ref in sources if ref is not None})


async def bytes_of(cluster: Cluster, digest: Digest, places: list[Key]) -> bytes | None:
    """A contract's bytes from the first of these ConfigMaps that still holds them intact.

    Content-addressed: wherever they are found, they are the right ones or they are not taken.
    """
    for place in places:
        try:
            config_map = await cluster.get(CONFIG_MAP, place.namespace, place.name)
            return bundle.decode_contract(digest, files_of(config_map))
        except (NotFoundError, BundleError):
            continue
    return None


async def _config_map(cluster: Cluster, namespace: str, name: str) -> ConfigMapData | None:
    try:
        config_map = await cluster.get(CONFIG_MAP, namespace, name)
    except NotFoundError:
        return None
    return dict(files_of(config_map))


def _refused(
    reason: str,
    message: str,
    names: list[str],
    *,
    missing: bool = False,
    tokens: dict[str, int] | None = None,
) -> Resolution:
    return Resolution(
        reason=reason,
        message=message,
        references=frozenset(names),
        missing=missing,
        tokens=tokens or {},
    )
