"""Whether a request extends the one before it: what clients send, and laws."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.assembly import Request
from headwater.sidecar.continuity import Break, Said, followed

FIVE: Final = {"type": "ephemeral"}
HOUR: Final = {"type": "ephemeral", "ttl": "1h"}


def text(said: str, marker: dict[str, str] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": said} | ({"cache_control": marker} if marker else {})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if type(content[0]) is str else [*content]}


def answer(said: str) -> dict[str, Any]:
    return {"role": "assistant", "content": said}


def read(*messages: Any, indent: int | None = None, **fields: Any) -> Request:
    return Request.read(json.dumps({"messages": messages, **fields}, indent=indent).encode())


def broken(*turns: Request) -> Break | None:
    """How the last of some requests fails to extend the one before it."""
    said: Said | None = None
    found = None
    for turn in turns:
        said, found = followed(said, turn)
    return found


ONE, TWO, THREE = user("one"), answer('two "}]'), user("three")
QUOTING: Final = user('say "cache_control": {"type": "ephemeral"}, [{"type" and }]')


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([ONE], [ONE, TWO, THREE], None),
        ([ONE], [ONE], None),
        ([], [ONE], None),
        ([ONE, TWO, THREE], [ONE], Break.SHORTENED),
        ([ONE, TWO], [ONE, answer('TWO "}]'), THREE], Break.REWRITTEN),
        ([user("it is 10:01")], [user("it is 10:02"), TWO, THREE], Break.REWRITTEN),
        ([user(text("one"))], [user(text("one"), text("more")), TWO], Break.REWRITTEN),
        # Markers move with the last message: the text before stays a block, or becomes a string.
        ([user(text("a", FIVE))], [user(text("a")), TWO, user(text("c", FIVE))], None),
        ([user(text("a", FIVE))], [user("a"), TWO, user(text("c", FIVE))], None),
        ([user(text("a", FIVE))], [user("a"), TWO], None),
        ([user(text("a"))], [user(text("a", HOUR)), TWO], None),
        ([user(text("a"), text("b", FIVE))], [user(text("a"), text("b")), TWO], None),
        (
            [user(text("doc", HOUR)), TWO, user(text('a\\"', FIVE))],
            [user(text("doc", HOUR)), TWO, user('a\\"'), TWO, user(text("b", FIVE))],
            None,
        ),
        ([user(text("a", FIVE))], [user("b"), TWO, user(text("c", FIVE))], Break.REWRITTEN),
        ([user(text("a", FIVE))], [user(text("b")), TWO], Break.REWRITTEN),
        ([QUOTING], [QUOTING, TWO], None),
        ([QUOTING, user(text("a", FIVE))], [QUOTING, user("a"), TWO], None),
    ],
)
def test_what_extends(before: list[Any], after: list[Any], expected: Break | None) -> None:
    """Turns that only grow do, whatever their markers do; a digit that changed does not."""
    assert broken(read(*before), read(*after)) is expected


def test_white_space_before_the_end_is_no_part_of_it() -> None:
    """A client may indent."""
    assert broken(read(ONE, indent=2), read(ONE, TWO, indent=2)) is None
    assert broken(read(ONE, indent=2), read(TWO, ONE, indent=2)) is Break.REWRITTEN


def test_tools_and_system_come_first() -> None:
    """In the provider's order: what comes first is what loses the cache."""
    tool = {"name": "t", "defer_loading": True}
    mine = read(ONE, system="a", tools=[tool])
    assert broken(mine, read(ONE, TWO, system="a", tools=[tool])) is None
    assert broken(mine, read(system="b", tools=[tool, tool])) is Break.TOOLS
    assert broken(mine, read(system="b", tools=[tool])) is Break.SYSTEM
    assert broken(mine, read(ONE, tools=[tool])) is Break.SYSTEM
    assert broken(read(ONE, system=[text("a")]), read(ONE, system=[text("a", FIVE)])) is None


def test_what_is_compared_is_the_request_before() -> None:
    """A break is told once; from there the conversation goes on."""
    assert broken(read(ONE), read(THREE), read(THREE, TWO)) is None
    assert broken(read(ONE), read(THREE), read(ONE, TWO)) is Break.REWRITTEN


def test_no_text_is_kept() -> None:
    """Numbers alone."""
    said, _ = followed(None, read(user("my secret"), system="another"))
    assert all(type(n) is int for n in (said.tools, said.system, *said.blocks, *said.strings))


@pytest.mark.parametrize("messages", [None, 5, "x", {}, []])
def test_what_is_no_list_is_left_to_the_provider(messages: object) -> None:
    """It is compared as it is, and nothing fails."""
    body = json.dumps({"messages": messages}).encode()
    assert broken(Request.read(body), Request.read(body)) is None
    assert broken(Request.read(b"{}"), Request.read(body), Request.read(b"{}")) in [*Break, None]


_TEXTS: Final = st.text('ab"\\{}[]:, \n', min_size=1, max_size=8)


@given(texts=st.lists(_TEXTS, min_size=2, max_size=6), data=st.data())
def test_growing_extends_and_any_other_text_does_not(texts: list[str], data: st.DataObject) -> None:
    """However clients mark what they send last, and write it when it is no longer the last."""
    strings = data.draw(st.booleans())

    def turn(upto: int) -> Request:
        sent = [
            user(text(said, FIVE)) if at == upto - 1 else user(said if strings else text(said))
            for at, said in enumerate(texts[:upto])
        ]
        return read(*sent)

    upto = data.draw(st.integers(1, len(texts) - 1))
    assert broken(turn(upto), turn(upto + 1)) is None
    changed = data.draw(st.integers(0, upto - 1))
    before = turn(upto)
    texts[changed] = data.draw(_TEXTS.filter(lambda other: other != texts[changed]))
    assert broken(before, turn(upto + 1)) in (Break.REWRITTEN, Break.SHORTENED)
