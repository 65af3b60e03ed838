"""What `Contract.request` puts together, what it marks, and what it refuses."""

import copy
import datetime as dt
import json
import math
import tempfile
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater
from headwater.contract.content import TTL, canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import pick
from headwater.sidecar.bundles import BundleFollower
from tests.unit.sidecar import bundles

MARKER = {"type": "ephemeral", "ttl": "5m"}


def user(text: str = "x") -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(content: Any = "y") -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def blocks(count: int, name: str = "b") -> list[dict[str, Any]]:
    return [{"type": "text", "text": f"{name} {number}"} for number in range(count)]


@pytest.fixture
def contract(tmp_path: Path) -> headwater.Contract:
    bundles.write_plain(tmp_path / "bundle", bundles.make())
    return headwater.load(tmp_path / "bundle")


def ask(contract: headwater.Contract, **fields: Any) -> dict[str, Any]:
    return contract.request(**{"model": bundles.MODEL, "messages": [user()], **fields})


def markers(request: Any, path: str = "") -> dict[str, str]:
    """Each marker's place and TTL, in the provider's order."""
    found = {}
    if isinstance(request, dict):
        keys = ["tools", "system", "messages"] if not path else list(request)
        for key in keys:
            if key == "cache_control":
                found[path] = request[key]["ttl"]
            elif key in request:
                found |= markers(request[key], f"{path}.{key}")
    elif isinstance(request, list):
        for index, each in enumerate(request):
            found |= markers(each, f"{path}[{index}]")
    return found


def test_what_is_sent_hashes_to_the_published_digest(contract: headwater.Contract) -> None:
    """Tools and system of a request without own parts are the contract, to the byte."""
    sent = ask(contract)
    declared = content(tools=sent["tools"], system=sent["system"], ttl="5m")
    assert Digest.of(canonical_bytes(declared)) == contract.digest


def test_the_order_is_tools_system_documents_history_question(
    contract: headwater.Contract,
) -> None:
    """The stablest comes first, and the program's own part only after the contract's."""
    own = {"name": "own", "input_schema": {"type": "object"}, "defer_loading": True}
    image = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    sent = ask(
        contract,
        tools=[own],
        system="You bill.",
        documents=["Prices", image],
        messages=[user("first"), assistant(), user("question")],
        max_tokens=5,
    )
    assert [tool["name"] for tool in sent["tools"]] == ["search", "own"]
    assert sent["system"][-1] == {"type": "text", "text": "You bill."}
    kinds = [block["type"] for block in sent["messages"][0]["content"]]
    assert kinds == ["document", "document", "text"]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["max_tokens"] == 5


def test_the_callers_objects_are_neither_changed_nor_shared(contract: headwater.Contract) -> None:
    """What was given can be given again; what was got can be changed without harm to others."""
    mine = {
        "messages": [user(), assistant(blocks(3)), user("z")],
        "system": blocks(2),
        "documents": ["d"],
        "strategy": "C",
    }
    before = copy.deepcopy(mine)
    first = ask(contract, **mine)
    assert mine == before
    again = copy.deepcopy(first)
    for part in (*first["tools"], *first["system"], *first["messages"]):
        part.clear()
    assert mine == before
    assert ask(contract, **mine) == again


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        ("B", {}),
        ("A", {".messages[2].content[0]": "5m"}),
        ("C", {".system[1]": "5m", ".messages[2].content[0]": "5m"}),
    ],
)
def test_a_strategy_adds_its_markers_to_the_contracts_two(
    strategy: str, own: dict[str, str], contract: headwater.Contract
) -> None:
    sent = ask(contract, strategy=strategy, system="own", messages=[user(), assistant(), user("?")])
    assert markers(sent) == {".tools[0]": "5m", ".system[0]": "5m"} | own


def test_documents_are_marked_instead_of_the_system(contract: headwater.Contract) -> None:
    """They come last of what the program's requests share."""
    sent = ask(contract, strategy="C", system="own", documents=["a", "b"])
    assert ".messages[0].content[1]" in markers(sent)
    assert ".system[1]" not in markers(sent)


