"""The examples, as far as no cluster is needed to see that they work."""

from io import BytesIO
from pathlib import Path

import pytest

from headwater.cli._manifests import documents, prefixes, read
from headwater.contract.content import canonical_bytes
from headwater.providers.models import lookup
from headwater.providers.tokens import estimate_tokens
from headwater.resources import PromptPrefix, resolve

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart"


def quickstart() -> PromptPrefix:
    (prefix,) = prefixes(documents(read([str(QUICKSTART)], stdin=BytesIO())))
    assert prefix.declared == prefix.digest
    return PromptPrefix.model_validate(prefix.document.body)


@pytest.mark.parametrize("model", quickstart().spec.models)
def test_the_quickstart_can_be_cached_on_each_of_its_models(model: str) -> None:
    """With a quarter to spare, since the count is an estimate."""
    spec = quickstart().spec
    declared = resolve(spec.content, lambda _: None, ttl=spec.ttl, provider=spec.provider)
    facts = lookup(model)
    assert facts is not None
    tokens = estimate_tokens(canonical_bytes(declared), model)
    assert tokens > 1.25 * facts.min_cacheable_tokens
