"""From a caller's values to JSON that is surely theirs, or an error that names the place."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from headwater.contract.errors import RequestError
from headwater.contract.markers import Marker
from headwater.providers.usage import FLAWED, Statement, statement_from_json

MESSAGE_LIMIT: Final = 100_000
"""Messages that the provider takes in one request (API reference, as of 2026-08-22)."""


_Text = Annotated[str, msgspec.Meta(min_length=1)]
"""The provider refuses an empty text."""
_Role = Literal["user", "assistant", "system"]
_ROLES: Final = frozenset(get_args(_Role))


class _Block(msgspec.Struct):
    type: str
    text: _Text | msgspec.UnsetType = msgspec.UNSET
    cache_control: Marker | None = None


class _Message(msgspec.Struct):
    role: _Role
    content: _Text | list[_Block]


def _dump(value: Any) -> Any:
    """The SDK's answers are pydantic models: a conversation goes on with what they hold."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is no JSON")
    return dump(mode="json", exclude_unset=True, by_alias=True)


_encode: Final = msgspec.json.Encoder(enc_hook=_dump).encode
_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_blocks: Final = msgspec.json.Decoder(list[_Block]).decode


def plain(value: Any, where: str) -> tuple[Any, bytes]:
    """A copy of JSON values in dicts, lists and strings of its own, and its UTF-8 text.

    Tuples become lists, and pydantic models what they hold.

    Raises:
        RequestError: something in it is not JSON, or does not come through JSON unchanged.
    """
    try:
        text = _encode(value)
        copy = msgspec.json.decode(text)
    except RecursionError as error:
        raise RequestError(where, "it is nested too deeply: is it part of itself?") from error
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        _explain(value, where)
        raise RequestError(where, f"it is no JSON ({error}).") from error
    if copy != value:
        _explain(value, where)
    return copy, text


def plain_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Copies of messages in the provider's form: no empty text, at most 100,000 of them.

    Raises:
        RequestError: they are not.
    """
    if len(messages) > MESSAGE_LIMIT:
        raise RequestError(
            "messages",
            f"{len(messages):,} of them, and the provider takes {MESSAGE_LIMIT:,}: begin a new"
            " conversation with a summary of this one.",
        )
    plainly = []
    for index, message in enumerate(messages):
        # Most of a long history is plain text, and need not go through JSON.
        if type(message) is dict and len(message) == 2:  # noqa: PLR2004 - role and content
            role, content = message.get("role"), message.get("content")
            if type(content) is str and content and content.isascii() and role in _ROLES:
                plainly.append({"role": role, "content": content})
                continue
        where = f"messages[{index}]"
        copy, text = plain(message, where)
        _of_form(_decode_message, text, where, "{role, content}")
        plainly.append(copy)
    return plainly


def plain_blocks(system: str | Sequence[Any], where: str = "system") -> list[dict[str, Any]]:
    """`plain` for a system prompt, a string being one block.

    Raises:
        RequestError: not a string or a list of blocks, or an empty one.
    """
    if isinstance(system, str):
        system = [{"type": "text", "text": system}]
    copy, text = plain(system, where)
    _of_form(_decode_blocks, text, where, "a string or a list of blocks")
    return list(copy)


def statement_of(answer: Any) -> Statement:
    """Return what an answer is billed for: one of the SDK's messages, or the same as a dict.

    Without a usage it is flawed: nothing can be said of its cost.
    """
    return statement_from_json(plain(answer, "answer")[1]) or FLAWED


def _of_form(decode: Callable[[bytes], Any], text: bytes, where: str, form: str) -> None:
    try:
        decode(text)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$")
        raise RequestError(
            f"{where}{place.rstrip('`')}", f"{said}; the provider takes {form}, no text empty."
        ) from error


def _explain(value: Any, where: str) -> None:
    """Raise at the first part that is not JSON; do nothing where all is, if in other types."""
    if hasattr(value, "model_dump"):
        value = _dump(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                where,
                f"character {error.start} is half of a surrogate pair, which UTF-8 cannot carry:"
                " was the text cut in the middle of a character?",
            ) from error
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RequestError(where, f"{value} is no JSON number: send null, or a text.")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                raise RequestError(where, f"the key {key!r} is no text: JSON has no other keys.")
            _explain(each, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _explain(each, f"{where}[{index}]")
    elif isinstance(value, int):
        if msgspec.json.decode(_encode(value)) != value:
            raise RequestError(where, "this number does not come through JSON: send it as text.")
    elif value is not None:
        raise RequestError(
            where,
            f"{type(value).__name__} is no JSON: turn it into text, numbers, lists and dicts, in"
            " one order and one spelling for ever.",
        )
