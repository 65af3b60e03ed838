"""What is read, written and billed, over positions alone; the time is an argument."""

import hashlib

import pytest

from headwater.providers.usage import Usage
from headwater.simulator.cache import Position, PromptCache

TOKENS = 100
"""Of each block."""


def prompt(
    blocks: str, marks: dict[int, str] | None = None, runs: str = "", tokens: int = TOKENS
) -> list[Position]:
    """One block a letter; `marks` gives TTLs by index; letters in `runs` share their position."""
    made, step = [], 0
    for index, block in enumerate(blocks):
        if index == 0 or block not in runs or blocks[index - 1] != block:
            step += 1
        digest = hashlib.sha256(blocks[: index + 1].encode()).digest()
        made.append(Position(digest, (index + 1) * tokens, step, (marks or {}).get(index)))
    return made


def ask(cache: PromptCache, positions: list[Position], now: float = 0, minimum: int = 0) -> Usage:
    outcome = cache.begin(positions, minimum, now)
    cache.commit(outcome)
    return outcome.usage


def test_a_prompt_without_markers_is_all_input() -> None:
    """It reads nothing either, even where its prefix is cached."""
    cache = PromptCache()
    ask(cache, prompt("abc", {2: "5m"}))
    assert ask(cache, prompt("abc")) == Usage(uncached=300)


def test_no_prompt_at_all_is_nothing() -> None:
    """The empty sum."""
    assert ask(PromptCache(), []) == Usage()


def test_what_stands_behind_the_last_marker_is_input() -> None:
    """First written, then read; the tail is never cached."""
    cache = PromptCache()
    marked = prompt("abcd", {1: "5m"})
    assert ask(cache, marked) == Usage(uncached=200, cache_write_5m=200)
    assert ask(cache, marked) == Usage(uncached=200, cache_read=200)


@pytest.mark.parametrize(
    ("first", "then", "read"),
    [
        # Written only at a marker: the same blocks marked elsewhere find nothing there.
        ({3: "5m"}, {2: "5m"}, 0),
        # Walking back from a later marker finds what an earlier request wrote.
        ({1: "5m"}, {3: "5m"}, 200),
        # The longest counts, whichever marker found it.
        ({0: "5m", 2: "5m"}, {3: "5m"}, 300),
        ({0: "5m", 2: "5m"}, {1: "5m"}, 100),
    ],
)
def test_written_at_markers_found_by_walking_back(
    first: dict[int, str], then: dict[int, str], read: int
) -> None:
    """An entry is the whole prefix up to a marked block."""
    cache = PromptCache()
    ask(cache, prompt("abcd", first))
    assert ask(cache, prompt("abcd", then)).cache_read == read


@pytest.mark.parametrize(("changed", "read"), [("xbcd", 0), ("axcd", 100), ("abxd", 200)])
def test_a_change_loses_everything_from_there_on(changed: str, read: int) -> None:
    """A prefix is compared from its first byte."""
    cache = PromptCache()
    everywhere = dict.fromkeys(range(4), "5m")
    ask(cache, prompt("abcd", everywhere))
    assert ask(cache, prompt(changed, everywhere)).cache_read == read


@pytest.mark.parametrize(("length", "found"), [(20, True), (21, False)])
def test_looks_back_over_twenty_positions_its_own_included(length: int, found: bool) -> None:  # noqa: FBT001 - a table's column
    """An entry nineteen before the marker is found, one twenty before is not."""
    cache = PromptCache()
    blocks = "abcdefghijklmnopqrstu"[:length]
    ask(cache, prompt(blocks, {0: "5m"}))
    read = ask(cache, prompt(blocks, {length - 1: "5m"})).cache_read
    assert read == (TOKENS if found else 0)


def test_each_marker_has_a_window_of_its_own() -> None:
    """One in the middle finds what the last cannot see."""
    cache = PromptCache()
    blocks = "abcdefghijklmnopqrstuvwxyz"
    ask(cache, prompt(blocks, {0: "5m"}))
    assert ask(cache, prompt(blocks, {10: "5m", 25: "5m"})).cache_read == TOKENS


def test_a_run_of_tool_calls_or_results_is_one_position() -> None:
    """Thirty results between marker and entry do not hide it; thirty texts do."""
    blocks = "a" + "r" * 30 + "b"
    for runs, read in (("r", TOKENS), ("", 0)):
        cache = PromptCache()
        ask(cache, prompt(blocks, {0: "5m"}, runs))
        assert ask(cache, prompt(blocks, {31: "5m"}, runs)).cache_read == read


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3600)])
def test_an_entry_lives_for_its_ttl(ttl: str, seconds: int) -> None:
    """Up to and not including its last moment."""
    marked = prompt("ab", {1: ttl})
    for now, read in ((seconds - 0.001, 200), (seconds, 0)):
        cache = PromptCache()
        ask(cache, marked, 0)
        assert ask(cache, marked, now).cache_read == read


