"""Layers stand in order of stability, keep private text private, and are told apart."""

import itertools
from typing import Any

import pytest

import headwater
from tests.unit.client.test_request import SHARED, ask, markers, user

POLICY, CATALOGUE, CUSTOMER, BASKET = LAYERS = (
    headwater.Layer("policy", "static"),
    headwater.Layer("catalogue", "slow"),
    headwater.Layer("customer", "user"),
    headwater.Layer("basket", "session"),
)
TEXTS = {"basket": "b", "policy": "p", "customer": "tenant-7 likes tea", "catalogue": "c"}


@pytest.mark.parametrize("declared", list(itertools.permutations(LAYERS)))
def test_the_order_is_that_of_stability_however_declared(declared: Any) -> None:
    system = headwater.Layers(*declared).system(**TEXTS)
    assert [block["text"] for block in system] == ["p", "c", "tenant-7 likes tea", "b"]
    assert [index for index, block in enumerate(system) if "cache_control" in block] == [1, 2]


def test_a_layer_without_a_text_is_left_out_and_keeps_its_scopes_marker() -> None:
    other = headwater.Layer("prices", "slow")
    system = headwater.Layers(*LAYERS, other).system(catalogue="c", prices="")
    assert [(block["text"], "cache_control" in block) for block in system] == [("c", True)]


def test_with_a_contract_there_are_four_markers() -> None:
    """Everybody's, everybody's for now, and one user's."""
    sent = ask(SHARED, system=headwater.Layers(*LAYERS).system(**TEXTS))
    assert list(markers(sent)) == [".tools[0]", ".system[0]", ".system[2]", ".system[3]"]


def test_private_text_in_a_shared_layer_is_refused_without_repeating_it() -> None:
    layers = headwater.Layers(*LAYERS, private=r"tenant-\d+")
    assert layers.system(**TEXTS)
    with pytest.raises(
        headwater.RequestError, match=r"layers\.catalogue: characters 4 to 13"
    ) as error:
        layers.system(catalogue="for tenant-42")
    assert "tenant-42" not in str(error.value)


def test_what_is_not_declared_is_refused() -> None:
    with pytest.raises(headwater.RequestError, match="other is not declared"):
        headwater.Layers(*LAYERS).system(other="x")
    with pytest.raises(headwater.RequestError, match="two have one name"):
        headwater.Layers(POLICY, headwater.Layer("policy", "slow"))


@pytest.mark.parametrize("read", [0, 400, 700, 1000])
def test_what_was_read_is_told_apart_by_layer(read: int) -> None:
    """The cache reads a prompt from its beginning, so the stablest layers are read first."""
    texts = {"catalogue": "c" * 5000, "customer": "u" * 5000}
    layers = headwater.Layers(*LAYERS)
    request = ask(SHARED, system=layers.system(**texts), messages=[user("x" * 5000)])
    usage = {"input_tokens": 1000 - read, "cache_read_input_tokens": read}
    shares = layers.shares(request, {"usage": usage}, **texts)
    assert [share.name for share in shares] == ["contract", "catalogue", "customer", "messages"]
    assert sum(share.tokens for share in shares) == 1000
    assert sum(share.read for share in shares) == read
    cold = list(itertools.dropwhile(lambda share: share.read == share.tokens, shares))
    assert not any(share.read for share in cold[1:])
