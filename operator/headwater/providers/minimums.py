"""How the size of a contract stands to what its models cache from on."""

from collections.abc import Iterable

from headwater.contract.lint import Size
from headwater.providers.models import lookup
from headwater.providers.tokens import ESTIMATE_MARGIN, estimate_tokens


def sizes(canonical: bytes, models: Iterable[str], provider: str) -> tuple[Size, ...]:
    """The estimated size for each model; one without facts is left out."""
    known = ((model, lookup(model, provider)) for model in models)
    return tuple(
        Size(
            model,
            estimate_tokens(canonical, model),
            facts.min_cacheable_tokens,
            ESTIMATE_MARGIN,
        )
        for model, facts in known
        if facts is not None
    )
