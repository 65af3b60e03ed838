"""What a consumer mounts: `route.json` and one file per digest.

Encoding is deterministic (equal bundles are equal bytes, compressed or not), because the
controller compares what it wants with what it finds. Decoding verifies every file against its
name and trusts nothing else.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from headwater.contract.content import TTL
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, BundleTooLargeError, DigestError
from headwater.contract.placing import Placing, Point, Role, Strategy
from headwater.contract.route import Enforcement, Revision, Route, WarmLane, Weight

ROUTE_FILE: Final = "route.json"
FORMAT: Final = 1
SIZE_LIMIT: Final = 1 << 20
"""Bytes of all values of a ConfigMap (kubernetes: core/validation `MaxSecretSize`)."""
GZIP_ABOVE: Final = 64 << 10
"""Bytes above which a contract is compressed, so that stable and candidate fit side by side."""
CONTRACT_LIMIT: Final = 16 << 20
"""Bytes a decompressed file may have: a small file must not fill a consumer's memory."""
_GZIP: Final = zlib.MAX_WBITS | 16  # zlib's word for gzip's framing


@dataclass(frozen=True, slots=True)
class Bundle:
    """A route and the canonical bytes of every revision that it names."""

    route: Route
    contracts: Mapping[Digest, bytes]


class _RevisionDocument(msgspec.Struct, omit_defaults=True, rename="camel"):
    version: str
    digest: str


class _CandidateDocument(_RevisionDocument, rename="camel"):
    weight: int = msgspec.field(default=0)


class _WarmDocument(msgspec.Struct):
    digest: str
    model: str
    credential: str


class _PrefixDocument(msgspec.Struct):
    namespace: str
    name: str


