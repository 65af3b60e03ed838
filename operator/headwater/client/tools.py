"""Tools from wherever a program has them, as the same bytes in whatever order they arrive."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from headwater.client.plain import plain
from headwater.contract.errors import RequestError

_REF: Final = "#/$defs/{name}"


def tools(*sources: Any, deferred: bool = False) -> list[dict[str, Any]]:
    """Tools in the provider's form, by name, each key and each `required` in one order.

    A source is a function with annotated parameters and a docstring, a pydantic model, a tool of
    an MCP listing, a tool in the provider's own form, or a list of these. `deferred` keeps the
    tools out of the cached prefix, as a program's own have to be where a contract has tools.

    Raises:
        RequestError: two have one name, or one cannot be described.
    """
    made: dict[str, dict[str, Any]] = {}
    for tool in map(_tool, _flat(sources)):
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            raise RequestError("tools", f"a tool without a name: {str(tool)[:80]}.")
        if name in made:
            raise RequestError("tools", f"two tools are named {name!r}: rename one.")
        made[name] = {**tool, "defer_loading": True} if deferred else tool
    return [_ordered(plain(made[name], f"tools.{name}")[0]) for name in sorted(made)]


def _flat(sources: Iterable[Any]) -> Iterable[Any]:
    for source in sources:
        listed = getattr(source, "tools", source)  # what an MCP session lists
        if isinstance(listed, list | tuple | set | frozenset):
            yield from _flat(listed)
        else:
            yield source


def _tool(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return _from_listing(source) if "inputSchema" in source else dict(source)
    if isinstance(source, type) and hasattr(source, "model_json_schema"):
        schema = source.model_json_schema()
        described = inspect.getdoc(source) or schema.get("description", "")
        return _made(source.__name__, described, schema)
    if hasattr(source, "inputSchema"):
        return _from_listing(source.model_dump(mode="json", exclude_none=True))
    if inspect.isfunction(source) or inspect.ismethod(source):
        return _from_function(source)
    raise RequestError(
        "tools",
        f"{type(source).__name__} is neither a function, a pydantic model, a tool of an MCP"
        " listing nor one in the provider's form.",
    )


def _made(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": description} if description else {}
    own = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return {"name": name, **described, "input_schema": own}


def _from_listing(tool: Mapping[str, Any]) -> dict[str, Any]:
    return _made(str(tool["name"]), tool.get("description") or "", tool["inputSchema"])


def _from_function(function: Any) -> dict[str, Any]:
    name = function.__name__
    try:
        hints = get_type_hints(function, include_extras=True)
        fields = [
            (each.name, hints[each.name])
            if each.default is each.empty
            else (each.name, hints[each.name], each.default)
            for each in inspect.signature(function).parameters.values()
        ]
        struct = msgspec.defstruct(name, fields, kw_only=True)
        _, parts = msgspec.json.schema_components([struct], ref_template=_REF)
    except (TypeError, NameError, KeyError) as error:
        raise RequestError(
            f"tools.{name}",
            f"its parameters cannot be described ({error}): annotate each with a type that JSON"
            " has.",
        ) from error
    schema = dict(parts.pop(name))
    return _made(name, inspect.getdoc(function) or "", schema | ({"$defs": parts} if parts else {}))


def _ordered(value: Any) -> Any:
    """Keys sorted, and `required`, which is a set that JSON has no word for."""
    if isinstance(value, dict):
        return {
            key: sorted(each) if key == "required" and _is_names(each) else _ordered(each)
            for key, each in sorted(value.items())
        }
    return [_ordered(each) for each in value] if isinstance(value, list) else value


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
