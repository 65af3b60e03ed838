"""A SaaS: what all tenants share comes first, each tenant's own text after it, and no mixing."""

import anthropic

import headwater

LAYERS = headwater.Layers(
    headwater.Layer("catalogue", "slow"),  # everybody's, until the nightly export
    headwater.Layer("tenant", "user"),
    headwater.Layer("cart", "session"),
    private=r"tenant-\d+",  # a tenant's id must never stand in what others share
)


def ask(
    client: anthropic.Anthropic,
    contract: headwater.Contract,
    question: str,
    *,
    catalogue: str,
    tenant: str,
    cart: str,
) -> list[headwater.Share]:
    """One question of one tenant; says how much of each layer was read from the cache."""
    texts = {"catalogue": catalogue, "tenant": tenant, "cart": cart}
    request = contract.request(
        model="claude-opus-4-8",
        max_tokens=1024,
        system=LAYERS.system(**texts),
        messages=[{"role": "user", "content": question}],
    )
    answer = client.messages.create(**request)
    return LAYERS.shares(request, answer, **texts)


if __name__ == "__main__":
    for share in ask(
        anthropic.Anthropic(),
        headwater.load("shop"),
        "Does this fit a bicycle?",
        catalogue="A lamp for bicycles. A lamp for desks.",
        tenant="tenant-7 speaks German and sells bicycles.",
        cart="One lamp.",
    ):
        print(f"{share.name}: {share.read} of {share.tokens} tokens read")
