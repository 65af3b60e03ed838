"""What all resource models share: the base model, the field types, and CEL rules.

A constraint stands once. Pydantic turns it into JSON schema, `headwater.resources.structural`
turns that into what the API server takes. Where a plain constraint would be refused with words
that help nobody (a pattern, say), a CEL rule with a message of its own stands instead.
"""

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from headwater.contract.digest import Digest as ContractDigest
from headwater.contract.errors import DigestError

GROUP: Final = "headwater.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MESSAGE_LIMIT: Final = 1024
"""Characters that a message in a status may have; a longer one is cut."""


class Model(BaseModel):
    """Camel case outside, snake case inside, immutable.

    Fields that this release does not know are ignored: it may read what a newer one wrote. The
    docstring below a field is its description.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        # A process builds the validators of the models that it uses, when it uses them.
        defer_build=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Describe the fields, which `use_attribute_docstrings` would do in each process.

        It reads the source where a class is made, and touches all modules to find it.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in _docstrings(cls).items():
            properties[cls.model_fields[name].alias]["description"] = text
        return schema


def _docstrings(model: type[Model]) -> dict[str, str]:
    """The docstrings of fields, by name; those of a parent where it has declared the field."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, Model):
            continue
        [declared] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(declared, ast.ClassDef)  # noqa: S101 - it is the source of a class
        for field, below in pairwise(declared.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ) if name in model.model_fields:
                    found[name] = inspect.cleandoc(text)
    return found


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; `wide` ones are shown by `-o wide` alone."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """How `kubectl` and URLs call a kind."""

    kind: str
    plural: str
    short: str
    columns: tuple[Column, ...]


class ObjectMeta(Model):
    """The part of an object's metadata that Headwater reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(Model):
    """A kind of custom resource; subclasses add `spec` and `status`."""

    names: ClassVar[Names]

    # The API server describes and checks metadata by itself, and takes nothing else here.
    metadata: Annotated[ObjectMeta, WithJsonSchema({"type": "object"})]


def rule(
    expression: str,
    message: str,
    *,
    field_path: str | None = None,
    message_expression: str | None = None,
) -> dict[str, str]:
    """A CEL rule; the message says what to do, the expression of a message adds the values."""
    optional = {"fieldPath": field_path, "messageExpression": message_expression}
    return {"rule": expression, "message": message} | {
        key: value for key, value in optional.items() if value is not None
    }


def rules(*cel: dict[str, str]) -> dict[str, Any]:
    """CEL rules as `json_schema_extra` takes them."""
    return {"x-kubernetes-validations": list(cel)}


SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}
ATOMIC: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}


def list_map(*keys: str) -> dict[str, Any]:
    """A list whose items are told apart by these fields, so that each has an owner of its own."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _digest(value: object) -> ContractDigest:
    try:
        return ContractDigest(str(value))
    except DigestError as error:
        raise ValueError(str(error)) from error


Digest = Annotated[
    ContractDigest,
    PlainValidator(_digest),
    PlainSerializer(str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 128,
            **rules(
                rule(
                    "self.matches('^sha256:[0-9a-f]{64}$')",
                    "a digest is 'sha256:' and 64 lower-case hex characters:"
                    " `headwater digest --write -f FILE` puts the right one into the file",
                )
            ),
        }
    ),
]

Label = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        json_schema_extra=rules(
            rule(
                "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",
                "takes at most 63 letters, digits, '-', '_' and '.', and begins and ends with a"
                " letter or a digit: it becomes a label",
            )
        ),
    ),
]
"""What becomes the value of a Kubernetes label or of a metric's label."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
ModelId = Annotated[str, Field(min_length=1, max_length=128)]
Count = Annotated[int, Field(ge=0, le=2**53)]


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MESSAGE_LIMIT:
        return value[: MESSAGE_LIMIT - 1] + "…"
    return value


Message = Annotated[str, BeforeValidator(_cut), Field(max_length=MESSAGE_LIMIT)]
"""A sentence for people. Cut where it is too long: better than a status that is refused."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION_WHOLE: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or re.fullmatch(_DURATION_WHOLE, value) is None:
        raise ValueError(f"{value!r} is no duration: write it like 90s, 10m or 1h30m")
    return timedelta(
        seconds=sum(
            float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(value)
        )
    )


def _written(value: timedelta) -> str:
    return f"{value.total_seconds():g}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            **rules(
                rule(
                    f"self.matches('{_DURATION_WHOLE.replace(chr(92), chr(92) * 2)}')",
                    "is no duration: write it like 90s, 10m or 1h30m",
                )
            ),
        }
    ),
]
"""Go's notation, as everywhere in Kubernetes: `90s`, `10m`, `1h30m`."""


class Condition(Model):
    """One aspect of an object's state, as in every Kubernetes API (metav1.Condition)."""

    type: Annotated[str, Field(max_length=63)]
    """What it is about."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the object that this was found for."""
    last_transition_time: AwareDatetime
    """When `status` last changed."""
    reason: Annotated[str, Field(max_length=128)]
    """One word for programs."""
    message: Message
    """A sentence for people."""


Conditions = Annotated[
    tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))
]


class NamespacedKey(Model):
    """One key of a ConfigMap in the prefix's namespace."""

    name: ObjectName
    """The ConfigMap's name."""
    key: ObjectName
    """The key in its `data` or `binaryData`."""


class ConfigMapSource(Model):
    """Content that lies in a ConfigMap of the same namespace."""

    config_map_key_ref: NamespacedKey
    """Which ConfigMap and which of its keys."""
