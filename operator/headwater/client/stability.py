"""Whether a program builds the same request everywhere: a test for its CI.

The builder runs in fresh processes that differ from the first in one thing each, so that the thing
that changed the request is known. The clock stands still unless it is what differs.
"""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from headwater.contract.errors import HeadwaterError

_RUNNER: Final = Path(__file__).with_name("builder.py")
_SECONDS: Final = 60.0
_CHILD: Final = "HEADWATER_BUILDER"
"""The environment variable by which a process knows that it was started to run a builder."""
_SHOWN: Final = 60


class UnstableError(HeadwaterError, AssertionError):
    """A request that is not built alike everywhere: a failed assertion, to pytest as well.

    Attributes:
        where: the path of the first difference, as in `system[0].text`.
        offset: the first byte of the request's JSON that differs.
        cause: what made the difference, as in `clock`.
        lines: where the program asks for it, as `file:line`; empty where nobody knows.
    """

    def __init__(
        self, message: str, *, where: str, offset: int, cause: str, lines: list[str]
    ) -> None:
        """Keep what tools want apart from the sentence."""
        self.where = where
        self.offset = offset
        self.cause = cause
        self.lines = lines
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _World:
    """A process that differs from the first in one thing: `cause`."""

    cause: str
    remedy: str
    environment: Mapping[str, str] = field(default_factory=dict)


_BASE: Final = {
    "PYTHONHASHSEED": "1",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "USER": "alice",
    "LOGNAME": "alice",
    "HEADWATER_CLOCK": "1700000000",
    "HEADWATER_LISTING": "forwards",
}
_WORLDS: Final = (
    _World(
        "chance", "leave out the uuid, random number or memory address, or take it from the caller"
    ),
    *(_World("set order", "sort it", {"PYTHONHASHSEED": seed}) for seed in "234"),
    _World(
        "clock",
        "leave out the time, or append it at the tail (Conversation.inject)",
        {"HEADWATER_CLOCK": "1731415926"},
    ),
    _World("time zone", "use UTC, or leave out the time", {"TZ": "Pacific/Auckland"}),
    _World(
        "locale",
        "format numbers and dates without the locale",
        {"LC_ALL": "C", "LANG": "de_DE.UTF-8"},
    ),
    _World("directory order", "sort what is listed", {"HEADWATER_LISTING": "backwards"}),
    _World(
        "user name or path",
        "leave out what depends on who runs it and where",
        {"USER": "bob", "LOGNAME": "bob"},
    ),
)


class _Run(msgspec.Struct):
    request: msgspec.Raw
    asked: dict[str, list[str]]


def assert_stable(build_request: Callable[[], Any] | str) -> None:
    """Run a builder of requests in ten processes, and compare what it builds to the byte.

    `build_request` takes no argument and returns a request, or any other JSON; it is a function of
    a module or file, or its name as `package.module:function`.

    Call it in a test: where a module calls it while it is imported, the process that imports the
    module to run its builder is refused.

    Raises:
        UnstableError: two requests differ; an AssertionError, too.
        HeadwaterError: the builder cannot be run, or takes longer than a minute.
    """
    if _CHILD in os.environ:
        raise HeadwaterError(
            "this process was started by assert_stable to run a builder, and may start no other:"
            " call assert_stable in a test, and not where the module is imported."
        )
    target = build_request if isinstance(build_request, str) else _target(build_request)
    first = _run(target, {})
    for world in _WORLDS:
        other = _run(target, world.environment)
        if bytes(other.request) != bytes(first.request):
            raise _unstable(target, world, first, other)


def _target(function: Callable[[], Any]) -> str:
    name = getattr(function, "__qualname__", "<lambda>")
    if "<" in name:
        raise HeadwaterError(f"{name} is no function of a module: another process has to find it.")
    return f"{inspect.getfile(function)}:{name}"


def _run(target: str, environment: Mapping[str, str]) -> _Run:
    with subprocess.Popen(  # noqa: S603 - this interpreter, and the caller's own builder
        [sys.executable, "-P", str(_RUNNER), target],
        env={
            **os.environ,
            **_BASE,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            _CHILD: "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output, log = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise HeadwaterError(f"{target} did not end within {_SECONDS:.0f} s.") from error
        finally:
            if process.returncode is None:
                _end(process)
    if process.returncode:
        raise HeadwaterError(f"{target} cannot be run:\n{log.decode(errors='replace')}")
    return msgspec.json.decode(output.rpartition(b"\n")[2], type=_Run)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, where the system has groups of processes."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _unstable(target: str, world: _World, first: _Run, other: _Run) -> UnstableError:
    one, two = bytes(first.request), bytes(other.request)
    pairs = enumerate(zip(one, two, strict=False))
    offset = next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))
    where, ours, theirs = _difference(msgspec.json.decode(one), msgspec.json.decode(two), "")
    asked = other.asked.get(world.cause, [])
    at = f" It is asked for in {', '.join(asked)}." if asked else ""
    return UnstableError(
        f"{target} builds another request where only the {world.cause} differs: {where}, byte"
        f" {offset}: {ours} became {theirs}.{at} So no cache is found again: {world.remedy}.",
        where=where,
        offset=offset,
        cause=world.cause,
        lines=asked,
    )


def _difference(one: Any, two: Any, where: str) -> tuple[str, str, str]:
    """The path of the first difference, and both sides from there on."""
    if isinstance(one, dict) and isinstance(two, dict):
        if list(one) != list(two):
            return f"{where or 'request'} (keys)", str(list(one))[:_SHOWN], str(list(two))[:_SHOWN]
        key = next(key for key in one if _text(one[key]) != _text(two[key]))
        return _difference(one[key], two[key], f"{where}.{key}" if where else key)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        index = next(at for at, each in enumerate(one) if _text(each) != _text(two[at]))
        return _difference(one[index], two[index], f"{where}[{index}]")
    ours, theirs = (each if isinstance(each, str) else str(each) for each in (one, two))
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    start = max(0, at - 12)
    return where or "request", repr(ours[start : at + _SHOWN]), repr(theirs[start : at + _SHOWN])


def _text(value: Any) -> bytes:
    """With the order of keys, which `==` does not see and the provider does."""
    return msgspec.json.encode(value)
