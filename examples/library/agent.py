"""An agent: tools, a loop whose cached past is never rewritten, and a cheaper helper."""

import datetime as dt

import anthropic

import headwater


def find_order(order: str) -> str:
    """Find an order by its number."""
    return f"Order {order} left the warehouse this morning."


# The agent's own contract, here made by the program itself; `headwater.load` takes a published one.
CONTRACT = headwater.declare(
    name="order-agent",
    tools=headwater.tools(find_order),
    system="You answer questions about orders. Look an order up before you speak about it. " * 60,
)


def answer(client: anthropic.Anthropic, question: str) -> headwater.Conversation:
    """The whole conversation, from a question to an answer without tools."""
    talk = headwater.Conversation(
        CONTRACT,
        model="claude-opus-4-8",
        max_tokens=1024,
        strategy="C",
        system="Answer in the customer's language.",
    )
    talk.user(question)
    talk.inject(f"Today is {dt.datetime.now(dt.UTC):%A}.")  # what changes goes to the tail
    while True:
        said = client.messages.create(**talk.request())
        talk.add(said)
        calls = [block for block in said.content if block.type == "tool_use"]
        if not calls:
            return talk
        talk.user(
            [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": find_order(str(dict(call.input)["order"])),
                }
                for call in calls
            ]
        )


def summary(client: anthropic.Anthropic, talk: headwater.Conversation) -> headwater.Conversation:
    """A smaller model sums it up: on a lane of its own, so that the main loop stays warm."""
    helper = talk.subagent(model="claude-haiku-4-5", max_tokens=200)
    helper.user(f"Sum this up in a sentence: {talk.messages}")
    helper.add(client.messages.create(**helper.request()))
    return helper


if __name__ == "__main__":
    provider = anthropic.Anthropic()
    done = answer(provider, "Where is order 17?")
    summary(provider, done)
    if done.cost is not None:
        print(f"{done.cost.actual:.4f} USD, {done.cost.savings:.4f} saved")
