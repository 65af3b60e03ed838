"""PromptPrefix: a shared prompt prefix as a contract, declared once by the team that owns it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, WithJsonSchema

from headwater.contract.content import MARKER_BUDGET, MARKER_KEY, TTL
from headwater.contract.placing import Role, Strategy
from headwater.contract.route import Enforcement
from headwater.resources.rollout import Rollout
from headwater.resources.schema import (
    ATOMIC,
    SET,
    Column,
    ConfigMapSource,
    Digest,
    Label,
    Model,
    ModelId,
    Names,
    ObjectName,
    Resource,
    rule,
    rules,
)
from headwater.resources.status import PromptPrefixStatus

_MARKER_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A cache marker, as the provider takes it: what stands up to here is cached.",
    "required": ["type"],
    "properties": {
        "type": {
            "type": "string",
            "enum": ["ephemeral"],
            "description": "The only type that there is.",
        },
        "ttl": {
            "type": "string",
            "enum": ["5m", "1h"],
            "default": "5m",
            "description": "How long an unused cache entry lives.",
        },
    },
}

Tool = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "One tool definition, in the provider's own form and passed on as it"
            " is (`name`, `description`, `input_schema`, …).",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                    "description": "What the model calls the tool by; unique in the list.",
                },
                MARKER_KEY: _MARKER_SCHEMA,
            },
            "x-kubernetes-preserve-unknown-fields": True,
        }
    ),
]


class Owner(Model):
    """Who answers for the prefix."""

    team: Label
    """The team that publishes it: the only one that changes its content."""
    contact: Annotated[str, Field(max_length=253)] | None = None
    """Where to ask: a channel, an address, a page."""


class SystemBlock(
    Model,
    json_schema_extra=rules(
        rule(
            "has(self.text) != has(self.textFrom)",
            "a system block has either text or textFrom: keep one of them",
        ),
        rule(
            "!has(self.text) || size(self.text) > 0",
            "the text is empty, which the provider refuses: write it, or remove the block",
        ),
    ),
):
    """One block of the system prompt."""

    text: Annotated[str, Field(max_length=1 << 20)] | None = None
    """The text. Not one byte of it is changed: a trailing blank is a trailing blank."""
    text_from: ConfigMapSource | None = None
    """Where the text lies, instead of `text`."""
    cache_control: Annotated[
        dict[str, Any] | None, WithJsonSchema(_MARKER_SCHEMA), Field(alias=MARKER_KEY)
    ] = None
    """A cache marker. Without any marker in the content, Headwater puts one at the end of the
    tools and one at the end of the system blocks."""


def _counted(part: str) -> str:
    return f"(has(self.{part}) ? self.{part}.filter(x, has(x.{MARKER_KEY})).size() : 0)"


def _ttls(part: str) -> str:
    marked = f"self.{part}.filter(x, has(x.{MARKER_KEY}))"
    return f"(has(self.{part}) ? {marked}.map(x, x.{MARKER_KEY}.ttl) : [])"


class ContentSource(
    Model,
    json_schema_extra=rules(
        rule(
            "!(has(self.tools) && has(self.toolsFrom))",
            "tools and toolsFrom are both given: keep one of them",
        ),
        rule(
            "has(self.toolsFrom) || (has(self.tools) && size(self.tools) > 0)"
            " || (has(self.system) && size(self.system) > 0)",
            "tools and system are both empty: declare at least one",
        ),
        rule(
            f"{_counted('tools')} + {_counted('system')} <= {MARKER_BUDGET}",
            f"a contract has at most {MARKER_BUDGET} cache markers: keep the one on the last tool"
            " and the one on the last system block; the provider's other 2 belong to the teams",
        ),
        rule(
            f"{_ttls('tools')} + {_ttls('system')} != ['5m', '1h']",
            "a 1h marker stands after a 5m marker, which the provider refuses:"
            " give the earlier marker the longer ttl",
        ),
    ),
):
    """What every consumer sends, in the provider's order: the tools, then the system blocks."""

    tools: Annotated[tuple[Tool, ...], Field(max_length=128, json_schema_extra=ATOMIC)] | None = (
        None
    )
    """The tools that every consumer has."""
    tools_from: ConfigMapSource | None = None
    """Where the tools lie, instead of `tools`: a JSON list."""
    system: (
        Annotated[tuple[SystemBlock, ...], Field(max_length=32, json_schema_extra=ATOMIC)] | None
    ) = None
    """The system prompt, block by block."""


