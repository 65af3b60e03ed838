"""A batch has one prefix, whatever its records are, and says its price before it is run."""

from decimal import Decimal

import pytest

import headwater

CONTRACT = headwater.declare(system="You classify. " * 2000)
RECORDS = {f"ticket-{number}": f"Record {number} with words of its own" for number in range(100)}


def batch(model: str = "claude-opus-4-8", **fields: object) -> headwater.Batch:
    return headwater.Batch(
        CONTRACT, model=model, instructions="Answer A or B.", max_tokens=5, **fields
    )


def test_the_record_is_the_one_thing_in_which_requests_differ() -> None:
    requests = [each["params"] for each in batch().requests(RECORDS)]
    said = [request.pop("messages")[0]["content"] for request in requests]
    assert said == list(RECORDS.values())
    assert all(request == requests[0] for request in requests)
    assert requests[0]["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}


def test_one_digest_names_what_they_share() -> None:
    """Another word in it, or another model, is another one."""
    other = headwater.Batch(CONTRACT, model="claude-opus-4-8", instructions="Answer B or A.")
    digests = {batch().digest, batch("claude-sonnet-5").digest, other.digest}
    assert batch(temperature=1).digest == batch().digest
    assert len(digests) == 3


def test_the_estimate_is_one_write_and_then_reads() -> None:
    """By the model's list price, against the same tokens without a cache."""
    found = batch().estimate(RECORDS, output_tokens=5)
    assert (found.records, found.cached) == (100, True)
    prefix = Decimal(found.prefix_tokens)
    saved = prefix * (99 * Decimal("4.5") - Decimal("1.25")) / 1_000_000
    assert found.cost.savings == saved
    assert found.cost.uncached > prefix * 500 / 1_000_000


def test_below_the_models_minimum_nothing_is_saved() -> None:
    small = headwater.Batch(headwater.declare(system="Short."), model="claude-opus-4-8")
    found = small.estimate(RECORDS, output_tokens=5)
    assert not found.cached
    assert found.cost.savings == 0


def test_a_model_without_facts_has_no_estimate() -> None:
    with pytest.raises(headwater.RequestError, match="'claude-none' is not known"):
        batch("claude-none").estimate(RECORDS, output_tokens=5)


@pytest.mark.parametrize("record", ["", "\ud800"])
def test_a_record_that_cannot_be_sent_stops_the_batch_before_it_is_sent(record: str) -> None:
    with pytest.raises(headwater.RequestError, match=r"messages\[0\]"):
        batch().requests({**RECORDS, "bad": record})
