"""The CRDs: generated, structural, described, and up to date in the repository."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from headwater.resources import CacheWarmer, PromptPrefix
from headwater.resources import generate as generator
from headwater.resources.generate import HEADER, RESOURCES, generate, main, openapi_schema
from headwater.resources.schema import SET, Digest, Duration, Model, Resource
from headwater.resources.structural import Schema, SchemaError, structural

pytestmark = pytest.mark.xdist_group("generate")  # what is generated is kept

ROOT = Path(__file__).parents[3]


def nodes(schema: Schema, where: str = "") -> Iterator[tuple[str, Schema]]:
    yield where, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{where}[]")


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_node_is_what_the_api_server_takes(resource: type[Resource]) -> None:
    """The rules of structural schemas, and ours: bounded, described, lists of a stated kind."""
    forbidden = {"$ref", "$defs", "anyOf", "oneOf", "const", "title", "uniqueItems", "pattern"}
    for where, node in nodes(openapi_schema(resource)):
        assert not forbidden & set(node), where
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, where
        if node["type"] == "array":
            assert node["maxItems"] >= 1, where
            assert node["x-kubernetes-list-type"] in {"atomic", "set", "map"}, where
        if where not in {"", ".metadata"} and not where.endswith("[]"):
            assert node["description"], where


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_rule_says_what_to_do(resource: type[Resource]) -> None:
    """A refusal without a message of ours would show the expression."""
    found = [
        rule
        for _, node in nodes(openapi_schema(resource))
        for rule in node.get("x-kubernetes-validations", [])
    ]
    assert len(found) >= 3
    assert all(len(rule["message"]) > 20 for rule in found)


def test_the_status_has_no_defaults() -> None:
    """The API server would fill them in, and the controller would find what it never wrote."""
    status = openapi_schema(PromptPrefix)["properties"]["status"]
    assert not [where for where, node in nodes(status) if "default" in node]


@pytest.fixture(scope="module")
def generated() -> tuple[dict[str, str], dict[str, str]]:
    """The files, which take half a second to make."""
    return generate()


@pytest.fixture
def at_once(
    generated: tuple[dict[str, str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the command write the files that were made before."""
    monkeypatch.setattr(generator, "generate", lambda: generated)


@pytest.mark.usefixtures("at_once")
def test_what_is_generated_is_what_is_in_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    """`make verify` says the same."""
    assert main(["--check", str(ROOT / "crds"), str(ROOT / "docs" / "reference")]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("at_once")
def test_stale_and_left_over_files_are_found_and_mended(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    generated: tuple[dict[str, str], dict[str, str]],
) -> None:
    """`--check` fails and writes nothing; without it the folders end as they should be."""
    crds, pages = tmp_path / "crds", tmp_path / "reference"
    places = [str(crds), str(pages)]
    assert main(places) == 0
    assert main(["--check", *places]) == 0
    changed = crds / "headwater.dev_promptprefixes.yaml"
    changed.write_text("edited by hand")
    former = crds / "headwater.dev_formers.yaml"
    former.write_text(f"# {HEADER}\nof a kind that is gone")
    (pages / "README.md").write_text("by hand, and none of the generator's business")
    capsys.readouterr()
    assert main(["--check", *places]) == 1
    said = capsys.readouterr().out
    assert "promptprefixes.yaml: stale: run `make generate`" in said
    assert "formers.yaml: stale" in said
    assert changed.read_text() == "edited by hand"
    assert main(places) == 0
    assert {path.name: path.read_text() for path in crds.iterdir()} == generated[0]
    assert (pages / "README.md").exists()


def test_the_same_models_give_the_same_bytes(
    generated: tuple[dict[str, str], dict[str, str]],
) -> None:
    """Else every `make generate` would be a change."""
    assert generate() == generated


class Inner(Model):
    """Something inside."""

    name: Annotated[str, Field(max_length=9)]
    """A name."""


class Case(Model):
    """One field of each kind."""

    one: Annotated[int, Field(ge=0)] = 3
    """A number with a default."""
    maybe: Annotated[str, Field(max_length=5)] | None = None
    """May be absent."""
    inner: Inner
    """The description of the field, not that of the model."""
    nothing: Inner | None = None
    """An object that may be absent."""
    only: Literal["x"] = "x"
    """One value."""
    some: Annotated[tuple[Inner, ...], Field(max_length=2, json_schema_extra=SET)] = ()
    """A list, empty by default."""
    wait: Duration
    """Patterned text."""
    any: Annotated[dict[str, bool], Field(default_factory=dict)]
    """A map."""


CASES: dict[str, Schema] = {
    "one": {
        "description": "A number with a default.",
        "type": "integer",
        "default": 3,
        "minimum": 0,
    },
    "maybe": {"description": "May be absent.", "type": "string", "maxLength": 5},
    "inner": {
        "description": "The description of the field, not that of the model.",
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"description": "A name.", "type": "string", "maxLength": 9}},
    },
    "nothing": {
        "description": "An object that may be absent.",
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"description": "A name.", "type": "string", "maxLength": 9}},
    },
    "only": {"description": "One value.", "type": "string", "enum": ["x"], "default": "x"},
    "any": {
        "description": "A map.",
        "type": "object",
        "additionalProperties": {"type": "boolean"},
    },
}


@pytest.mark.parametrize(("field", "expected"), CASES.items(), ids=CASES)
def test_pydantic_becomes_structural(field: str, expected: Schema) -> None:
    """References inlined, null dropped, const an enum, empty defaults absent."""
    assert structural(Case.model_json_schema())["properties"][field] == expected


class Recursive(Model):
    """Contains itself."""

    child: "Recursive | None" = None
    """Again."""


class Union(Model):
    """Either."""

    either: int | bool
    """One of two."""


class Unbounded(Model):
    """As long as you like."""

    text: str
    """No end."""


class Pattern(Model):
    """Would be refused with a regular expression for a message."""

    text: Annotated[str, Field(pattern="^a$", max_length=1)]
    """An a."""


class Plain(Model):
    """A list that does not say how it is merged."""

    items: Annotated[tuple[int, ...], Field(max_length=1)]
    """Numbers."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Recursive, "Recursive contains itself"),
        (Union, "a union"),
        (Unbounded, "a text has a longest length"),
        (Pattern, r"no structural form for \['pattern'\]"),
        (Plain, "atomic, a set or a map"),
    ],
)
def test_what_has_no_structural_form_is_an_error(model: type[Model], message: str) -> None:
    """In the generator, rather than in somebody's cluster."""
    with pytest.raises(SchemaError, match=message):
        structural(model.model_json_schema())


def test_short_names_are_those_that_people_type() -> None:
    """`kubectl get pp` and `kubectl get cw`."""
    assert [resource.names.short for resource in (PromptPrefix, CacheWarmer)] == ["pp", "cw"]


def test_a_digest_type_is_a_text_for_the_api_server() -> None:
    """Its form is a rule with a message, not a pattern."""

    class Holder(Model):
        """Holds one."""

        digest: Digest
        """A digest."""

    field: dict[str, Any] = structural(Holder.model_json_schema())["properties"]["digest"]
    assert (field["type"], field["maxLength"]) == ("string", 128)
    assert "headwater digest" in field["x-kubernetes-validations"][0]["message"]
