"""Laws of the cache, whatever is asked and in whatever order."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headwater.providers.usage import Usage
from tests.unit.simulator.prompts import Provider, body, read, text, user

MINIMUM = 1024
TTLS = st.sampled_from([None, None, "5m", "1h"])
BLOCKS = st.tuples(st.sampled_from("abc"), st.sampled_from([30, 600, 1100]), TTLS)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Blocks of few kinds, so that prompts share prefixes, and at most four markers in order."""
    drawn = draw(st.lists(BLOCKS, min_size=2, max_size=9))
    marked = [index for index, (_, _, ttl) in enumerate(drawn) if ttl is not None][:4]
    ttls = {index: drawn[index][2] for index in marked}
    long_until = max((index for index, ttl in ttls.items() if ttl == "1h"), default=-1)
    blocks = [
        text(size, name, ttls.get(index) and ("1h" if index <= long_until else "5m"))
        for index, (name, size, _) in enumerate(drawn)
    ]
    cut = draw(st.integers(0, len(blocks) - 1))
    return body(user(*blocks[cut:]), system=blocks[:cut])


def blocks_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [*request["system"], *request["messages"][0]["content"]]


def written(usage: Usage) -> int:
    return usage.cache_write_5m + usage.cache_write_1h


STEPS = st.lists(st.tuples(requests(), st.integers(0, 4000)), min_size=1, max_size=6)


@given(STEPS)
def test_the_kinds_sum_to_the_prompt_and_none_is_negative(
    steps: list[tuple[dict[str, Any], int]],
) -> None:
    """No token is billed twice or not at all; never more is read than the prompt has."""
    provider, now = Provider(), 0
    for request, pause in steps:
        now += pause
        usage = provider.ask(request, now)
        assert usage.prompt == read(request).tokens
        kinds = (usage.uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h)
        assert min(kinds) >= 0
        assert usage.cache_read <= usage.prompt


@given(STEPS, st.integers(0, 299))
def test_an_identical_request_reads_all_that_the_first_read_or_wrote(
    steps: list[tuple[dict[str, Any], int]], pause: int
) -> None:
    """Within the shorter TTL, whatever was asked before; it writes nothing."""
    provider, now = Provider(), 0
    for request, earlier in steps:
        now += earlier
        first = provider.ask(request, now)
    again = provider.ask(request, now + pause)
    assert again == Usage(uncached=first.uncached, cache_read=first.cache_read + written(first))


@given(requests(), st.data())
def test_a_change_loses_no_entry_before_it(request: dict[str, Any], data: st.DataObject) -> None:
    """And reads none at it or behind it."""
    index = data.draw(st.integers(0, len(blocks_of(request)) - 1))
    changed = copy.deepcopy(request)
    blocks_of(changed)[index]["text"] = "changed" + blocks_of(changed)[index]["text"][7:]
    ends = [
        position.tokens if position.ttl is not None and position.tokens >= MINIMUM else 0
        for position in read(request).positions
    ]
    provider = Provider()
    provider.ask(request)
    assert provider.ask(changed).cache_read == max(ends[:index], default=0)
    assert provider.ask(request).cache_read == max(ends)


@given(requests(), st.integers(2, 5))
def test_requests_that_start_together_all_pay(request: dict[str, Any], number: int) -> None:
    """Cold, before the first answer begins; afterwards nobody does."""
    provider = Provider()
    together = [provider.begin(request) for _ in range(number)]
    assert len({outcome.usage for outcome in together}) == 1
    for outcome in together:
        provider.cache.commit(outcome)
    assert written(provider.ask(request)) == 0


@given(requests(), requests())
def test_another_workspace_changes_nothing(request: dict[str, Any], other: dict[str, Any]) -> None:
    """Nor does anybody learn from its usage what another has sent."""
    alone, beside = Provider(), Provider()
    beside.ask(other, workspace="other")
    assert alone.ask(request) == beside.ask(request)