@pytest.mark.parametrize(
    ("grown", "marked"),
    [
        (19, [".messages[3].content[17]"]),
        (20, [".messages[1].content[0]", ".messages[3].content[18]"]),
        (200, [".messages[1].content[0]", ".messages[3].content[198]"]),
    ],
)
def test_a_turn_of_many_blocks_marks_where_the_last_request_ended(
    grown: int, marked: list[str], contract: headwater.Contract
) -> None:
    """The provider looks 20 blocks back for what an earlier request wrote."""
    history = [assistant("hello"), user(), assistant(blocks(1)), user()]
    history[3]["content"] = blocks(grown - 1)
    found = markers(ask(contract, strategy="C", system="own", messages=history))
    assert [place for place in found if "messages" in place] == marked
    assert len(found) <= 4


def test_thinking_is_never_marked(contract: headwater.Contract) -> None:
    """The provider refuses a marker there."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    said = assistant([{"type": "text", "text": "a"}, thought])
    found = markers(ask(contract, strategy="A", messages=[user(), said]))
    assert ".messages[1].content[0]" in found


@given(
    sizes=st.lists(st.integers(1, 30), max_size=9),
    strategy=st.sampled_from(["A", "B", "C"]),
    own=st.booleans(),
    documents=st.integers(0, 2),
)
def test_there_are_never_more_than_four_markers(
    sizes: list[int], strategy: str, *, own: bool, documents: int
) -> None:
    """Nor one that the provider refuses for its order."""
    history = [
        {"role": ("user", "assistant")[index % 2], "content": blocks(size)}
        for index, size in enumerate([1, *sizes])
    ]
    sent = ask(
        SHARED,
        messages=history,
        strategy=strategy,
        system="own" if own else (),
        documents=["d"] * documents,
    )
    found = markers(sent)
    assert 2 <= len(found) <= 4
    assert len(found) == 2 or strategy != "B"


def shared() -> headwater.Contract:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "v1.json"
        file.write_bytes(bundles.contract("v1"))
        return headwater.load(file)


SHARED = shared()


def hour(tmp_path: Path) -> headwater.Contract:
    (tmp_path / "hour.json").write_bytes(bundles.contract("v1", ttl="1h"))
    return headwater.load(tmp_path / "hour.json")


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_own_markers_after_an_hour_may_be_either(ttl: TTL, tmp_path: Path) -> None:
    found = markers(ask(hour(tmp_path), strategy="A", ttl=ttl))
    assert list(found.values()) == ["1h", "1h", ttl]


@pytest.mark.parametrize(
    ("fields", "reason", "place"),
    [
        ({"model": "claude-none"}, "other_model", "model"),
        ({"tools": [{"name": "own", "input_schema": {}}]}, "own_tools", "tools[0]"),
        ({"strategy": "A", "ttl": "1h"}, "ttl_order", "messages"),
        (
            {"system": [{"type": "text", "text": str(n), "cache_control": MARKER} for n in "123"]},
            "too_many_markers",
            "system",
        ),
        ({"cache_control": MARKER, "strategy": "C", "system": "own"}, "too_many_markers", ""),
    ],
)
def test_what_would_break_the_shared_prefix_is_refused_as_by_the_sidecar(
    fields: dict[str, Any], reason: str, place: str, contract: headwater.Contract
) -> None:
    with pytest.raises(headwater.RefusalError) as error:
        ask(contract, **fields)
    assert error.value.reason == reason
    assert error.value.place == place or not place


SELF: list[Any] = []
SELF.append(SELF)


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"messages": [user("")]}, "messages[0].content", "length >= 1"),
        ({"messages": [user(), assistant([*blocks(1), {"type": "text", "text": ""}])]},
         "messages[1].content[1].text", "length >= 1"),
        ({"system": [{"type": "text", "text": ""}]}, "system[0].text", "length >= 1"),
        ({"messages": [user("\ud83d")]}, "messages[0].content", "half of a surrogate pair"),
        ({"system": "\ud83d"}, "system[0].text", "half of a surrogate pair"),
        ({"messages": [assistant([{"type": "tool_use", "input": {"n": math.nan}}])]},
         "messages[0].content[0].input.n", "no JSON number"),
        ({"messages": [assistant([{"type": "tool_use", "input": {"n": {1, 2}}}])]},
         "messages[0].content[0].input.n", "set is no JSON"),
        ({"messages": [assistant([{"type": "tool_use", "input": {"at": dt.date(2026, 1, 1)}}])]},
         "messages[0].content[0].input.at", "date is no JSON"),
        ({"messages": [assistant([{"type": "tool_use", "input": {"n": Decimal(1)}}])]},
         "messages[0].content[0].input.n", "Decimal is no JSON"),
        ({"messages": [assistant([{"type": "tool_use", "input": {1: 2}}])]},
         "messages[0].content[0].input", "no other keys"),
        ({"messages": [assistant([{"type": "tool_use", "input": object()}])]},
         "messages[0].content[0].input", "object is no JSON"),
        ({"messages": [assistant([{"type": "tool_use", "input": SELF}])]},
         "messages[0]", "nested too deeply"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "robot"),
        ({"messages": ["x"]}, "messages[0]", "Expected `object`"),
        ({"messages": [{"role": "user"}]}, "messages[0]", "content"),
        ({"messages": [user()] * 100_001}, "messages", "100,001 of them"),
        ({"messages": [assistant()], "documents": ["d"]}, "messages[0]", "first message"),
        ({"documents": [{"text": "x"}]}, "documents[0]", "type"),
    ],
)  # fmt: skip
def test_what_is_not_json_or_not_the_providers_form_is_refused_with_its_place(
    fields: dict[str, Any], where: str, said: str, contract: headwater.Contract
) -> None:
    with pytest.raises(headwater.RequestError, match=said) as error:
        ask(contract, **fields)
    assert error.value.where == where


def test_a_hundred_thousand_messages_are_taken(contract: headwater.Contract) -> None:
    assert len(ask(contract, messages=[user()] * 100_000)["messages"]) == 100_000


def test_an_answer_of_the_sdk_can_be_sent_back_as_it_is(contract: headwater.Contract) -> None:
    """Its blocks are pydantic models, and go on as what they hold."""
    from anthropic.types import TextBlock  # noqa: PLC0415 - the library itself never imports it

    said = assistant([TextBlock(type="text", text="café")])
    sent = ask(contract, messages=[user(), said, user()])
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "café"}]


@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    weight=st.integers(0, 10_000),
)
def test_a_conversation_gets_the_revision_that_the_sidecar_gives_it(key: str, weight: int) -> None:
    """Wherever a conversation is asked about, the split is one."""
    declared = bundles.make(candidate="v2", weight=weight)
    followed = BundleFollower(Path("/nowhere"))
    followed._serve(declared)
    served = followed.served
    assert served is not None

    class Still:
        def served(self, now: float) -> Any:
            return served

    contract = headwater.Contract(Still(), lambda: 0.0)
    sent = contract.request(model=bundles.MODEL, messages=[user()], session=key)
    text = f"{bundles.TEXT} {pick(declared.route, key).version} "
    assert sent["system"][0]["text"] == text


def test_a_conversation_stays_on_its_revision_while_it_may_be_warm(tmp_path: Path) -> None:
    """A promotion does not throw away what is cached of it, and an abort does."""
    bundles.write_plain(tmp_path, bundles.make())
    now = [0.0]
    loaded = headwater.load(tmp_path)
    contract = headwater.Contract(loaded._source, lambda: now[0])

    def version(session: str) -> str:
        return str(ask(contract, session=session)["system"][0]["text"]).split()[-1]

    assert version("mine") == "v1"
    promoted = bundles.make("v2")
    retained = bundles.make("v1")
    route = replace(promoted.route, retained=retained.route.revisions)
    bundles.write_plain(
        tmp_path,
        replace(promoted, route=route, contracts={**promoted.contracts, **retained.contracts}),
    )
    now[0] += 1e6  # the machine's clock, for the poll
    contract._source.served(now[0])
    now[0] = 200.0
    assert (version("mine"), version("new")) == ("v1", "v2")
    now[0] += 301
    assert version("mine") == "v2"


def test_threads_may_share_a_contract(contract: headwater.Contract) -> None:
    """Whoever asks at the same time gets the same bytes."""
    asked = [json.dumps(ask(contract, session="s"))]

    def work() -> None:
        asked.extend(json.dumps(ask(contract, session=f"s{number}")) for number in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 801
    assert len(set(asked)) == 1
