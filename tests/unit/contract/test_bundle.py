"""The bundle: what was written is read, and what was changed is never read."""

import gzip
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract import bundle
from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, BundleTooLargeError
from headwater.contract.placing import Placing, Point
from headwater.contract.route import Revision, Route, WarmLane, Weight, salt_for


def contract(text: str) -> bytes:
    return canonical_bytes(content(tools=[], system=[{"text": text}], ttl="5m"))


def noise(size: int, seed: int) -> bytes:
    """A contract whose file, which gzip makes of `size` random bytes in hex, is a little larger."""
    return contract(random.Random(seed).randbytes(size).hex())


def promoted(stable: bytes, *retained: bytes, candidate: bytes | None = None) -> Bundle:
    """A bundle that retains former contracts, the latest first."""
    offered = [stable] if candidate is None else [stable, candidate]
    whole = made(*offered)
    former = tuple(Revision(f"former-{n}", Digest.of(data)) for n, data in enumerate(retained))
    return Bundle(
        replace(whole.route, retained=former),
        {**whole.contracts, **{Digest.of(data): data for data in retained}},
    )


def made(*contracts: bytes, weight: int = 500) -> Bundle:
    """A bundle of a stable contract and, where there is a second one, a candidate."""
    revisions = [Revision(f"v{n}", Digest.of(data)) for n, data in enumerate(contracts, 1)]
    candidate = revisions[1] if len(revisions) > 1 else None
    return Bundle(
        Route(
            namespace="platform",
            prefix="handbook",
            epoch=3,
            salt=salt_for("platform", "handbook", candidate.digest if candidate else None),
            stable=revisions[0],
            candidate=candidate,
            weight=Weight(weight if candidate else 0),
            models=("claude-opus-5",),
            ttl="5m",
        ),
        {Digest.of(data): data for data in contracts},
    )


digests = st.binary(max_size=8).map(Digest.of)
retained_digests = st.binary(min_size=9, max_size=12).map(Digest.of)
names = st.text(min_size=1, max_size=20)
routes = st.builds(
    Route,
    namespace=names,
    prefix=names,
    epoch=st.integers(0, 2**53),
    salt=names,
    stable=st.builds(Revision, names, digests),
    models=st.lists(names, max_size=3).map(tuple),
    ttl=st.sampled_from(["5m", "1h"]),
    enforcement=st.sampled_from(["Enforce", "Observe"]),
    tokens=st.dictionaries(digests, st.dictionaries(names, st.integers(0, 10**6)), max_size=2),
    kept_warm=st.lists(st.builds(WarmLane, digests, names, names), max_size=2).map(tuple),
) | st.builds(
    Route,
    namespace=names,
    prefix=names,
    epoch=st.integers(0, 2**53),
    salt=names,
    stable=st.builds(Revision, names, digests),
    candidate=st.builds(Revision, names, digests),
    weight=st.integers(0, 10_000).map(Weight),
    models=st.lists(names, max_size=3).map(tuple),
    ttl=st.sampled_from(["5m", "1h"]),
    retained=st.lists(st.builds(Revision, names, retained_digests), max_size=2).map(tuple),
    placing=st.builds(
        Placing,
        st.sampled_from(["A", "B", "C"]),
        st.lists(
            st.builds(Point, st.sampled_from([None, "user", "system"]), st.integers()), max_size=2
        ).map(tuple),
    ),
)


@given(route=routes)
def test_a_route_is_read_as_it_was_written(route: Route) -> None:
    """And is written the same again: the controller compares bytes."""
    written = bundle.encode_route(route)
    assert bundle.decode_route(written) == route
    assert bundle.encode_route(bundle.decode_route(written)) == written


@given(stable=st.text(min_size=1), candidate=st.text(min_size=1))
def test_a_bundle_is_read_as_it_was_written(stable: str, candidate: str) -> None:
    """Both revisions, to the byte."""
    wanted = made(contract(stable), contract(candidate))
    files = bundle.encode(wanted)
    assert bundle.decode(files) == wanted
    assert bundle.encode(bundle.decode(files)) == files


def test_a_retained_revision_is_read_with_its_bytes() -> None:
    """And a route without any is written as it was before there were any."""
    wanted = promoted(contract("two"), contract("one"), contract("zero"))
    files = bundle.encode(wanted)
    assert bundle.decode(files) == wanted
    assert len(files) == 4
    assert b"retained" not in bundle.encode_route(made(contract("two")).route)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([], 0),
        ([150_000, 150_000, 150_000], 3),
        ([150_000, 150_000, 400_000], 2),
        ([150_000, 600_000, 10_000], 1),
        ([800_000, 10_000], 0),
    ],
)
def test_retained_revisions_without_room_are_dropped_from_the_end(
    sizes: list[int], kept: int
) -> None:
    """The oldest first, and all that are older than one that goes; what is offered stays."""
    retained = [noise(size, seed) for seed, size in enumerate(sizes)]
    whole = promoted(noise(150_000, 10), *retained, candidate=noise(150_000, 11))
    fitted = bundle.fit(whole)
    assert fitted.route == replace(whole.route, retained=whole.route.retained[:kept])
    assert bundle.decode(bundle.encode(fitted)) == fitted
    assert fitted.route in bundle.shortened(whole.route)
    assert bundle.fit(fitted) == fitted


def test_a_stable_contract_without_room_is_still_refused() -> None:
    """Dropping what is retained does not hide that."""
    fitted = bundle.fit(promoted(noise(1_500_000, 1), contract("former")))
    with pytest.raises(BundleTooLargeError):
        bundle.encode(fitted)


