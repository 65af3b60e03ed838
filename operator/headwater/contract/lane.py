"""Which of the provider's caches a request uses, and what must not change in a conversation.

Pure. Caches never cross lanes: a conversation that goes to another lane leaves all that it has
cached behind, the shared prefix included.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

import msgspec

from headwater.contract.assembly import Request
from headwater.contract.digest import Digest
from headwater.contract.markers import kind
from headwater.contract.reasons import Reason, RefusalError


class Settings(NamedTuple):
    """What a request's body sets of its lane; `thinking` is a fingerprint, all may be empty."""

    model: str
    thinking: str
    effort: str
    speed: str


class Lane(msgspec.Struct, frozen=True):
    """What keys the provider's cache of a contract: caches never cross lanes.

    Source: the provider's pages on prompt caching (workspace, model, thinking, speed) and
    cache diagnostics (beta headers), as of 2026-08-22; effort rewrote the whole prefix on some
    models. `credential` is a fingerprint, `workspace` that of the workspace header.
    """

    credential: str
    model: str
    digest: Digest
    workspace: str = ""
    thinking: str = ""
    effort: str = ""
    speed: str = ""
    betas: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        request: Request,
        digest: Digest,
        *,
        credential: str,
        workspace: str = "",
        betas: Iterable[str] = (),
    ) -> Self:
        """The lane of a request; `betas` are values of `anthropic-beta` headers."""
        names = {name.strip() for value in betas for name in value.split(",")}
        return cls(
            credential=credential,
            model=request.text("model") or "",
            digest=digest,
            workspace=workspace,
            thinking=_fingerprint(request.fields.get("thinking")),
            effort=_effort(request.fields.get("output_config")),
            speed=request.text("speed") or "",
            betas=tuple(sorted(names - {""})),
        )

    @property
    def settings(self) -> Settings:
        """What of it a request sets in its body."""
        return Settings(self.model, self.thinking, self.effort, self.speed)

    @property
    def plain(self) -> bool:
        """Whether only credential, model and digest key it, as in a warmer's requests."""
        return not (self.workspace or self.thinking or self.effort or self.speed or self.betas)


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


class _OutputConfig(msgspec.Struct):
    effort: str | None = None


_decode_output_config: Final = msgspec.json.Decoder(_OutputConfig).decode


def _fingerprint(raw: msgspec.Raw | None) -> str:
    """A short name for a small value, however it is spaced and ordered."""
    if raw is None or kind(raw) == b"n":
        return ""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None  # the provider will refuse it
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]


def _effort(raw: msgspec.Raw | None) -> str:
    if raw is None or kind(raw) != b"{":
        return ""
    try:
        return _decode_output_config(raw).effort or ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
