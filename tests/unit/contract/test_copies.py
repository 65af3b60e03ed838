"""Copies of a contract, however they were edited, and prompts that only have phrases in common."""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import pytest

from bench import prompts
from headwater.contract import copies, shingles
from headwater.contract.assembly import PreparedContract, Request, prepare, splice
from headwater.contract.content import canonical_bytes, content
from headwater.contract.copies import Copies
from headwater.contract.divergence import Divergence, in_system
from headwater.contract.reasons import Reason, RefusalError

MODEL: Final = "claude-opus-4-8"
PROMPTS: Final = prompts.prompts(36)
"""Nine of the documentation, three of each trade; `make bench` has two hundred."""


def contract(*texts: str, tools: tuple[str, ...] = ()) -> PreparedContract:
    declared = content(
        tools=[{"name": name, "input_schema": {"type": "object"}} for name in tools],
        system=[{"text": text} for text in texts],
        ttl="5m",
    )
    return prepare(canonical_bytes(declared))


CONTRACTS: Final = [contract(text) for text in PROMPTS]


def look(sent: Any, ours: PreparedContract, *others: PreparedContract) -> Divergence | int:
    known = Copies(each.published for each in (ours, *others))
    return known.look(ours.published, msgspec.Raw(msgspec.json.encode(sent)))


