"""Batches: each entry on the contract, all else as it came, however the bytes are cut."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.batch import BatchSplicer, Part
from headwater.contract.reasons import Reason, RefusalError
from tests.unit.sidecar import bundles

CONTRACT = prepare(bundles.contract("v1"))


def entry(number: int, **params: Any) -> dict[str, Any]:
    hello = {"max_tokens": 5, "messages": [{"role": "user", "content": f"{number}"}]}
    return {"custom_id": f"c{number}", "params": {"model": bundles.MODEL, **hello, **params}}


def put(request: Request) -> list[Part]:
    return list(splice(request, CONTRACT, (bundles.MODEL,)).parts)


def refuse(error: RefusalError) -> None:
    raise error


def sent(body: bytes, size: int = 1 << 20, refused: Any = refuse) -> bytes:
    """Return what is sent for a body that comes in pieces of a size."""

    def parts() -> Iterator[Part]:
        splicer = BatchSplicer(put, refused)
        for start in range(0, len(body), size):
            yield from splicer.feed(body[start : start + size])
        splicer.end()

    return b"".join(parts())


def alone(params: dict[str, Any]) -> bytes:
    return splice(Request.read(json.dumps(params).encode()), CONTRACT, (bundles.MODEL,)).body


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 20])
def test_each_entry_gets_the_contract_and_keeps_its_bytes(size: int) -> None:
    """The same bytes as each request alone; ids, unknown fields and their order stay."""
    entries = [entry(1), entry(2, system="mine"), {"odd": 1.0, **entry(3, metadata={"a": 1.50})}]
    body = json.dumps({"x": '\u00e9 [{\\"', "requests": entries, "y": [1, {"requests": 2}]})
    got = sent(body.encode(), size)
    found = json.loads(got)
    assert list(found) == ["x", "requests", "y"]
    assert [list(each) for each in found["requests"]] == [list(each) for each in entries]
    for each in entries:
        assert alone(each["params"]) in got
    assert b'"odd":1.0' in got
    assert got.startswith(b'{"x": "\\u00e9 [{')
    assert got.endswith(b', "y": [1, {"requests": 2}]}')


STRINGS = st.text(st.sampled_from('"\\{}[],: \té\u2028😀requests'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)


@given(
    before=st.dictionaries(STRINGS.filter(lambda key: key != "requests"), VALUES, max_size=3),
    after=st.dictionaries(STRINGS.filter(lambda key: key != "requests"), VALUES, max_size=3),
    own=st.lists(st.dictionaries(STRINGS, VALUES, max_size=3), max_size=4),
    ascii_=st.booleans(),
    indent=st.sampled_from([None, 1]),
    size=st.integers(1, 40),
)
def test_whatever_stands_round_the_entries(
    before: dict[str, Any],
    after: dict[str, Any],
    own: list[dict[str, Any]],
    size: int,
    indent: int | None,
    *,
    ascii_: bool,
) -> None:
    """Wherever a read ends, entries are found where a parser of JSON finds them."""
    requests = [
        {**fields, **entry(number, metadata={"user_id": str(fields)})}
        for number, fields in enumerate(own)
    ]
    whole = {**before, "requests": requests, **{key: after[key] for key in after.keys() - before}}
    body = json.dumps(whole, ensure_ascii=ascii_, indent=indent).encode()
    got = json.loads(sent(body, size))
    assert {key: value for key, value in got.items() if key != "requests"} == {
        key: value for key, value in whole.items() if key != "requests"
    }
    assert got["requests"] == [
        {**each, "params": json.loads(alone(each["params"]))} for each in requests
    ]


def test_a_key_may_be_escaped() -> None:
    """It is the same key to the provider."""
    body = json.dumps({"requests": [entry(1)]}).replace("requests", "r\\u0065quests").encode()
    for size in (1, 5, 1000):
        assert alone(entry(1)["params"]) in sent(body, size)


def test_each_of_two_lists_is_on_the_contract() -> None:
    """Whichever the provider takes."""
    one = json.dumps([entry(1)])
    body = f'{{"requests": {one}, "requests": {one}}}'.encode()
    assert sent(body).count(alone(entry(1)["params"])) == 2


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("body", "reason", "place"),
    [
        (b"", Reason.NOT_JSON, ""),
        (b"no", Reason.NOT_JSON, ""),
        (b'"requests"', Reason.NOT_JSON, ""),
        (b"[]", Reason.NOT_JSON, ""),
        (b"}", Reason.NOT_JSON, ""),
        (b'{"requests":[', Reason.NOT_JSON, ""),
        (b'{"requests":[]}{"requests":[]}', Reason.NOT_JSON, ""),
        (b'{"requests":[]} x', Reason.NOT_JSON, ""),
        (b'{"requests":[],"x":"\xff"}', Reason.NOT_JSON, ""),
        (b'{"requests":[],"x":"\xc3', Reason.NOT_JSON, ""),
        (b'{"requests":[],"x":tru}', Reason.NOT_JSON, ""),
        (b'{"requests":[],/*"*/"x":1}', Reason.NOT_JSON, ""),
        (b'{"requests":[],}', Reason.NOT_JSON, ""),
        (b'{"requests":[}]', Reason.NOT_JSON, ""),
        (b"{}", Reason.MALFORMED, "requests"),
        (b'{"requests":{}}', Reason.MALFORMED, "requests"),
        (b'{"requests":5}', Reason.MALFORMED, "requests"),
        (b'{"requests":[1]}', Reason.MALFORMED, "requests"),
        (b'{"requests":["a"]}', Reason.MALFORMED, "requests"),
        (b'{"requests":[[]]}', Reason.MALFORMED, "requests"),
        (b'{"requests":[{"custom_id":"a"}]}', Reason.MALFORMED, "requests[0].params"),
        (b'{"requests":[{"params":[]}]}', Reason.NOT_JSON, "requests[0].params"),
        (b'{"requests":[{"params":{}]]}', Reason.NOT_JSON, "requests[0]"),
        (
            json.dumps({"requests": [entry(1), entry(2, model="other")]}).encode(),
            Reason.OTHER_MODEL,
            "requests[1].params.model",
        ),
        (
            json.dumps({"requests": [entry(1, tools=[{"name": "t"}])]}).encode(),
            Reason.OWN_TOOLS,
            "requests[0].params.tools[0]",
        ),
    ],
)
def test_one_entry_refuses_the_batch(body: bytes, reason: Reason, place: str, size: int) -> None:
    """The place names the entry and what in it is wrong."""
    with pytest.raises(RefusalError) as error:
        sent(body, size)
    assert (error.value.reason, error.value.place) == (reason, place)


def test_where_it_is_only_observed_an_entry_passes_as_it_came() -> None:
    """The others are on the contract."""
    bad = entry(1, tools=[{"name": "t"}])
    told: list[RefusalError] = []
    got = sent(json.dumps({"requests": [bad, entry(2)]}).encode(), 50, told.append)
    assert json.dumps(bad).encode() in got
    assert alone(entry(2)["params"]) in got
    assert [(each.reason, each.place) for each in told] == [
        (Reason.OWN_TOOLS, "requests[0].params.tools[0]")
    ]


def test_an_empty_batch_passes() -> None:
    """The provider says what it thinks of one."""
    assert sent(b'{"requests": []}') == b'{"requests": []}'


def test_what_stands_besides_the_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Space does not count, of which an indented batch has much."""
    monkeypatch.setattr("headwater.contract.batch._REST_LIMIT", 1000)
    indented = json.dumps({"requests": [entry(n) for n in range(200)]}, indent=8).encode()
    assert sent(indented, 500).count(CONTRACT.system) == 200
    splicer = BatchSplicer(put, refuse)
    list(splicer.feed(b'{"x":['))
    for _ in range(16):
        list(splicer.feed(b"1," * 30))
    with pytest.raises(RefusalError, match="more than 1,000 bytes besides its requests"):
        list(splicer.feed(b"1," * 30))


def test_an_entry_that_never_ends_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a request may have is refused when it has come, not at its end."""
    monkeypatch.setattr("headwater.contract.batch._ENTRY_LIMIT", 1000)
    splicer = BatchSplicer(put, refuse)
    assert b"".join(splicer.feed(b'{"requests":[')) == b'{"requests":['
    for _ in range(15):
        assert b"".join(splicer.feed(b'{"a":"' + b"x" * 60)) == b""
    with pytest.raises(RefusalError, match="more than 1,000 bytes"):
        list(splicer.feed(b"x" * 60))
