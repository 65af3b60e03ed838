"""A conversation only grows, whoever asks; it can be saved, and it knows what it costs."""

import asyncio
import datetime as dt
import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater
from tests.cluster.waiting import scaled
from tests.unit.client.test_request import MARKER, SHARED, blocks, markers
from tests.unit.sidecar.bundles import MODEL

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)
CONTENTS = st.text(st.characters(codec="utf-8"), min_size=1) | st.lists(
    st.builds(
        lambda value: {"type": "tool_result", "tool_use_id": "t", "content": [], "is": value}, JSON
    ),
    min_size=1,
    max_size=3,
)


def answer(text: str = "y", **usage: int) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}], "usage": usage}


def begun(**options: Any) -> headwater.Conversation:
    return headwater.Conversation(SHARED, **{"model": MODEL, "max_tokens": 50, **options})


def unmarked(value: Any) -> Any:
    """A message without markers, its text as blocks."""
    if isinstance(value, dict):
        plain = {key: unmarked(each) for key, each in value.items() if key != "cache_control"}
        if isinstance(plain.get("content"), str):
            plain["content"] = [{"type": "text", "text": plain["content"]}]
        return plain
    return [unmarked(each) for each in value] if isinstance(value, list) else value


@given(turns=st.lists(st.tuples(CONTENTS, CONTENTS), min_size=2, max_size=5))
def test_each_turn_extends_the_one_before_to_the_byte(turns: list[tuple[Any, Any]]) -> None:
    """Tools and system included, and only the markers move."""
    talk = begun(
        system="own", tools=headwater.tools({"name": "t", "input_schema": {}}, deferred=True)
    )
    before = ""
    for said, answered in turns:
        talk.user(said)
        request = talk.request()
        now = json.dumps([request["tools"], request["system"], unmarked(request["messages"])])
        assert now.startswith(before[:-2])
        before = now
        talk.add({"content": answered})


@given(turns=st.lists(st.tuples(CONTENTS, CONTENTS), max_size=4), waiting=st.booleans())
def test_what_is_saved_is_resumed_without_losing_a_byte(
    turns: list[tuple[Any, Any]], *, waiting: bool
) -> None:
    talk = begun(system="own", documents=["d"], strategy="C", metadata={"user_id": "u"})
    for said, answered in turns:
        talk.user(said)
        talk.request()
        talk.add({"content": answered, "usage": {"input_tokens": 7, "output_tokens": 1}})
    talk.user("last")
    if waiting:
        talk.request()
    other = headwater.Conversation.resume(SHARED, talk.save())
    assert other.save() == talk.save()
    assert json.dumps(other.request()) == json.dumps(talk.request())
    assert (other.cost, other.usage, other.session) == (talk.cost, talk.usage, talk.session)


def test_what_was_handed_out_can_be_changed_without_harm() -> None:
    talk = begun()
    talk.user("a")
    talk.request()["messages"][0]["content"] = "other"
    talk.messages[0]["role"] = "assistant"
    assert talk.messages == [{"role": "user", "content": "a"}]


def test_a_list_that_grows_is_followed() -> None:
    """For programs whose framework keeps the history."""
    talk = begun()
    kept: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    talk.follow(kept)
    kept += [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    talk.follow(kept)
    assert talk.messages == kept


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        (
            lambda kept: kept[0].update(content="aXc"),
            "messages[0].content",
            "at character 1 it was 'bc' and is 'Xc'",
        ),
        (lambda kept: kept.pop(0), "messages[0].content", "it was 'abc' and is"),
        (lambda kept: kept[1]["content"].pop(), "messages[1].content[1]", "is None"),
        (
            lambda kept: kept[1]["content"][0].update(text="2026"),
            "messages[1].content[0].text",
            "is '2026'",
        ),
        (lambda kept: kept.reverse(), "messages[0].content", "it was 'abc'"),
        (lambda kept: kept.clear(), "messages[0]", "is None"),
    ],
)
def test_a_history_that_someone_changed_is_refused_with_the_first_difference(
    change: Any, where: str, said: str
) -> None:
    talk = begun()
    kept: list[Any] = [
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": blocks(2)},
    ]
    talk.follow(kept)
    change(kept)
    with pytest.raises(headwater.HistoryError, match=said) as error:
        talk.follow(kept)
    assert error.value.where == where
    assert len(talk.messages) == 2


