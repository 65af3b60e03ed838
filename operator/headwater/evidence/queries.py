"""Filling an author's own query in for one candidate. Pure."""

import re
from collections.abc import Mapping
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_HEX: Final = re.compile(r"[0-9a-f]{12}")


def fill(promql: str, *, namespace: str, prefix: str, digest12: str) -> str:
    """The query with `{{namespace}}`, `{{prefix}}` and `{{digest12}}` put in.

    Raises:
        ValueError: another placeholder, or a value that could end the string that it stands in.
    """
    values = {"namespace": namespace, "prefix": prefix, "digest12": digest12}
    for name, value in values.items():
        if not (_HEX if name == "digest12" else _NAME).fullmatch(value):
            raise ValueError(f"{value!r} is no {name} of ours")
    return _PLACEHOLDER.sub(lambda found: _value(found[1], values), promql)


def _value(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        known = ", ".join(f"{{{{{name}}}}}" for name in values)
        raise ValueError(f"the query has {{{{{name}}}}}, and there are only {known}")
    return values[name]
