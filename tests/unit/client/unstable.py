"""Builders of requests, each with one habit that no cache survives; run by test_stability."""

import datetime as dt
import getpass
import locale
import time
import uuid
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = {"search", "refund", "ship", "bill", "track"}


def stable() -> dict[str, Any]:
    return {
        "model": "m",
        "system": "s",
        "tools": sorted(NAMES),
        "files": sorted(map(str, HERE.iterdir())),
    }


def now() -> dict[str, Any]:
    return {"system": [{"type": "text", "text": f"It is {dt.datetime.now(dt.UTC):%H:%M}."}]}


def today() -> dict[str, Any]:
    return {"system": f"Today is {date.today()}."}  # noqa: DTZ011 - the habit itself


def seconds() -> dict[str, Any]:
    return {"system": f"at {time.time()}"}


def identifier() -> dict[str, Any]:
    return {"metadata": {"user_id": str(uuid.uuid4())}}


def address() -> dict[str, Any]:
    return {"system": f"You are {object()!r}."}


def unsorted() -> dict[str, Any]:
    return {"tools": [{"name": name} for name in NAMES]}


def keys() -> dict[str, Any]:
    return {"tools": [{"input_schema": dict.fromkeys(NAMES, 1)}]}


def listing() -> dict[str, Any]:
    return {"documents": [path.name for path in HERE.iterdir()]}


def person() -> dict[str, Any]:
    return {"system": f"You help {getpass.getuser()}."}


def zone() -> dict[str, Any]:
    return {"system": time.strftime("%H:%M", time.localtime(0))}


def local() -> dict[str, Any]:
    locale.setlocale(locale.LC_ALL, "")
    return {"system": f"Encode as {locale.getlocale()[1]}."}


def broken() -> dict[str, Any]:
    raise ValueError("no catalogue")
