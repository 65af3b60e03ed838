"""Three lines: the contract in front of every request of an ordinary client."""

import anthropic

import headwater


def ask(client: anthropic.Anthropic, question: str) -> str:
    """One question, answered on the contract that the platform team publishes."""
    client = headwater.wrap(client, "org-core")
    answer = client.messages.create(
        model="claude-opus-4-8",
        max_tokens=1024,
        system="You are the billing team's assistant.",
        messages=[{"role": "user", "content": question}],
    )
    return "".join(block.text for block in answer.content if block.type == "text")


if __name__ == "__main__":
    print(ask(anthropic.Anthropic(), "Why is my invoice higher this month?"))
