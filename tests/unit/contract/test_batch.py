"""Batches: each entry on the contract, all else as it came, nothing sent in part."""

import json
from typing import Any

import pytest

from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.batch import Part, splice_batch
from headwater.contract.reasons import Reason, RefusalError
from tests.unit.sidecar import bundles

CONTRACT = prepare(bundles.contract("v1"))


def entry(number: int, **params: Any) -> dict[str, Any]:
    hello = {"max_tokens": 5, "messages": [{"role": "user", "content": f"{number}"}]}
    return {"custom_id": f"c{number}", "params": {"model": bundles.MODEL, **hello, **params}}


def put(request: Request) -> list[Part]:
    return list(splice(request, CONTRACT, (bundles.MODEL,)).parts)


def test_each_entry_gets_the_contract_and_keeps_its_bytes() -> None:
    """The same bytes as each request alone; ids, unknown fields and their order stay."""
    entries = [entry(1), entry(2, system="mine"), {"odd": 1.0, **entry(3, metadata={"a": 1.50})}]
    body = json.dumps({"x": "\u00e9", "requests": entries, "y": [1, 2]}).encode()
    sent = b"".join(splice_batch(body, put))
    found = json.loads(sent)
    assert list(found) == ["x", "requests", "y"]
    assert [list(each) for each in found["requests"]] == [list(each) for each in entries]
    for each in entries:
        alone = Request.read(json.dumps(each["params"]).encode())
        assert splice(alone, CONTRACT, (bundles.MODEL,)).body in sent
    assert b'"odd":1.0' in sent
    assert b'"x":"\\u00e9"' in sent


@pytest.mark.parametrize(
    ("body", "reason", "place"),
    [
        (b"no", Reason.NOT_JSON, ""),
        (b"[]", Reason.NOT_JSON, ""),
        (b"{}", Reason.MALFORMED, "requests"),
        (b'{"requests":{}}', Reason.MALFORMED, "requests"),
        (b'{"requests":[1]}', Reason.MALFORMED, "requests"),
        (b'{"requests":[{"custom_id":"a"}]}', Reason.MALFORMED, "requests[0].params"),
        (b'{"requests":[{"params":[]}]}', Reason.NOT_JSON, "requests[0].params"),
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
def test_one_entry_refuses_the_batch(body: bytes, reason: Reason, place: str) -> None:
    """The place names the entry and what in it is wrong."""
    with pytest.raises(RefusalError) as error:
        splice_batch(body, put)
    assert (error.value.reason, error.value.place) == (reason, place)


def test_an_empty_batch_passes() -> None:
    """The provider says what it thinks of one."""
    assert b"".join(splice_batch(b'{"requests": []}', put)) == b'{"requests":[]}'