class LabelRequirement(
    Model,
    json_schema_extra=rules(
        rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values, Exists and DoesNotExist take none",
        )
    ),
):
    """A condition on one label."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value relates to `values`."""
    values: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...],
        Field(max_length=64, json_schema_extra=ATOMIC),
    ] = ()
    """The values of `In` and `NotIn`."""


class LabelSelector(Model):
    """Kubernetes' label selector: all conditions must hold, and an empty one selects all."""

    match_labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]],
        Field(max_length=32, default_factory=dict),
    ]
    """Labels that must be there with these values."""
    match_expressions: Annotated[
        tuple[LabelRequirement, ...], Field(max_length=32, json_schema_extra=ATOMIC)
    ] = ()
    """Further conditions on labels."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _holds(requirement, labels) for requirement in self.match_expressions
        )


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":  # as in Kubernetes, an absent label is not in anything
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels


# A default of the schema is there when its rules are asked.
_SHARED: Final = "self.isolation == 'Shared'"


class Consumers(
    Model,
    json_schema_extra=rules(
        rule(
            "has(self.namespaceSelector) || has(self.namespaces)",
            "nobody gets the prefix: give namespaceSelector, or namespaces, or both",
        ),
        rule(
            f"{_SHARED} || !has(self.namespaceSelector)",
            "a Dedicated prefix takes no namespaceSelector, since whoever labels a namespace would"
            " let it in: name the namespaces in namespaces",
        ),
        rule(
            f"{_SHARED} || has(self.namespaces)",
            "a Dedicated prefix goes to namespaces that are named: give namespaces",
        ),
    ),
):
    """Who gets the prefix: namespaces that are selected, and namespaces that are named."""

    namespace_selector: LabelSelector | None = None
    """The namespaces that get the bundle, by their labels."""
    namespaces: (
        Annotated[
            tuple[ObjectName, ...], Field(min_length=1, max_length=256, json_schema_extra=SET)
        ]
        | None
    ) = None
    """The namespaces that get the bundle, by their names; whatever their labels say."""
    isolation: Literal["Shared", "Dedicated"] = "Shared"
    """`Dedicated`: the bundle goes to the namespaces in `namespaces` alone, and no CacheWarmer
    warms the prefix with a credential that warms another prefix."""

    def include(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether the prefix is for the namespace with this name and these labels."""
        named = namespace in (self.namespaces or ())
        if self.isolation == "Dedicated" or self.namespace_selector is None:
            return named
        return named or self.namespace_selector.matches(labels)


TenantPattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        json_schema_extra=rules(
            rule(
                # Whatever it is, unless it cannot be told: then the API server says why.
                "''.matches(self) in [true, false]",
                "is no regular expression as RE2 has them: correct it, without look-around and"
                " back-references",
            )
        ),
    ),
]
"""What names a tenant. The API server's own expressions are RE2's, too."""


class InjectionPoint(Model):
    """A place for a cache marker: the last block of a message, or a block of the team's own system
    text."""  # noqa: D205, D209 - the text of the CRD

    role: Role | None = None
    """Counts only the messages of this role; with `system`, the team's own system blocks. Without
    it, all messages count."""
    index: Annotated[int, Field(ge=-100_000, le=99_999)] = -1
    """Which of them: 0 is the first, -1 the last. Where there is none, no marker is placed."""


