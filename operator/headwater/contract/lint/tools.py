"""What about tools makes the provider refuse them, or a cache entry unreadable."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from headwater.contract.lint.findings import Hit, Subject
from headwater.contract.lint.texts import CONTENT, Path

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_COMBINATIONS: Final = ("oneOf", "allOf", "anyOf")


def order(subject: Subject) -> Iterator[Hit]:
    """The first tool that stands in another order than in the version before."""
    names = {
        given: index
        for index, tool in enumerate(subject.content.tools)
        if isinstance(given := tool.get("name"), str)
    }
    before = [name for name in subject.facts.previous_tools if name in names]
    now = sorted(before, key=lambda name: names[name])
    for old, new in zip(before, now, strict=True):
        if old != new:
            says = f"tool {new!r} stands where the version before had {old!r}"
            yield Hit((*CONTENT, "tools", names[new]), says)
            return


def name(subject: Subject) -> Iterator[Hit]:
    """A name with characters that the provider does not take."""
    for index, tool in enumerate(subject.content.tools):
        given = tool.get("name")
        if isinstance(given, str) and not _NAME.fullmatch(given):
            yield Hit((*CONTENT, "tools", index, "name"), "", given, 0, len(given))


def schema(subject: Subject) -> Iterator[Hit]:
    """A schema that the provider refuses; tools of the provider's own types have none."""
    for index, tool in enumerate(subject.content.tools):
        if tool.get("type", "custom") == "custom":
            path = (*CONTENT, "tools", index)
            for where, says in _objections(tool):
                yield Hit((*path, *where), says)


def _objections(tool: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """At most one, since the others often follow from it."""
    given = tool.get("input_schema")
    where: Path = ("input_schema",)
    if given is None:
        yield (), "the tool has no input_schema"
    elif not isinstance(given, Mapping) or given.get("type") != "object":
        yield where, "the input_schema is not of type object"
    elif combination := next((key for key in _COMBINATIONS if key in given), None):
        yield (*where, combination), f"{combination} stands at the top of the input_schema"
    elif (wrong := _first_error(given)) is not None:
        yield (*where, *wrong[0]), f"the input_schema is no JSON Schema: {wrong[1]}"


@functools.cache
def _meta() -> Any:
    """Knows the draft without asking anybody, whatever `$schema` a schema names."""
    import jsonschema_rs  # noqa: PLC0415 - six megabytes, for those who see tools

    return jsonschema_rs.Draft202012Validator(
        {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    )


def _first_error(given: Mapping[str, Any]) -> tuple[Path, str] | None:
    try:
        plain = json.loads(json.dumps(given))
        error = next(_meta().iter_errors(plain), None)
    except (ValueError, TypeError, RecursionError) as trouble:
        return (), str(trouble)
    if error is None:
        return None
    return tuple(error.instance_path), error.message[:200]
