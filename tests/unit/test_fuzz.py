"""What `make fuzz` looks for, on its seeds and near them: the search itself is not run here."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import seeds, targets

SEEDS = {
    "request": list(seeds.requests()),
    "bundle": list(seeds.bundles()),
    "placing": list(seeds.placings()),
}
WORDS = [word.encode() for word in seeds.WORDS]


def near(target: str) -> st.SearchStrategy[bytes]:
    """A seed with a part of it replaced by a word or by any bytes."""

    def replaced(seed: bytes, at: int, length: int, new: bytes) -> bytes:
        start = at % (len(seed) + 1)
        return seed[:start] + new + seed[start + length :]

    return st.builds(
        replaced,
        st.sampled_from(SEEDS[target]),
        st.integers(0, 1 << 12),
        st.integers(0, 20),
        st.one_of(st.sampled_from(WORDS), st.binary(max_size=20)),
    )


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_seeds_are_well(target: str) -> None:
    """Good requests and bundles, each read as it is meant."""
    for seed in SEEDS[target]:
        targets.TARGETS[target](seed)


@pytest.mark.parametrize(
    ("target", "data"),
    [
        ("request", b'\x80{"model":"claude-opus-4-8","tools":[{"name":"a","b":"\x80"}]}'),
        ("request", b'\x80{"model":"claude-opus-4-8","tools":[{"name":"a","b":1e999}]}'),
        (
            "request",
            b'\x80{"model":"claude-opus-4-8","cache_control":{},"messages":[{"role":"\xec"}]}',
        ),
        ("request", b'\x81{"model":"claude-opus-4-8","metadata":{"user_id":"\x91"}}'),
        ("bundle", SEEDS["bundle"][2] + targets.CUT + b'{"format":1,"tools":[],"system":"a"}'),
        ("placing", b'\1{"model":"claude-opus-4-8","system":[{"type":"\x96","text":"a"}]}'),
        ("bundle", b'{"format":1,"x":' + b"[" * 3_000 + b"]" * 3_000 + b"}"),
    ],
)
def test_what_was_found_once(target: str, data: bytes) -> None:
    """What cannot be read is refused, not failed at: no UTF-8, a number too large, too deep."""
    targets.TARGETS[target](data)


@given(near("request"))
def test_requests_near_the_seeds(data: bytes) -> None:
    """Nothing crashes, and nothing off the contract is sent."""
    targets.TARGETS["request"](data)


@given(near("bundle"))
def test_bundles_near_the_seeds(data: bytes) -> None:
    """Nothing crashes, and no byte is used that was not verified."""
    targets.TARGETS["bundle"](data)


@given(near("placing"))
def test_placings_near_the_seeds(data: bytes) -> None:
    """Nothing crashes, and nothing but markers is put in, nor a fifth one."""
    targets.TARGETS["placing"](data)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/messages HTTP/1.1\r\nhost: provider.test\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1//%6Dessages HTTP/1.1\r\nhost: provider.test\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /v1/models HTTP/1.1\r\nhost: elsewhere\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: provider.test\r\nx-headwater-a: b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: provider.test\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_off_the_contract_would_be_found(sent: bytes) -> None:
    """A body as it came, another host, a private header, a second request in the first."""
    with pytest.raises(targets.OffContractError):
        list(itertools.starmap(targets.check, targets.sent_on(sent)))


def test_a_fault_of_the_sidecars_own_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered with a 500, which must not pass for a refusal."""
    monkeypatch.setattr(targets.DESK, "arrived", None)
    with pytest.raises(targets.FailedError):
        targets.request(SEEDS["request"][0])
