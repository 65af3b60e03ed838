"""A batch job: many records, one prefix, and the bill before anything is sent."""

from collections.abc import Mapping

import anthropic

import headwater


def classify(
    client: anthropic.Anthropic,
    contract: headwater.Contract,
    tickets: Mapping[str, str],
    budget: float,
) -> dict[str, str]:
    """Each ticket's class, unless that costs more US dollars than the budget."""
    batch = headwater.Batch(
        contract,
        model="claude-opus-4-8",
        max_tokens=5,
        instructions="Answer with one word: billing, delivery or other.",
    )
    estimate = batch.estimate(tickets, output_tokens=5)
    print(
        f"{estimate.records} records on {batch.digest.short}: {estimate.cost.actual:.4f} USD,"
        f" {estimate.cost.uncached:.4f} without a cache"
    )
    if estimate.cost.actual > budget:
        return {}
    # One call each: the first writes the prefix, the others read it. The provider's own batches,
    # at half the price and in their own time: client.messages.batches.create(
    # requests=batch.requests(tickets)).
    found = {}
    for name, ticket in tickets.items():
        answer = client.messages.create(**batch.request(ticket))
        found[name] = "".join(block.text for block in answer.content if block.type == "text")
    return found


if __name__ == "__main__":
    print(classify(anthropic.Anthropic(), headwater.load("org-core"), {"1": "Too late!"}, budget=1))