def test_what_changes_is_injected_at_the_tail() -> None:
    talk = begun()
    talk.user("question")
    talk.inject("It is Monday.")
    talk.inject("Skill: refunds", role="system")
    assert [message["role"] for message in talk.request()["messages"]] == ["user", "user", "system"]


@pytest.mark.parametrize(("results", "places"), [(18, 1), (19, 2), (60, 2)])
def test_many_tool_results_mark_where_the_last_request_ended(results: int, places: int) -> None:
    """Else what it wrote would be out of the provider's sight."""
    talk = begun(strategy="C", system="own")
    talk.user("go")
    talk.request()
    talk.add(answer())
    talk.user(blocks(results))
    found = [place for place in markers(talk.request()) if place.startswith(".messages")]
    assert len(found) == places
    assert places == 1 or found[0] == ".messages[0].content[0]"


@pytest.mark.parametrize("name", ["model", "system", "tools", "thinking", "output_config"])
def test_what_its_cache_depends_on_is_frozen(name: str) -> None:
    talk = begun()
    talk.user("a")
    with pytest.raises(headwater.RequestError, match="frozen with the beginning"):
        talk.request(**{name: "x"})
    assert talk.request(temperature=1)["temperature"] == 1


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda talk: talk.request(), "there are none yet"),
        (lambda talk: talk.user(""), "length >= 1"),
        (
            lambda talk: talk.user([{"type": "text", "text": "x", "cache_control": MARKER}]),
            "places its",
        ),
        (lambda talk: talk.add({"content": []}), "no content"),
        (lambda talk: talk.add("text"), "no content"),
        (lambda talk: headwater.Conversation.resume(SHARED, b"{}"), "no saved conversation"),
        (
            lambda talk: headwater.Conversation.resume(headwater.declare(system="x"), talk.save()),
            "on the contract v1",
        ),
    ],
)
def test_what_is_no_turn_is_refused(act: Any, said: str) -> None:
    with pytest.raises(headwater.RequestError, match=said):
        act(begun())


def test_a_second_thread_has_to_wait_for_the_answer() -> None:
    """Its question would get between a question and its answer."""
    talk = begun()
    talk.user("first")
    talk.request()
    raised: list[Exception] = []

    def other() -> None:
        try:
            talk.user("second")
        except headwater.BusyError as error:
            raised.append(error)

    def run() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    run()
    assert len(raised) == 1
    assert talk.request()["messages"] == talk.request()["messages"]  # a retry is no second turn
    talk.cancel()
    run()
    assert len(raised) == 1
    assert [message["content"] for message in talk.messages] == ["first", "second"]


async def test_a_second_task_has_to_wait_unless_the_first_is_gone() -> None:
    talk = begun()

    async def ask() -> None:
        talk.user("question")
        talk.request()
        await asyncio.sleep(0)

    first = asyncio.create_task(ask())
    await asyncio.sleep(0)
    with pytest.raises(headwater.BusyError, match="cancel what will not come"):
        talk.user("x")
    await first
    talk.user("x")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_it_knows_what_it_cost_and_how_long_it_is_warm() -> None:
    """At list price, against no cache at all."""
    clock = Clock()
    talk = begun(clock=clock)
    assert (talk.warm_until, talk.likely_warm) == (None, False)
    talk.user("a")
    talk.request()
    talk.add(answer(input_tokens=10, cache_creation_input_tokens=4000, output_tokens=5))
    talk.user("b")
    clock.now += 100
    talk.request()
    talk.add(answer(input_tokens=10, cache_read_input_tokens=4000, output_tokens=5))
    assert (talk.usage.cache_read, talk.usage.cache_write_5m, talk.usage.output) == (4000, 4000, 10)
    assert talk.cost is not None
    assert talk.cost.uncached == Decimal("0.04035")
    assert talk.cost.savings == Decimal("0.013")
    assert talk.likely_warm
    assert talk.warm_until == dt.datetime.fromtimestamp(1_000_400, dt.UTC)
    clock.now += 300
    assert not talk.likely_warm


