"""What `wrap` refuses before anything is sent; test_library_sdk.py has what it does."""

from pathlib import Path
from typing import Any

import anthropic
import pytest

import headwater
from tests.unit.client.test_request import SHARED, user
from tests.unit.sidecar import bundles

ASK: Any = {"model": bundles.MODEL, "max_tokens": 5, "messages": [user()]}


def client() -> anthropic.Anthropic:
    """One whose provider is nowhere: what is sent fails with a connection error."""
    return anthropic.Anthropic(api_key="sk-x", base_url="http://127.0.0.1:1", max_retries=0)


@pytest.mark.parametrize("given", [object(), "client"])
def test_what_is_no_client_of_the_providers_own_api_is_refused(given: Any) -> None:
    with pytest.raises(headwater.RequestError, match=r"use Contract\.request with other clients"):
        headwater.wrap(given, SHARED)


def test_without_a_contract_there_is_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails when the program starts, not with its first question."""
    monkeypatch.setenv("HEADWATER_BUNDLE", str(tmp_path))
    with client() as plain, pytest.raises(headwater.BundleError, match=r"route\.json is missing"):
        headwater.wrap(plain)


def test_a_revision_that_is_withdrawn_is_not_sent_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pinned version is gone with its rollout: the program is told, and nothing goes out."""
    now = [0.0]
    monkeypatch.setattr("headwater.client.source.time.monotonic", lambda: now[0])
    bundles.write_plain(tmp_path, bundles.make())
    pinned = headwater.load(tmp_path, version="v1")
    with client() as plain:
        wrapped = headwater.wrap(plain, pinned)
        with pytest.raises(anthropic.APIConnectionError):
            wrapped.messages.create(**ASK)
        bundles.write_plain(tmp_path, bundles.make("v2"))
        now[0] += 1
        with pytest.raises(headwater.PinError):
            wrapped.messages.create(**ASK)


def test_wrapping_twice_is_wrapping_once_and_the_given_client_stays() -> None:
    with client() as plain:
        again = headwater.wrap(headwater.wrap(plain, SHARED), SHARED)
        assert type(again).__mro__.count(type(plain)) == 1
        assert type(again) is type(headwater.wrap(plain, SHARED))
        assert type(plain) is anthropic.Anthropic
        assert type(again.with_options(timeout=1)) is type(again)
