"""The provider's invalidation table, for the sidecar: lanes, refusals, losses that have a name."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.bundle import Bundle
from headwater.contract.placing import Placing
from headwater.contract.reasons import RefusalError
from headwater.providers.usage import Usage
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.exchange import Exchange, Exchanges
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics
from headwater.simulator.cache import PromptCache
from headwater.simulator.prompt import read_prompt
from tests.unit.invalidation import IMAGE, TABLE, Kept, Row
from tests.unit.sidecar import bundles

SIZE: Final = 2000
MODELS: Final = (bundles.MODEL, "claude-sonnet-4-5", "claude-opus-4-5", "claude-opus-4-5-20251101")
FIVE: Final = {"type": "ephemeral"}
HEADERS: Final = {"x-api-key": "one"}
BROKEN: Final = re.compile(r'headwater_conversation_breaks_total{.*reason="(\w+)"')
SETTINGS: Final = {f"{name}_changed" for name in ("model", "thinking", "effort", "speed")}


def text(said: str, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": said} | ({"cache_control": FIVE} if marked else {})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*content]}


ANSWER: Final = {"role": "assistant", "content": [text("re")]}
FIRST: Final = [user(text("once upon a time " * 300, marked=True))]


def going_on(*more: Any) -> list[dict[str, Any]]:
    """The first turn's messages, an answer, and a question after some blocks."""
    return [user(text("once upon a time " * 300)), ANSWER, user(*more, text("?", marked=True))]


class Between:
    """A sidecar and a provider's cache behind it."""

    def __init__(
        self, directory: Path, placing: Placing | None = None, declared: Bundle | None = None
    ) -> None:
        declared = declared or bundles.make(size=SIZE)
        route = replace(declared.route, models=MODELS)
        if placing is not None:
            route = replace(route, placing=placing)
        bundles.write_plain(directory, replace(declared, route=route))
        follower = BundleFollower(directory)
        follower.poll()
        lanes, clock = Lanes(), lambda: 1000.0
        self.metrics = Metrics(Identity(), follower, lanes, clock)
        self.exchanges = Exchanges(follower, lanes, self.metrics, clock)
        self.cache = PromptCache()

    def open(
        self,
        messages: Sequence[Any],
        headers: Mapping[str, str] = HEADERS,
        *,
        session: str = "s",
        **fields: Any,
    ) -> Exchange:
        """A request; without a session none of its settings is compared with those before."""
        named = {"x-headwater-session": session} if session else {}
        body = {"model": bundles.MODEL, "max_tokens": 9, "messages": messages, **fields}
        asked = {**HEADERS, **headers, **named, "x-headwater-conversation": "tell"}
        return self.exchanges.open(asked, json.dumps(body).encode(), counted=True)

    def answer(self, exchange: Exchange, headers: Mapping[str, str] = HEADERS) -> Usage:
        """What the provider reads and writes for it."""
        prompt = read_prompt(
            json.loads(b"".join(exchange.parts)),
            workspace=f"{headers.get('x-api-key')} {headers.get('anthropic-workspace-id')}",
            version="2023-06-01",
            betas=frozenset(headers.get("anthropic-beta", "").split(",")) - {""},
        )
        outcome = self.cache.begin(prompt.positions, prompt.facts.min_cacheable_tokens, now=0)
        self.cache.commit(outcome)
        return outcome.usage


def told(exchange: Exchange) -> str:
    return exchange.headers["headwater-conversation"]


@pytest.fixture
def between(tmp_path: Path) -> Between:
    return Between(tmp_path)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_lane_is_what_the_provider_keys_its_cache_by(between: Between, row: Row) -> None:
    """The contract is read exactly where the lane stays the same."""
    headers = {**HEADERS, **row.headers}
    contract = between.answer(between.open([user(text("hi"))], session="")).cache_write_5m
    first = between.open(FIRST, session="")
    between.answer(first)
    second = between.open(going_on(*row.blocks), headers, session="", **row.fields)
    read = between.answer(second, headers).cache_read
    assert (read >= contract) is (row.kept >= Kept.SYSTEM)
    assert lane(second) == lane(first) if read >= contract else lane(second) != lane(first)


