"""What a request becomes, and what is refused: tables first, then laws."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headwater.contract.assembly import (
    PreparedContract,
    Request,
    check_utf8,
    prepare,
    splice,
)
from headwater.contract.content import TTL, canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError
from headwater.contract.lane import Lane
from headwater.contract.markers import MARKER_LIMIT
from headwater.contract.reasons import Reason, RefusalError

MODEL = "claude-opus-4-8"
MODELS = (MODEL, "claude-haiku-5-5")
TEXT = "Windows\r\n trailing \u0061\u0301 e\u0301 \U0001f30a </s> 'q' \"q\" \u2028"
FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def a_contract(*, ttl: TTL = "5m", tools: bool = True, system: bool = True) -> bytes:
    return canonical_bytes(
        content(
            tools=[{"name": "search", "input_schema": {"type": "object"}}] if tools else [],
            system=[{"text": TEXT}] if system else [],
            ttl=ttl,
        )
    )


def body(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": MODEL, "max_tokens": 5, "messages": messages, **fields}).encode()


def spliced(request: bytes, contract: bytes | None = None) -> Any:
    prepared = prepare(contract or a_contract())
    return json.loads(splice(Request.read(request), prepared, MODELS).body)


def block(text: str, marker: dict[str, str] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": text, **({"cache_control": marker} if marker else {})}


def test_contract_bytes_are_sent_as_they_were_hashed() -> None:
    """CRLF, decomposed accents, emoji and quotes leave as the canonical bytes have them."""
    canonical = a_contract()
    tools, system = canonical.split(b',"system":[')[1].rsplit(b'],"tools":[', 1)[::-1]
    sent = splice(Request.read(body(system="mine")), prepare(canonical), MODELS).body
    assert b'"system":[' + system + b',{"type":"text","text":"mine"}]' in sent
    assert b'"tools":[' + tools.removesuffix(b"]}") + b"]" in sent


def test_every_other_value_keeps_its_bytes_and_place() -> None:
    """Spaces, escapes, number forms and the order of keys are the team's affair."""
    request = (
        b'{ "temperature" : 1.0,\n"messages":  [ {"role":"user","content":"\\u00e9 \\/ 1e2"} ],'
        b'"x":1E+2 ,"model":"claude-opus-4-8" , "metadata":{ "user_id":"u"} }'
    )
    sent = splice(Request.read(request), prepare(a_contract(tools=False)), MODELS).body
    assert sent.endswith(
        b',"temperature":1.0,"messages":[ {"role":"user","content":"\\u00e9 \\/ 1e2"} ],"x":1E+2,'
        b'"model":"claude-opus-4-8","metadata":{ "user_id":"u"}}'
    )


@pytest.mark.parametrize(
    ("given_system", "theirs"),
    [
        (..., []),
        (None, []),
        ("", []),
        ("team", [block("team")]),
        ([], []),
        ([block("team", FIVE)], [block("team", FIVE)]),
    ],
)
def test_system_follows_the_contracts_in_all_its_forms(given_system: Any, theirs: Any) -> None:
    """A string becomes a block, an empty one nothing; blocks come after the contract's."""
    request = body() if given_system is ... else body(system=given_system)
    system = spliced(request)["system"]
    assert system[0]["text"] == TEXT
    assert system[1:] == theirs


def test_deferred_tools_follow_the_contracts() -> None:
    """Tools that stay out of the prefix are the team's to add."""
    deferred = {"name": "mine", "input_schema": {}, "defer_loading": True}
    assert [tool["name"] for tool in spliced(body(tools=[deferred]))["tools"]] == ["search", "mine"]
    assert spliced(body(tools=[deferred]), a_contract(tools=False))["tools"] == [deferred]
    assert "tools" not in spliced(body(), a_contract(tools=False))
    assert "system" not in spliced(body(), a_contract(system=False))


