"""How surely an edited copy of a contract is recognised, and what looking for one costs."""

import random
import statistics
import time
from typing import Final

import msgspec

from bench.prompts import edits, prompts, rewritten
from bench.rows import Row
from headwater.contract.assembly import prepare
from headwater.contract.content import canonical_bytes, content
from headwater.contract.copies import Copies
from headwater.contract.divergence import Published
from headwater.contract.shingles import in_common

_PROMPTS: Final = 200
_ROUNDS: Final = 50
_BYTES: Final = 25_000
_HUGE: Final = 25_000_000


def measure() -> list[Row]:
    """200 prompts in 12 edits and as the version before; each prompt against the 199 others."""
    texts = prompts(_PROMPTS)
    versions = [_published(text) for text in texts]
    recognised = looked = 0
    for edit in edits().values():
        chance = random.Random(16)  # noqa: S311 - nothing secret
        for text, version in zip(texts, versions, strict=True):
            looked += 1
            recognised += _found(edit(text, chance), version)
    chance = random.Random(16)  # noqa: S311 - nothing secret
    for text, version in zip(texts, versions, strict=True):
        looked += 1
        current = _published(rewritten(text, chance))
        recognised += _found(f"Monday, 30 November 2026\n\n{text}", current, version)
    every = frozenset[int]().union(*(version.sketch for version in versions))
    shares = [
        len(found & other.sketch) / len(other.sketch)
        for text, version in zip(texts, versions, strict=True)
        for found in (in_common(every, text),)
        for other in versions
        if other is not version
    ]
    alarms = sum(2 * share > 1 for share in shares)
    return [
        Row("copies.recognised", round(recognised / looked, 4), "of all", ">= 0.99"),
        Row("copies.false_alarms", alarms, f"of {len(shares):,} pairs", "<= 0"),
        Row("copies.nearest_other", round(max(shares), 3), "of a prompt in another"),
        *_costs(texts),
    ]


def _costs(texts: list[str]) -> list[Row]:
    contract = _published(max(texts, key=len)[:_BYTES])
    # A program's own prompt, so that nothing ends the look early.
    own = "".join(text for text in texts if text.isascii())[:_BYTES]
    data = [msgspec.Raw(msgspec.json.encode(f"{own}{number}")) for number in range(_ROUNDS)]
    known = Copies((contract,))
    first = [_micros(known, contract, raw) for raw in data]
    again = [_micros(known, contract, raw) for raw in data]
    huge = [
        msgspec.Raw(msgspec.json.encode(text))
        for text in ("word " * (_HUGE // 5), "\u0300\u0316" * (_HUGE // 4), "x" * _HUGE)
    ]
    worst = max(_micros(known, contract, raw) for raw in huge)
    return [
        Row("copies.look_25kb", round(statistics.median(again), 1), "µs", "<= 100"),
        Row("copies.first_look_25kb", round(statistics.median(first) / 1000, 2), "ms"),
        Row("copies.first_look_25mb", round(worst / 1000, 1), "ms"),
    ]


def _published(text: str) -> Published:
    declared = content(tools=[], system=[{"text": text}], ttl="5m")
    return prepare(canonical_bytes(declared)).published


def _found(sent: str, contract: Published, *others: Published) -> bool:
    known = Copies((contract, *others))
    return known.look(contract, msgspec.Raw(msgspec.json.encode(sent))) != 0


def _micros(known: Copies, contract: Published, raw: msgspec.Raw) -> float:
    started = time.perf_counter()
    known.look(contract, raw)
    return (time.perf_counter() - started) * 1e6
