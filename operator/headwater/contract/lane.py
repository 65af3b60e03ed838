"""Which of the provider's caches a request uses, and what must not change in a conversation.

Pure. Caches never cross lanes: a conversation that goes to another lane leaves all that it has
cached behind, the shared prefix included.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, Self

import msgspec

from headwater.contract.assembly import Request
from headwater.contract.digest import Digest
from headwater.contract.markers import kind
from headwater.contract.reasons import Reason, RefusalError


class Settings(NamedTuple):
    """Settings of a request's body that a whole conversation keeps.

    `thinking` is a fingerprint. Empty is the provider's default, whether it is spelled out or not.
    """

    model: str
    thinking: str
    effort: str
    speed: str


class Lane(msgspec.Struct, frozen=True):
    """What keys the provider's cache of a contract: caches never cross lanes.

    Source: the provider's pages on prompt caching (workspace, model, thinking, speed, citations),
    structured outputs (format) and cache diagnostics (beta headers), as of 2026-08-22; effort
    rewrote the whole prefix on some models. `credential` is a fingerprint, `workspace` that of
    the workspace header, `format` that of `output_config` without the effort. Where the provider
    documents two spellings as equal, they are one lane.
    """

    credential: str
    model: str
    digest: Digest
    workspace: str = ""
    thinking: str = ""
    effort: str = ""
    speed: str = ""
    format: str = ""
    citations: bool = False
    betas: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        request: Request,
        digest: Digest,
        *,
        credential: str,
        model: str | None = None,
        workspace: str = "",
        betas: Iterable[str] = (),
    ) -> Self:
        """Return the lane of a request.

        `model` is the one name of a model that has several, where it is not the request's.
        `betas` are values of `anthropic-beta` headers.
        """
        names = {name.strip() for value in betas for name in value.split(",")}
        output = _object(request.fields.get("output_config"))
        effort = output.pop("effort", None)
        return cls(
            credential=credential,
            model=request.text("model") or "" if model is None else model,
            digest=digest,
            workspace=workspace,
            thinking=_thinking(request.fields.get("thinking")),
            effort=_unless(_DEFAULT_EFFORT, effort if isinstance(effort, str) else ""),
            speed=_unless(_DEFAULT_SPEED, request.text("speed") or ""),
            format=_fingerprint(output) if output else "",
            citations=request.cites,
            betas=tuple(sorted(names - {""})),
        )

    @property
    def settings(self) -> Settings:
        """Return the part of it that a conversation keeps."""
        return Settings(self.model, self.thinking, self.effort, self.speed)

    @property
    def plain(self) -> bool:
        """Whether only credential, model and digest key it, as in a warmer's requests."""
        return self == Lane(self.credential, self.model, self.digest)


_CHANGED: Final = (
    (Reason.MODEL_CHANGED, "model"),
    (Reason.THINKING_CHANGED, "thinking"),
    (Reason.EFFORT_CHANGED, "output_config.effort"),
    (Reason.SPEED_CHANGED, "speed"),
)
"""What another value of each setting is called, in the order of the settings."""


def check_settings(begun: Settings, now: Settings) -> None:
    """A conversation keeps the settings that it began with.

    Raises:
        RefusalError: it does not.
    """
    for (reason, place), before, after in zip(_CHANGED, begun, now, strict=True):
        if before != after:
            raise RefusalError(
                reason,
                f"{place} is another one than at the beginning of this conversation, and what is"
                " cached of it, the shared prefix included, does not follow: keep it, or give what"
                " is a conversation of its own an x-headwater-session of its own.",
                place,
            )


def tool_choice(request: Request) -> str:
    """Return a fingerprint of what a request says of the choice of tools; empty for the default.

    It is no part of the lane: another choice loses the messages alone.
    """
    choice = _object(request.fields.get("tool_choice"))
    if choice.get("disable_parallel_tool_use") is False:
        del choice["disable_parallel_tool_use"]
    return "" if choice in ({}, {"type": "auto"}) else _fingerprint(choice, order="sorted")


_DEFAULT_EFFORT: Final = "high"
_DEFAULT_SPEED: Final = "standard"
_OFF: Final = "disabled"
"""Explicit values that the provider documents as the same as none (its pages on effort, fast mode
and extended thinking, as of 2026-08-22)."""


def _unless(default: str, value: str) -> str:
    return "" if value == default else value


def _thinking(raw: msgspec.Raw | None) -> str:
    if raw is None or kind(raw) == b"n":
        return ""
    value = _value(raw)
    if isinstance(value, dict) and value.get("type") == _OFF:
        return ""
    return _fingerprint(value, order="sorted")


def _object(raw: msgspec.Raw | None) -> dict[str, Any]:
    """Return the members of an object that are set; none where it is no object."""
    value = None if raw is None else _value(raw)
    if not isinstance(value, dict):
        return {}
    return {key: member for key, member in value.items() if member is not None}


def _value(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the provider will refuse it


def _fingerprint(value: object, *, order: Literal["sorted"] | None = None) -> str:
    """Return a short name for a small value, however it is spaced.

    Of a schema the order of keys counts: the provider writes answers in that order.
    """
    return hashlib.sha256(msgspec.json.encode(value, order=order)).hexdigest()[:12]