MARKED = [{"role": "user", "content": [block(str(n), FIVE) for n in range(2)]}]
NESTED = [
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [block("a"), block("b", FIVE)],
                "cache_control": FIVE,
            },
            {"type": "document", "source": {"type": "content", "content": [block("c", FIVE)]}},
        ],
    }
]


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"hello", Reason.NOT_JSON),
        (b"[]", Reason.NOT_JSON),
        (b"model=claude", Reason.NOT_JSON),
        (b'{"model":"claude-opus-4-8"', Reason.NOT_JSON),
        (b'\xff{"model":1}', Reason.NOT_JSON),
        (body(messages="?").replace(b"?", b"\xff"), Reason.NOT_JSON),
        (body(messages="?").replace(b"?", b"\xed\xa0\x80"), Reason.NOT_JSON),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.NOT_JSON),
        (b"{}", Reason.OTHER_MODEL),
        (body(model="claude-sonnet-5"), Reason.OTHER_MODEL),
        (body(model=7), Reason.OTHER_MODEL),
        (body(tools=[{"name": "mine", "input_schema": {}}]), Reason.OWN_TOOLS),
        (body(tools=[{"name": "mine", "defer_loading": False}]), Reason.OWN_TOOLS),
        (body(tools={"name": "mine"}), Reason.MALFORMED),
        (body(system=5), Reason.MALFORMED),
        (body(system=["x", {"cache_control": 5}]), Reason.MALFORMED),
        (body(messages={"cache_control": {}}), Reason.MALFORMED),
        (body(system=[block("x", FIVE)], messages=MARKED), Reason.TOO_MANY_MARKERS),
        (body(messages=MARKED, cache_control=FIVE), Reason.TOO_MANY_MARKERS),
        (body(messages=NESTED), Reason.TOO_MANY_MARKERS),
        (body(messages=MARKED, tools=[{"defer_loading": True, "cache_control": FIVE}]),
         Reason.TOO_MANY_MARKERS),
        (body(system=[block("x", HOUR)]), Reason.TTL_ORDER),
        (body(cache_control=HOUR), Reason.TTL_ORDER),
    ],
)  # fmt: skip
def test_what_would_break_the_prefix_is_refused(request_body: bytes, reason: Reason) -> None:
    """Each rule has a reason for machines and a sentence for people."""
    with pytest.raises(RefusalError) as refused:
        spliced(request_body)
    assert refused.value.reason is reason
    assert len(str(refused.value)) > 40


def test_markers_are_found_however_they_are_spelled() -> None:
    """JSON may escape letters, so a census by substring alone could be passed by."""
    hidden = body(messages=MARKED, system=[block("x", FIVE)]).replace(b"cache_c", rb"cache\u005Fc")
    with pytest.raises(RefusalError) as refused:
        spliced(hidden)
    assert refused.value.reason is Reason.TOO_MANY_MARKERS


def test_what_only_looks_like_a_marker_is_none() -> None:
    """Tool inputs, schemas and texts may speak of cache_control; null is no marker."""
    use = {"type": "tool_use", "id": "t", "name": "n", "input": {"cache_control": FIVE}}
    request = body(
        messages=[
            {"role": "user", "content": '"cache_control": {"type": "ephemeral"}'},
            {"role": "assistant", "content": [use] * 5},
            {"role": "user", "content": [{**block("x"), "cache_control": None}] * 5},
        ],
        tools=[{"name": "n", "defer_loading": True, "input_schema": {"cache_control": FIVE}}] * 5,
    )
    assert splice(Request.read(request), prepare(a_contract()), MODELS).own_markers == 0


def test_an_hours_contract_takes_five_minutes_after_it() -> None:
    """Longer first: the team's shorter markers may follow, its hours too."""
    hour = a_contract(ttl="1h")
    assert prepare(hour).ttl == "1h"
    spliced(body(system=[block("x", HOUR)], cache_control=FIVE), hour)
    with pytest.raises(RefusalError):
        spliced(body(system=[block("x", FIVE)], cache_control=HOUR), hour)


