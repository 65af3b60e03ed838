"""A head that came before is known by its bytes, and nothing else is taken for it."""

import pytest

from headwater.sidecar.relay.message import Known, Shape

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nX-Api-Key: k\r\n\r\n"
FLAT = [b"Host", b"a", b"X-Api-Key", b"k"]


def shape(*flat: bytes, keep: bool = True) -> Shape:
    return Shape(b"POST", b"/v1/messages", "1.1", [*FLAT, *flat], keep=keep)


def known() -> Known:
    data = bytearray(HEAD % b"2" + b"hi")
    found = Known.learn(shape(), data, len(data))
    assert found is not None
    return found


@pytest.mark.parametrize("body", [b"hi", b"", b"x" * 12_345])
def test_the_same_head_round_another_length_is_known(body: bytes) -> None:
    """What follows it is the body, from end to end."""
    data = HEAD % b"%d" % len(body) + body
    message = known().whole(bytearray(data + b"of a former read"), len(data))
    assert message is not None
    assert message.complete
    assert message.length == b"%d" % len(body)
    assert b"".join(message.pieces) == body


@pytest.mark.parametrize(
    "data",
    [
        HEAD % b"3" + b"hi",
        HEAD % b"2" + b"hi" + b"P",
        HEAD % b"+2" + b"hi",
        HEAD % b"2 " + b"hi",
        HEAD % b"\xb2" + b"hi",
        HEAD % b"0x2" + b"hi",
        HEAD % b"" + b"hi",
        HEAD % b"00000000002" + b"hi",
        HEAD % b"2\r\nContent-Length: 2" + b"hi",
        HEAD.replace(b"X-Api-Key", b"X-Api-Kez") % b"2" + b"hi",
        HEAD.replace(b"/v1", b"/v2") % b"2" + b"hi",
        (HEAD % b"2")[:-2] + b"hi",
        HEAD[:40],
        b"",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    """Another length than that of the body, another header, a part of a request, or two."""
    behind = HEAD % b"2" + b"hi"
    assert known().whole(bytearray(data), len(data)) is None
    assert known().whole(bytearray(data + behind[len(data) :]), len(data)) is None


@pytest.mark.parametrize(
    "told",
    [
        shape(b"Transfer-Encoding", b"chunked"),
        shape(b"Expect", b"100-continue"),
        shape(b"Host", b"b"),
        shape(keep=False),
    ],
)
def test_only_what_is_plain_is_learnt(told: Shape) -> None:
    """Chunks, an expectation, a fault or a last request are for the parser each time."""
    data = bytearray(HEAD % b"2" + b"hi")
    assert Known.learn(told, data, len(data)) is None
    assert Known.learn(shape(), data, 30) is None