def test_every_flipped_byte_of_a_contract_is_refused() -> None:
    """Whatever byte of the file is another one, the contract is not read at all."""
    files = bundle.encode(made(contract("Be brief, and never guess.")))
    (name,) = set(files) - {bundle.ROUTE_FILE}
    for position in range(len(files[name])):
        changed = bytearray(files[name])
        changed[position] ^= 1
        with pytest.raises(BundleError, match="its bytes were changed, so it is not used"):
            bundle.decode({**files, name: bytes(changed)})


def test_no_flipped_byte_of_a_compressed_contract_changes_what_is_read() -> None:
    """It is refused, or (a time stamp in the gzip header, say) the contract is still the same."""
    data = contract("The handbook says: measure twice. " * 3000)
    files = bundle.encode(made(data))
    (name,) = set(files) - {bundle.ROUTE_FILE}
    assert name == f"{Digest.of(data).hex}.json.gz"
    refused = 0
    for position in range(len(files[name])):
        changed = bytearray(files[name])
        changed[position] ^= 1
        try:
            assert bundle.decode_contract(Digest.of(data), {name: bytes(changed)}) == data
        except BundleError:
            refused += 1
    assert refused > len(files[name]) * 0.9


def test_bytes_behind_a_compressed_contract_are_refused() -> None:
    """They change nothing that is read, but nobody who publishes wrote them."""
    data = contract("x" * bundle.GZIP_ABOVE)
    name, packed = bundle.encode_contract(Digest.of(data), data)
    assert bundle.decode_contract(Digest.of(data), {name: packed}) == data
    with pytest.raises(BundleError, match="has bytes behind its end"):
        bundle.decode_contract(Digest.of(data), {name: packed + b"x"})


def test_contracts_are_compressed_above_64_kib() -> None:
    """Both sides of the limit; the same contract is the same file each time."""
    overhead = len(contract("x")) - 1
    at, above = (contract("x" * (bundle.GZIP_ABOVE - overhead + more)) for more in (0, 1))
    assert bundle.encode_contract(Digest.of(at), at) == (f"{Digest.of(at).hex}.json", at)
    name, packed = bundle.encode_contract(Digest.of(above), above)
    assert name == f"{Digest.of(above).hex}.json.gz"
    assert gzip.decompress(packed) == above
    assert bundle.encode_contract(Digest.of(above), above) == (name, packed)


def test_a_bundle_that_fits_no_config_map_says_both_figures() -> None:
    """The size after compression, and the limit: an author has to know how far off it is."""
    with pytest.raises(BundleTooLargeError) as refused:
        bundle.encode(made(noise(1_500_000, 1)))
    assert refused.value.limit == 1_048_576 < refused.value.size
    assert f"{refused.value.size:,}" in str(refused.value)
    assert "1,048,576" in str(refused.value)


def test_a_small_file_cannot_fill_a_readers_memory() -> None:
    """Decompression stops at a limit, however much a crafted file would give."""
    name = f"{'0' * 64}.json.gz"
    bomb = gzip.compress(bytes(bundle.CONTRACT_LIMIT + 1))
    with pytest.raises(BundleError, match="cut short, or larger than 16,777,216 bytes"):
        bundle.decode_contract(Digest("sha256:" + "0" * 64), {name: bomb})


def test_a_revision_without_its_bytes_is_not_published() -> None:
    """Nor one whose bytes are others."""
    whole = made(contract("one"))
    with pytest.raises(BundleError, match="are not at hand"):
        bundle.encode(Bundle(whole.route, {}))
    with pytest.raises(BundleError, match="bytes that should be"):
        bundle.encode(Bundle(whole.route, {whole.route.stable.digest: b"other"}))


def changed(field: str, value: Any) -> bytes:
    document = json.loads(bundle.encode_route(made(contract("a"), contract("b")).route))
    return json.dumps({**document, field: value}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "route.json cannot be read"),
        (b"[]", "route.json cannot be read"),
        (b"{}", "has format None, and this release reads 1"),
        (changed("format", 2), "has format 2, and this release reads 1: upgrade the reader"),
        (changed("ttl", "10m"), "ttl"),
        (changed("enforcement", "Maybe"), "enforcement"),
        (changed("stable", {"version": "v1", "digest": "md5:0"}), "is no digest"),
        (
            changed("candidate", {"version": "v2", "digest": Digest.of(b""), "weight": 10_001}),
            "a weight is 0 to 10000",
        ),
        (
            changed("retained", [{"version": "v1", "digest": Digest.of(contract("a"))}]),
            "is retained, and offered",
        ),
        (changed("breakpointStrategy", "D"), "breakpointStrategy"),
        (changed("injectionPoints", [{"role": "user", "block": 2}]), "unknown field `block`"),
    ],
)
def test_a_route_that_cannot_be_is_refused(data: bytes, message: str) -> None:
    """Named in the error: a reader keeps the last bundle that verified."""
    with pytest.raises(BundleError, match=message):
        bundle.decode_route(data)


def test_a_field_of_a_later_release_is_ignored() -> None:
    """An older sidecar follows a newer controller."""
    later = bundle.decode_route(changed("extends", {"digest": "…"}))
    assert later == made(contract("a"), contract("b")).route


def test_what_is_missing_is_named() -> None:
    """No route, or no bytes for it."""
    files = bundle.encode(made(contract("a")))
    with pytest.raises(BundleError, match="is this directory a mounted bundle"):
        bundle.decode({})
    with pytest.raises(BundleError, match=r"\.json is missing, and the route names it"):
        bundle.decode({bundle.ROUTE_FILE: files[bundle.ROUTE_FILE]})