@pytest.mark.parametrize(
    "broken",
    [
        b"{}",
        b"[]",
        b'{"format":2,"provider":"anthropic","system":[],"tools":[]}',
        b"\xff",
        a_contract().replace(b"object", b"obj\xffct"),
    ],
)
def test_only_contracts_are_prepared(broken: bytes) -> None:
    """Bytes that verify but are no contract of this format are a bundle's fault."""
    with pytest.raises(BundleError):
        prepare(broken)


def test_conversation_is_the_session_then_the_user_then_the_first_message() -> None:
    """The most specific key that the application gives."""
    request = Request.read(body(metadata={"user_id": "user-1"}))
    assert request.conversation("session-1") == "session-1"
    assert request.conversation(None) == "user-1"
    assert request.conversation("\udcff") == "?", "bytes of a header that are no UTF-8"
    assert Request.read(body()).conversation(None) == Request.read(body()).conversation("")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
        [{"role": "user", "content": [block("hello", FIVE)]}],
        [{"content": [{"text": "hello", "type": "text"}], "role": "user"}],
    ],
)
def test_first_message_names_the_conversation_in_every_turn(messages: Any) -> None:
    """Clients move their markers and grow the history; it is one conversation."""
    first = Request.read(body()).conversation(None)
    assert first != ""
    assert Request.read(body(messages=messages)).conversation(None) == first


@pytest.mark.parametrize("content", ["short", "\u00e9 [{\\" * 9_000, "x" * 70_000])
def test_a_conversation_keeps_its_name_when_it_grows_long(content: str) -> None:
    """Of a long history its first message alone is read, and that gives the same name."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n in range(300)]
    names = {
        Request.read(
            json.dumps({"messages": turns[:length]}, ensure_ascii=ascii_only).encode()
        ).conversation(None)
        for length in (1, 3, 300)
        for ascii_only in (True, False)
    }
    assert len(names) == 1


@pytest.mark.parametrize("messages", [[], {}, None, "x", [5], [{"role": "assistant"}]])
def test_conversation_of_what_the_provider_will_refuse_is_empty(messages: Any) -> None:
    """A key never fails a request."""
    assert Request.read(body(messages=messages)).conversation(None) == ""


@pytest.mark.parametrize(
    "other",
    [
        {"model": "claude-haiku-5-5"},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"output_config": {"effort": "low"}},
        {"speed": "fast"},
    ],
)
def test_what_keys_the_cache_keys_the_lane(other: dict[str, Any]) -> None:
    """Caches never cross lanes."""
    digest = Digest.of(b"")
    usual = Lane.of(Request.read(body()), digest, credential="c")
    assert usual.plain
    assert Lane.of(Request.read(body(**other)), digest, credential="c") != usual
    assert Lane.of(Request.read(body()), digest, credential="d") != usual
    betas = [
        Lane.of(Request.read(body()), digest, credential="c", betas=given)
        for given in (["a,b"], ["b", " a "], ["a, b,"])
    ]
    assert usual not in betas
    assert len(set(betas)) == 1


def test_lane_does_not_depend_on_spelling() -> None:
    """Spaces and order of keys do not reach the provider's cache key."""
    digest = Digest.of(b"")
    lanes = {
        Lane.of(Request.read(data), digest, credential="c")
        for data in (
            b'{"model":"m","thinking":{"type":"enabled","budget_tokens":1024}}',
            b'{"model" : "m", "thinking": {"budget_tokens":1024, "type": "enabled"} }',
        )
    }
    assert len(lanes) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)  # fmt: skip