def test_where_a_price_is_not_known_none_is_said() -> None:
    talk = begun(model="claude-unknown")
    talk.user("a")
    talk.request()
    talk.add(answer(input_tokens=10))
    assert talk.cost is None
    assert talk.keep_alive(dt.timedelta(minutes=8)) is None


@pytest.mark.parametrize(
    ("minutes", "chance", "pays"),
    [
        (4, 1.0, False),  # warm until then anyway
        (6, 1.0, True),
        (45, 1.0, True),  # one rewrite pays for eleven pings
        (50, 1.0, False),
        (6, 0.05, False),
        (45, 0.5, False),
    ],
)
def test_it_is_kept_alive_only_where_that_pays(minutes: int, chance: float, *, pays: bool) -> None:
    """Pings against the rewrite that they save."""
    talk = begun(clock=Clock())
    assert talk.keep_alive(dt.timedelta(minutes=minutes)) is None
    talk.user("a")
    request = talk.request()
    talk.add(answer(input_tokens=10, cache_creation_input_tokens=20_000))
    ping = talk.keep_alive(dt.timedelta(minutes=minutes), chance=chance)
    assert (ping is not None) == pays
    if ping is not None:
        assert ping == request | {"max_tokens": 0}


def test_a_subagent_is_a_lane_of_its_own() -> None:
    """Another model on the same contract, its history apart."""
    talk = begun()
    helper = talk.subagent(model="claude-haiku-4-5", max_tokens=5)
    helper.user("look it up")
    assert talk.subagents == [helper]
    assert helper.session != talk.session
    assert helper.request()["model"] == "claude-haiku-4-5"
    assert talk.messages == []


def test_a_trigger_warms_in_the_background_where_that_is_of_use() -> None:
    """Once, for the events that are named, and again where it failed."""
    clock = Clock()
    talk = begun(clock=clock, triggers=["open_analysis_page"])
    sent: list[dict[str, Any]] = []
    done = threading.Event()

    def send(**request: Any) -> None:
        sent.append(request)
        done.set()

    assert not talk.trigger("close_page", send)
    assert talk.trigger("open_analysis_page", send)
    assert done.wait(scaled(30))
    assert sent[0]["max_tokens"] == 0
    assert not talk.trigger("open_analysis_page", send)
    clock.now += 301
    assert talk.trigger("open_analysis_page", send)


async def test_a_trigger_that_failed_leaves_it_cold(caplog: pytest.LogCaptureFixture) -> None:
    """With asyncio it is a task; nobody waits for it, and nobody is disturbed."""
    talk = begun(triggers=["upload_document"])

    async def send(**request: Any) -> None:
        raise ConnectionError

    assert talk.trigger("upload_document", send)
    assert talk._warming is not None
    await talk._warming
    assert not talk.likely_warm
    assert "could not be warmed" in caplog.text


def test_its_cost_is_what_is_billed() -> None:
    """Searches, a compaction and a speed stand in the answer's usage."""
    talk = begun()
    talk.user("a")
    talk.request()
    said = answer(input_tokens=10, output_tokens=5)
    said["usage"] |= {
        "speed": "fast",
        "server_tool_use": {"web_search_requests": 2},
        "iterations": [
            {"type": "compaction", "input_tokens": 1_000},
            {"type": "message", "input_tokens": 10, "output_tokens": 5},
        ],
    }
    talk.add(said)
    assert talk.cost is not None
    # (1,010 * 5 + 5 * 25) * 2 in millionths, and two searches.
    assert talk.cost.actual == Decimal("0.03035")
    assert talk.usage.uncached == 1_010


@pytest.mark.parametrize("usage", [{"input_tokens": -1}, {"service_tier": "priority"}, None])
def test_where_its_cost_cannot_be_told_none_is_said(usage: Any) -> None:
    """Rather than one that is too small."""
    talk = begun()
    talk.user("a")
    talk.request()
    talk.add(answer() | {"usage": usage})
    assert talk.cost is None