def blocks(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize("edit", prompts.edits())
def test_an_edited_copy_is_one(edit: str) -> None:
    """In its layout, its typography, its words, and with something before, between or after."""
    chance = random.Random(1)
    changed = prompts.edits()[edit]
    for ours, text in zip(CONTRACTS, PROMPTS, strict=True):
        found = look(changed(text, chance), ours)
        assert isinstance(found, Divergence), text[:80]
        assert found.at == 0


def test_a_copy_of_the_version_before_is_one() -> None:
    """It is recognised by that one, where little of it is left in the next."""
    chance = random.Random(1)
    for before, text in zip(CONTRACTS, PROMPTS, strict=True):
        now = contract(prompts.rewritten(text, chance))
        dated = f"Today is Monday, 30 November 2026.\n\n{text}"
        assert look(dated, now) == 0
        assert isinstance(look(dated, now, before), Divergence)


def test_another_prompt_is_none() -> None:
    """Half of it may be what the company, or the trade, puts into every prompt."""
    known = Copies(each.published for each in CONTRACTS)
    for index, text in enumerate(PROMPTS):
        others = Copies(each for each in known.known if each is not known.known[index])
        sent = msgspec.Raw(msgspec.json.encode(text))
        assert others.look(others.known[0], sent) == 0, text[:80]


def test_a_copy_in_many_blocks_is_one() -> None:
    """One for each line, as some frameworks send it."""
    text = PROMPTS[0]
    assert isinstance(look(blocks(*text.split("\n")), CONTRACTS[0]), Divergence)
    assert look(blocks("Our own."), CONTRACTS[0]) == 0


def test_a_second_copy_after_a_right_one_is_seen() -> None:
    """The right one gives way; the other would be paid for beside the contract."""
    text = PROMPTS[0]
    assert look(blocks(text, "Our own."), CONTRACTS[0]) == 1
    assert look(blocks(text, text.upper()), CONTRACTS[0]) == Divergence(Reason.SYSTEM_CHANGED, 1)


def test_a_block_before_an_edited_copy_is_named() -> None:
    """As before a right one."""
    sent = blocks("Our own.", PROMPTS[0].replace("\n", "\r\n"))
    assert look(sent, CONTRACTS[0]) == Divergence(Reason.SYSTEM_BEFORE, 0)


def test_a_right_copy_of_another_version_gives_way() -> None:
    """A client that keeps the stable one's bytes is put on the candidate, like everybody else."""
    stable, candidate = contract(PROMPTS[0], tools=("a",)), contract("Other.", tools=("b", "a"))
    known = Copies((stable.published, candidate.published))
    body = {
        "model": MODEL,
        "tools": [{"name": "a", "input_schema": {"type": "object"}}],
        "system": blocks(PROMPTS[0], "Our own."),
        "messages": [],
    }
    request = Request.read(json.dumps(body).encode())
    sent = json.loads(splice(request, candidate, (MODEL,), copies=known).body)
    assert [tool["name"] for tool in sent["tools"]] == ["b", "a"]
    assert [block["text"] for block in sent["system"]] == ["Other.", "Our own."]
    with pytest.raises(RefusalError, match=r"missing here|differs"):
        splice(request, candidate, (MODEL,))


@pytest.mark.parametrize(
    "text",
    [
        "\u0300\u0316" * 2_000_000,
        "\ufdfa" * 4_000_000,
        "a " * 4_000_000,
        "\u0130" * 4_000_000,
        "a" * 8_000_000,
        "\U0001f600\ufe0f" * 2_000_000,
    ],
    ids=["marks", "expanding", "words", "folding", "one word", "emoji"],
)
def test_a_huge_text_is_looked_at_in_part(text: str) -> None:
    """However it is made, no more words are read of it than of one of twice the reach."""
    assert sum(1 for _ in shingles._shingles(text)) <= 2 * shingles.REACH + 1
    assert len(shingles.sketch_of(text)) <= 2048


def test_a_copy_at_either_end_of_a_huge_text_is_one() -> None:
    """With so much of something else that it is not looked at."""
    other = "\n".join(PROMPTS[9:]) * 3
    assert len(other) > 4 * shingles.REACH
    ours = CONTRACTS[0]
    assert isinstance(look(PROMPTS[0].upper() + other, ours), Divergence)
    assert isinstance(look(other + PROMPTS[0].upper(), ours), Divergence)


def test_a_text_that_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is one of the last that were sent; of each version by itself."""
    read: list[int] = []
    real = in_system

    def counted(*arguments: Any) -> Divergence | int:
        read.append(1)
        return real(*arguments)

    monkeypatch.setattr(copies, "in_system", counted)
    known = Copies((CONTRACTS[0].published, CONTRACTS[1].published), remembered=2)

    def sent(text: str, version: int = 0) -> int:
        read.clear()
        found = known.look(known.known[version], msgspec.Raw(msgspec.json.encode(text)))
        assert found == 0
        return len(read)

    other = "of our own " * 4_000
    assert [sent(other), sent(other), sent(other, 1), sent(other)] == [1, 0, 1, 0]
    assert [sent(f"{other}."), sent(other), sent(f"{other}!"), sent(f"{other}.")] == [1, 0, 1, 1]


def test_several_threads_may_look_at_once() -> None:
    """As a program with the library does: what one forgets another may just have found."""
    ours = contract("The text of ours that others have, too, and all that is in it.")
    known = Copies((ours.published,), remembered=1)
    sent = [msgspec.Raw(msgspec.json.encode(f"Something of our own, {n}. " * 3)) for n in range(3)]

    def work(seed: int) -> int:
        chance = random.Random(seed)
        looks = (known.look(ours.published, chance.choice(sent)) for _ in range(3_000))
        return sum(found != 0 for found in looks)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [0] * 4
    finally:
        sys.setswitchinterval(interval)


def test_a_sentence_is_no_contract() -> None:
    """One whose text is a sentence has its tools to share; any prompt may say the same."""
    text = "You are the helpful assistant of Northwind Traders."
    ours = contract(text, tools=("search",))
    assert look(f"{text} Answer in German. " * 9, ours) == 0
    assert look(blocks("Our own.", text), ours) == Divergence(Reason.SYSTEM_BEFORE, 0)


def test_text_without_words_is_recognised_whole() -> None:
    """Such a contract has no words to compare."""
    ours = contract("=====", "-----")
    assert look(blocks("=====", "-----"), ours) == 2
    assert look(blocks("*****"), ours) == 0
