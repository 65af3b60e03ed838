"""From pydantic's JSON schema to the structural schema that the API server takes.

The rules are those of apiextensions-apiserver: no references, no null type, no `const`, no
titles, nothing that it does not know. A keyword that is not on the list below is an error here
rather than a refusal, or a silent loss, in somebody's cluster.
"""

from typing import Any, Final

Schema = dict[str, Any]

_KEPT: Final = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)
_DROPPED: Final = ("title", "const", "$defs", "properties", "items", "additionalProperties")


class SchemaError(ValueError):
    """A model uses something that a structural schema cannot say."""


def structural(schema: Schema) -> Schema:
    """The structural form of what `model_json_schema` gave.

    Raises:
        SchemaError: recursion, a union other than with None, or an unknown keyword.
    """
    return _convert(schema, schema.get("$defs", {}), where="", within=())


def _convert(node: Schema, definitions: Schema, *, where: str, within: tuple[str, ...]) -> Schema:
    node, within = _inlined(node, definitions, where, within)
    unknown = set(node) - {*_KEPT, *_DROPPED}
    if unknown:
        raise SchemaError(f"{where or 'the root'}: no structural form for {sorted(unknown)}")
    result: Schema = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if result.get("default", ...) in (None, [], {}, ""):
        del result["default"]  # what is absent stays absent: a manifest is stored as it was sent
    if "properties" in node:
        result["properties"] = {
            name: _convert(child, definitions, where=f"{where}.{name}", within=within)
            for name, child in node["properties"].items()
        }
    if "items" in node:
        result["items"] = _convert(node["items"], definitions, where=f"{where}[]", within=within)
        if "x-kubernetes-list-type" not in node:
            raise SchemaError(f"{where}: a list says whether it is atomic, a set or a map")
        if "maxItems" not in node:
            raise SchemaError(f"{where}: a list has a longest length, so that rules have a cost")
    if isinstance(values := node.get("additionalProperties"), dict):
        result["additionalProperties"] = _convert(
            values, definitions, where=f"{where}.*", within=within
        )
    if node.get("type") == "string" and not {"enum", "const", "format", "maxLength"} & set(node):
        raise SchemaError(f"{where}: a text has a longest length, so that rules have a cost")
    return result


def _inlined(
    node: Schema, definitions: Schema, where: str, within: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Without `$ref`, and without null: what may be null is simply not required."""
    while True:
        beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name in within:
                raise SchemaError(f"{where}: {name} contains itself")
            within = (*within, name)
            node = {**definitions[name], **beside}
        elif "anyOf" in node:
            others = [arm for arm in node["anyOf"] if arm != {"type": "null"}]
            if len(others) != 1:
                raise SchemaError(f"{where}: a union; use an object with optional members")
            node = {**others[0], **beside}
        else:
            return node, within
