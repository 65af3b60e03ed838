"""What copies of the contract do to requests, counters and savings."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from bench import prompts
from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.reasons import RefusalError
from headwater.contract.route import Revision, Weight
from headwater.evidence.scrape import parse
from headwater.sidecar.relay.plan import Ending
from tests.unit.providers.test_statement import step, wire
from tests.unit.sidecar import bundles
from tests.unit.sidecar.test_exchange import HEADERS, Bench

MARKER: Final = {"type": "ephemeral"}
TEXT: Final = prompts.prompts(4)[-1]
OWN: Final = prompts.rewritten(TEXT, random.Random(1))
"""A copy of which so little is left that nobody can recognise it."""
DATED: Final = "Today is Monday, 30 November 2026.\n\n"


def contract(text: str = TEXT, *, tools: tuple[str, ...] = ()) -> bytes:
    declared = [{"name": each, "input_schema": {"type": "object"}} for each in tools]
    return canonical_bytes(content(tools=declared, system=[{"text": text}], ttl="5m"))


def served(directory: Path, *contracts: bytes, weight: int = 0, enforce: bool = True) -> Bench:
    """A bench with these as stable, and as candidate."""
    revisions = [
        Revision(f"v{number}", Digest.of(data)) for number, data in enumerate(contracts, 1)
    ]
    declared = bundles.make()
    route = replace(
        declared.route,
        stable=revisions[0],
        candidate=revisions[-1] if len(revisions) > 1 else None,
        weight=Weight(weight),
        enforcement="Enforce" if enforce else "Observe",
    )
    return Bench(directory, Bundle(route, {Digest.of(data): data for data in contracts}))


async def answered(bench: Bench, used: Mapping[str, Any], **fields: Any) -> None:
    exchange = bench.open(**fields)
    await exchange.enter()
    exchange.began(200, "application/json")
    exchange.chunk(json.dumps({"usage": used}).encode())
    exchange.end(Ending.COMPLETE)
    bench.now += 1


def total(bench: Bench, name: str) -> float:
    return sum(value for _, value in bench.samples(name))


def check_untouched(bench: Bench, text: str, reason: str) -> None:
    """Under Observe not a byte of the request changes."""
    body = json.dumps({"model": bundles.MODEL, "system": text, "messages": []}).encode()
    exchange = bench.exchanges.open(HEADERS, body, counted=True)
    assert b"".join(exchange.parts) == body
    assert exchange.headers["x-headwater-reason"] == reason


def check_refused(bench: Bench, text: str, reason: str) -> None:
    with pytest.raises(RefusalError, match=rf"^{reason}: system\[0\]"):
        bench.open(system=text)


@pytest.mark.parametrize("edit", prompts.edits())
@pytest.mark.parametrize("enforce", [True, False])
def test_an_edited_copy_is_refused_or_passed_untouched(
    tmp_path: Path, edit: str, *, enforce: bool
) -> None:
    """It is counted either way; beside the contract, it would be paid for twice."""
    bench = served(tmp_path, contract(), enforce=enforce)
    edited = prompts.edits()[edit](TEXT, random.Random(1))
    check = check_refused if enforce else check_untouched
    check(bench, edited, "system_changed")
    ((labels, count),) = bench.samples("headwater_contract_violations_total")
    assert (labels["reason"], count) == ("system_changed", 1)
    assert bench.samples("headwater_uncached_system_total") == []


@pytest.mark.parametrize("enforce", [True, False])
def test_so_is_a_dated_copy_of_another_version(tmp_path: Path, *, enforce: bool) -> None:
    """Whoever keeps the candidate's text has a copy, though stable has other words."""
    bench = served(tmp_path, contract(OWN), contract(), enforce=enforce)
    check = check_refused if enforce else check_untouched
    check(bench, DATED + TEXT, "system_changed")


def test_whoever_keeps_the_stable_copy_follows_the_candidate(tmp_path: Path) -> None:
    """It is right as it is published, so a canary refuses nothing that stable would not."""
    bench = served(tmp_path, contract(), contract(OWN), weight=Weight.WHOLE)
    exchange = bench.open(system=TEXT)
    sent = json.loads(b"".join(exchange.parts))
    assert exchange.revision is not None
    assert exchange.revision.version == "v2"
    assert [block["text"] for block in sent["system"]] == [OWN]


# Opus 4.8, dollars per million: input 5, five-minute write 6.25, read 0.50, output 25. Ten requests
# with the contract instead of the copy, and no cache at all, would cost 0.278.
CONTRACT, COPY, REST, OUTPUT = 5_205, 5_066, 55, 60
WROTE: Final = wire(COPY + REST, 0, CONTRACT, 0, OUTPUT)
READ: Final = wire(COPY + REST, CONTRACT, 0, 0, OUTPUT)
ALONE: Final = wire(COPY + REST, 0, 0, 0, OUTPUT)
BOTH_COST: Final = 0.327
ALONE_COST: Final = 0.271