def lane(exchange: Exchange) -> object:
    """By which it is judged."""
    exchange.enter_alone()
    assert exchange._turn is not None
    return exchange._turn.lane


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_what_a_conversation_loses_has_a_name(between: Between, row: Row) -> None:
    """A setting that loses everything is refused; what loses the history is counted, and told."""
    headers = {**HEADERS, **row.headers}
    assert told(between.open(FIRST)) == "began"
    written = between.answer(between.open(FIRST)).cache_write_5m
    if row.told in SETTINGS:
        with pytest.raises(RefusalError) as refused:
            between.open(going_on(*row.blocks), headers, **row.fields)
        assert refused.value.reason == row.told
        return
    second = between.open(going_on(*row.blocks), headers, **row.fields)
    assert told(second) == row.told
    extended = between.answer(second, headers).cache_read >= written
    assert extended is (row.kept is Kept.ALL)
    counted = [] if row.told == "extended" else [row.told]
    assert BROKEN.findall(between.metrics.exposition().decode()) == counted


def test_a_candidate_that_is_taken_back_costs_its_conversations_their_history(
    tmp_path: Path,
) -> None:
    """They are put on another version: no fault of the program, and counted on that version."""
    between = Between(tmp_path, declared=bundles.make("v1", "v2", weight=10_000, size=SIZE))
    between.answer(between.open(FIRST))
    bundles.write_plain(tmp_path, bundles.make("v1", size=SIZE))
    between.exchanges.bundles.poll()
    second = between.open(going_on())
    assert told(second) == "revision_changed"
    assert between.answer(second).cache_read == 0


def test_a_dated_name_is_the_same_lane(between: Between) -> None:
    """One model by two names: no other lane, no other conversation; counted as it was asked."""
    first = between.open(FIRST, model=MODELS[2])
    between.answer(first)
    second = between.open(going_on(), model=MODELS[3])
    assert told(second) == "extended"
    assert lane(first) == lane(second)
    assert between.answer(second).cache_read > SIZE
    assert second.model == MODELS[3]


def test_nothing_is_lost_that_was_not_cached(between: Between) -> None:
    """Without markers in the messages, a choice of tools that changes costs nothing."""
    between.open([user(text("hi"))])
    told_of = between.open([user(text("hi")), ANSWER, user(IMAGE)], tool_choice={"type": "any"})
    assert told(told_of) == "extended"


def test_a_choice_is_compared_with_the_last_one_that_was_cached(between: Between) -> None:
    """A request without markers between reads nothing and writes nothing."""
    between.answer(between.open(FIRST))
    bare = [user(text("once upon a time " * 300))]
    between.answer(between.open([*bare, ANSWER, user(text("?"))], tool_choice={"type": "any"}))
    third = [*bare, ANSWER, user(text("?")), ANSWER, user(text("!", marked=True))]
    asked = between.open(third)
    assert told(asked) == "extended"
    assert between.answer(asked).cache_read > 2 * SIZE


NUMBERS: Final = itertools.count()
BLOCKS: Final = st.sampled_from(["text", "tool_use", "tool_result"])


def block(kind: str) -> dict[str, Any]:
    if kind == "text":
        return text("so")
    if kind == "tool_use":
        return {"type": "tool_use", "id": "t", "name": "t", "input": {}}
    return {"type": "tool_result", "tool_use_id": "t", "content": "ok"}


@pytest.fixture(scope="module", params=["B", "A"])
def placing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Between, bool]:
    """A sidecar, and whether it places markers by itself."""
    places = request.param == "A"
    directory = tmp_path_factory.mktemp("bundle")
    return Between(directory, Placing("A") if places else None), places


@given(data=st.data())
def test_the_look_back_is_the_providers(placing: tuple[Between, bool], data: st.DataObject) -> None:
    """However blocks lie in messages and wherever markers stand, automatic ones included.

    What is said to be lost is not read, and what is not is.
    """
    between, places = placing
    between.cache.clear()
    contract = between.answer(between.open([user(text("hi"))], session="")).prompt
    session = f"session {next(NUMBERS)}"
    automatic = not places and data.draw(st.booleans())
    messages: list[dict[str, Any]] = [user(text("once upon a time " * 300))]
    for turn in range(3):
        for _ in range(data.draw(st.integers(0, 2)) if turn else 0):
            kinds = data.draw(st.lists(BLOCKS, max_size=2)) * data.draw(st.integers(0, 12))
            messages += (ANSWER, user(*(block(kind) for kind in kinds), text("and")))
        if turn:
            messages += (ANSWER, user(text(f"? {turn}")))
        sent = json.loads(json.dumps(messages))
        blocks = [block for message in sent for block in message["content"]]
        if not (places or automatic):
            for marked in data.draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=2)):
                marked["cache_control"] = FIVE
        fields = {"cache_control": FIVE} if automatic else {}
        asked = between.open(sent, session=session, **fields)
        read = between.answer(asked).cache_read
        if turn:
            lost = told(asked) == "look_back_exceeded"
            assert lost or told(asked) == "extended"
            assert lost is (read < contract)