def test_the_ttl_counts_from_the_start_of_the_request() -> None:
    """A long answer eats of it, and one longer than the TTL leaves nothing."""
    cache = PromptCache()
    marked = prompt("ab", {1: "5m"})
    cache.commit(cache.begin(marked, 0, 0))  # begins to answer at some time after 0
    assert ask(cache, marked, 301).cache_read == 0


def test_a_read_refreshes_for_nothing() -> None:
    """Every four minutes is for ever, and an hour's entry stays an hour's."""
    cache = PromptCache()
    for ttl, gap in (("5m", 240), ("1h", 3540)):
        marked = prompt(f"{ttl[0]}b", {1: ttl})
        ask(cache, marked, 0)
        for turn in range(1, 10):
            assert ask(cache, marked, turn * gap) == Usage(cache_read=200)


def test_reading_a_prefix_does_not_keep_what_is_behind_it() -> None:
    """Only the entry that was read is refreshed."""
    cache = PromptCache()
    ask(cache, prompt("abc", {0: "5m", 2: "5m"}), 0)
    ask(cache, prompt("a", {0: "5m"}), 200)
    assert ask(cache, prompt("abc", {0: "5m", 2: "5m"}), 400).cache_read == TOKENS


def test_unreadable_until_the_answer_begins() -> None:
    """Requests that start together all write; the next one reads."""
    cache = PromptCache()
    marked = prompt("ab", {1: "5m"})
    together = [cache.begin(marked, 0, now) for now in (0, 0.1, 0.2)]
    assert [outcome.usage for outcome in together] == [Usage(cache_write_5m=200)] * 3
    cache.commit(together[0])
    assert ask(cache, marked, 0.3) == Usage(cache_read=200)


def test_a_later_commit_of_an_earlier_start_does_not_shorten_a_life() -> None:
    """The slowest of three answers does not set the others' clock back."""
    cache = PromptCache()
    marked = prompt("ab", {1: "5m"})
    early, late = cache.begin(marked, 0, 0), cache.begin(marked, 0, 100)
    cache.commit(late)
    cache.commit(early)
    assert ask(cache, marked, 399).cache_read == 200


def test_below_the_minimum_nothing_is_cached_and_nothing_is_said() -> None:
    """All input; one token more, and it is written."""
    marked = prompt("ab", {1: "5m"})
    cache = PromptCache()
    assert ask(cache, marked, minimum=201) == Usage(uncached=200)
    assert ask(cache, marked, minimum=201) == Usage(uncached=200)
    assert ask(cache, marked, minimum=200) == Usage(cache_write_5m=200)


def test_a_short_marker_does_not_spoil_a_long_one() -> None:
    """The minimum holds for each marker's own prefix."""
    marks = {0: "5m", 2: "5m"}
    assert ask(PromptCache(), prompt("abcd", marks), minimum=150) == Usage(
        uncached=100, cache_write_5m=300
    )


@pytest.mark.parametrize(
    ("warm", "usage"),
    [
        # Read up to the highest hit A, then 1h up to the last 1h marker B, then 5m up to C.
        (None, Usage(uncached=100, cache_write_1h=200, cache_write_5m=200)),
        ({0: "1h"}, Usage(uncached=100, cache_read=100, cache_write_1h=100, cache_write_5m=200)),
        ({1: "1h"}, Usage(uncached=100, cache_read=200, cache_write_5m=200)),
        ({2: "5m"}, Usage(uncached=100, cache_read=300, cache_write_5m=100)),
        ({3: "5m"}, Usage(uncached=100, cache_read=400)),
    ],
    ids=["cold", "hit before B", "hit at B", "hit after B", "hit at C"],
)
def test_the_bill_with_both_ttls(warm: dict[int, str] | None, usage: Usage) -> None:
    """The provider's rule for mixed TTLs."""
    cache = PromptCache()
    if warm:
        ask(cache, prompt("abcde", warm))
    assert ask(cache, prompt("abcde", {0: "1h", 1: "1h", 3: "5m"})) == usage


def test_clearing_forgets_everything() -> None:
    """As if it had just been started."""
    cache = PromptCache()
    marked = prompt("ab", {1: "1h"})
    ask(cache, marked)
    assert len(cache) == 1
    cache.clear()
    assert len(cache) == 0
    assert ask(cache, marked).cache_read == 0


def test_memory_is_bounded() -> None:
    """The longest unused entry goes; the one just read stays."""
    cache = PromptCache(max_entries=2)
    for name in ("a", "b", "a", "c"):
        ask(cache, prompt(name, {0: "1h"}))
    assert len(cache) == 2
    assert ask(cache, prompt("a", {0: "1h"})).cache_read == TOKENS
    assert ask(cache, prompt("b", {0: "1h"})).cache_read == 0
