"""Runs a builder of requests in a process whose clock stands still, and tells what it asked.

Started by `stability` as a file, before anything of the builder's is imported, so that
`from datetime import datetime` already finds the clock that stands still.
"""

import ast
import datetime as dt
import getpass
import importlib
import importlib.util
import os
import pathlib
import random
import sys
import sysconfig
import time
import traceback
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Self

_OWN: Final = __file__
_INSTALLED: Final = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_asked: dict[str, list[str]] = {}


def _note(cause: str) -> None:
    """Where the program itself, and no library, asked for something that differs."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != _OWN and not frame.filename.startswith((*_INSTALLED, "<")):
            line = f"{frame.filename}:{frame.lineno}"
            if line not in _asked.setdefault(cause, []):
                _asked[cause].append(line)
            return


def _noted(
    module: object, name: str, *causes: str, change: Callable[..., Any] | None = None
) -> None:
    """Let a function say that it was called, and give something else."""
    real = getattr(module, name)

    def called(*arguments: Any, **options: Any) -> Any:
        for cause in causes:
            _note(cause)
        return (change or real)(*arguments, **options)

    setattr(module, name, called)


def _stop_clock(now: float) -> None:
    class Stopped(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            _note("clock")
            _note("time zone")
            return cls.fromtimestamp(now, tz)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(dt.UTC).replace(tzinfo=None)

    class StoppedDate(dt.date):
        @classmethod
        def today(cls) -> Any:
            return Stopped.now().date()

    local, utc, text = time.localtime, time.gmtime, time.strftime
    _noted(time, "time", "clock", change=lambda: now)
    _noted(time, "time_ns", "clock", change=lambda: int(now * 1e9))
    for name, real in (("localtime", local), ("gmtime", utc)):
        _noted(time, name, "clock", "time zone", change=_at(real, now))
    _noted(time, "strftime", "clock", change=lambda form, of=None: text(form, of or local(now)))
    dt.datetime, dt.date = Stopped, StoppedDate  # type: ignore[misc]


def _at(real: Callable[..., Any], now: float) -> Callable[..., Any]:
    return lambda seconds=None: real(now if seconds is None else seconds)


def _turn_listings(*, backwards: bool) -> None:
    real_list, real_scan = os.listdir, os.scandir

    class Scan(list[Any]):
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """All was read already."""

        def __next__(self) -> Any:
            if not self:
                raise StopIteration
            return self.pop(0)

        def close(self) -> None:
            """The same."""

    def scan(path: Any = ".") -> Any:
        with real_scan(path) as entries:
            return Scan(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    def listing(path: Any = ".") -> Any:
        return sorted(real_list(path), reverse=backwards)

    _noted(os, "listdir", "directory order", change=listing)
    _noted(os, "scandir", "directory order", change=scan)


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(pathlib.Path(place).stem, place)
    assert spec is not None  # noqa: S101 - for the type checker: the name ends in .py
    assert spec.loader is not None  # noqa: S101 - the same
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _note_sets(module: ModuleType) -> None:
    """Where the program makes a set: nothing is called when its order is used."""
    source = getattr(module, "__file__", None) or ""
    if not source.endswith(".py"):
        return
    for node in ast.walk(ast.parse(pathlib.Path(source).read_bytes())):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        name = node.func.id if called else ""  # type: ignore[attr-defined] # just looked at
        if isinstance(node, ast.Set | ast.SetComp) or name in ("set", "frozenset"):
            line = f"{source}:{node.lineno}"  # type: ignore[attr-defined] # all of these have one
            _asked.setdefault("set order", []).append(line)


def main(target: str) -> None:
    """Print what the builder builds, and where it asked for what."""
    import msgspec  # noqa: PLC0415 - while the clock still runs

    _turn_listings(backwards=os.environ.pop("HEADWATER_LISTING") == "backwards")
    _stop_clock(float(os.environ.pop("HEADWATER_CLOCK")))
    for name in ("uuid1", "uuid4"):
        _noted(uuid, name, "chance")
    for name in ("random", "randint", "choice", "shuffle", "sample"):
        _noted(random, name, "chance")
    _noted(os, "urandom", "chance")
    _noted(getpass, "getuser", "user name or path")
    _noted(os.path, "expanduser", "user name or path")
    place, _, name = target.rpartition(":")
    found: Any = _module(place)
    _note_sets(found)
    for part in name.split("."):
        found = getattr(found, part)
    built = found()
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode({"request": built, "asked": _asked}))


main(sys.argv[1])