MARKERS = st.sampled_from([None, None, FIVE, HOUR])
BLOCKS = st.lists(st.builds(block, st.text(min_size=1, max_size=4), MARKERS), max_size=3)
REQUESTS = st.fixed_dictionaries(
    {"model": st.just(MODEL)},
    optional={
        "system": BLOCKS | st.text(),
        "messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": BLOCKS})),
        "cache_control": st.sampled_from([FIVE, HOUR]),
        "tools": st.lists(
            st.builds(
                lambda name, marker: (
                    {"name": name, "defer_loading": True}
                    | ({"cache_control": marker} if marker else {})
                ),
                st.text(min_size=1, max_size=4),
                MARKERS,
            ),
            max_size=2,
        ),
        "extra": JSON,
    },
)
TTLS: tuple[TTL, ...] = ("5m", "1h")
CONTRACTS = [prepare(a_contract(ttl=ttl, tools=tools)) for ttl in TTLS for tools in (True, False)]


def markers(value: Any) -> int:
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(markers, value.values()))
    return sum(map(markers, value)) if isinstance(value, list) else 0


def rising(request: dict[str, Any], contract: PreparedContract) -> bool:
    """Whether a 1h marker stands after a 5m one, said again in the plainest way."""
    system = request.get("system", [])
    ttls = [
        *contract.tool_ttls,
        *(ttl_of(part) for part in request.get("tools", [])),
        *contract.system_ttls,
        *(ttl_of(part) for part in (system if isinstance(system, list) else [])),
        *(ttl_of(part) for each in request.get("messages", []) for part in each["content"]),
        ttl_of(request),
    ]
    present = [ttl for ttl in ttls if ttl]
    return present != sorted(present)  # "1h" sorts before "5m"


def ttl_of(part: dict[str, Any]) -> str | None:
    marker = part.get("cache_control")
    return None if marker is None else marker.get("ttl", "5m")


@given(request=REQUESTS, contract=st.sampled_from(CONTRACTS), ascii_only=st.booleans())
def test_laws(request: dict[str, Any], contract: PreparedContract, *, ascii_only: bool) -> None:
    """Sent or refused; if sent, the contract verbatim, all markers, at most four, all values."""
    encoded = json.dumps(request, ensure_ascii=ascii_only).encode("utf-8", "replace")
    own = markers({key: value for key, value in request.items() if key != "extra"})
    if own > MARKER_LIMIT - contract.markers:
        with pytest.raises(RefusalError) as refused:
            splice(Request.read(encoded), contract, MODELS)
        assert refused.value.reason is Reason.TOO_MANY_MARKERS
        return
    try:
        sent = splice(Request.read(encoded), contract, MODELS)
    except RefusalError:
        assume(not rising(request, contract))
        raise
    assert not rising(request, contract)
    assert sent.own_markers == own
    assert own + contract.markers <= MARKER_LIMIT
    assert contract.tools in sent.body
    assert contract.system in sent.body
    before = msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
    after = msgspec.json.decode(sent.body, type=dict[str, msgspec.Raw])
    for key in before.keys() - {"system", "tools"}:
        assert bytes(after[key]) == bytes(before[key])
    assert after.keys() - before.keys() <= {"system", "tools"}
    document = json.loads(sent.body)
    document.pop("extra", None)
    assert markers(document) == own + contract.markers


@given(st.integers(0, 5), st.lists(st.sampled_from(["é", "€", "😀", "a"]), min_size=1), st.data())
def test_what_passes_is_utf8_to_the_last_value(
    shift: int, characters: list[str], data: Any
) -> None:
    """Wherever the pieces end in which it is looked at; one byte off is told with its place."""
    text = ("a" * shift + "".join(characters) * (200_000 // len(characters))).encode()
    check_utf8(text)
    place = data.draw(st.integers(0, len(text) - 1))
    broken = text[:place] + b"\xff" + text[place:]
    with pytest.raises(UnicodeDecodeError) as expected:
        broken.decode()
    with pytest.raises(msgspec.DecodeError, match=f"byte {expected.value.start:,} is no UTF-8"):
        check_utf8(broken)