async def test_a_copy_that_is_not_recognised_saves_less_than_nothing(tmp_path: Path) -> None:
    """Ten requests, nine hits, and a bill that is a fifth higher than the application's own."""
    bench = served(tmp_path, contract())
    for used in (WROTE, *[READ] * 9):
        await answered(bench, used, system=OWN)
    assert bench.outcomes() == {("miss", "false"): 1, ("hit", "true"): 9}
    cost, savings = (total(bench, f"headwater_{name}_usd_total") for name in ("cost", "savings"))
    assert cost == pytest.approx(BOTH_COST, abs=5e-5)
    assert savings == pytest.approx(ALONE_COST - BOTH_COST, abs=1e-4)
    assert total(bench, "headwater_uncached_system_total") == 10
    # From here `headwater consumers` has it.
    use = parse("shop/web-1", bench.metrics.exposition().decode()).uses["org-core"]
    assert (use.served.team, use.uncached.count) == ("search", 10)
    assert use.uncached.at is not None
    assert use.uncached.at.timestamp() == 1e9 + 1009


async def test_a_copy_that_is_recognised_costs_what_it_did(tmp_path: Path) -> None:
    """Under Observe: no contract beside it, and nothing saved that was not."""
    bench = served(tmp_path, contract(), enforce=False)
    edited = prompts.edits()["all at once"](TEXT, random.Random(1))
    for _ in range(10):
        await answered(bench, ALONE, system=edited)
    assert bench.outcomes() == {("off_contract", "false"): 10}
    assert total(bench, "headwater_cost_usd_total") == pytest.approx(ALONE_COST, abs=1e-4)
    assert total(bench, "headwater_savings_usd_total") == 0
    assert total(bench, "headwater_contract_violations_total") == 10


async def test_of_a_contract_with_tools_its_text_alone_is_doubted(tmp_path: Path) -> None:
    """A copy of the text is none of the tools: these would have been sent and paid for anyway."""
    bench = served(tmp_path, contract(tools=tuple(f"tool_{n}" * 8 for n in range(100))))
    exchange = bench.open(system=OWN)
    share = exchange.copied
    assert 0.1 < share < 0.9
    await answered(bench, wire(2_000, 1_000_000), system=OWN)
    saved = total(bench, "headwater_savings_usd_total")
    assert saved == pytest.approx((1 - share) * 5 - 0.5, abs=1e-5)


async def test_both_are_sent_with_each_iteration(tmp_path: Path) -> None:
    """So the copy would have been sent alone as often."""
    bench = served(tmp_path, contract())
    steps = [step("message", 1_100, 1_000), step("message", 1_200, 1_000)]
    await answered(bench, wire(2_300, 2_000) | {"iterations": steps}, system=OWN)
    assert total(bench, "headwater_savings_usd_total") == pytest.approx(-2_000 * 0.5e-6)


SHORT: Final = OWN[: int(len(TEXT) * 0.8)]
AFTER: Final = [
    {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": MARKER}]}
]


def block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"system": OWN}, True),
        ({"system": [block(OWN)]}, True),
        ({"system": [block("Own.", cache_control=MARKER), block(OWN)]}, True),
        (
            {
                "system": OWN,
                "tools": [{"name": "a", "defer_loading": True, "cache_control": MARKER}],
            },
            True,
        ),
        ({"system": SHORT}, False),
        ({"system": [block(OWN, cache_control=MARKER)]}, False),
        ({"system": OWN, "cache_control": MARKER}, False),
        ({"system": OWN, "messages": AFTER}, False),
    ],
    ids=["text", "block", "after a marked one", "marked tool", "short", "marked", "top", "later"],
)
async def test_uncached_text_as_long_as_the_contract_is_counted(
    tmp_path: Path, fields: dict[str, Any], *, counted: bool
) -> None:
    """It may be a copy that was not recognised: what it read saves nothing then."""
    bench = served(tmp_path, contract())
    for used in (wire(7, 0, 100, 0, 5), wire(7, 100, 0, 0, 5)):
        await answered(bench, used, **fields)
    found = [value for _, value in bench.samples("headwater_uncached_system_total")]
    times = [at for _, at in bench.samples("headwater_uncached_system_timestamp_seconds")]
    assert (found, times) == (([2], [1001 + 1e9]) if counted else ([], []))
    uncached = 0 if counted else 200 * 5
    saved = (uncached - 100 * 6.25 - 100 * 0.5) / 1e6
    assert total(bench, "headwater_savings_usd_total") == pytest.approx(saved)


def test_tokens_that_are_only_counted_cost_nothing(tmp_path: Path) -> None:
    """`count_tokens` with a copy is no request that is paid for."""
    bench = served(tmp_path, contract())
    bench.open(counted=False, system=OWN)
    assert bench.samples("headwater_uncached_system_total") == []