class PromptPrefixSpec(
    Model,
    json_schema_extra=rules(
        rule(
            "self.breakpointStrategy == 'B' || !has(self.injectionPoints)"
            " || size(self.injectionPoints) == 0",
            "breakpointStrategy A and C place the markers themselves: remove injectionPoints, or"
            " take strategy B and list every place",
        )
    ),
):
    """What the owner declares. Headwater never writes it."""

    owner: Owner
    """Who answers for the prefix."""
    version: Label
    """The name of this content, for people. Once published it is bound to its digest for ever:
    changed content is a new version."""
    digest: Digest
    """The sha256 of the content's canonical bytes, from `headwater digest`. Content that hashes
    otherwise is never served."""
    provider: Literal["anthropic"] = "anthropic"
    """Whose API the content is for."""
    models: Annotated[
        tuple[ModelId, ...], Field(min_length=1, max_length=16, json_schema_extra=SET)
    ]
    """The models that consumers may use: every model has a cache of its own."""
    ttl: TTL = "5m"
    """How long an unused cache entry lives: the `ttl` of the markers that Headwater places."""
    content: ContentSource
    """What every consumer sends."""
    consumers: Consumers
    """Who gets the prefix."""
    enforcement: Enforcement = "Enforce"
    """`Enforce` refuses a request that would break the shared prefix; `Observe` passes it on
    untouched and counts it."""
    breakpoint_strategy: Strategy = "B"
    """Where sidecars place cache markers in the consumers' own part, besides the contract's
    two: `B` nowhere, for single questions; `A` on the last message, for conversations; `C` also on
    the team's own system text, for agents. Never more than the provider's 4 with the consumer's
    own, and of 5m."""
    injection_points: Annotated[
        tuple[InjectionPoint, ...], Field(max_length=3, json_schema_extra=ATOMIC)
    ] = ()
    """Instead of a strategy: the places for markers in the consumers' own part, while there is
    room, first those in messages."""
    rollout: Annotated[Rollout, Field(default_factory=Rollout)]
    """How a new version replaces the stable one."""
    tenant_pattern: Annotated[
        tuple[TenantPattern, ...], Field(max_length=16, json_schema_extra=SET)
    ] = ()
    """Regular expressions (RE2) that match what names a tenant, such as `(?i)\\bacme\\b` or
    `tenant_id`. Content that one of them matches is shared with nobody: it is refused, and never
    served."""
    suspend: bool = False
    """Stand still: consumers keep what they have, and nothing is published or moved forward. A
    candidate still goes back where it fails, and when it is no longer declared."""
    retry: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Raise it to try a version again that was rolled back."""
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """How many former revisions are kept for a way back."""


_REUSED: Final = "p.version == self.spec.version && p.digest != self.spec.digest"
_BYTES: Final = ("content", "ttl", "provider")
"""What of a spec makes the canonical bytes."""
_SAME_BYTES: Final = " && ".join(f"self.spec.{name} == oldSelf.spec.{name}" for name in _BYTES)


class PromptPrefix(
    Resource,
    json_schema_extra=rules(
        rule(
            # Only a change of the spec is judged, by what was published before it: else a status
            # that is a moment late could never be written again.
            "(self.spec.version == oldSelf.spec.version && self.spec.digest == oldSelf.spec.digest)"
            " || !has(oldSelf.status) || !has(oldSelf.status.published)"
            f" || !oldSelf.status.published.exists(p, {_REUSED})",
            "this version was published with another digest and is bound to it:"
            " publish a new version with the changed content",
            field_path=".spec.digest",
            message_expression="'version ' + self.spec.version + ' was published with another"
            " digest and is bound to it (status.published). It belongs to '"
            " + oldSelf.spec.owner.team + ': publish a new version with the changed content'",
        ),
        rule(
            "self.spec.version != oldSelf.spec.version || self.spec.digest != oldSelf.spec.digest"
            f" || ({_SAME_BYTES}) || !has(oldSelf.status) || !has(oldSelf.status.published)"
            " || !oldSelf.status.published.exists(p, p.version == self.spec.version)",
            "this version is published, and its content, ttl and provider stay as they are:"
            " publish a new version with the changed content",
            field_path=".spec.content",
            message_expression="'version ' + self.spec.version + ' is published, and its content,"
            " ttl and provider stay as they are. It belongs to ' + oldSelf.spec.owner.team"
            " + ': publish a new version with the changed content'",
        ),
        rule(
            "size(self.metadata.name) <= 63",
            "the name becomes a label: it takes at most 63 characters",
        ),
    ),
):
    """A shared prompt prefix as a contract: declared once, published by digest, sent to the byte
    or not at all."""  # noqa: D205, D209 - the text of the CRD

    names: ClassVar[Names] = Names(
        kind="PromptPrefix",
        plural="promptprefixes",
        short="pp",
        columns=(
            Column("Owner", ".spec.owner.team"),
            Column("Stable", ".status.stable.version"),
            Column("Candidate", ".status.candidate.version"),
            Column("Weight", ".status.candidate.weight", type="integer"),
            Column("Phase", ".status.phase"),
            Column("Hit-Rate", ".status.hitRate"),
            Column("Age", ".metadata.creationTimestamp", type="date"),
            Column("Message", ".status.message", wide=True),
        ),
    )

    spec: PromptPrefixSpec
    """What the owner declares. Headwater never writes it."""
    status: Annotated[PromptPrefixStatus, Field(default_factory=PromptPrefixStatus)]
    """What Headwater found and did."""