class _PointDocument(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Half understood, a marker would stand where nobody wants it: what is unknown is refused."""

    role: Role | None = None
    index: int = -1


class _RouteDocument(msgspec.Struct, rename="camel"):
    """`route.json`. Unknown fields are ignored: an older reader follows a newer writer."""

    format: int
    prefix: _PrefixDocument
    epoch: int
    salt: str
    provider: str
    enforcement: Literal["Enforce", "Observe"]
    models: list[str]
    ttl: Literal["5m", "1h"]
    stable: _RevisionDocument
    candidate: _CandidateDocument | None = None
    tokens: dict[str, dict[str, int]] = {}
    kept_warm: list[_WarmDocument] = []
    retained: list[_RevisionDocument] | msgspec.UnsetType = msgspec.UNSET
    """Not written where there are none, so that such a route is to the byte what it used to be."""
    owner: str | msgspec.UnsetType = msgspec.UNSET
    breakpoint_strategy: Strategy | msgspec.UnsetType = msgspec.UNSET
    injection_points: list[_PointDocument] | msgspec.UnsetType = msgspec.UNSET


def encode(bundle: Bundle) -> dict[str, bytes]:
    """File names and their bytes; a contract above `GZIP_ABOVE` bytes is `<hex>.json.gz`.

    Raises:
        BundleError: a revision of the route has no bytes, or bytes that do not verify.
        BundleTooLargeError: the files do not fit into one ConfigMap.
    """
    files = {ROUTE_FILE: encode_route(bundle.route)}
    for revision in bundle.route.revisions:
        name, data = encode_contract(revision.digest, bundle.contracts.get(revision.digest))
        files[name] = data
    size = sum(map(len, files.values()))
    if size > SIZE_LIMIT:
        raise BundleTooLargeError(size, SIZE_LIMIT)
    return files


def fit(bundle: Bundle) -> Bundle:
    """The bundle without the retained revisions that have no room, the last ones going first.

    What new conversations get is never dropped: without room for that, `encode` refuses.

    Raises:
        BundleError: a revision of the route has no bytes, or bytes that do not verify.
    """
    contracts = bundle.contracts
    sizes = {
        revision.digest: len(encode_contract(revision.digest, contracts.get(revision.digest))[1])
        for revision in bundle.route.revisions
    }

    def fits(route: Route) -> bool:
        held = sum(sizes[revision.digest] for revision in route.revisions)
        return len(encode_route(route)) + held <= SIZE_LIMIT

    *longer, bare = shortened(bundle.route)
    route = next(filter(fits, longer), bare)
    return Bundle(route, {held.digest: contracts[held.digest] for held in route.revisions})


def shortened(route: Route) -> Iterator[Route]:
    """What `fit` may make of a route, itself first: each time one retained revision less."""
    for count in range(len(route.retained), -1, -1):
        yield replace(route, retained=route.retained[:count])


def encode_contract(digest: Digest, canonical: bytes | None) -> tuple[str, bytes]:
    """The file name and the file of one contract.

    Raises:
        BundleError: the bytes are absent, or are not those that the digest names.
    """
    if canonical is None:
        raise BundleError(f"the bytes of {digest} are not at hand: publish that version again.")
    actual = Digest.of(canonical)
    if actual != digest:
        raise BundleError(f"bytes that should be {digest} are {actual}.")
    if len(canonical) <= GZIP_ABOVE:
        return f"{digest.hex}.json", canonical
    # No time stamp and a fixed level: the same contract is the same file everywhere.
    return f"{digest.hex}.json.gz", zlib.compress(canonical, level=9, wbits=_GZIP)


def encode_route(route: Route) -> bytes:
    """`route.json`, readable by people: indented, keys in a fixed order."""
    document = _RouteDocument(
        format=FORMAT,
        prefix=_PrefixDocument(route.namespace, route.prefix),
        epoch=route.epoch,
        salt=route.salt,
        provider=route.provider,
        enforcement=route.enforcement,
        models=list(route.models),
        ttl=route.ttl,
        stable=_RevisionDocument(route.stable.version, str(route.stable.digest)),
        candidate=None
        if route.candidate is None
        else _CandidateDocument(
            route.candidate.version, str(route.candidate.digest), weight=int(route.weight)
        ),
        tokens={
            str(digest): dict(sorted(by.items())) for digest, by in sorted(route.tokens.items())
        },
        kept_warm=[
            _WarmDocument(str(lane.digest), lane.model, lane.credential) for lane in route.kept_warm
        ],
        retained=[
            _RevisionDocument(revision.version, str(revision.digest)) for revision in route.retained
        ]
        or msgspec.UNSET,
        owner=route.owner or msgspec.UNSET,
        breakpoint_strategy=msgspec.UNSET
        if route.placing.strategy == "B"
        else route.placing.strategy,
        injection_points=[_PointDocument(point.role, point.index) for point in route.placing.points]
        or msgspec.UNSET,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(files: Mapping[str, bytes]) -> Bundle:
    """A bundle from its files, each contract verified against its name.

    Files that the route does not name are not read.

    Raises:
        BundleError: something is missing, of another format, or one byte is wrong.
    """
    if ROUTE_FILE not in files:
        raise BundleError(f"{ROUTE_FILE} is missing: is this directory a mounted bundle?")
    route = decode_route(files[ROUTE_FILE])
    return Bundle(
        route=route,
        contracts={
            revision.digest: decode_contract(revision.digest, files) for revision in route.revisions
        },
    )


def decode_contract(digest: Digest, files: Mapping[str, bytes]) -> bytes:
    """The canonical bytes of a digest, from its plain or its compressed file.

    Raises:
        BundleError: the file is missing, damaged, or its bytes hash otherwise.
    """
    plain = f"{digest.hex}.json"
    canonical = files.get(plain)
    if canonical is None:
        packed = files.get(f"{plain}.gz")
        if packed is None:
            raise BundleError(f"{plain} is missing, and the route names it.")
        canonical = _unpack(packed, f"{plain}.gz")
    actual = Digest.of(canonical)
    if actual != digest:
        raise BundleError(f"{plain} holds {actual}: its bytes were changed, so it is not used.")
    return canonical


def _unpack(packed: bytes, name: str) -> bytes:
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        canonical = unpacker.decompress(packed, CONTRACT_LIMIT)
    except zlib.error as error:
        raise BundleError(f"{name} cannot be decompressed ({error}).") from error
    if not unpacker.eof:
        raise BundleError(f"{name} is cut short, or larger than {CONTRACT_LIMIT:,} bytes.")
    if unpacker.unused_data:
        raise BundleError(f"{name} has bytes behind its end: it was changed, so it is not used.")
    return canonical


def decode_route(data: bytes) -> Route:
    """A route from `route.json`.

    Raises:
        BundleError: not JSON, not this format, or a value that cannot be.
    """
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise BundleError(
                f"{ROUTE_FILE} has format {version!r}, and this release reads {FORMAT}:"
                " upgrade the reader."
            )
        document = msgspec.json.decode(data, type=_RouteDocument)
        return _route(document)
    except (msgspec.MsgspecError, DigestError, ValueError, RecursionError) as error:
        raise BundleError(f"{ROUTE_FILE} cannot be read: {error}") from error


def _route(document: _RouteDocument) -> Route:
    candidate = document.candidate
    ttl: TTL = document.ttl
    enforcement: Enforcement = document.enforcement
    return Route(
        namespace=document.prefix.namespace,
        prefix=document.prefix.name,
        epoch=document.epoch,
        salt=document.salt,
        provider=document.provider,
        enforcement=enforcement,
        models=tuple(document.models),
        ttl=ttl,
        stable=Revision(document.stable.version, Digest(document.stable.digest)),
        candidate=None
        if candidate is None
        else Revision(candidate.version, Digest(candidate.digest)),
        weight=Weight(candidate.weight if candidate else 0),
        tokens={Digest(digest): by for digest, by in document.tokens.items()},
        kept_warm=tuple(
            WarmLane(Digest(lane.digest), lane.model, lane.credential)
            for lane in document.kept_warm
        ),
        retained=tuple(
            Revision(revision.version, Digest(revision.digest))
            for revision in document.retained or ()
        ),
        owner=document.owner or "",
        placing=Placing(
            document.breakpoint_strategy or "B",
            tuple(Point(point.role, point.index) for point in document.injection_points or ()),
        ),
    )
