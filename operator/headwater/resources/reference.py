"""The API reference as Markdown, from the schema that the API server gets."""

from collections.abc import Iterator
from typing import Any

from headwater.resources.schema import GROUP, VERSION, Names


def reference(names: Names, schema: dict[str, Any], header: str) -> str:
    """The page of one kind: a table for each object in it, and what is refused with which words."""
    served = (
        f"`{GROUP}/{VERSION}`, namespaced. `kubectl get {names.short}` is short for"
        f" `kubectl get {names.plural}`."
    )
    parts = [f"<!-- {header} -->", f"# {names.kind}", served, schema["description"]]
    parts += _rules(schema)
    for name in ("spec", "status"):
        parts += _object(name, schema["properties"][name])
    return "\n\n".join(parts) + "\n"


def _object(path: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {path}"
    yield schema["description"]
    required = schema.get("required", ())
    rows = ["| field | type | what it says |", "| --- | --- | --- |"]
    for name, field in schema["properties"].items():
        kind = _type(field) + (", required" if name in required else "")
        rows.append(f"| `{name}` | {kind} | {_sentence(field)} |")
    yield "\n".join(rows)
    yield from _rules(schema)
    for name, field in schema["properties"].items():
        child = field.get("items", field)
        if "properties" in child:
            yield from _object(f"{path}.{name}{'[]' if 'items' in field else ''}", child)


def _type(field: dict[str, Any]) -> str:
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map to {_type(field['additionalProperties'])}"
    return "time" if field.get("format") == "date-time" else str(field["type"])


def _sentence(field: dict[str, Any]) -> str:
    limits = []
    if "enum" in field:
        limits.append(" or ".join(f"`{value}`" for value in field["enum"]))
    if "minimum" in field and "maximum" in field:
        limits.append(f"{field['minimum']:,} to {field['maximum']:,}")
    if "maxItems" in field:
        limits.append(f"{field.get('minItems', 0)} to {field['maxItems']} items")
    if field.get("x-kubernetes-list-type") == "set":
        limits.append("no item twice")
    if "default" in field:
        limits.append(f"default `{_written(field['default'])}`")
    own = "".join(f" Refused: {rule['message']}." for rule in _own_rules(field))
    text = str(field["description"]) + (f" ({'; '.join(limits)})" if limits else "") + own
    return text.replace("|", "\\|")


def _own_rules(field: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a plain value; an object has a section where its rules stand."""
    found: list[dict[str, Any]] = field.get("x-kubernetes-validations", [])
    return [] if "properties" in field else found


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    found = schema.get("x-kubernetes-validations", [])
    if found:
        yield "Refused:"
        yield "\n".join(f"- {rule['message']}." for rule in found)
